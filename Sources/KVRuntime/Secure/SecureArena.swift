// Where decrypted bytes of a turn lie: parsers work on them in place. Its loop's thread.

import KVBase

/// Pieces stay where they are until `reset`. What a turn takes is bounded by what it receives.
package final class SecureArena {
    private static let chunkBytes = 256 * 1024

    private var chunks: [(base: UnsafeMutableRawPointer, bytes: Int)] = []
    /// Of the last chunk.
    private var used = 0

    package init() {}

    deinit { for chunk in chunks { chunk.base.deallocate() } }

    func take(_ bytes: Int) -> UnsafeMutableRawPointer {
        if let last = chunks.last, last.bytes - used >= bytes {
            defer { used += bytes }
            return last.base + used
        }
        let size = max(SecureArena.chunkBytes, bytes)
        let base = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
        chunks.append((base, size))
        used = bytes
        return base
    }

    /// The end of the piece taken last.
    func giveBack(_ bytes: Int) {
        // Pieces begin where lines of the cache do.
        used = min((used - bytes + 63) / 64 * 64, chunks.last!.bytes)
    }

    /// Nobody looks at any piece any more.
    package func reset() {
        used = 0
        guard let first = chunks.first, chunks.count > 1 || first.bytes > SecureArena.chunkBytes else { return }
        let kept = first.bytes == SecureArena.chunkBytes ? 1 : 0
        for chunk in chunks[kept...] { chunk.base.deallocate() }
        chunks.removeSubrange(kept...)
    }
}
