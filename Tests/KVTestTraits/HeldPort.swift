// A loopback port that belongs to a test as long as it wants. Any thread.

import Glibc

/// Bound for as long as the object lives: a port that was only free once is soon another test's. Without `listen` it
/// refuses connections.
package final class HeldPort: Sendable {
    package let fd: Int32
    package let port: UInt16

    /// 0 for any port that is free.
    package init(_ wanted: UInt16 = 0) throws {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        address.sin_port = wanted.bigEndian
        var one: Int32 = 1
        if wanted != 0 { setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size)) }
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let size = length
        let isBound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(fd, $0, size) == 0 && getsockname(fd, $0, &length) == 0
            }
        }
        self.fd = fd
        port = UInt16(bigEndian: address.sin_port)
        guard isBound else { throw TestSocket.Failure("bind: errno \(errno)") }
    }

    deinit { Glibc.close(fd) }

    package func listen() throws {
        guard Glibc.listen(fd, 4) == 0 else { throw TestSocket.Failure("listen: errno \(errno)") }
    }

    /// Somebody connects within the time; who does is left waiting.
    package func isConnected(withinMillis: Int32) -> Bool {
        var ready = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
        return poll(&ready, 1, withinMillis) > 0
    }

    /// Who connects next is told this and then nothing more.
    package func accept(saying bytes: [UInt8], withinMillis: Int32 = 60_000) throws -> AcceptedSocket {
        guard isConnected(withinMillis: withinMillis) else { throw TestSocket.Failure("nobody connects") }
        let link = Glibc.accept(fd, nil, nil)
        guard link >= 0, send(link, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
            throw TestSocket.Failure("accept: errno \(errno)")
        }
        return AcceptedSocket(fd: link)
    }
}

/// To be closed by whoever has it.
package struct AcceptedSocket {
    let fd: Int32

    /// What the other side says until it ends, or within the time.
    package func receiveAll(withinMillis: Int32) -> [UInt8] {
        var bytes: [UInt8] = []
        var some = [UInt8](repeating: 0, count: 4096)
        var ready = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
        while poll(&ready, 1, withinMillis) > 0 {
            let count = recv(fd, &some, some.count, 0)
            guard count > 0 else { break }
            bytes += some[..<count]
        }
        return bytes
    }

    package func close() { Glibc.close(fd) }
}
