// Sessions: cut input, fairness, long commands, listings, back-pressure, and random traces against a model. In process.

import FuzzSupport
import KVBase
import KVCore
import RESP
import KVTestTraits
import Testing

@testable import KVRuntime
@testable import KVServer

@Suite(.blocking) struct SessionTests {
    private func request(_ arguments: [Bytes]) -> [UInt8] {
        var bytes = OutputBuffer()
        defer { bytes.deallocate() }
        bytes.request(arguments)
        return Array(bytes.bytes)
    }

    private func request(_ arguments: String...) -> [UInt8] { request(arguments.map { Bytes($0) }) }

    @Test func inputCutAtEveryByteGivesTheSameReplies() {
        let input =
            request("SET", "k", "value") + request("GET", "k") + Array("PING\r\nget \"k\"\r\n".utf8)
            + request("MSET", "a", "1", "b", "2") + request("LIST") + request("NOSUCH") + request("HELLO", "3")
            + request("GET", "x")
        let whole = LocalSession()
        defer { whole.close() }
        let expected = whole.reply(to: input)
        for cut in 0...input.count {
            let session = LocalSession()
            let replies = session.reply(to: Array(input[..<cut])) + session.reply(to: Array(input[cut...]))
            #expect(replies == expected, "cut at \(cut)")
            session.close()
        }
        let bytewise = LocalSession()
        defer { bytewise.close() }
        #expect(input.flatMap { bytewise.reply(to: [$0]) } == expected)
    }

    @Test func aProtocolErrorAnswersWhatCameBeforeAndCloses() {
        let session = LocalSession()
        defer { session.close() }
        let reply = session.reply(to: request("PING") + Array("*1\r\n$x\r\n".utf8) + request("PING"))
        #expect(String(decoding: reply, as: UTF8.self) == "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n")
        #expect(session.isClosed && session.reply(to: request("PING")).isEmpty)
    }

    @Test func nothingIsRunBehindQuit() {
        let session = LocalSession()
        defer { session.close() }
        let reply = session.reply(to: request("SET", "a", "1") + request("QUIT") + request("SET", "a", "2"))
        #expect(String(decoding: reply, as: UTF8.self) == "+OK\r\n+OK\r\n")
        let other = LocalSession(shard: session.shard, now: 2)
        defer { other.close(shardToo: false) }
        #expect(other.command("GET", "a") == "$1\r\n1\r\n")
    }

    @Test func aLongPipelineIsSpreadOverTurns() {
        let session = LocalSession()
        defer { session.close() }
        let input = Array((0..<1000).map { request("SET", "k\($0)", "v") }.joined())
        var turns = 0
        let reply = input.withUnsafeBytes { session.reply(to: $0, turns: &turns).count }
        #expect(reply == 5000)
        #expect(turns >= 1000 / Limits.commandsPerTurnMax && turns < 20)
    }

    @Test func oversizedArgumentsAreRefusedAndTheConnectionKept() {
        let session = LocalSession()
        defer { session.close() }
        let long = Bytes([UInt8](repeating: 1, count: Limits.keyBytesMax + 1))
        let edge = Bytes([UInt8](repeating: 1, count: Limits.keyBytesMax))
        for arguments in [
            ["GET", long], ["SET", long, "v"], ["DEL", "a", long], ["MSET", "a", "1", long, "2"], ["EXISTS", long],
        ]
            as [[Bytes]]
        {
            let reply = String(decoding: session.reply(to: request(arguments)), as: UTF8.self)
            #expect(reply == "-ERR key is too long: the limit is 65536 bytes\r\n")
        }
        #expect(session.command("EXISTS", "a") == ":0\r\n", "a refused MSET writes nothing")
        #expect(session.reply(to: request(["SET", edge, "v"])) == Array("+OK\r\n".utf8))
        #expect(session.reply(to: request(["GET", edge])) == Array("$1\r\nv\r\n".utf8))
        // A value beyond the limit is passed over as it arrives, never stored.
        _ = session.reply(to: Array("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$\(Limits.valueBytesMax + 1)\r\n".utf8))
        let chunk = [UInt8](repeating: 7, count: 1 << 20)
        for _ in 0..<(Limits.valueBytesMax >> 20) { #expect(session.reply(to: chunk).isEmpty) }
        let reply = String(decoding: session.reply(to: [7] + Array("\r\nPING\r\n".utf8)), as: UTF8.self)
        #expect(reply.hasPrefix("-ERR argument is too large") && reply.hasSuffix("\r\n+PONG\r\n"), "\(reply)")
    }

    @Test func veryManyArgumentsRunInSlices() {
        let session = LocalSession()
        defer { session.close() }
        let n = 5000
        let keys = (0..<n).map { Bytes("key:\($0)") }
        let pairs = keys.flatMap { [$0, Bytes("v" + $0.description)] }
        // The commands behind wait, in order, also when they arrive with the long one's first bytes or in the middle.
        let input = request(["MSET"] + pairs) + request("DBSIZE") + request(["EXISTS"] + keys) + request("PING")
        var replies: [UInt8] = []
        for start in stride(from: 0, to: input.count, by: 10_007) {
            replies += session.reply(to: Array(input[start..<min(start + 10_007, input.count)]))
        }
        #expect(String(decoding: replies, as: UTF8.self) == "+OK\r\n:\(n)\r\n:\(n)\r\n+PONG\r\n")
        let values = String(decoding: session.reply(to: request(["MGET"] + keys)), as: UTF8.self).components("\r\n")
        #expect(values[0] == "*\(n)" && (0..<n).allSatisfy { values[2 + $0 * 2] == "vkey:\($0)" })
        #expect(session.reply(to: request(["DEL"] + keys + ["none"])) == Array(":\(n)\r\n".utf8))
        #expect(
            session.reply(to: request(["MSET"] + pairs + ["odd"]))
                == Array(
                    "-ERR wrong number of arguments for 'mset' command\r\n".utf8))
        #expect(session.command("DBSIZE") == ":0\r\n")
    }

