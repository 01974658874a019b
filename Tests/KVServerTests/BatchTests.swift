// One shard's batch by itself: what it recognises, and that several sessions' commands lie behind each other in it.

import FuzzSupport
import KVBase
import KVTestTraits
import RESP
import Testing

@testable import KVServer

@Suite(.blocking) struct BatchTests {
    private func request(_ arguments: String...) -> [UInt8] { request(arguments) }

    private func request(_ arguments: [String]) -> [UInt8] {
        var bytes = OutputBuffer()
        defer { bytes.deallocate() }
        bytes.request(arguments.map { Bytes($0) })
        return Array(bytes.bytes)
    }

    /// How many of the commands went the short way, and the replies.
    private func run(_ input: [UInt8], _ prepare: (Shard) -> Void = { _ in }) -> (gets: Int, sets: Int, reply: String) {
        let local = LocalSession()
        defer { local.close() }
        prepare(local.shard)
        let reply = String(decoding: local.reply(to: input), as: UTF8.self)
        let counters = local.shard.state.pointee.counters
        return (counters.hotGets, counters.hotSets, reply)
    }

    @Test func getAndSetAreRecognisedByNameAndArityInAnyCase() {
        let short = request("SET", "k", "v") + request("gEt", "k") + request("put", "k", "w") + request("GET", "k")
        #expect(run(short) == (2, 2, "+OK\r\n$1\r\nv\r\n+OK\r\n$1\r\nw\r\n"))
        // Same letters but for a bit that is no case, other arities, other names, a key that is too long.
        for other in [
            request("\u{27}ET", "k"), request("GET"), request("GET", "k", "x"), request("SET", "k"),
            request("SET", "k", "v", "EX", "01"), request("SET", "k", "v", "GET"), request("GETS", "k"),
            request("DEL", "k"),
            request("GET", String(repeating: "k", count: Limits.keyBytesMax + 1)),
        ] {
            let result = run(other)
            #expect(result.gets == 0 && result.sets == 0, "\(String(decoding: other.prefix(40), as: UTF8.self))")
        }
    }

    @Test func aSetWithUsualOptionsGoesTheShortWay() {
        let short =
            request("SET", "k", "v", "NX") + request("set", "k", "w", "nx", "Ex", "10") + request("SET", "k", "x", "XX")
            + request("SET", "k", "y", "pX", "100", "xX") + request("PTTL", "k") + request("SET", "n", "v", "XX")
        #expect(run(short) == (0, 5, "+OK\r\n$-1\r\n+OK\r\n+OK\r\n:100\r\n$-1\r\n"))
        // Everything else, with the answers of the table.
        for (other, reply) in [
            (["NX", "XX"], "-ERR syntax error\r\n"), (["NX", "NX"], "+OK\r\n"),
            (["EX", "0"], "-ERR invalid expire time"),
            (["EX", "1", "PX", "1"], "-ERR syntax error\r\n"), (["EX"], "-ERR syntax error\r\n"),
            (["KEEPTTL"], "+OK\r\n"),
            (["PX", "1x"], "-ERR value is not an integer"), (["EX", "9999999999999"], "-ERR invalid expire time"),
            (["PX", "-5"], "-ERR invalid expire time"), (["GX"], "-ERR syntax error\r\n"),
            (["EX", "10", "EX", "20"], "+OK"),
        ] {
            let result = run(request(["SET", "k", "v"] + other))
            #expect(result.sets == 0 && result.reply.hasPrefix(reply), "\(other) \(result.reply)")
        }
        let large = String(repeating: "v", count: 2_000)
        #expect(run(request("SET", "k", large, "EX", "10") + request("STRLEN", "k")) == (0, 0, "+OK\r\n:2000\r\n"))
    }

    @Test func aServerThatLeavesAnswersSetByTheTableAndGetTheShortWay() {
        let result = run(request("SET", "k", "v") + request("GET", "k")) { $0.refuseWrites() }
        #expect(result.gets == 1 && result.sets == 0)
        #expect(result.reply.hasPrefix("-LEAVING ") && result.reply.hasSuffix("$-1\r\n"))
    }

    @Test func sessionsCommandsLieBehindEachOtherAndAreAnsweredFromTheirOwnBytes() {
        let local = LocalSession()
        let sessions = (0..<3).map { _ in Session(shard: local.shard) }
        let output = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
        output.initialize(to: OutputBuffer())
        defer {
            output.pointee.deallocate()
            output.deallocate()
            for session in sessions { session.close() }
            local.close()
        }
        // The second session's last command is not complete.
        let inputs = [
            request("SET", "a", "1") + request("GET", "a"), request("GET", "a") + Array("*2\r\n$3\r\nGE".utf8),
            request("PING"),
        ]
        let bytes = inputs.map { input in
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: input.count, alignment: 1)
            copy.copyBytes(from: input)
            return UnsafeRawBufferPointer(copy)
        }
        defer { for each in bytes { each.deallocate() } }
        let runs = zip(sessions, bytes).map { $0.parseAhead($1) }
        #expect(runs.map(\.first) == [0, 2, 3] && runs.map(\.end) == [2, 3, 4])
        #expect(sessions.allSatisfy { !$0.mayParseAhead })
        let batch = local.shard.batch
        var replies: [String] = []
        for (i, session) in sessions.enumerated() {
            output.pointee.count = 0
            var consumed = 0
            let status = batch.answer(session, bytes[i], runs[i], &consumed, output, outputMax: 1000)
            #expect(status == .idle && consumed == (i == 1 ? request("GET", "a").count : bytes[i].count))
            replies.append(String(decoding: output.pointee.bytes, as: UTF8.self))
        }
        #expect(replies == ["+OK\r\n$1\r\n1\r\n", "$1\r\n1\r\n", "+PONG\r\n"])
        batch.reset()
        #expect(batch.isEmpty && batch.commands.count == 0)
    }
}
