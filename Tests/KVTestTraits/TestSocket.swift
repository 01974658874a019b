// A plain blocking socket for the client side of tests, with a deadline on everything. One thread at a time.

import Glibc

/// Throws instead of hanging: every call gives up after `timeoutSeconds`.
package final class TestSocket {
    package struct Failure: Error, CustomStringConvertible {
        package var description: String
        package init(_ description: String) { self.description = description }
    }

    package let fd: Int32
    private let timeoutSeconds: Int

    package init(
        port: UInt16, host: UInt8 = 1, timeoutSeconds: Int = 10, receiveBufferBytes: Int32? = nil
    ) throws {
        self.timeoutSeconds = timeoutSeconds
        fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard fd >= 0 else { throw Failure("socket: errno \(errno)") }
        var timeout = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        if var bytes = receiveBufferBytes { setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, 4) }
        var result = withLoopback(port, host: host) { Glibc.connect(fd, $0, $1) }
        if result != 0 && errno == EINTR {
            // Interrupted, it goes on by itself.
            var waiting = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
            var error: Int32 = 0
            var length = socklen_t(4)
            while poll(&waiting, 1, 10_000) < 0 && errno == EINTR {}
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length)
            result = error
        }
        guard result == 0 else { throw Failure("connect to port \(port): errno \(errno)") }
        var one: Int32 = 1
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
    }

    deinit { Glibc.close(fd) }

    package func send(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let n = bytes.withUnsafeBytes {
                Glibc.send(fd, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            if n < 0 && errno == EINTR { continue }
            guard n > 0 else { throw Failure("send: errno \(errno)") }
            sent += n
        }
    }

    package func send(_ text: String) throws { try send(Array(text.utf8)) }

    /// Up to `count` bytes; empty at the end of the stream.
    package func receiveSome(_ count: Int = 65536) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var n = recv(fd, &bytes, count, 0)
        while n < 0 && errno == EINTR { n = recv(fd, &bytes, count, 0) }
        guard n >= 0 else { throw Failure("recv: errno \(errno)") }
        return Array(bytes[..<n])
    }

    package func receive(_ count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let more = try receiveSome(min(count - bytes.count, 1 << 20))
            if more.isEmpty { throw Failure("ended after \(bytes.count) of \(count) bytes") }
            bytes += more
        }
        return bytes
    }

    package func receiveText(_ count: Int) throws -> String { String(decoding: try receive(count), as: UTF8.self) }

    /// Everything up to the end of the stream, which comes within `timeoutSeconds` whatever is sent until then.
    package func receiveAll() throws -> [UInt8] {
        var bytes: [UInt8] = []
        let deadline = time(nil) + timeoutSeconds
        while time(nil) <= deadline {
            let more = try receiveSome()
            if more.isEmpty { return bytes }
            bytes += more
        }
        throw Failure("no end after \(bytes.count) bytes")
    }

    package func endSending() { shutdown(fd, Int32(SHUT_WR)) }

    /// Close sends a reset instead of an orderly end.
    package func resetOnClose() {
        var value = linger(l_onoff: 1, l_linger: 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
    }
}
