// Loopback ports for servers that open theirs themselves. Any thread.

import Glibc
import Synchronization

package enum FreePorts {
    /// Below the range from which the kernel takes the ports of clients: one of those, even of a connection that ended
    /// a moment ago, keeps a server from listening.
    private static let range = 20_000..<32_000
    private static let taken = Atomic<Int>(0)

    /// The first of `count` consecutive ports on which one can listen now. Tests of one process never get the same one
    /// within `range.count`, and processes start at different places.
    package static func take(_ count: Int) -> Int {
        for _ in 0..<1000 {
            let offset = Int(getpid()) * 61 + taken.add(count, ordering: .relaxed).oldValue
            let first = range.lowerBound + offset % (range.count - count)
            if (first..<first + count).allSatisfy(canListen) { return first }
        }
        fatalError("no \(count) free ports in \(range)")
    }

    private static func canListen(_ port: Int) -> Bool {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(fd) }
        var one: Int32 = 1
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        return withLoopback(UInt16(port)) { bind(fd, $0, $1) } == 0 && listen(fd, 1) == 0
    }
}
