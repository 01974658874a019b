// Loopback ports for servers that open theirs themselves. Any thread.

import Glibc
import Synchronization

package enum FreePorts {
    /// Below the range from which the kernel takes the ports of clients: one of those, even of a connection that ended
    /// a moment ago, keeps a server from listening.
    private static let range = 20_000..<32_000
    /// A process takes its ports from blocks that no other test process has at the same time.
    private static let blockSize = 400
    private static let state = Mutex(Blocks())

    private struct Blocks {
        /// First ports of this process' blocks, in the order of taking.
        var owned: [Int] = []
        var current = 0
        var offset = 0
    }

    /// The first of `count` consecutive ports on which one can listen now. Tests of one process get the same one again
    /// only when all blocks are in use; tests of two processes never, as long as there is a block for each.
    package static func take(_ count: Int) -> Int {
        precondition(count <= blockSize)
        return state.withLock { state in
            for _ in 0..<1000 {
                if state.owned.isEmpty || state.offset + count > blockSize { nextBlock(&state) }
                let first = state.owned[state.current] + state.offset
                state.offset += count
                if (first..<first + count).allSatisfy(canListen) { return first }
            }
            fatalError("no \(count) free ports in \(range)")
        }
    }

    /// A block that is nobody's; if there is none, the oldest of its own.
    private static func nextBlock(_ state: inout Blocks) {
        state.offset = 0
        let starts = stride(from: range.lowerBound, to: range.upperBound, by: blockSize)
        if let start = starts.first(where: { !state.owned.contains($0) && claim($0) }) {
            state.owned.append(start)
            state.current = state.owned.count - 1
        } else if !state.owned.isEmpty {
            state.current = (state.current + 1) % state.owned.count
        } else {
            fatalError("other test processes have all ports of \(range)")
        }
    }

    /// A name in the abstract namespace of Unix sockets belongs to one process, and to nobody when that one has ended
    /// (man 7 unix).
    private static func claim(_ start: Int) -> Bool {
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let name = [UInt8](arrayLiteral: 0) + "kvd-test-ports-\(start)".utf8
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + name.count)
        let isOurs = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(fd, $0, length) == 0 }
        }
        if !isOurs { close(fd) }
        return isOurs
    }

    private static func canListen(_ port: Int) -> Bool {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(fd) }
        var one: Int32 = 1
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        return withLoopback(UInt16(port)) { bind(fd, $0, $1) } == 0 && listen(fd, 1) == 0
    }
}
