// What a server with one query actor must answer, computed with a dictionary: the oracle of the commands target.

import KVBase

/// Exact replies, errors and versions included, of the commands it knows. Written from the product's contract, sharing
/// no code with the server. A value: one sequence, one model.
struct CommandModel {
    struct Entry {
        /// nil: a tombstone.
        var value: Bytes?
        var ms: Millis
    }

    var entries: [Bytes: Entry] = [:]
    var now: Millis = 1_000_000
    private var moved: Millis = 0
    private var movedAt: Millis = 0
    let uid: String
    /// Number of writes so far; the digest must change exactly when it does.
    private(set) var writes = 0

    init(uid: String) { self.uid = uid }

    var live: [(key: Bytes, value: Bytes)] {
        entries.compactMap { key, entry in entry.value.map { (key, $0) } }.sorted { $0.key < $1.key }
    }

    private func get(_ key: Bytes) -> Bytes? { entries[key]?.value }

    /// Stamps are moved on by 2 s at once, and by no more than time passes.
    private mutating func mayMove(_ millis: Millis) -> Bool {
        moved = max(0, moved - max(0, now - movedAt))
        movedAt = now
        if moved + millis > 2_000 { return false }
        moved += millis
        return true
    }

    /// The write rule: greatest of the clock, the floor + 1 and the key's own version.
    @discardableResult
    private mutating func write(_ key: Bytes, _ value: Bytes?, floor: Millis = 0) -> Millis {
        let old = entries[key]
        var ms = max(now, floor > 0 ? floor + 1 : 0, old?.ms ?? 0)
        // Two milliseconds after a delete.
        if let old, old.value == nil, ms < old.ms + 2, mayMove(old.ms + 2 - ms) { ms = old.ms + 2 }
        entries[key] = Entry(value: value, ms: ms)
        writes += 1
        return ms
    }

    // Replies.

    private func line(_ text: String) -> [UInt8] { Array((text + "\r\n").utf8) }
    private func integer(_ n: Int) -> [UInt8] { line(":\(n)") }
    private func error(_ text: String) -> [UInt8] { line("-ERR \(text)") }
    private func syntax() -> [UInt8] { error("syntax error") }
    private func notInteger() -> [UInt8] { error("value is not an integer or out of range") }

    func bulk(_ bytes: Bytes?, _ resp3: Bool) -> [UInt8] {
        guard let bytes else { return line(resp3 ? "_" : "$-1") }
        return line("$\(bytes.count)") + bytes.array + [13, 10]
    }

    private static let arities: [String: ClosedRange<Int>] = [
        "GET": 2...2, "SET": 3...Int.max, "PUT": 3...Int.max, "STRLEN": 2...2, "MGET": 2...Int.max,
        "MSET": 3...Int.max, "DEL": 2...Int.max, "DELETE": 2...Int.max, "UNLINK": 2...Int.max,
        "EXISTS": 2...Int.max, "LIST": 1...Int.max, "KEYS": 2...2, "DBSIZE": 1...1, "PING": 1...Int.max,
        "ECHO": 2...2, "SELECT": 2...2, "KVD": 2...Int.max,
    ]

    mutating func reply(to arguments: [Bytes], resp3: Bool) -> [UInt8] {
        let name = arguments[0].description.uppercased()
        let rest = Array(arguments.dropFirst())
        guard let arity = Self.arities[name] else {
            let shown = rest.map { "'\($0)' " }.joined()
            return error("unknown command '\(arguments[0])', with args beginning with: \(shown)")
        }
        guard arity.contains(arguments.count) else { return wrongArity(name) }
        switch name {
        case "GET": return bulk(get(rest[0]), resp3)
        case "SET", "PUT":
            guard rest.count == 2 else { return syntax() }
            write(rest[0], rest[1])
            return line("+OK")
        case "STRLEN": return integer(get(rest[0])?.count ?? 0)
        case "MGET": return line("*\(rest.count)") + rest.flatMap { bulk(get($0), resp3) }
        case "MSET":
            guard rest.count % 2 == 0 else { return wrongArity(name) }
            for k in stride(from: 0, to: rest.count, by: 2) { write(rest[k], rest[k + 1]) }
            return line("+OK")
        case "DEL", "DELETE", "UNLINK":
            var deleted = 0
            for key in rest where get(key) != nil {
                write(key, nil)
                deleted += 1
            }
            return integer(deleted)
        case "EXISTS": return integer(rest.count { get($0) != nil })
        case "LIST": return list(rest, resp3)
        case "KEYS":
            let keys = live.map(\.key).filter { GlobOracle.matches(rest[0].array[...], $0.array[...]) }
            return line("*\(keys.count)") + keys.flatMap { bulk($0, resp3) }
        case "DBSIZE": return integer(live.count)
        case "PING":
            guard rest.count <= 1 else { return wrongArity(name) }
            return rest.isEmpty ? line("+PONG") : bulk(rest[0], resp3)
        case "ECHO": return bulk(rest[0], resp3)
        case "SELECT":
            guard let n = number(rest[0]) else { return notInteger() }
            if Int32(exactly: n) == nil {
                return error("value is out of range, value must between -2147483648 and 2147483647")
            }
            return (0..<16).contains(n) ? line("+OK") : error("DB index is out of range")
        default: return kvd(rest, resp3)
        }
    }

