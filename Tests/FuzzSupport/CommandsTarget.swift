// The fuzz target `commands`: random command sequences of two clients of one query actor against a model. In process.

import KVBase
import KVServer
package import KVTestSupport
import RESP

extension FuzzTarget {
    package static let commands = FuzzTarget(
        name: "commands", about: "stateful command sequences of two clients (RESP2, RESP3) against a model"
    ) { random, _ in
        var sequence = CommandSequence(random.fork(), forgets: false)
        return sequence.run()
    }

    /// The model forgets one write in 200: the harness must notice.
    package static let commandsCanary = FuzzTarget(
        name: "commands-canary", about: "as commands, with a planted mismatch; must fail"
    ) { random, _ in
        var sequence = CommandSequence(random.fork(), forgets: true)
        return sequence.run()
    }
}

/// One sequence: up to 60 commands in pipelines cut anywhere, time moving on and back.
private struct CommandSequence {
    private var random: PRNG
    private let forgets: Bool
    private var model = CommandModel(uid: "0000000000000001/0000")
    private let clients: [LocalSession]
    private var log: [String] = []
    private var digest: (writes: Int, text: [UInt8])?

    private static let keys: [Bytes] = {
        let short = ["a", "b", "ab", "abc", "user:1", "user:2", "user:10", "é", "x y", "", "\u{0}", "*", "[a]"]
        let long = [254, 255, 256, 300].map { Bytes([UInt8](repeating: 107, count: $0)) }
        return short.map { Bytes($0) } + long + [Bytes([255]), Bytes([255, 254]), Bytes([13, 10])]
    }()

    private static let patterns = [
        "*", "a*", "user:*", "user:?", "[ab]*", "[^a]*", "*1", "a", "\\*", "*[0-9]", "u*:*", "??", "", "[a", "[a-",
        "a\\", "***", "*b*c", "[]", "[^]", "x y", "k*",
    ]

    init(_ random: PRNG, forgets: Bool) {
        self.random = random
        self.forgets = forgets
        let first = LocalSession(now: model.now, seed: 1)
        clients = [first, LocalSession(shard: first.shard, now: model.now)]
    }

    mutating func run() -> String? {
        defer {
            clients[1].close(shardToo: false)
            clients[0].close()
        }
        _ = clients[1].command("HELLO", "3")
        for _ in 0..<1 + random.below(12) {
            if random.below(4) == 0 { moveTime() }
            if let problem = pipeline(random.below(2)) { return report(problem) }
            if random.below(6) == 0, let problem = scan(random.below(2)) { return report(problem) }
            if random.below(3) == 0, let problem = checkDigest() { return report(problem) }
        }
        return nil
    }

    private func report(_ problem: String) -> String {
        problem + "\nthe sequence:\n" + log.suffix(80).joined(separator: "\n")
    }

    private mutating func moveTime() {
        model.now += random.below(5) == 0 ? -Millis(random.below(1000)) : Millis(random.below(20))
        clients[0].now = model.now
        log.append("time \(model.now)")
    }

    private mutating func pipeline(_ client: Int) -> String? {
        var request = OutputBuffer()
        defer { request.deallocate() }
        var expected: [UInt8] = []
        for _ in 0..<1 + random.below(5) {
            let arguments = command()
            request.request(arguments)
            log.append("client \(client): \(arguments.map { escapedText($0.array) }.joined(separator: " "))")
            let before = model
            expected += model.reply(to: arguments, resp3: client == 1)
            if forgets && random.below(200) == 0 { model = before }
        }
        var actual: [UInt8] = []
        var from = 0
        let bytes = Array(request.bytes)
        for cut in Cuts.random(&random, bytes.count) + [bytes.count] {
            actual += clients[client].reply(to: Array(bytes[from..<cut]))
            from = cut
        }
        if actual == expected { return nil }
        return "expected \(escapedText(expected))\nactual   \(escapedText(actual))"
    }

    private mutating func key() -> Bytes {
        random.below(3) == 0 ? Self.keys[random.below(Self.keys.count)] : Self.keys[random.below(9)]
    }

    private mutating func value() -> Bytes {
        let lengths = [0, 1, 40, 64, 255, 256, 257, 3000]
        let length = random.below(4) == 0 ? lengths[random.below(lengths.count)] : random.below(40)
        let fill = UInt8(truncatingIfNeeded: random.next())
        return Bytes((0..<length).map { fill &+ UInt8(truncatingIfNeeded: $0) })
    }

    private mutating func cased(_ word: String) -> Bytes {
        Bytes(random.below(3) == 0 ? word.lowercased() : word)
    }

