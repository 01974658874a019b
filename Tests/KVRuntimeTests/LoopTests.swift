// The loop over real sockets, on every backend: bytes, back-pressure, closing, timers, wake-ups.

import CSupport
import Dispatch
import Glibc
import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

/// Sends back what it receives.
final class EchoHandler: ConnectionHandler {
    override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
        connection.output.pointee.append(bytes)
    }
}

final class ClosureAcceptor: Acceptor {
    private let make: (Connection) -> ConnectionHandler?
    init(_ make: @escaping (Connection) -> ConnectionHandler?) { self.make = make }
    override func accepted(_ connection: Connection) -> ConnectionHandler? { make(connection) }
}

/// A running loop with one listener, stopped and joined at the end of `body`.
func withServer<R>(
    _ backend: LoopBackend, acceptor: Acceptor, _ body: (Loop, UInt16) throws -> R
) throws -> R {
    let loop = try Loop(backend: backend)
    let listener = try loop.listen(SocketAddress(host: "127.0.0.1", port: 0)!, acceptor: acceptor)
    let port = listener.localAddress!.port
    let thread = LoopThread(loop: loop)
    thread.start()
    do {
        let result = try body(loop, port)
        try thread.stopAndJoin()
        return result
    } catch {
        try? thread.stopAndJoin()
        throw error
    }
}

@Suite(.blocking) struct LoopTests {
    @Test(arguments: backends) func echoesSmallAndLargePieces(_ backend: LoopBackend) throws {
        try withServer(backend, acceptor: ClosureAcceptor { _ in EchoHandler() }) { _, port in
            let client = try TestSocket(port: port)
            try client.send("hello")
            #expect(try client.receiveText(5) == "hello")
            var generator = PRNG(seed: 1)
            for size in [1, 100, 16 * 1024, 16 * 1024 + 1, 300_000] {
                let bytes = (0..<size).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
                try client.send(bytes)
                #expect(try client.receive(size) == bytes)
            }
        }
    }

    @Test(arguments: backends) func theLongestTurnIsRemembered(_ backend: LoopBackend) throws {
        let loop = try Loop(backend: backend)
        // A turn of 20 ms, measured by the clock it is measured with; waiting before it does not count.
        loop.schedule(afterMillis: 30) {
            let end = Machine.monotonicNanos + 20_000_000
            while Machine.monotonicNanos < end {}
            loop.requestTurn()
            loop.schedule(afterMillis: 0) { loop.stop() }
        }
        try loop.run()
        #expect(loop.turnLengths.longestNanos >= 20_000_000)
        loop.forgetLongestTurn()
        #expect(loop.turnLengths.longestNanos == 0)
    }

    /// All of what `body` does is there when the loop looks.
    private static func asOne(on loop: Loop, _ body: () throws -> Void) throws {
        let (held, released) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        loop.perform {
            held.signal()
            released.wait()
        }
        held.wait()
        defer { released.signal() }
        try body()
    }

    /// How many events each turn had.
    private final class TurnCounts: Sendable {
        private let turns = Locked<[Nanos: Int]>([:])

        func note(_ connection: Connection) {
            let turn = connection.loop.nowNanos
            turns.withLock { $0[turn, default: 0] += 1 }
        }

        var total: Int { turns.withLock { $0.values.reduce(0, +) } }
        var most: Int { turns.withLock { $0.values.max()! } }
    }

    /// Whoever is served meanwhile does not wait for a crowd: a turn takes a few of those who come or go.
    @Test(arguments: backends) func aCrowdComesAndGoesInManyTurns(_ backend: LoopBackend) throws {
        final class Leaver: ConnectionHandler {
            let turns: TurnCounts
            init(_ turns: TurnCounts) { self.turns = turns }
            override func closed(_ connection: Connection) { turns.note(connection) }
        }
        let (comings, leavings) = (TurnCounts(), TurnCounts())
        let acceptor = ClosureAcceptor { connection in
            comings.note(connection)
            return Leaver(leavings)
        }
        try withServer(backend, acceptor: acceptor) { loop, port in
            var clients: [TestSocket] = []
            try Self.asOne(on: loop) { for _ in 0..<200 { clients.append(try TestSocket(port: port)) } }
            #expect(eventually { comings.total == 200 })
            #expect(comings.most <= 16)
            try Self.asOne(on: loop) { clients = [] }
            #expect(eventually { leavings.total == 200 })
            #expect(leavings.most <= 32)
        }
    }

