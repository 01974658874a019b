// What the server should answer, computed with a dictionary; shared by the in-process and the socket traces.

import KVBase

/// RESP2 replies of the commands it knows.
struct StoreModel {
    var pairs: [Bytes: Bytes] = [:]

    /// A command over a small set of keys, so that hits, overwrites and deletes are common.
    func randomCommand(_ random: inout PRNG) -> [Bytes] {
        func key() -> Bytes { Bytes(["a", "b", "user:", "\u{0}", "é"][random.below(5)] + "\(random.below(12))") }
        func value() -> Bytes {
            let length = random.chance(0.1) ? random.below(3000) : random.below(40)
            return Bytes((0..<length).map { _ in UInt8(truncatingIfNeeded: random.next()) })
        }
        switch random.below(14) {
        case 0...2: return ["GET", key()]
        case 3...5: return [random.chance(0.5) ? "SET" : "put", key(), value()]
        case 6: return ["MGET", key(), key(), key()]
        case 7: return ["MSET", key(), value(), key(), value()]
        case 8: return ["DEL", key(), key()]
        case 9: return ["EXISTS", key(), key()]
        case 10: return ["STRLEN", key()]
        case 11: return ["LIST", ["a", "user:", ""][random.below(3)], "LIMIT", Bytes("\(random.below(20))")]
        case 12: return ["LIST", "AFTER", key()]
        default: return ["DBSIZE"]
        }
    }

    private func bulk(_ bytes: Bytes?) -> [UInt8] {
        guard let bytes else { return Array("$-1\r\n".utf8) }
        return Array("$\(bytes.count)\r\n".utf8) + bytes.array + [13, 10]
    }

    private func integer(_ n: Int) -> [UInt8] { Array(":\(n)\r\n".utf8) }

    mutating func reply(to arguments: [Bytes]) -> [UInt8] {
        let rest = Array(arguments.dropFirst())
        switch arguments[0].description.uppercased() {
        case "GET": return bulk(pairs[rest[0]])
        case "SET", "PUT":
            pairs[rest[0]] = rest[1]
            return Array("+OK\r\n".utf8)
        case "MGET": return Array("*\(rest.count)\r\n".utf8) + rest.flatMap { bulk(pairs[$0]) }
        case "MSET":
            for k in stride(from: 0, to: rest.count, by: 2) { pairs[rest[k]] = rest[k + 1] }
            return Array("+OK\r\n".utf8)
        case "DEL": return integer(rest.count { pairs.removeValue(forKey: $0) != nil })
        case "EXISTS": return integer(rest.count { pairs[$0] != nil })
        case "STRLEN": return integer(pairs[rest[0]]?.count ?? 0)
        case "LIST": return list(rest)
        case "DBSIZE": return integer(pairs.count)
        default: fatalError("the model does not know \(arguments[0])")
        }
    }

    private func list(_ arguments: [Bytes]) -> [UInt8] {
        var prefix = Bytes([])
        var options = arguments
        if options.count % 2 == 1 { prefix = options.removeFirst() }
        var (limit, after) = (Int.max, nil as Bytes?)
        for k in stride(from: 0, to: options.count, by: 2) {
            if options[k] == "LIMIT" { limit = Int(options[k + 1].description)! } else { after = options[k + 1] }
        }
        let keys = pairs.keys.filter { key in
            guard key.hasPrefix(prefix) else { return false }
            return after.map { key > $0 } ?? true
        }.sorted().prefix(limit)
        return Array("*\(keys.count * 2)\r\n".utf8) + keys.flatMap { bulk($0) + bulk(pairs[$0]) }
    }
}
