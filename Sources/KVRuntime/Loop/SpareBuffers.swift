// Large output buffers between two uses: a long reply fills and empties one after the other. Loop's thread.

import KVBase

/// Without them each part of a long reply would grow a buffer of its own anew, in memory that is fresh: faster than the
/// memory can be made ready beside the loop. A connection still keeps nothing large while it has nothing to send.
struct SpareBuffers {
    private var buffers: [OutputBuffer] = []
    private var idleTicks = 0

    /// Takes `buffer`, which is empty, over, or frees it, and leaves one of `fresh` bytes in its place.
    mutating func keep(_ buffer: inout OutputBuffer, fresh: Int) {
        guard buffers.count < Limits.spareBuffersMax, buffer.capacity <= Limits.spareBufferBytesMax else {
            return buffer.shrink(to: fresh)
        }
        buffers.append(buffer)
        buffer = OutputBuffer(capacity: fresh)
    }

    /// Puts a large buffer in the place of `buffer`, which is empty, if there is one.
    mutating func lend(_ buffer: inout OutputBuffer) {
        idleTicks = 0
        guard let last = buffers.last, last.capacity > buffer.capacity else { return }
        buffers.removeLast()
        buffer.deallocate()
        buffer = last
    }

    /// Every 100 ms or so. Those that nobody asked for in a second are freed.
    mutating func tend() {
        guard !buffers.isEmpty else { return }
        idleTicks += 1
        if idleTicks > 10 { free() }
    }

    mutating func free() {
        for buffer in buffers { buffer.deallocate() }
        buffers = []
    }
}
