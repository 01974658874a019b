// Whether the process can still have memory, and may, so that a client's write is refused before an allocation fails
// or a limit is passed. The loop thread of its shard.

import Glibc
import KVBase
import KVRuntime

/// Looks again after each mebibyte written, and at each write while there is too little. A limit on address space
/// (`ulimit -v`) shows so; one of the control group does not, since its memory is taken when it is touched: for that
/// there is `--maxmemory`.
package struct MemoryHeadroom {
    /// Why a write is refused.
    enum Shortage { case none, addresses, limit }

    /// What must be to be had beside a write: buffers of requests and replies, messages, tables that double.
    static let headroomBytes = 64 << 20
    static let lookEveryBytes = 1 << 20
    private static let onceMoreBytesMax = 4 << 20
    /// A key's record and its places in the table and the index.
    private static let recordBytes = 128

    /// Between two looks that the kernel's answer does not settle.
    private static let patienceNanos: Nanos = 10_000_000

    private var bytesUntilLook = 0
    private(set) var shortage = Shortage.none
    private var nextLook: Nanos = 0
    private let limit: Unmanaged<MemoryLimit>
    private var limitSeen = 0
    /// What could not be had when the last write was refused, if that was no large one: until it can, smaller ones are
    /// refused too.
    private var wantedBefore = 0

    /// `limit` outlives it.
    package init(_ limit: MemoryLimit) { self.limit = Unmanaged.passUnretained(limit) }

    /// Whether the limit is another one: then it counts from the next write on. To be called where it is set, and every
    /// tenth of a second.
    mutating func noticeLimit() {
        let bytes = limit._withUnsafeGuaranteedRef { $0.bytes }
        guard bytes != limitSeen else { return }
        (limitSeen, bytesUntilLook) = (bytes, 0)
    }

    /// Whether there is too little memory for a write of about `bytes`.
    @inline(__always)
    package mutating func isShort(for bytes: Int) -> Bool {
        bytesUntilLook -= bytes + Self.recordBytes
        return bytesUntilLook <= 0 && look(bytes)
    }

    @inline(never)
    private mutating func look(_ bytes: Int) -> Bool {
        let wanted = max(Self.headroomBytes + 2 * bytes, shortage == .addresses ? wantedBefore : 0)
        if limit._withUnsafeGuaranteedRef({ $0.isPassed }) {
            shortage = .limit
        } else if Self.kernelHas(wanted) {
            shortage = .none
        } else {
            let now = Machine.monotonicNanos
            guard now >= nextLook else { return shortage != .none }
            nextLook = now + Self.patienceNanos
            shortage = Self.allocatorHas(wanted) ? .none : .addresses
            wantedBefore = min(wanted, Self.headroomBytes + Self.onceMoreBytesMax)
        }
        bytesUntilLook = shortage == .none ? Self.lookEveryBytes : 0
        return shortage != .none
    }

    private static func kernelHas(_ bytes: Int) -> Bool {
        let found = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard found != MAP_FAILED else { return false }
        munmap(found, bytes)
        return true
    }

    /// The allocator never gives addresses back to the kernel. What was freed and not purged it joins to no larger
    /// pieces, and cuts no smaller ones from. What is left may lie in several places: pieces of 16 MiB will do.
    private static func allocatorHas(_ bytes: Int) -> Bool {
        Memory.purge()
        let count = (bytes + pieceBytes - 1) / pieceBytes
        return withUnsafeTemporaryAllocation(of: UnsafeMutableRawPointer?.self, capacity: count) { pieces in
            var found = 0
            // Not malloc: the compiler takes a malloc whose memory is only freed out of the program.
            while found < count {
                pieces.initializeElement(at: found, to: nil)
                guard posix_memalign(&pieces[found], 64, pieceBytes) == 0 else { break }
                found += 1
            }
            for i in 0..<found { free(pieces[i]) }
            if found == count { Memory.purge() }
            return found == count
        }
    }

    private static let pieceBytes = 16 << 20
}
