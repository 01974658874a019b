// What happens when descriptors run out, when a socket dies in the middle of a send, when handlers change under way.

import Glibc
import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

@Suite(.blocking, .serialized) struct OverloadTests {
    final class Polite: Acceptor {
        override func accepted(_ connection: Connection) -> ConnectionHandler? { EchoHandler() }
        override var overloadedReply: StaticString { "-ERR too many\r\n" }
    }

    // Descriptors are a property of the process, so these run in a child that has its own limit.

    @Test func acceptSurvivesRunningOutOfDescriptorsOnEpoll() async {
        await #expect(processExitsWith: .success) { try Self.runOutOfDescriptors(.epoll) }
    }

    @Test(.enabled(if: backends.contains(.ioUring))) func acceptSurvivesRunningOutOfDescriptorsOnIoUring() async {
        await #expect(processExitsWith: .success) { try Self.runOutOfDescriptors(.ioUring) }
    }

    private static func runOutOfDescriptors(_ backend: LoopBackend) throws {
        takeOwnDescriptorTable()
        // Before the loop exists: io_uring's multishot accept goes by the limit that was in force when it was armed.
        var limit = rlimit()
        getrlimit(Int32(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = 256
        setrlimit(Int32(RLIMIT_NOFILE.rawValue), &limit)
        try withServer(backend, acceptor: Polite()) { _, port in
            // Nothing may load lazily once descriptors are gone.
            let warm = try TestSocket(port: port)
            try warm.send("x")
            _ = try warm.receive(1)
            let clients = (0..<20).map { _ in socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0) }
            // Room for five more connections, which only the server opens below.
            var fillers: [Int32] = []
            while true {
                let filler = dup(0)
                if filler < 0 { break }
                fillers.append(filler)
            }
            for _ in 0..<5 { close(fillers.removeLast()) }
            var refused = 0
            var served = 0
            for fd in clients {
                precondition(connectLocal(fd, port))
                _ = Glibc.send(fd, "y", 1, Int32(MSG_NOSIGNAL))
                switch readSome(fd) {
                case "y": served += 1
                case "-ERR too many\r\n", "": refused += 1
                case let other: fatalError("read \(other)")
                }
            }
            precondition(served == 5, "served \(served)")
            precondition(refused == 15, "refused \(refused)")
            for fd in clients + fillers { close(fd) }
            // Room again: the listener goes on as if nothing had been.
            let last = try TestSocket(port: port)
            try last.send("z")
            let text = try last.receiveText(1)
            precondition(text == "z")
        }
    }

    /// Has a large reply under way when the peer resets the connection.
    final class Shouting: ConnectionHandler, @unchecked Sendable {
        let closed = Locked<[Int32]>([])
        override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
            let reply = [UInt8](repeating: 1, count: 8 << 20)
            reply.withUnsafeBytes { connection.output.pointee.append($0) }
        }
        override func closed(_ connection: Connection) { closed.withLock { $0.append(connection.closeReason) } }
    }

    @Test(arguments: backends) func aResetInTheMiddleOfASendClosesOnce(_ backend: LoopBackend) throws {
        let handler = Shouting()
        try withServer(backend, acceptor: ClosureAcceptor { _ in handler }) { _, port in
            for round in 1...30 {
                do {
                    let client = try TestSocket(port: port, receiveBufferBytes: 8192)
                    client.resetOnClose()
                    try client.send("go")
                    _ = try client.receive(10_000)
                }
                #expect(eventually { handler.closed.withLock { $0.count == round } })
            }
        }
    }

    /// Closes from our side while the kernel still has its bytes.
    final class Impatient: ConnectionHandler, @unchecked Sendable {
        let closed = Locked(0)
        override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
            let reply = [UInt8](repeating: 1, count: 8 << 20)
            reply.withUnsafeBytes { connection.output.pointee.append($0) }
            connection.loop.schedule(afterMillis: 5) { connection.close() }
        }
        override func closed(_ connection: Connection) { closed.withLock { $0 += 1 } }
    }

    @Test(arguments: backends) func closingWithASendInFlightIsSafe(_ backend: LoopBackend) throws {
        let handler = Impatient()
        try withServer(backend, acceptor: ClosureAcceptor { _ in handler }) { _, port in
            let clients = try (0..<20).map { _ in try TestSocket(port: port, receiveBufferBytes: 8192) }
            for client in clients { try client.send("go") }
            #expect(eventually { handler.closed.withLock { $0 == 20 } })
        }
    }

    /// Hands the connection to another handler in the middle of its own call.
    final class First: ConnectionHandler {
        let text = "first saw "
        override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
            connection.handler = EchoHandler()
            connection.output.pointee.append(text)
            connection.output.pointee.append(bytes)
        }
    }

    @Test(arguments: backends) func aHandlerMayReplaceItself(_ backend: LoopBackend) throws {
        try withServer(backend, acceptor: ClosureAcceptor { _ in First() }) { _, port in
            let client = try TestSocket(port: port)
            try client.send("one")
            #expect(try client.receiveText(13) == "first saw one")
            try client.send("two")
            #expect(try client.receiveText(3) == "two")
        }
    }
}

/// From here on this thread and those it starts share no descriptors with the process's others, of which Dispatch's
/// looks into /proc every second and traps where it cannot open a file. Unlike unshare(2), a close_range(2) that closes
/// nothing is allowed in containers. Called by name: Swift's view of the C library leaves it out.
private func takeOwnDescriptorTable() {
    typealias CloseRange = @convention(c) (UInt32, UInt32, Int32) -> Int32
    let closeRangeUnshare: Int32 = 2
    let closeRange = unsafeBitCast(dlsym(nil, "close_range"), to: CloseRange.self)
    precondition(closeRange(.max, .max, closeRangeUnshare) == 0, "close_range: errno \(errno)")
}

private func connectLocal(_ fd: Int32, _ port: UInt16) -> Bool {
    withLoopback(port) { connect(fd, $0, $1) == 0 || errno == EINTR }
}

/// What arrives first; empty at the end of the stream or after a reset.
private func readSome(_ fd: Int32) -> String {
    var bytes = [UInt8](repeating: 0, count: 100)
    var n = recv(fd, &bytes, bytes.count, 0)
    while n < 0 && errno == EINTR { n = recv(fd, &bytes, bytes.count, 0) }
    return n > 0 ? String(decoding: bytes[..<n], as: UTF8.self) : ""
}
