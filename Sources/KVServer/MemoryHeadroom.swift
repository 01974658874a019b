// Whether the process can still have memory, so that a client's write is refused before an allocation fails. The loop
// thread of its shard.

import Glibc
import KVBase
import KVRuntime

/// Looks again after each mebibyte written, and at each write while there is too little. A limit on address space
/// (`ulimit -v`) shows so; one of the control group does not, since its memory is taken when it is touched.
package struct MemoryHeadroom {
    /// What must be to be had beside a write: buffers of requests and replies, messages, tables that double.
    static let headroomBytes = 64 << 20
    /// What must be beyond that before writes are taken again, so that they are not taken and refused in turns.
    static let resumeBytes = 8 << 20
    static let lookEveryBytes = 1 << 20
    /// A key's record and its places in the table and the index.
    private static let recordBytes = 128

    /// Between two looks that the kernel's answer does not settle.
    private static let patienceNanos: Nanos = 10_000_000

    private var bytesUntilLook = 0
    private var isShort = false
    private var nextLook: Nanos = 0

    package init() {}

    /// Whether there is too little memory for a write of about `bytes`.
    @inline(__always)
    package mutating func isShort(for bytes: Int) -> Bool {
        bytesUntilLook -= bytes + Self.recordBytes
        return bytesUntilLook <= 0 && look(bytes)
    }

    @inline(never)
    private mutating func look(_ bytes: Int) -> Bool {
        let wanted = Self.headroomBytes + (isShort ? Self.resumeBytes : 0) + 2 * bytes
        if Self.kernelHas(wanted) {
            isShort = false
        } else {
            let now = Machine.monotonicNanos
            guard now >= nextLook else { return isShort }
            nextLook = now + Self.patienceNanos
            isShort = !Self.allocatorHas(wanted)
        }
        bytesUntilLook = isShort ? 0 : Self.lookEveryBytes
        return isShort
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