    private mutating func command() -> [Bytes] {
        switch random.below(24) {
        case 0...2: return [cased("GET"), key()]
        case 3...6: return [cased(["SET", "PUT"][random.below(2)]), key(), value()]
        case 7: return ["MGET"] + (0..<1 + random.below(5)).map { _ in key() }
        case 8, 9: return ["MSET"] + (0..<1 + random.below(4)).flatMap { _ in [key(), value()] }
        case 10...12:
            return [cased(["DEL", "DELETE", "UNLINK"][random.below(3)])] + (0..<1 + random.below(3)).map { _ in key() }
        case 13: return ["EXISTS"] + (0..<1 + random.below(4)).map { _ in key() }
        case 14: return ["STRLEN", key()]
        case 15, 16: return list()
        case 17: return ["KEYS", Bytes(Self.patterns[random.below(Self.patterns.count)])]
        case 18: return ["KVD", "PUT", key(), value()]
        case 19:
            return ["KVD", "PUT", key(), value(), "FLOOR", Bytes("\(model.now + Millis(random.below(2000)) - 1000)")]
        case 20, 21: return ["KVD", "VERSION", key()]
        case 22: return [["DBSIZE"], ["PING"], ["ECHO", value()], ["PING", "x"]][random.below(4)]
        default: return wrong()
        }
    }

    private mutating func list() -> [Bytes] {
        var words: [Bytes] = [cased("LIST")]
        if random.below(3) > 0 { words.append(["", "a", "user:", "k", "user:1", "zzz"][random.below(6)]) }
        if random.below(2) == 0 { words += [cased("LIMIT"), Bytes("\(random.below(8))")] }
        if random.below(2) == 0 { words += [cased("AFTER"), key()] }
        return words
    }

    /// Well-formed requests that must be answered with an error and change nothing.
    private mutating func wrong() -> [Bytes] {
        let all: [[Bytes]] = [
            ["GET"], ["GET", "a", "b"], ["SET", "a"], ["SET", "a", "1", "WHAT", "5"], ["MSET", "a"],
            ["MSET", "a", "1", "b"], ["DEL"], ["KEYS"], ["DBSIZE", "x"], ["PING", "a", "b"], ["NOSUCH", "a b", "c"],
            ["LIST", "a", "LIMIT", "-1"], ["LIST", "a", "LIMIT", "x"], ["LIST", "a", "BY", "x"], ["SELECT", "16"],
            ["SELECT", "x"], ["KVD", "PUT", "a"], ["KVD", "PUT", "a", "b", "FLOOR"], ["KVD", "VERSION"],
            ["KVD", "PUT", "a", "b", "FLOOR", "-1"], ["KVD", "NOSUCH"], ["LIST", "a", "LIMIT", "01"], ["getx"],
        ]
        return all[random.below(all.count)]
    }

    /// A whole scan returns exactly the live keys that match, perhaps some twice.
    private mutating func scan(_ client: Int) -> String? {
        let pattern = random.below(2) == 0 ? nil : Self.patterns[random.below(Self.patterns.count)]
        var cursor = "0"
        var found: Set<Bytes> = []
        for _ in 0..<1000 {
            var words = ["SCAN", cursor, "COUNT", "\(1 + random.below(20))"]
            if let pattern { words += ["MATCH", pattern] }
            let reply = parseReplies(clients[client].reply(to: requestBytes(words))).values
            log.append("client \(client): \(words.joined(separator: " "))")
            guard reply.count == 1, let parts = reply[0].elements, parts.count == 2, let next = parts[0].bytes,
                let keys = parts[1].elements
            else { return "SCAN answered \(reply)" }
            found.formUnion(keys.compactMap(\.bytes))
            cursor = next.description
            if cursor == "0" { break }
        }
        guard cursor == "0" else { return "SCAN does not end" }
        let expected = Set(
            model.live.map(\.key).filter { key in
                pattern.map { GlobOracle.matches(Array($0.utf8)[...], key.array[...]) } ?? true
            })
        if found == expected { return nil }
        return "SCAN \(pattern ?? "") found \(found.sorted()), expected \(expected.sorted())"
    }

    /// The digest stays while nothing is written and changes with every write.
    private mutating func checkDigest() -> String? {
        let text = clients[0].reply(to: requestBytes(["KVD", "DIGEST", "ALL"]))
        defer { digest = (model.writes, text) }
        guard let digest else { return nil }
        if digest.writes == model.writes && digest.text != text { return "the digest changed without a write" }
        if digest.writes != model.writes && digest.text == text { return "the digest stayed despite a write" }
        return nil
    }

    private func requestBytes(_ words: [String]) -> [UInt8] { Array(requestText(words).utf8) }
}
