// The commands as data: what a row says, and how one is found by its name. Built once, read by every loop.

package import KVBase

/// What the query actor needs to know before it runs a command, and what COMMAND tells of its flags.
package struct CommandFlags: OptionSet, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }

    package static let readonly = CommandFlags(rawValue: 1)
    package static let write = CommandFlags(rawValue: 2)
    package static let fast = CommandFlags(rawValue: 4)
    /// Takes any number of keys: with very many arguments it runs in slices (Continuation.swift).
    package static let manyKeys = CommandFlags(rawValue: 16)
    package static let subcommands = CommandFlags(rawValue: 128)
    /// Not queued by MULTI.
    package static let immediate = CommandFlags(rawValue: 256)
    /// For clients too that have not said who they are.
    package static let noAuthentication = CommandFlags(rawValue: 512)
    /// May take more memory than before.
    package static let grows = CommandFlags(rawValue: 1024)
    /// Not in the slow log.
    package static let neverSlow = CommandFlags(rawValue: 2048)

    /// Answered while the server reads its directory.
    package static let whileReading = CommandFlags(rawValue: 4096)

    /// Those that Redis names, of its words.
    init(words: StaticString) {
        self = []
        for word in words.description.split(separator: " ") {
            switch word {
            case "readonly": insert(.readonly)
            case "write": insert(.write)
            case "fast": insert(.fast)
            case "no_auth": insert(.noAuthentication)
            case "denyoom": insert(.grows)
            case "skip_slowlog": insert(.neverSlow)
            case "loading": insert(.whileReading)
            default: break
            }
        }
    }
}

/// First key, last key (-1: to the end), step; zeros when there is none.
package struct KeyPositions: Sendable {
    package var first, last, step: Int

    init(_ positions: (Int, Int, Int)) { (first, last, step) = positions }

    package var isNone: Bool { first == 0 }

    /// Where the keys of a command of `count` arguments are.
    func range(_ count: Int) -> StrideThrough<Int> {
        stride(from: first, through: last < 0 ? count + last : last, by: step)
    }
}

/// What COMMAND INFO tells in Redis's words: flags, categories of access, tips, and specifications of keys, each as
/// `flags/first/last/step/notes`, parted by semicolons.
package struct CommandFacts: Sendable {
    package var flags: StaticString
    package var categories: StaticString
    package var tips: StaticString
    package var specifications: StaticString
}

package struct CommandRow: Sendable {
    package var name: StaticString
    /// As Redis counts: the name included, negative for "at least".
    package var arity: Int
    package var flags: CommandFlags
    package var facts: CommandFacts
    package var keys: KeyPositions
    package var since: StaticString
    package var group: StaticString
    package var complexity: StaticString
    package var summary: StaticString
    package var handler: @Sendable (inout Execution) -> Void

    init(
        _ name: StaticString, _ arity: Int, _ flags: StaticString, _ keys: (Int, Int, Int), _ categories: StaticString,
        tips: StaticString = "", specs: StaticString = "", since: StaticString, group: StaticString,
        _ complexity: StaticString, _ summary: StaticString, traits: CommandFlags = [],
        _ handler: @escaping @Sendable (inout Execution) -> Void
    ) {
        (self.name, self.arity, self.since, self.group) = (name, arity, since, group)
        facts = CommandFacts(flags: flags, categories: categories, tips: tips, specifications: specs)
        self.flags = CommandFlags(words: flags).union(traits)
        self.keys = KeyPositions(keys)
        (self.complexity, self.summary, self.handler) = (complexity, summary, handler)
    }

    package var nameText: String { name.description }
    package func accepts(_ count: Int) -> Bool { arity >= 0 ? count == arity : count >= -arity }
}

/// A command of a command, for COMMAND only: the handler of the command runs it.
package struct SubcommandRow: Sendable {
    /// `command|subcommand`.
    package var name: StaticString
    package var arity: Int
    package var facts: CommandFacts
    package var keys: KeyPositions

    init(
        _ name: StaticString, _ arity: Int, _ flags: StaticString, _ keys: (Int, Int, Int), _ categories: StaticString,
        tips: StaticString = "", specs: StaticString = ""
    ) {
        (self.name, self.arity, self.keys) = (name, arity, KeyPositions(keys))
        facts = CommandFacts(flags: flags, categories: categories, tips: tips, specifications: specs)
    }

    package var nameText: String { name.description }
    package func accepts(_ count: Int) -> Bool { arity >= 0 ? count == arity : count >= -arity }
}

/// Looks a command up by its name packed into two words, upper case: two multiplications and a probe or two.
package struct CommandTable: Sendable {
    package let rows: [CommandRow]
    private let names: [PackedName]
    private let indices: [UInt8]

    private static let slots = 256

    package init(rows: [CommandRow]) {
        precondition(rows.count < Self.slots / 2)
        var names = [PackedName](repeating: PackedName(), count: Self.slots)
        var indices = [UInt8](repeating: 0, count: Self.slots)
        for (index, row) in rows.enumerated() {
            let packed = PackedName(UnsafeRawPointer(row.name.utf8Start), row.name.utf8CodeUnitCount)
            precondition(!packed.isNone, "a command's name has one to sixteen bytes")
            var slot = packed.hash % Self.slots
            while !names[slot].isNone {
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
        let packed = PackedName(name.start, name.count)
        guard !packed.isNone else { return nil }
        var slot = packed.hash % Self.slots
        while !names[slot].isNone {
            if names[slot] == packed { return Int(indices[slot]) }
            slot = (slot + 1) % Self.slots
        }
        return nil
    }

    /// Looks at a row without copying it.
    @inline(__always)
    package func withRow(_ index: Int, _ body: (borrowing CommandRow) -> Void) {
        rows.withUnsafeBufferPointer { body($0.baseAddress.unsafelyUnwrapped[index]) }
    }

    package static let standard = CommandTable(
        rows: stringRows + keyspaceRows + transactionRows + connectionRows + adminRows)

    /// The subcommands of a command of that name.
    func subcommands(of name: String) -> [SubcommandRow] {
        Self.subcommandRows.filter { $0.nameText.hasPrefix(name + "|") }
    }

    /// The subcommand of that whole name, in any case, or nil.
    func subcommand(_ name: ByteView) -> SubcommandRow? {
        let wanted = name.lowercased
        return Self.subcommandRows.first { $0.nameText == wanted }
    }
}

/// Upper case letters of a name of one to sixteen bytes; none for anything longer, which is never a command.
private struct PackedName: Equatable, Sendable {
    private var low: UInt64 = 0
    private var high: UInt64 = 0

    init() {}

    init(_ p: UnsafeRawPointer, _ n: Int) {
        guard n > 0, n <= 16 else { return }
        for i in 0..<n {
            var byte = p.load(fromByteOffset: i, as: UInt8.self)
            if byte >= 97, byte <= 122 { byte &-= 32 }
            if i < 8 { low |= UInt64(byte) &<< UInt64(8 &* i) } else { high |= UInt64(byte) &<< UInt64(8 &* i &- 64) }
        }
    }

    var isNone: Bool { low == 0 }
    var hash: Int { Int((low &* 0x9E37_79B9_7F4A_7C15 ^ high &* 0xC2B2_AE3D_27D4_EB4F) >> 56) }
}

/// Handlers; each file of commands extends it.
enum Commands {}
