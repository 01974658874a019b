// Where decrypted bytes of a turn lie: parsers work on them in place. Its loop's thread.

import KVBase

/// Pieces stay where they are until `reset`. What a turn takes is bounded by what it receives.
package final class SecureArena {
    private static let chunkBytes = 256 * 1024

    private let state: UnsafeMutablePointer<ArenaState>

    package init() {
        state = .allocate(capacity: 1)
        state.initialize(to: ArenaState())
    }

    deinit {
        for chunk in state.pointee.chunks { chunk.base.deallocate() }
        state.deinitialize(count: 1)
        state.deallocate()
    }

    func take(_ bytes: Int) -> UnsafeMutableRawPointer {
        if let last = state.pointee.chunks.last, last.bytes - state.pointee.used >= bytes {
            defer { state.pointee.used += bytes }
            return last.base + state.pointee.used
        }
        let size = max(SecureArena.chunkBytes, bytes)
        let base = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
        state.pointee.chunks.append((base, size))
        state.pointee.used = bytes
        return base
    }

    /// The end of the piece taken last.
    func giveBack(_ bytes: Int) {
        // Pieces begin where lines of the cache do.
        state.pointee.used = min((state.pointee.used - bytes + 63) / 64 * 64, state.pointee.chunks.last!.bytes)
    }

    /// Nobody looks at any piece any more.
    package func reset() {
        state.pointee.used = 0
        let (count, first) = (state.pointee.chunks.count, state.pointee.chunks.first?.bytes ?? 0)
        guard count > 1 || first > SecureArena.chunkBytes else { return }
        let kept = first == SecureArena.chunkBytes ? 1 : 0
        for chunk in state.pointee.chunks[kept...] { chunk.base.deallocate() }
        state.pointee.chunks.removeSubrange(kept...)
    }
}

/// Kept behind a pointer: no exclusivity checks on the request path.
private struct ArenaState {
    var chunks: [(base: UnsafeMutableRawPointer, bytes: Int)] = []
    /// Of the last chunk.
    var used = 0
}
