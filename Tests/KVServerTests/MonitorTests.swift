// MONITOR: what is shown, and what happens where a watcher does not keep up. In process.

import FuzzSupport
import KVBase
import KVTestTraits
import RESP
import Testing

@testable import KVServer

@Suite(.blocking) struct MonitorTests {
    /// A client that watches, and its kernel's buffer.
    private final class Watcher: SessionOwner {
        let session: Session
        var text = ""
        var sessionUnsentBytes = 0
        var sessionOutputBytes: Int { 0 }

        init(_ shard: Shard) {
            session = Session(shard: shard, peer: "watcher")
            session.owner = self
            run("MONITOR")
        }

        func run(_ line: String) {
            var output = OutputBuffer()
            defer { output.deallocate() }
            _ = Array("\(line)\r\n".utf8).withUnsafeBytes { session.receive($0, output: &output, unsent: 0) }
            text += String(decoding: output.bytes, as: UTF8.self)
        }

        func sessionTold(_ bytes: UnsafeRawBufferPointer) { text += String(decoding: bytes, as: UTF8.self) }
        func sessionShouldRun() {}
        func sessionReadsOn() {}
        func sessionRefused(reply: StaticString?) {}

        /// Without times.
        var lines: [String] {
            text.components("\r\n").map { line in
                guard let bracket = line.firstIndex(of: "[") else { return String(line) }
                return String(line[bracket...])
            }
        }
    }

    @Test func everyCommandIsShownAsRedisShowsIt() {
        let s = LocalSession()
        let watcher = Watcher(s.shard)
        defer {
            watcher.session.close()
            s.close()
        }
        s.expect("SET k v", "+OK")
        s.expect("GET k", "$1\r\nv")
        _ = s.run(["SET", "a\"b\\", Bytes([0x0A, 0x0D, 0x09, 1, 0x78, 0xFF])])
        _ = s.command("AUTH", "default", "secret")
        _ = s.command("CONFIG", "GET", "port")
        s.expect("SELECT 3", "+OK")
        s.expect("MULTI", "+OK")
        s.expect("SET x y", "+QUEUED")
        s.expect("EXEC", "*1\r\n+OK")
        s.shard.tellMonitors()
        #expect(
            watcher.lines == [
                "+OK", "[0 local] \"SET\" \"k\" \"v\"", "[0 local] \"GET\" \"k\"",
                "[0 local] \"SET\" \"a\\\"b\\\\\" \"\\n\\r\\t\\x01x\\xff\"",
                "[0 local] \"AUTH\" \"(redacted)\" \"(redacted)\"", "[0 local] \"SELECT\" \"3\"",
                "[3 local] \"MULTI\"", "[3 local] \"EXEC\"", "[3 local] \"SET\" \"x\" \"y\"",
            ], "\(watcher.lines)")
        #expect(s.command("CLIENT", "LIST").contains(" flags=O "))
        #expect(s.command("INFO", "clients").contains("\r\nmonitors:1\r\n"))
        watcher.run("RESET")
        #expect(s.command("INFO", "clients").contains("\r\nmonitors:0\r\n"))
        #expect(!s.shard.state.pointee.wantsEach, "the short way is open again")
        s.shard.tellMonitors()
        let before = watcher.text
        s.expect("SET k w", "+OK")
        s.shard.tellMonitors()
        #expect(watcher.text == before)
    }

    @Test func aWatcherThatDoesNotReadIsToldHowMuchItMissed() {
        let s = LocalSession()
        let watcher = Watcher(s.shard)
        defer {
            watcher.session.close()
            s.close()
        }
        watcher.sessionUnsentBytes = Limits.outputBytesHigh
        for k in 0..<7 { s.expect("SET k\(k) v", "+OK") }
        s.shard.tellMonitors()
        #expect(watcher.lines == ["+OK"])
        watcher.sessionUnsentBytes = 0
        s.expect("GET k", "$-1")
        s.shard.tellMonitors()
        #expect(watcher.lines == ["+OK", "[0 kvd] \"dropped\" \"7\"", "[0 local] \"GET\" \"k\""])
    }

    @Test func aTurnShowsSoMuchAndNoMore() {
        let s = LocalSession()
        let watcher = Watcher(s.shard)
        defer {
            watcher.session.close()
            s.close()
        }
        let value = String(repeating: "v", count: 5000)
        let count = Monitors.turnBytesMax / Monitors.wordBytesMax + 500
        for _ in 0..<count { s.expect("SET k \(value)", "+OK") }
        s.shard.tellMonitors()
        s.expect("GET nosuch", "$-1")
        s.shard.tellMonitors()
        let lines = watcher.lines
        let shown = lines.filter { $0.contains("\"SET\"") }
        #expect(shown.allSatisfy { $0.hasSuffix("\"... (\(5000 - Monitors.wordBytesMax) more bytes)") })
        let dropped = lines.compactMap { line -> Int? in
            line.hasPrefix("[0 kvd] \"dropped\" \"") ? Int(line.dropFirst(19).dropLast()) : nil
        }
        #expect(dropped.count == 1 && shown.count + dropped[0] == count, "\(shown.count) \(dropped)")
        #expect(watcher.text.utf8.count < Monitors.turnBytesMax + 8192)
    }

    @Test func commandsOfOtherActorsAreShown() {
        let homes = LocalHomes(actors: 3)
        let clients = (1...3).map { homes.client(of: $0) }
        let watcher = Watcher(homes.shards[1])
        _ = homes.deliver()
        for client in clients { client.expect("SET k v", "+OK") }
        for shard in homes.shards { shard.tellMonitors() }
        _ = homes.deliver()
        #expect(watcher.lines.filter { $0 == "[0 local] \"SET\" \"k\" \"v\"" }.count == 3)
        // Somebody who went while lines were on their way.
        clients[0].expect("SET k w", "+OK")
        homes.shards[0].tellMonitors()
        watcher.session.close()
        _ = homes.deliver()
        #expect(homes.shards.allSatisfy { !$0.state.pointee.wantsEach })
        for client in clients { client.close(shardToo: false) }
        homes.close()
    }

    @Test func whatIsOnItsWayIsBounded() {
        let monitors = Monitors(actors: 2)
        #expect(monitors.mayTell(2, bytes: Monitors.waitingBytesMax, lines: 1))
        #expect(!monitors.mayTell(2, bytes: 1, lines: 3))
        #expect(monitors.mayTell(1, bytes: 1, lines: 1), "each actor has its own bound")
        #expect(monitors.takeDropped(at: 2) == 3 && monitors.takeDropped(at: 2) == 0)
        monitors.arrived(2, bytes: Monitors.waitingBytesMax)
        #expect(monitors.mayTell(2, bytes: 1, lines: 1))
    }
}
