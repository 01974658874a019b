// What of a file's items is imported, and what is left out and told. A value; pure.

package import KVBase

/// Two passes over a file: `look` sees all of it before anything is changed, then `take` says what to send.
package struct ImportSieve: Sendable {
    package static let databasesMax = 16
    /// Commands that write strings, and that the server has as Redis does.
    private static let known: Set<String> = [
        "set", "setnx", "getset", "getdel", "mset", "msetnx", "setex", "psetex", "getex", "incr", "decr", "incrby",
        "decrby", "del", "unlink", "rename", "renamenx", "copy", "expire", "pexpire", "expireat", "pexpireat",
        "persist",
    ]
    /// They change nothing by themselves.
    private static let silent: Set<String> = ["multi", "exec", "discard", "ping", "echo", "auth", "hello"]
    /// Names of commands that are told one by one; more are told together.
    private static let namesMax = 256

    package struct Sending: Equatable, Sendable {
        package var database: Int
        package var arguments: [Bytes]
    }

    // What the first pass found.
    /// Items, and of them the last one that emptied a database.
    private var looked = 0
    private var emptied: [Int: Int] = [:]
    private var lookedDatabase = 0
    // What the second did.
    private var taken = 0
    private var database = 0
    /// Keys that were sent, and commands of an append-only file.
    package private(set) var sent = 0
    /// Keys that have expired already.
    package private(set) var expired = 0
    /// By what they are: keys of other types, commands that are none of strings', databases that there are not.
    package private(set) var leftOut: [String: Int] = [:]
    /// Items before a FLUSHALL or FLUSHDB, which they did not survive.
    package private(set) var flushed = 0

    package init() {}

    package var items: Int { looked }

    // MARK: First pass

    package mutating func look(_ item: FileItem) {
        defer { looked += 1 }
        guard case .command(let arguments) = item else { return }
        switch ImportSieve.name(arguments) {
        case "select": lookedDatabase = ImportSieve.number(arguments) ?? lookedDatabase
        case "flushall": for database in 0..<ImportSieve.databasesMax { emptied[database] = looked }
        case "flushdb": emptied[lookedDatabase] = looked
        default: break
        }
    }

    // MARK: Second pass

    /// What to send for an item; nil if nothing. `now`: in milliseconds since 1970.
    package mutating func take(_ item: FileItem, now: Int64) -> Sending? {
        defer { taken += 1 }
        switch item {
        case .pair(let pair): return take(pair, now)
        case .other(let type):
            leaveOut(type == "function" ? "functions" : "keys of type \(type)")
            return nil
        case .command(let arguments): return take(arguments)
        }
    }

    /// It came before its database was emptied.
    private mutating func isFlushed(_ database: Int) -> Bool {
        guard let place = emptied[database], taken < place else { return false }
        flushed += 1
        return true
    }

    private mutating func take(_ pair: FilePair, _ now: Int64) -> Sending? {
        guard isThere(pair.database), !isFlushed(pair.database) else { return nil }
        if let deadline = pair.deadline, deadline <= now {
            expired += 1
            return nil
        }
        sent += 1
        let expiry: [Bytes] = pair.deadline.map { ["PXAT", Bytes(String($0))] } ?? []
        return Sending(database: pair.database, arguments: ["SET", pair.key, pair.value] + expiry)
    }

    private mutating func take(_ arguments: [Bytes]) -> Sending? {
        let name = ImportSieve.name(arguments)
        switch name {
        case "select":
            database = ImportSieve.number(arguments) ?? database
            return nil
        case "flushall", "flushdb": return nil
        case _ where ImportSieve.silent.contains(name): return nil
        case _ where ImportSieve.known.contains(name):
            guard isThere(database), !isFlushed(database) else { return nil }
            sent += 1
            return Sending(database: database, arguments: arguments)
        default:
            if !isFlushed(database) { leaveOut("\(name.uppercased()) commands") }
            return nil
        }
    }

    private mutating func isThere(_ database: Int) -> Bool {
        if (0..<ImportSieve.databasesMax).contains(database) { return true }
        leaveOut("keys of database \(database)")
        return false
    }

    private mutating func leaveOut(_ what: String) {
        let isNamed = leftOut.count < ImportSieve.namesMax || leftOut[what] != nil
        leftOut[isNamed ? what : "other items", default: 0] += 1
    }

    private static func name(_ arguments: [Bytes]) -> String {
        let name = arguments[0].array.prefix(32)
        // Whatever else it is, it is told as what can be read.
        guard name.allSatisfy({ (0x21...0x7E).contains($0) }) else { return "unreadable" }
        return String(decoding: name, as: UTF8.self).lowercased()
    }

    private static func number(_ arguments: [Bytes]) -> Int? {
        arguments.count == 2 ? Int(arguments[1].description) : nil
    }
}
