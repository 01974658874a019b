// The commands as data: name, arity, flags, key positions, documentation, handler. Built once, read by every loop.

package import KVBase

/// What COMMAND tells about a command, and what the query actor needs to know before it runs it.
package struct CommandFlags: OptionSet, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }

    package static let readonly = CommandFlags(rawValue: 1)
    package static let write = CommandFlags(rawValue: 2)
    package static let fast = CommandFlags(rawValue: 4)
    package static let admin = CommandFlags(rawValue: 8)
    /// Takes any number of keys: with very many arguments it runs in slices (Continuation.swift).
    package static let manyKeys = CommandFlags(rawValue: 16)
    package static let connection = CommandFlags(rawValue: 32)
    package static let keyspace = CommandFlags(rawValue: 64)
    package static let subcommands = CommandFlags(rawValue: 128)
}

package struct CommandRow: Sendable {
    package var name: StaticString
    /// As Redis counts: the name included, negative for "at least".
    package var arity: Int
    package var flags: CommandFlags
    /// First key, last key (-1: to the end), step; zeros when there is none.
    package var keys: (first: Int, last: Int, step: Int)
    package var since: StaticString
    package var complexity: StaticString
    package var summary: StaticString
    package var handler: @Sendable (inout Execution) -> Void

    init(
        _ name: StaticString, _ arity: Int, _ flags: CommandFlags, _ keys: (Int, Int, Int), since: StaticString,
        _ complexity: StaticString, _ summary: StaticString, _ handler: @escaping @Sendable (inout Execution) -> Void
    ) {
        (self.name, self.arity, self.flags, self.since) = (name, arity, flags, since)
        self.keys = (first: keys.0, last: keys.1, step: keys.2)
        (self.complexity, self.summary, self.handler) = (complexity, summary, handler)
    }

    package var nameText: String { name.description }
    package func accepts(_ count: Int) -> Bool { arity >= 0 ? count == arity : count >= -arity }

    package var group: StaticString {
        if flags.contains(.connection) { return "connection" }
        if flags.contains(.admin) { return "server" }
        return flags.contains(.keyspace) ? "generic" : "string"
    }
}

