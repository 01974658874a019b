// A loopback port that belongs to a test as long as it wants. Any thread.

import Glibc

/// Bound for as long as the object lives: a port that was only free once is soon another test's. Without `listen` it
/// refuses connections.
package final class HeldPort: Sendable {
    package let fd: Int32
    package let port: UInt16

    package init() throws {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
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
}
