// The proxy itself against an echo server: a bad network that is not bad in the way it says would prove nothing.

import Foundation
import KVTestTraits
import Testing

/// Echoes every connection on a thread of its own until the client leaves.
final class EchoServer: @unchecked Sendable {
    let port: UInt16
    private let fd: Int32

    init() throws {
        (fd, port) = try Sockets.listen()
        _ = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK)
        Thread.detachNewThread { [fd] in
            while true {
                let client = accept(fd, nil, nil)
                if client < 0 { return }
                Thread.detachNewThread {
                    var buffer = [UInt8](repeating: 0, count: 64 * 1024)
                    while true {
                        let n = read(client, &buffer, buffer.count)
                        if n <= 0 || send(client, buffer, n, Int32(MSG_NOSIGNAL)) != n { break }
                    }
                    close(client)
                }
            }
        }
    }

    deinit {
        shutdown(fd, Int32(SHUT_RDWR))
        close(fd)
    }
}

@Suite(.blocking) struct TCPProxyTests {
    private func connected() throws -> (EchoServer, TCPProxy, Int32) {
        let echo = try EchoServer()
        let proxy = try TCPProxy(target: echo.port)
        let fd = try Sockets.connect(port: proxy.port)
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        return (echo, proxy, fd)
    }

    /// Milliseconds for `text` to come back, or nil when the connection ended first.
    private func roundTrip(_ fd: Int32, _ text: String = "ping") -> Int64? {
        let start = Clock.millis()
        guard send(fd, Array(text.utf8), text.utf8.count, Int32(MSG_NOSIGNAL)) == text.utf8.count else { return nil }
        var received = 0
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while received < text.utf8.count {
            let n = read(fd, &buffer, buffer.count)
            if n <= 0 { return nil }
            received += n
        }
        return Clock.millis() - start
    }

    @Test func delaysEachDirection() throws {
        let (echo, proxy, fd) = try connected()
        defer { close(fd); proxy.stop(); _ = echo }
        #expect(roundTrip(fd) != nil)
        proxy.set(.delay(60))
        #expect(try #require(roundTrip(fd)) >= 120)
    }

    @Test func aCutResetsAndRefusesUntilHealed() throws {
        let (echo, proxy, fd) = try connected()
        defer { close(fd); proxy.stop(); _ = echo }
        #expect(roundTrip(fd) != nil)
        proxy.set(.cut)
        #expect(roundTrip(fd) == nil)
        proxy.set(.perfect)
        let healed = try Sockets.connect(port: proxy.port)
        defer { close(healed) }
        #expect(roundTrip(healed) != nil)
    }

    @Test func aBlackholeHoldsBytesAndDeliversThemAfterHealing() throws {
        let (echo, proxy, fd) = try connected()
        defer { close(fd); proxy.stop(); _ = echo }
        #expect(roundTrip(fd) != nil)
        proxy.set(.blackhole)
        Thread.detachNewThread {
            pace(millis: 300)
            proxy.set(.perfect)
        }
        #expect(try #require(roundTrip(fd)) >= 250)
    }

    @Test func throttlesToTheGivenRate() throws {
        let (echo, proxy, fd) = try connected()
        defer { close(fd); proxy.stop(); _ = echo }
        #expect(roundTrip(fd) != nil)
        proxy.set(LinkRule(bytesPerSecondMax: 100_000))
        let took = try #require(roundTrip(fd, String(repeating: "x", count: 50_000)))
        #expect(took >= 350, "50 kB at 100 kB/s came back after \(took) ms")
    }

    @Test func recognisesASourceByWhatItSays() throws {
        let (echo, proxy, fd) = try connected()
        defer { close(fd); proxy.stop(); _ = echo }
        proxy.know(sources: ["alpha:1", "beta:2"])
        proxy.set(.cut, from: "beta:2")
        #expect(roundTrip(fd, "I am alpha:1") != nil)
        let other = try Sockets.connect(port: proxy.port)
        defer { close(other) }
        #expect(roundTrip(other, "I am beta:2") == nil)
    }
}