    private func wrongArity(_ name: String) -> [UInt8] {
        error("wrong number of arguments for '\(name.lowercased())' command")
    }

    /// An integer as Redis reads it: no plus, no leading zeros, no "-0".
    private func number(_ bytes: Bytes) -> Int? {
        guard let n = Int(bytes.description), bytes == Bytes("\(n)") else { return nil }
        return n
    }

    private func list(_ arguments: [Bytes], _ resp3: Bool) -> [UInt8] {
        var options = arguments
        let prefix = options.count % 2 == 1 ? options.removeFirst() : Bytes([])
        var limit = Int.max
        var after: Bytes?
        for k in stride(from: 0, to: options.count, by: 2) {
            switch options[k].description.uppercased() {
            case "LIMIT":
                guard let n = number(options[k + 1]), n >= 0 else { return notInteger() }
                limit = n
            case "AFTER": after = options[k + 1]
            default: return syntax()
            }
        }
        let pairs = live.filter { pair in pair.key.hasPrefix(prefix) && after.map { pair.key > $0 } ?? true }
            .prefix(limit)
        return line(resp3 ? "%\(pairs.count)" : "*\(pairs.count * 2)")
            + pairs.flatMap { bulk($0.key, resp3) + bulk($0.value, resp3) }
    }

    private mutating func kvd(_ rest: [Bytes], _ resp3: Bool) -> [UInt8] {
        switch rest[0].description.uppercased() {
        case "PUT":
            guard rest.count >= 3 else { return error("wrong number of arguments for 'kvd|put' command") }
            var floor = 0
            if rest.count > 3 {
                guard rest.count == 5, rest[3].description.uppercased() == "FLOOR" else { return syntax() }
                guard let n = number(rest[4]), n >= 0 else { return notInteger() }
                floor = n
            }
            return integer(Int(write(rest[1], rest[2], floor: Millis(floor))))
        case "VERSION":
            guard rest.count == 2 else { return error("wrong number of arguments for 'kvd|version' command") }
            guard let entry = entries[rest[1]] else { return line(resp3 ? "_" : "*-1") }
            let isTombstone = entry.value == nil
            return line("*\(isTombstone ? 3 : 2)") + integer(Int(entry.ms)) + bulk(Bytes(uid), resp3)
                + (isTombstone ? bulk("tombstone", resp3) : [])
        default: return error("unknown subcommand '\(rest[0])'. Try KVD HELP.")
        }
    }
}

/// Redis's glob by plain recursion.
enum GlobOracle {
    static func matches(_ pattern: ArraySlice<UInt8>, _ key: ArraySlice<UInt8>) -> Bool {
        guard let first = pattern.first else { return key.isEmpty }
        let rest = pattern.dropFirst()
        switch first {
        case UInt8(ascii: "*"):
            return matches(rest, key) || (!key.isEmpty && matches(pattern, key.dropFirst()))
        case UInt8(ascii: "?"): return !key.isEmpty && matches(rest, key.dropFirst())
        case UInt8(ascii: "["):
            guard let byte = key.first else { return false }
            let (isMember, after) = member(rest, byte)
            return isMember && matches(after, key.dropFirst())
        case UInt8(ascii: "\\") where !rest.isEmpty:
            return key.first == rest.first && matches(rest.dropFirst(), key.dropFirst())
        default: return key.first == first && matches(rest, key.dropFirst())
        }
    }

    /// Whether `byte` is in the class that begins at `set` (behind the bracket), and the pattern behind the class.
    private static func member(_ set: ArraySlice<UInt8>, _ byte: UInt8) -> (Bool, ArraySlice<UInt8>) {
        var set = set
        let isNegated = set.first == UInt8(ascii: "^")
        if isNegated { set = set.dropFirst() }
        var found = false
        while let c = set.first, c != UInt8(ascii: "]") {
            let next = set.dropFirst()
            if c == UInt8(ascii: "\\"), let escaped = next.first {
                if escaped == byte { found = true }
                set = next.dropFirst()
            } else if next.first == UInt8(ascii: "-"), let high = next.dropFirst().first {
                if byte >= min(c, high) && byte <= max(c, high) { found = true }
                set = next.dropFirst(2)
            } else {
                if c == byte { found = true }
                set = next
            }
        }
        return (found != isNegated, set.dropFirst())
    }
}
