// SCAN over actors, servers, deletes and long patterns. In process.

import FuzzSupport
import KVBase
import KVCore
import KVTestTraits
import RESP
import Testing

@testable import KVServer

@Suite(.blocking) struct ScanTests {
    /// One SCAN: the next cursor and the keys.
    private func scan(_ s: LocalSession, _ cursor: String, _ options: [String]) -> (next: String, keys: [String]) {
        var bytes = OutputBuffer()
        defer { bytes.deallocate() }
        bytes.request((["SCAN", cursor] + options).map { Bytes($0) })
        let parts = String(decoding: s.reply(to: Array(bytes.bytes)), as: UTF8.self).components("\r\n")
        #expect(parts.count > 3, "\(parts)")
        guard parts.count > 3 else { return ("0", []) }
        return (parts[2], stride(from: 5, to: parts.count, by: 2).map { parts[$0] })
    }

    /// A whole scan, each call on the next of the sessions; nil when it does not end.
    private func scan(
        over sessions: [LocalSession], _ options: [String], callsMax: Int = 10_000, between: (Int) -> Void = { _ in }
    ) -> (keys: [String], calls: Int)? {
        var (keys, calls, cursor) = ([String](), 0, "0")
        repeat {
            let step = scan(sessions[calls % sessions.count], cursor, options)
            keys += step.keys
            cursor = step.next
            between(calls)
            calls += 1
            guard calls < callsMax else { return nil }
        } while cursor != "0"
        return (keys, calls)
    }

    private static func server(actors: Int, id: UInt64) -> [LocalSession] {
        var config = Config()
        config.actors = actors
        let context = ServerContext(config: config, serverID: id, hashSeed: id &* 77, digestKey: 1, inputOutput: "none")
        return (1...actors).map {
            LocalSession(shard: Shard(index: $0, context: context, journalCapacity: 1024), now: 1_000_000)
        }
    }

    private func fill(_ sessions: [LocalSession], _ numbers: Range<Int>) {
        for s in sessions { for k in numbers { _ = s.command("SET", "user:\(k)", "v") } }
    }

    private static let forms: [(options: [String], expected: @Sendable (Int) -> Bool)] = [
        (["COUNT", "1000"], { _ in true }), ([], { _ in true }),
        (["MATCH", "user:*", "COUNT", "1000"], { _ in true }), (["MATCH", "*7", "COUNT", "100"], { $0 % 10 == 7 }),
        (["MATCH", "user:1*"], { String($0).hasPrefix("1") }),
    ]

    @Test func aCursorMeansTheSameOnEveryActorOfAServer() {
        let sessions = ScanTests.server(actors: 2, id: 5)
        defer { for s in sessions { s.close() } }
        fill(sessions, 0..<5000)
        for (options, isExpected) in ScanTests.forms {
            let expected = (0..<5000).filter(isExpected).map { "user:\($0)" }.sorted()
            let found = scan(over: sessions, options)
            #expect(found?.keys.sorted() == expected, "\(options): \(found?.keys.count ?? -1)")
        }
    }

    @Test func aCursorMeansTheSameOnEveryServer() {
        let sessions = [3, 4].flatMap { ScanTests.server(actors: 1, id: $0) }
        defer { for s in sessions { s.close() } }
        fill(sessions, 0..<3000)
        for k in 0..<500 { _ = sessions[1].command("SET", "a:\(k)", "only here, as yet") }
        for (options, isExpected) in ScanTests.forms {
            let expected = (0..<3000).filter(isExpected).map { "user:\($0)" }
            let found = scan(over: sessions, options)
            let keys = Set(found.map(\.keys) ?? [])
            #expect(keys.isSuperset(of: expected), "\(options): \(keys.count)")
        }
    }