/// Looks a command up by its name packed into eight bytes, upper case: a multiplication and a probe or two.
package struct CommandTable: Sendable {
    package let rows: [CommandRow]
    private let names: [UInt64]
    private let indices: [UInt8]

    private static let slots = 256

    package init(rows: [CommandRow]) {
        precondition(rows.count < Self.slots / 4)
        var names = [UInt64](repeating: 0, count: Self.slots)
        var indices = [UInt8](repeating: 0, count: Self.slots)
        for (index, row) in rows.enumerated() {
            let packed = Self.pack(UnsafeRawPointer(row.name.utf8Start), row.name.utf8CodeUnitCount)
            precondition(packed != 0, "a command's name has one to eight bytes")
            var slot = Self.slot(packed)
            while names[slot] != 0 {
                precondition(names[slot] != packed, "two commands of one name")
                slot = (slot + 1) % Self.slots
            }
            names[slot] = packed
            indices[slot] = UInt8(index)
        }
        (self.rows, self.names, self.indices) = (rows, names, indices)
    }

    /// Index of the row, or nil. O(1).
    package func find(_ name: ByteView) -> Int? {
        let packed = Self.pack(name.start, name.count)
        guard packed != 0 else { return nil }
        var slot = Self.slot(packed)
        while names[slot] != 0 {
            if names[slot] == packed { return Int(indices[slot]) }
            slot = (slot + 1) % Self.slots
        }
        return nil
    }

    /// Looks at a row without copying it.
    @inline(__always)
    package func withRow(_ index: Int, _ body: (borrowing CommandRow) -> Void) {
        rows.withUnsafeBufferPointer { body($0[index]) }
    }

    private static func slot(_ packed: UInt64) -> Int { Int((packed &* 0x9E37_79B9_7F4A_7C15) >> 56) }

    /// Upper case letters of a name of one to eight bytes; 0 for anything longer, which is never a command.
    static func pack(_ p: UnsafeRawPointer, _ n: Int) -> UInt64 {
        guard n > 0, n <= 8 else { return 0 }
        var word: UInt64 = 0
        for i in 0..<n {
            var byte = p.load(fromByteOffset: i, as: UInt8.self)
            if byte >= 97, byte <= 122 { byte &-= 32 }
            word |= UInt64(byte) &<< UInt64(8 &* i)
        }
        return word
    }

    package static let standard = CommandTable(rows: stringRows + keyspaceRows + connectionRows + adminRows)

    private static let one = (1, 1, 1)
    private static let all = (1, -1, 1)
    private static let none = (0, 0, 0)

    private static let stringRows: [CommandRow] = [
        CommandRow("get", 2, [.readonly, .fast], one, since: "1.0.0", "O(1)", "Get the value of a key", Commands.get),
        CommandRow("set", -3, [.write], one, since: "1.0.0", "O(1)", "Set the value of a key", Commands.set),
        CommandRow(
            "put", -3, [.write], one, since: "1.0.0", "O(1)", "Set the value of a key (alias of SET)", Commands.set),
        CommandRow(
            "mget", -2, [.readonly, .fast, .manyKeys], all, since: "1.0.0", "O(N) for N keys",
            "Get the values of all given keys", Commands.mget),
        CommandRow(
            "mset", -3, [.write, .manyKeys], (1, -1, 2), since: "1.0.1", "O(N) for N keys",
            "Set several keys to several values", Commands.mset),
        CommandRow(
            "strlen", 2, [.readonly, .fast], one, since: "2.2.0", "O(1)", "Get the length of a key's value",
            Commands.strlen),
    ]

    private static let keyspaceRows: [CommandRow] = [
        CommandRow(
            "del", -2, [.write, .keyspace, .manyKeys], all, since: "1.0.0", "O(N) for N keys", "Delete keys",
            Commands.del),
        CommandRow(
            "delete", -2, [.write, .keyspace, .manyKeys], all, since: "1.0.0", "O(N) for N keys",
            "Delete keys (alias of DEL)", Commands.del),
        CommandRow(
            "unlink", -2, [.write, .keyspace, .fast, .manyKeys], all, since: "4.0.0", "O(N) for N keys",
            "Delete keys (alias of DEL)", Commands.del),
        CommandRow(
            "exists", -2, [.readonly, .keyspace, .fast, .manyKeys], all, since: "1.0.0", "O(N) for N keys",
            "Count which of the given keys exist", Commands.exists),
        CommandRow(
            "list", -1, [.readonly, .keyspace], none, since: "1.0.0", "O(log K + N) for N results among K keys",
            "All pairs whose key starts with a prefix, in byte order: LIST [prefix] [LIMIT n] [AFTER key]",
            Commands.list),
        CommandRow(
            "keys", 2, [.readonly, .keyspace], none, since: "1.0.0",
            "O(N) for N keys with the pattern's literal prefix",
            "Find all keys matching a pattern", Commands.keys),
        CommandRow(
            "scan", -2, [.readonly, .keyspace], none, since: "2.8.0", "O(1) a call", "Iterate over the keys",
            Commands.scan),
        CommandRow(
            "dbsize", 1, [.readonly, .keyspace, .fast], none, since: "1.0.0", "O(1)", "The number of keys",
            Commands.dbsize),
    ]

    private static let connectionRows: [CommandRow] = [
        CommandRow("ping", -1, [.connection, .fast], none, since: "1.0.0", "O(1)", "Ping the server", Commands.ping),
        CommandRow(
            "echo", 2, [.connection, .fast], none, since: "1.0.0", "O(1)", "Echo the given string", Commands.echo),
        CommandRow(
            "select", 2, [.connection, .fast], none, since: "1.0.0", "O(1)", "Select database 0", Commands.select),
        CommandRow("hello", -1, [.connection, .fast], none, since: "6.0.0", "O(1)", "Handshake", Commands.hello),
        CommandRow("auth", -2, [.connection, .fast], none, since: "1.0.0", "O(1)", "Authenticate", Commands.auth),
        CommandRow(
            "quit", -1, [.connection, .fast], none, since: "1.0.0", "O(1)", "Close the connection", Commands.quit),
        CommandRow(
            "reset", 1, [.connection, .fast], none, since: "6.2.0", "O(1)", "Reset the connection", Commands.reset),
        CommandRow(
            "client", -2, [.connection, .subcommands], none, since: "2.4.0", "O(1), LIST O(N) for N connections",
            "Connections: ID, SETNAME, GETNAME, SETINFO, INFO, LIST, NO-EVICT, …", Commands.client),
    ]

    private static let adminRows: [CommandRow] = [
        CommandRow("time", 1, [.admin, .fast], none, since: "2.6.0", "O(1)", "The server's time", Commands.time),
        CommandRow(
            "command", -1, [.admin, .subcommands], none, since: "2.8.13", "O(N) for N commands", "The commands",
            Commands.command),
        CommandRow(
            "config", -2, [.admin, .subcommands], none, since: "2.0.0", "O(N) for N settings",
            "Settings: GET, RESETSTAT", Commands.config),
        CommandRow("info", -1, [.admin], none, since: "1.0.0", "O(1)", "Information and statistics", Commands.info),
        CommandRow(
            "kvd", -2, [.admin, .subcommands], none, since: "1.0.0", "O(1)",
            "KVD PUT key value [FLOOR ms], KVD VERSION key, KVD DIGEST [ALL], KVD PEERS", Commands.kvd),
    ]
}

/// Handlers; each file of commands extends it.
enum Commands {}
