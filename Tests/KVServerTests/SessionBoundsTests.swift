// What a session that stands still, only writes or asks for too much is allowed: closing, reading on, giving up. In
// process.

import KVBase
import KVCore
import FuzzSupport
import RESP
import KVTestTraits
import Testing

@testable import KVRuntime
@testable import KVServer

@Suite(.blocking) struct SessionBoundsTests {
    private func request(_ words: String...) -> [UInt8] {
        var bytes = OutputBuffer()
        defer { bytes.deallocate() }
        bytes.request(words.map { Bytes($0) })
        return Array(bytes.bytes)
    }

    private final class Reader: SessionOwner {
        var sessionUnsentBytes = 1000
        var sessionOutputBytes: Int { sessionUnsentBytes }
        var isStalled = false
        var reply: StaticString?
        var readsOn = 0
        func sessionShouldRun() {}
        func sessionReadsOn() { readsOn += 1 }
        func sessionRefused(reply: StaticString?) {
            isStalled = true
            self.reply = reply
        }
    }

    /// Clients of one shard, each with what it has sent.
    private final class Crowd {
        let session = LocalSession()
        let clients: [Session]
        let readers: [Reader]
        var output = OutputBuffer()
        var shard: Shard { session.shard }

        init(sending inputs: [[UInt8]]) {
            let shard = session.shard
            clients = inputs.map { _ in Session(shard: shard) }
            readers = inputs.map { _ in Reader() }
            for (i, client) in clients.enumerated() {
                client.owner = readers[i]
                receive(inputs[i], i)
            }
        }

        func receive(_ input: [UInt8], _ i: Int) {
            _ = input.withUnsafeBytes { clients[i].receive($0, output: &output, unsent: 0) }
        }

        func close() {
            output.deallocate()
            for client in clients { client.close() }
            session.close()
        }
    }

    @Test func aRequestThatStandsStillIsClosedAfterAWhile() {
        // Cut in the middle of an array, of a line, of a value that is passed over; and between two requests.
        let big = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$\(Limits.valueBytesMax + 1)\r\nxxx"
        let inputs = ["*2\r\n$3\r\nGET\r\n$5\r\nab", "GET k", big, "", "PING\r\n"]
        let crowd = Crowd(sending: inputs.map { Array($0.utf8) })
        defer { crowd.close() }
        let shard = crowd.shard
        shard.state.pointee.nowMillis += Shard.stalledMillisMax
        // A byte is enough for another minute.
        crowd.receive(Array("a".utf8), 1)
        shard.state.pointee.nowMillis += 1
        shard.closeStalled()
        #expect(crowd.readers.map(\.isStalled) == [true, false, true, false, false])
        #expect(crowd.readers[0].reply != nil && shard.context.closedClients.count(.standsStill) == 2)
    }

    @Test func manyThatStandStillAreClosedOverSeveralTurns() {
        let crowd = Crowd(sending: Array(repeating: Array("GET k".utf8), count: 50))
        defer { crowd.close() }
        let (shard, readers) = (crowd.shard, crowd.readers)
        shard.state.pointee.nowMillis += Shard.stalledMillisMax + 1
        var turns = [0]
        while !shard.closeStalled() {
            let closed = readers.count { $0.isStalled }
            turns.append(closed)
            // Those that are closed go before the next turn.
            for (client, reader) in zip(crowd.clients, readers) where reader.isStalled { client.close() }
        }
        #expect(turns == [0, 16, 32, 48])
        #expect(readers.allSatisfy { $0.isStalled } && shard.context.closedClients.count(.standsStill) == 50)
    }

    @Test func aBlockedClientThatOnlyWritesIsReadOn() {
        let session = LocalSession()
        let shard = session.shard
        let (client, reader) = (Session(shard: shard), Reader())
        client.owner = reader
        var output = OutputBuffer()
        defer {
            output.deallocate()
            client.close()
            session.close()
        }
        client.block()
        shard.readOn()
        #expect(reader.readsOn == 0, "it may be reading")
        reader.sessionUnsentBytes -= 1
        shard.readOn()
        #expect(reader.readsOn == 0, "it is reading")
        shard.readOn()
        #expect(reader.readsOn == 1)
        // What it writes is kept, not run, until its output has drained.
        let input = request("SET", "k", "v") + request("GET", "k")
        #expect(input.withUnsafeBytes { client.receive($0, output: &output, unsent: 0) } == .blocked)
        #expect(output.count == 0 && client.pendingInput == input.count && shard.state.pointee.heldInput == input.count)
        #expect(client.takeTurn(output: &output, unsent: 0) == .idle)
        #expect(String(decoding: output.bytes, as: UTF8.self) == "+OK\r\n$1\r\nv\r\n")
        #expect(shard.state.pointee.heldInput == 0 && shard.blockedSessions == 0)
    }