    @Test func aScanGoesOnBehindAKeyThatIsGoneForGood() {
        let sessions = ScanTests.server(actors: 1, id: 6)
        defer { sessions[0].close() }
        fill(sessions, 0..<1000)
        let store = sessions[0].shard.state.pointee.store
        // Everything a page returns is deleted and collected: as if never written.
        var last: [String] = []
        var (cursor, found) = ("0", 0)
        repeat {
            let step = scan(sessions[0], cursor, ["COUNT", "10"])
            (cursor, last) = (step.next, step.keys)
            found += step.keys.count
            for key in last {
                _ = sessions[0].command("DEL", key)
                Bytes(key).withBytes { #expect(store.dropTombstone(store.key($0))) }
            }
        } while cursor != "0" && found < 10_000
        #expect(found == 1000)
    }

    @Test func deletedKeysCostAScanNothing() {
        let sessions = ScanTests.server(actors: 1, id: 7)
        defer { sessions[0].close() }
        fill(sessions, 0..<30_000)
        for k in 100..<30_000 { _ = sessions[0].command("DEL", "user:\(k)") }
        let found = scan(over: sessions, ["COUNT", "10"], callsMax: 100)
        #expect(found?.keys.count == 100 && found.map { $0.calls <= 11 } == true, "\(String(describing: found?.calls))")
        for k in 0..<100 { _ = sessions[0].command("DEL", "user:\(k)") }
        #expect(scan(over: sessions, ["COUNT", "10"], callsMax: 100)?.calls == 1)
    }

    @Test func aKeyThatStaysIsFoundWhateverComesAndGoesBetweenTheCalls() {
        let sessions = ScanTests.server(actors: 2, id: 8)
        defer { for s in sessions { s.close() } }
        fill(sessions, 0..<2000)
        var random = PRNG(seed: 9)
        let found = scan(over: sessions, ["COUNT", "20"]) { call in
            for _ in 0..<20 {
                let key = "user:\(random.below(4000))x"
                for s in sessions { _ = s.command(random.chance(0.5) ? "DEL" : "SET", key, "v") }
            }
        }
        let keys = Set(found.map(\.keys) ?? [])
        #expect(keys.isSuperset(of: (0..<2000).map { "user:\($0)" }))
    }

    @Test func aCursorIsBelowWhatADoubleHolds() {
        let sessions = ScanTests.server(actors: 1, id: 10)
        defer { sessions[0].close() }
        fill(sessions, 0..<500)
        var cursor = "0"
        repeat {
            cursor = scan(sessions[0], cursor, []).next
            #expect(Int(cursor).map { $0 < 1 << 53 } == true)
        } while cursor != "0"
    }

    @Test func longPatternsMatchLongKeys() {
        let s = LocalSession()
        defer { s.close() }
        let long = String(repeating: "ab", count: 32 * 1024)
        #expect(s.command("SET", long, "v") == "+OK\r\n")
        #expect(s.command("SET", "short", "v") == "+OK\r\n")
        let escaped = String(repeating: "\\a\\b", count: 32 * 1024)
        // With no literal prefix, so that each position is matched; each way takes several slices.
        let wild = "?" + String(repeating: "*ba", count: 20 * 1024) + "*b"
        for pattern in [long, escaped, wild, String(repeating: "a", count: 2000) + "*"] {
            let isMatch = pattern.hasPrefix("a") && pattern.count == 2001 ? false : true
            let keys = s.command("KEYS", pattern)
            #expect(keys.hasPrefix(isMatch ? "*1\r\n$65536\r\n" : "*0\r\n"), "KEYS \(pattern.prefix(20))")
            let found = scan(over: [s], ["MATCH", pattern, "COUNT", "100"])
            #expect(found?.keys == (isMatch ? [long] : []), "SCAN \(pattern.prefix(20))")
        }
        let tooLong = String(repeating: "*", count: Glob.patternBytesMax + 1)
        #expect(s.command("KEYS", tooLong) == "-ERR pattern is longer than 131072 bytes\r\n")
        #expect(s.command("SCAN", "0", "MATCH", tooLong) == "-ERR pattern is longer than 131072 bytes\r\n")
    }

    @Test func aLongPatternLeavesRoomForOthersWhileItIsMatched() {
        let s = LocalSession()
        defer { s.close() }
        let long = String(repeating: "a", count: 64 * 1024)
        for k in 0..<2 { _ = s.command("SET", String(long.dropLast()) + "\(k)", "v") }
        // As many positions live as can be.
        let pattern = "?" + String(repeating: "*a", count: 20 * 1024) + "x"
        for request in [["KEYS", pattern], ["SCAN", "0", "MATCH", pattern]] {
            var bytes = OutputBuffer()
            defer { bytes.deallocate() }
            bytes.request(request.map { Bytes($0) })
            var turns = 0
            let reply = String(decoding: s.reply(to: bytes.bytes, turns: &turns), as: UTF8.self)
            #expect(reply.hasSuffix("*0\r\n") && turns > 4, "\(turns) turns")
        }
    }
}