    @Test func aLongCommandLeavesRoomForOthersBetweenItsSlices() {
        let session = LocalSession()
        let other = LocalSession(shard: session.shard, now: 1)
        defer {
            other.close(shardToo: false)
            session.close()
        }
        let output = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
        output.initialize(to: OutputBuffer())
        defer {
            output.pointee.deallocate()
            output.deallocate()
        }
        for k in 0..<20_000 { _ = other.command("SET", "k\(k)", "v") }
        let slow = Session(shard: session.shard)
        defer { slow.close() }
        var status = request("LIST").withUnsafeBytes { slow.receive($0, output: output, unsent: 0) }
        var turns = 0
        var late = 0
        while status != .idle {
            // Writes between the slices: neither the number announced nor the entries may suffer.
            _ = other.command("DEL", "k\(19_999 - turns)")
            _ = other.command("SET", "new\(turns)", "v")
            if turns == 1 {
                status = request("PING").withUnsafeBytes { slow.receive($0, output: output, unsent: 0) }
                late += 1
            }
            status = slow.takeTurn(output: output, unsent: -output.pointee.count)
            turns += 1
            #expect(turns < 100_000)
        }
        var counter = RESPReplyCounter()
        #expect(turns > 3 && late == 1)
        #expect(
            counter.count(output.pointee.bytes) && counter.replies == 2, "the listing and the PONG behind it, exactly")
        #expect(output.pointee.bytes.suffix(7).elementsEqual("+PONG\r\n".utf8))
        #expect(session.shard.state.pointee.listedEntries == 0)
    }

    @Test func listingsOfManyClientsInOneTurnArePutOff() {
        let session = LocalSession()
        defer { session.close() }
        for k in 0..<300 { _ = session.command("SET", "k\(k)", "v") }
        let expected = session.command("LIST", "k", "LIMIT", "200")
        let output = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
        output.initialize(to: OutputBuffer())
        defer {
            output.pointee.deallocate()
            output.deallocate()
        }
        session.shard.state.pointee.budget = TurnBudget()
        let readers = (0..<50).map { _ in Session(shard: session.shard) }
        defer { for reader in readers { reader.close() } }
        var late: [Session] = []
        for reader in readers {
            output.pointee.count = 0
            let status = request("LIST", "k", "LIMIT", "200").withUnsafeBytes {
                reader.receive($0, output: output, unsent: 0)
            }
            if status == .ready {
                late.append(reader)
            } else {
                #expect(String(decoding: output.pointee.bytes, as: UTF8.self) == expected)
            }
        }
        #expect(late.count > 20 && late.count < 40)
        for reader in late {
            output.pointee.count = 0
            while reader.takeTurn(output: output, unsent: 0) != .idle {}
            #expect(String(decoding: output.pointee.bytes, as: UTF8.self) == expected)
        }
    }

    @Test func largeValuesComeAndGoInSlices() {
        let session = LocalSession()
        let other = LocalSession(shard: session.shard, now: 2)
        defer {
            other.close(shardToo: false)
            session.close()
        }
        let output = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
        output.initialize(to: OutputBuffer())
        let writer = Session(shard: session.shard)
        defer {
            writer.close()
            output.pointee.deallocate()
            output.deallocate()
        }
        let length = 24 * 1024 * 1024 + 5
        let value = [UInt8](unsafeUninitializedCapacity: length) { bytes, count in
            for i in 0..<length { bytes[i] = UInt8(truncatingIfNeeded: i &* 31 &>> 3) }
            count = length
        }
        let input = request([Bytes("SET"), Bytes("k"), Bytes(value)]) + request("GET", "k") + request("PING")
        _ = other.command("SET", "k", "before")
        var status = SessionStatus.idle
        var at = 0
        while at < input.count {
            let end = min(at + 16 * 1024, input.count)
            status = input[at..<end].withUnsafeBytes { writer.receive($0, output: output, unsent: 0) }
            #expect(end == input.count || status == .idle)
            at = end
        }
        // The write counts from when it is complete; until then others see and change the key.
        #expect(status == .ready)
        #expect(other.command("GET", "k") == "$6\r\nbefore\r\n")
        var turns = 0
        while output.pointee.count < 5 {
            status = writer.takeTurn(output: output, unsent: 0)
            if turns == 0 { _ = other.command("SET", "k", "between") }
            turns += 1
        }
        #expect(turns > 1 && output.pointee.bytes.prefix(5).elementsEqual("+OK\r\n".utf8))
        var reply: [UInt8] = []
        while status != .idle {
            reply += output.pointee.bytes
            #expect(output.pointee.count <= Limits.outputBytesHigh + 65 * 1024)
            output.pointee.count = 0
            status = writer.takeTurn(output: output, unsent: 0)
            // The reply is the value of the moment it began.
            if reply.count > 1000 { _ = other.command("DEL", "k") }
        }
        reply += output.pointee.bytes
        let expected = Array("+OK\r\n$\(length)\r\n".utf8) + value + Array("\r\n+PONG\r\n".utf8)
        #expect(reply == expected)
        session.shard.state.pointee.store.checkInvariants()
    }

    /// With a deadline too. Values below the size for slices go the same way as others.
    @Test(arguments: [
        (["SET", "k", "", "EX", "100"], ":100"), (["SET", "k", "", "KEEPTTL"], ":7"),
        (["SETEX", "k", "50", ""], ":50"),
        (["PSETEX", "k", "50000", ""], ":50"), (["SET", "k", "", "PXAT", "2000000"], ":1000"),
        (["SET", "k", "", "EXAT", "1"], ":-2"),
    ])
    func largeValuesWithDeadlinesGoInSlices(_ words: [String], _ left: String) {
        let session = LocalSession()
        defer { session.close() }
        let value = [UInt8](repeating: 7, count: 64 * LargeSet.valueBytesMin)
        #expect(session.command("SET", "k", "old", "EX", "7") == "+OK\r\n")
        let input = request(words.map { $0.isEmpty ? Bytes(value) : Bytes($0) })
        var turns = 0
        let reply = input.withUnsafeBytes { Array(session.reply(to: $0, turns: &turns)) }
        #expect(reply == Array("+OK\r\n".utf8))
        #expect(turns > (left == ":-2" ? 0 : 1))
        #expect(session.command("TTL", "k") == left + "\r\n")
        #expect(session.command("STRLEN", "k") == (left == ":-2" ? ":0\r\n" : ":\(value.count)\r\n"))
        // A wrong option is told at once.
        let wrong = request([Bytes("SET"), Bytes("k"), Bytes(value), Bytes("EX"), Bytes("0")])
        #expect(session.reply(to: wrong) == Array("-ERR invalid expire time in 'set' command\r\n".utf8))
        session.shard.state.pointee.store.checkInvariants()
    }

    /// However much is asked for, and with whatever is written meanwhile.
    @Test(arguments: [10, 1200]) func largeRepliesOfManyKeysGoInSlices(_ keys: Int) {
        let session = LocalSession()
        let other = LocalSession(shard: session.shard, now: 2)
        let output = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
        output.initialize(to: OutputBuffer())
        let reader = Session(shard: session.shard)
        defer {
            reader.close()
            other.close(shardToo: false)
            session.close()
            output.pointee.deallocate()
            output.deallocate()
        }
        let value = Bytes([UInt8](repeating: 7, count: LargeSet.valueBytesMin + 3))
        let middling = Bytes([UInt8](repeating: 8, count: 5_000))
        _ = session.reply(to: request([Bytes("SET"), Bytes("large"), value]))
        _ = session.reply(to: request([Bytes("SET"), Bytes("middling"), middling]))
        let wanted = (0..<keys).map { $0 % 40 == 0 ? "large" : ["none", "middling"][$0 % 2] }
        let input = request((["MGET"] + wanted).map { Bytes($0) }) + request("PING")
        var status = input.withUnsafeBytes { reader.receive($0, output: output, unsent: 0) }
        var (replies, turns) = (RESPReplyCounter(), 0)
        while true {
            #expect(output.pointee.count <= Limits.outputBytesHigh + LargeSet.valueBytesMin)
            let isWellFormed = replies.count(output.pointee.bytes)
            #expect(isWellFormed)
            output.pointee.count = 0
            if status == .idle || turns > 100_000 { break }
            status = reader.takeTurn(output: output, unsent: 0)
            // Of up to 1,024 keys the values are those of the command's moment.
            if keys <= 1024 { _ = other.command("DEL", "large") }
            turns += 1
        }
        #expect(turns > (keys > 1024 ? 5 : 0) && replies.replies == 2)
        #expect(session.shard.state.pointee.counters.hits == wanted.filter { $0 != "none" }.count)
        session.shard.state.pointee.store.checkInvariants()
    }

    /// Runs one command in each turn of its session.
    private final class Repeater: SessionOwner {
        let session: Session
        let command: (Int) -> [UInt8]
        var turns = 0
        init(_ shard: Shard, _ command: @escaping (Int) -> [UInt8]) {
            (session, self.command) = (Session(shard: shard), command)
            session.owner = self
        }

        func sessionShouldRun() {
            turns += 1
            var output = OutputBuffer()
            defer { output.deallocate() }
            _ = command(turns).withUnsafeBytes { session.receive($0, output: &output, unsent: 0) }
            session.shard.enqueue(session)
        }
        func sessionRefused(reply: StaticString?) {}
        func sessionReadsOn() {}
        var sessionUnsentBytes: Int { 0 }
        var sessionOutputBytes: Int { 0 }
    }

    @Test func whoAddsKeysWaitsForMemoryAndWhoReadsDoesNot() {
        let session = LocalSession()
        let shard = session.shard
        let writer = Repeater(shard) { [self] in request("SET", "key\($0)", "v") }
        let overwriter = Repeater(shard) { [self] _ in request("SET", "same", "v") }
        let reader = Repeater(shard) { [self] _ in request("GET", "key1") }
        let all = [writer, overwriter, reader]
        defer {
            for each in all { each.session.close() }
            session.close()
        }
        for each in all { shard.enqueue(each.session) }
        // A turn serves all of them, or some where the machine is busy.
        func serve(_ turns: Int, of waiting: [Repeater]) {
            for _ in 0..<1000 where waiting.contains(where: { $0.turns < turns }) { #expect(shard.serveWaiting() == 0) }
            #expect(waiting.allSatisfy { $0.turns >= turns })
        }
        // The overwriter's first turn adds its key.
        serve(3, of: all)
        var isShort = true
        shard.isMemoryShort = { isShort }
        let turns = writer.turns
        serve(100, of: [overwriter, reader])
        #expect(writer.turns == turns)
        // First in its turn again, once there is memory.
        isShort = false
        #expect(shard.serveWaiting() == 0)
        #expect(writer.turns == turns + 1)
        // Only who waits for memory is left: a turn each millisecond, and one that adds after the longest wait.
        isShort = true
        for each in [overwriter, reader] { each.session.owner = nil }
        for _ in 0..<1000 where shard.serveWaiting() != 1 {}
        for _ in 1..<Int(Shard.heldBackMillisMax) {
            session.now += 1
            #expect(shard.serveWaiting() == 1)
        }
        #expect(writer.turns == turns + 1)
        session.now += 1
        _ = shard.serveWaiting()
        #expect(writer.turns == turns + 2)
        // Who waits is held by its shard, which it holds.
        writer.session.owner = nil
        isShort = false
        #expect(shard.serveWaiting() == nil)
    }

    /// Bytes held back and drained output come behind the end of a turn: whoever then waits is not left to a timer.
    @Test func whoWaitsBehindTheEndOfATurnGetsTheNextAtOnce() throws {
        let loop = try Loop(choice: .epoll)
        let local = LocalSession()
        let sessions = (0..<2).map { _ in Session(shard: local.shard) }
        defer {
            for session in sessions { session.close() }
            local.close()
        }
        local.shard.attach(to: loop)
        var wanted: [Bool] = []
        loop.schedule(afterMillis: 0) { [unowned loop] in
            local.shard.enqueue(sessions[0])
            wanted.append(loop.state.pointee.anotherTurn)
        }
        // Behind the shard's own.
        loop.onTurnEnd { [unowned loop] in
            guard wanted.count == 1 else { return }
            local.shard.enqueue(sessions[1])
            wanted.append(loop.state.pointee.anotherTurn)
            loop.stop()
        }
        try loop.run()
        #expect(wanted == [false, true])
    }

    /// A session that adds keys, in a turn that has done enough by the clock: it runs one step of its pipeline, or none
    /// if it was only parsed ahead, and the rest in the next turn.
    @Test(arguments: [false, true]) func whoAddsKeysLeavesTheRestOfItsPipelineForTheNextTurn(isParsedAhead: Bool) {
        let local = LocalSession()
        let session = Session(shard: local.shard)
        let query = local.shard.state
        var output = OutputBuffer()
        defer {
            output.deallocate()
            session.close()
            local.close()
        }
        let pipeline = (10..<50).flatMap { request("SET", "key\($0)", "v") + request("GET", "key\($0)") }
        session.state.pointee.isAdding = true
        query.pointee.budget.stop(.time)
        let status = pipeline.withUnsafeBytes { bytes -> SessionStatus in
            guard isParsedAhead else { return session.receive(bytes, output: &output, unsent: 0) }
            #expect(session.parseAhead(bytes).end == Batch.commandsPerParse)
            session.postpone(bytes)
            local.shard.batch.reset()
            return .ready
        }
        let pair = "+OK\r\n$1\r\nv\r\n".utf8.count
        #expect(status == .ready)
        #expect(output.count == (isParsedAhead ? 0 : 8 * pair))
        #expect(local.shard.state.pointee.store.count == (isParsedAhead ? 0 : 8))
        #expect(session.pendingInput == (isParsedAhead ? pipeline.count : pipeline.count - 8 * pipeline.count / 40))
        // The next turn has time for all.
        query.pointee.budget = TurnBudget()
        var turns = 0
        while session.takeTurn(output: &output, unsent: 0) == .ready, turns < 10 { turns += 1 }
        #expect(String(decoding: output.bytes, as: UTF8.self) == String(repeating: "+OK\r\n$1\r\nv\r\n", count: 40))
        #expect(turns <= 1)
    }

    @Test func aClosedSessionGivesItsListingBack() {
        let session = LocalSession()
        defer { session.close() }
        for k in 0..<3000 { _ = session.command("SET", "k\(k)", "v") }
        let output = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
        output.initialize(to: OutputBuffer())
        defer {
            output.pointee.deallocate()
            output.deallocate()
        }
        for turns in 0..<4 {
            let reader = Session(shard: session.shard)
            var status = request("LIST").withUnsafeBytes { reader.receive($0, output: output, unsent: 0) }
            // Unsent output above the bound: one entry a turn.
            for _ in 0..<turns where status != .idle {
                status = reader.takeTurn(output: output, unsent: Limits.outputBytesHigh)
            }
            #expect(turns == 0 || session.shard.state.pointee.listedEntries > 0)
            reader.close()
            #expect(session.shard.state.pointee.listedEntries == 0)
        }
        #expect(session.command("LIST", "k", "LIMIT", "1") == "*2\r\n$2\r\nk0\r\n$1\r\nv\r\n")
    }

    @Test func executionStopsWhileOutputIsNotTaken() {
        let session = LocalSession()
        defer { session.close() }
        _ = session.reply(to: request(["SET", "k", Bytes([UInt8](repeating: 65, count: 100_000))]))
        let reader = Session(shard: session.shard)
        defer { reader.close() }
        let output = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
        output.initialize(to: OutputBuffer())
        defer {
            output.pointee.deallocate()
            output.deallocate()
        }
        let input = Array((0..<200).map { _ in request("GET", "k") }.joined())
        var status = input.withUnsafeBytes { reader.receive($0, output: output, unsent: 0) }
        #expect(status == .blocked)
        #expect(output.pointee.count <= Limits.outputBytesHigh + 100_100)
        var total = 0
        while status == .blocked {
            total += output.pointee.count
            output.pointee.count = 0
            status = reader.takeTurn(output: output, unsent: 0)
        }
        total += output.pointee.count
        #expect(status == .idle && total == 200 * 100_011)
    }
}