    @Test func theLongestUnfinishedRequestIsGivenUpAtTheBoundOfAll() {
        let head = Array("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000000\r\n".utf8)
        let crowd = Crowd(sending: (1...3).map { head + [UInt8](repeating: 7, count: 100_000 * $0) })
        defer { crowd.close() }
        let (shard, readers) = (crowd.shard, crowd.readers)
        #expect(shard.state.pointee.heldInput == 3 * head.count + 600_000)
        shard.boundInput()
        #expect(!readers.contains { $0.isStalled })
        // What other actors hold counts as well; there is only this one, so its own count is made large.
        shard.state.pointee.heldInput += shard.context.heldInputMax - 500_000
        shard.boundInput()
        #expect(readers.map(\.isStalled) == [false, false, true] && readers[2].reply != nil)
        crowd.clients[2].dropInput()
        shard.boundInput()
        #expect(readers.map(\.isStalled) == [false, false, true])
        shard.state.pointee.heldInput -= shard.context.heldInputMax - 500_000
    }

    @Test func whoLeavesMuchOfItsRepliesForLongIsClosed() {
        let session = LocalSession()
        let (client, reader) = (Session(shard: session.shard), Reader())
        client.owner = reader
        defer {
            client.close()
            session.close()
        }
        client.block()
        let shard = session.shard
        func look(_ unsent: Int, after millis: Millis) -> Bool {
            shard.state.pointee.nowMillis += millis
            reader.sessionUnsentBytes = unsent
            shard.closeStalled()
            return reader.isStalled
        }
        #expect(!look(Limits.outputBytesLong + 1, after: 0))
        #expect(!look(Limits.outputBytesLong + 2, after: Limits.outputMillisLong - 1))
        // Below it once, and the time begins anew.
        #expect(!look(Limits.outputBytesLong, after: 1))
        #expect(!look(Limits.outputBytesLong + 1, after: 1000))
        #expect(!look(Limits.outputBytesLong + 1, after: Limits.outputMillisLong - 1))
        #expect(look(Limits.outputBytesLong + 1, after: 1))
        #expect(reader.reply == nil && shard.context.closedClients.count(.leavesOutput) == 1)
    }

    @Test func whoHoldsMostIsClosedAtAQuarterOfTheMemory() {
        let session = LocalSession()
        let shard = session.shard
        let clients = (0..<3).map { _ in Session(shard: shard) }
        let readers = clients.map { _ in Reader() }
        defer {
            for client in clients { client.close() }
            session.close()
        }
        shard.context.memory.set(4_000_000)
        for (i, client) in clients.enumerated() {
            client.owner = readers[i]
            readers[i].sessionUnsentBytes = 300_000 + i
        }
        shard.closeStalled()
        #expect(!readers.contains { $0.isStalled } && shard.context.heldOutput == 900_003)
        readers[1].sessionUnsentBytes = 500_000
        shard.closeStalled()
        #expect(readers.map(\.isStalled) == [false, true, false])
        #expect(shard.context.closedClients.count(.holdsMost) == 1)
        shard.context.memory.set(0)
        readers[1].isStalled = false
        shard.closeStalled()
        #expect(!readers.contains { $0.isStalled }, "without a limit there is no quarter of it")
    }

    @Test func memoryForARequestFollowsWhatCameNotWhatWasAnnounced() {
        let session = LocalSession()
        defer { session.close() }
        _ = session.reply(to: Array("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$60000000\r\n".utf8))
        for _ in 0..<4 { _ = session.reply(to: [UInt8](repeating: 7, count: 200_000)) }
        let client = session.shard.sessions[0]
        #expect(client.state.pointee.input.capacity < 2_000_000, "announced lengths are not believed")
    }

    /// A disk that hangs for minutes: whose replies wait for it has nothing to read.
    @Test func whoWaitsForTheDiskIsNotOneWhoReadsNothing() {
        let session = LocalSession()
        let (client, reader) = (Session(shard: session.shard), Reader())
        client.owner = reader
        defer {
            client.close()
            session.close()
        }
        client.block()
        client.state.pointee[.unsaved] = true
        session.now += 10 * Shard.stalledMillisMax
        session.shard.closeStalled()
        #expect(!reader.isStalled)
        // When it goes on, there is a minute to read.
        client.state.pointee[.unsaved] = false
        session.shard.closeStalled()
        #expect(!reader.isStalled)
        session.now += Shard.stalledMillisMax + 1
        session.shard.closeStalled()
        #expect(reader.isStalled)
    }

    @Test func whoReadsNothingOfAnyReplyIsClosedAfterAWhile() {
        let session = LocalSession()
        let (blocked, idle) = (Session(shard: session.shard), Session(shard: session.shard))
        let (reader, other) = (Reader(), Reader())
        (blocked.owner, idle.owner) = (reader, other)
        defer {
            blocked.close()
            idle.close()
            session.close()
        }
        blocked.block()
        func pass(_ millis: Millis) {
            session.now += millis
            session.shard.closeStalled()
        }
        pass(Shard.stalledMillisMax)
        // A little was taken: that is enough for another minute.
        reader.sessionUnsentBytes -= 1
        pass(1)
        pass(Shard.stalledMillisMax)
        #expect(!reader.isStalled)
        pass(1)
        #expect(reader.isStalled && !other.isStalled)
    }
}