    /// Nor for one that speaks and goes at once, where the loop is told that it is there.
    @Test(arguments: backends) func aCrowdIsHeardInManyTurns(_ backend: LoopBackend) throws {
        final class Listening: ConnectionHandler {
            let turns: TurnCounts
            init(_ turns: TurnCounts) { self.turns = turns }
            override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) { turns.note(connection) }
            override func ended(_ connection: Connection) { turns.note(connection) }
        }
        let turns = TurnCounts()
        try withServer(backend, acceptor: ClosureAcceptor { _ in Listening(turns) }) { loop, port in
            loop.perform { loop.boundEvents(true) }
            let clients = try (0..<200).map { _ in try TestSocket(port: port) }
            try Self.asOne(on: loop) { for client in clients { try client.send("x") } }
            #expect(eventually { turns.total == 200 })
            try Self.asOne(on: loop) { for client in clients { client.endSending() } }
            #expect(eventually { turns.total == 400 })
            #expect(turns.most <= Loop.eventsPerTurnBounded)
        }
    }

    @Test(arguments: backends) func manyConnectionsAtOnce(_ backend: LoopBackend) throws {
        try withServer(backend, acceptor: ClosureAcceptor { _ in EchoHandler() }) { loop, port in
            // More than there are receive buffers, all with data at once.
            let clients = try (0..<300).map { _ in try TestSocket(port: port) }
            for (i, client) in clients.enumerated() { try client.send("message \(i).") }
            for (i, client) in clients.enumerated() {
                let text = "message \(i)."
                #expect(try client.receiveText(text.utf8.count) == text)
            }
        }
    }

    @Test(arguments: backends) func descriptorsReusedAtOnceDoNotMixConnections(_ backend: LoopBackend) throws {
        try withServer(backend, acceptor: ClosureAcceptor { _ in EchoHandler() }) { loop, port in
            for i in 0..<300 {
                let client = try TestSocket(port: port)
                if i % 3 == 0 { client.resetOnClose() }
                try client.send("round \(i)")
                if i % 2 == 0 {
                    let text = "round \(i)"
                    #expect(try client.receiveText(text.utf8.count) == text)
                }
            }
            let left = Locked(-1)
            #expect(
                eventually {
                    loop.perform { left.withLock { $0 = loop.socketCount } }
                    return left.withLock { $0 == 1 }
                })
        }
    }

    @Test(arguments: backends) func endOfInputStillGetsItsReply(_ backend: LoopBackend) throws {
        try withServer(backend, acceptor: ClosureAcceptor { _ in EchoHandler() }) { _, port in
            let client = try TestSocket(port: port)
            try client.send("last words")
            client.endSending()
            #expect(String(decoding: try client.receiveAll(), as: UTF8.self) == "last words")
        }
    }

    /// Says one line and closes, whatever the client is still sending.
    final class FarewellHandler: ConnectionHandler {
        override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
            connection.output.pointee.append("goodbye\r\n" as StaticString)
            connection.close(afterFlush: true)
        }
    }

    @Test(arguments: backends) func lastReplyArrivesAlthoughInputIsUnread(_ backend: LoopBackend) throws {
        try withServer(backend, acceptor: ClosureAcceptor { _ in FarewellHandler() }) { _, port in
            for _ in 0..<20 {
                let client = try TestSocket(port: port)
                try client.send([UInt8](repeating: 1, count: 200_000))
                #expect(String(decoding: try client.receiveAll(), as: UTF8.self) == "goodbye\r\n")
            }
        }
    }

    @Test(arguments: backends) func refusedConnectionReadsWhy(_ backend: LoopBackend) throws {
        let acceptor = ClosureAcceptor {
            $0.output.pointee.append("-ERR full\r\n" as StaticString)
            return nil
        }
        try withServer(backend, acceptor: acceptor) { _, port in
            let client = try TestSocket(port: port)
            #expect(String(decoding: try client.receiveAll(), as: UTF8.self) == "-ERR full\r\n")
        }
    }

    /// Answers each byte with 64 KiB; stops reading while the output is above the bound.
    final class FloodHandler: ConnectionHandler, @unchecked Sendable {
        let unsentMax = Locked(0)
        let pauses = Locked(0)
        var owed = 0

        override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
            owed += bytes.count
            produce(connection)
        }

        override func drained(_ connection: Connection) { produce(connection) }

        private func produce(_ connection: Connection) {
            while owed > 0, connection.unsentBytes <= Limits.outputBytesHigh {
                let piece = [UInt8](repeating: UInt8(truncatingIfNeeded: owed), count: 64 * 1024)
                piece.withUnsafeBytes { connection.output.pointee.append($0) }
                owed -= 1
            }
            unsentMax.withLock { $0 = max($0, connection.unsentBytes) }
            if owed > 0 {
                pauses.withLock { $0 += 1 }
                connection.pauseReading()
            } else {
                connection.resumeReading()
            }
        }
    }

    @Test(arguments: backends) func slowReaderIsHeldBackAndServedCompletely(_ backend: LoopBackend) throws {
        let handler = FloodHandler()
        try withServer(backend, acceptor: ClosureAcceptor { _ in handler }) { _, port in
            let client = try TestSocket(port: port, receiveBufferBytes: 16 * 1024)
            try client.send([UInt8](repeating: 7, count: 400))
            #expect(eventually { handler.pauses.withLock { $0 > 0 } })
            try client.send([UInt8](repeating: 8, count: 100))
            let total = try client.receive(500 * 64 * 1024).count
            #expect(total == 500 * 64 * 1024)
            #expect(handler.unsentMax.withLock { $0 } <= Limits.outputBytesHigh + 64 * 1024)
        }
    }

    /// Pauses after every piece and resumes by timer; order must hold.
    final class StutteringHandler: ConnectionHandler {
        override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
            precondition(!connection.isReadingPaused)
            connection.output.pointee.append(bytes)
            connection.pauseReading()
            connection.loop.schedule(afterMillis: 1) { connection.resumeReading() }
        }
    }

    @Test(arguments: backends) func pausedReadingLosesAndReordersNothing(_ backend: LoopBackend) throws {
        try withServer(backend, acceptor: ClosureAcceptor { _ in StutteringHandler() }) { _, port in
            let client = try TestSocket(port: port)
            var generator = PRNG(seed: 5)
            var sent: [UInt8] = []
            for _ in 0..<200 {
                let bytes = (0..<generator.below(3000)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
                try client.send(bytes)
                sent += bytes
            }
            client.endSending()
            #expect(try client.receiveAll() == sent)
        }
    }

    /// Counts and remembers; the other side of `connect`.
    final class ClientHandler: ConnectionHandler, @unchecked Sendable {
        let events = Locked<[String]>([])
        override func connected(_ connection: Connection) { events.withLock { $0.append("connected") } }
        override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
            events.withLock { $0.append(String(decoding: bytes, as: UTF8.self)) }
            connection.close()
        }
        override func closed(_ connection: Connection) {
            events.withLock { $0.append("closed \(connection.closeReason)") }
        }
    }

    @Test(arguments: backends) func connectsSendsAndCloses(_ backend: LoopBackend) throws {
        let handler = ClientHandler()
        try withServer(backend, acceptor: ClosureAcceptor { _ in EchoHandler() }) { loop, port in
            loop.perform {
                let address = SocketAddress(host: "127.0.0.1", port: port)!
                let connection = try! loop.connect(address, handler: handler)
                connection.output.pointee.append("before connected" as StaticString)
            }
            #expect(eventually { handler.events.withLock { $0.count == 3 } })
            #expect(handler.events.withLock { $0 } == ["connected", "before connected", "closed 0"])
        }
    }

    @Test(arguments: backends) func refusedConnectIsReportedOnce(_ backend: LoopBackend) throws {
        let handler = ClientHandler()
        try withServer(backend, acceptor: ClosureAcceptor { _ in EchoHandler() }) { loop, port in
            loop.perform { _ = try! loop.connect(SocketAddress(host: "127.0.0.1", port: 1)!, handler: handler) }
            #expect(eventually { handler.events.withLock { !$0.isEmpty } })
            #expect(handler.events.withLock { $0 } == ["closed -\(ECONNREFUSED)"])
        }
    }

    @Test(arguments: backends) func aTakenPortIsAnError(_ backend: LoopBackend) throws {
        try withServer(backend, acceptor: ClosureAcceptor { _ in EchoHandler() }) { _, port in
            let other = try Loop(backend: backend)
            #expect(throws: SocketFailure.self) {
                _ = try other.listen(SocketAddress(host: "127.0.0.1", port: port)!, acceptor: Acceptor())
            }
        }
    }

    /// The kernel makes connections, and takes requests on them, long before a busy loop accepts them.
    @Test(arguments: backends) func aListenerThatEndsServesWhoHasCome(_ backend: LoopBackend) throws {
        let loop = try Loop(backend: backend)
        let listener = try loop.listen(
            SocketAddress(host: "127.0.0.1", port: 0)!, acceptor: ClosureAcceptor { _ in EchoHandler() })
        let port = listener.localAddress!.port
        let thread = LoopThread(loop: loop)
        thread.start()
        let (busy, free) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        loop.perform {
            busy.signal()
            free.wait()
        }
        busy.wait()
        let clients = try (0..<100).map { _ in try TestSocket(port: port) }
        for client in clients { try client.send("hello") }
        nonisolated(unsafe) let ending = listener
        loop.perform { ending.finish() }
        free.signal()
        for client in clients { #expect(try client.receiveText(5) == "hello") }
        #expect(eventually { ending.isClosed })
        #expect(throws: (any Error).self) { try TestSocket(port: port) }
        try thread.stopAndJoin()
    }

    @Test(arguments: backends) func stopClosesEveryConnectionOnce(_ backend: LoopBackend) throws {
        final class Counting: ConnectionHandler {
            var closed = 0
            override func closed(_ connection: Connection) { closed += 1 }
        }
        let counting = Counting()
        let clients = try withServer(backend, acceptor: ClosureAcceptor { _ in counting }) { loop, port in
            let clients = try (0..<50).map { _ in try TestSocket(port: port) }
            let count = Locked(0)
            #expect(
                eventually {
                    loop.perform { count.withLock { $0 = loop.socketCount } }
                    return count.withLock { $0 == 51 }
                })
            return clients
        }
        #expect(counting.closed == 50)
        for client in clients { #expect(try client.receiveAll().isEmpty) }
    }

    @Test(arguments: backends) func timersFireInOrderAndRepeatUntilCancelled(_ backend: LoopBackend) throws {
        let loop = try Loop(backend: backend)
        var fired: [Int] = []
        var repeats = 0
        loop.schedule(afterMillis: 20) { fired.append(2) }
        loop.schedule(afterMillis: 5) { fired.append(1) }
        loop.schedule(afterMillis: 5) { fired.append(11) }
        loop.schedule(afterMillis: 1) { fired.append(9) }.cancel()
        var ticker: LoopTimer?
        ticker = loop.schedule(everyMillis: 2) {
            repeats += 1
            if repeats == 5 { ticker?.cancel() }
        }
        loop.schedule(afterMillis: 40) { loop.stop() }
        try loop.run()
        #expect(fired == [1, 11, 2])
        #expect(repeats == 5)
    }

    @Test(arguments: backends) func aTurnAskedForComesThoughNothingHappens(_ backend: LoopBackend) throws {
        let loop = try Loop(backend: backend)
        var turns: [Nanos] = []
        loop.onTurnEnd { [unowned loop] in
            turns.append(loop.nowNanos)
            switch turns.count {
            case 1...4:
                loop.requestTurn(afterMillis: 3)
                // Wishes for later do not put it off, however many there are.
                for _ in 0..<100 { loop.requestTurn(afterMillis: 60_000) }
            default: loop.stop()
            }
        }
        loop.requestTurn()
        try loop.run()
        // How early a turn may come is nobody's promise; without the wish this would take four minutes.
        #expect(turns.count >= 5 && turns.last! - turns[0] < 30_000_000_000)
    }

    @Test(arguments: backends) func performRunsOnTheLoopInOrderFromEachThread(_ backend: LoopBackend) throws {
        let loop = try Loop(backend: backend)
        let thread = LoopThread(loop: loop)
        thread.start()
        let seen = Locked<[Int]>([])
        for i in 0..<10_000 {
            loop.perform {
                precondition(loop.isCurrent)
                seen.withLock { $0.append(i) }
            }
        }
        #expect(eventually { seen.withLock { $0.count == 10_000 } })
        #expect(seen.withLock { $0 } == Array(0..<10_000))
        try thread.stopAndJoin()
        #expect(!loop.perform { Issue.record("ran after the end") })
    }

    @Test func autoPicksSomethingThatRuns() throws {
        let choice = try LoopBackend.select(.auto)
        #expect((choice.backend == .epoll) == (choice.refusal != nil))
        #expect(try LoopBackend.select(.epoll).backend == .epoll)
    }
}
