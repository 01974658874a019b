// Large frames, a slice at a time: putting one together from its pieces, and checking one that arrived. At 8 MiB either
// takes milliseconds. Pure; the actor's thread.

import KVBase

/// What is copied or summed up at once, which takes less than a tenth of a millisecond. Frames that are smaller are
/// finished where they are made and checked as they are taken.
package enum FrameSlice {
    package static let bytes = 128 * 1024
}

/// Copies the pieces of a frame into one array and sums them up. Owns whatever the pieces lie in.
package final class FrameSeal: @unchecked Sendable {
    package let byteCount: Int
    private var bytes: [UInt8] = []
    private var pieces: [UnsafeRawBufferPointer]
    private var piece = 0
    private var offset = 0
    private var crc: UInt32 = 0
    private var sections: [EncodedSection]
    private var buffers: [OutputBuffer]

    /// The pieces, in order, lie in the sections and buffers, which the seal takes over, or outlive it.
    init(_ pieces: [UnsafeRawBufferPointer], sections: [EncodedSection] = [], buffers: [OutputBuffer] = []) {
        (self.pieces, self.sections, self.buffers) = (pieces, sections, buffers)
        byteCount = pieces.reduce(0) { $0 + $1.count }
    }

    deinit { freeMemory() }

    private func freeMemory() {
        for buffer in buffers { buffer.deallocate() }
        buffers = []
        sections = []
        pieces = []
        piece = 0
    }

    /// Copies up to `budget` bytes; true when the frame is complete. O(budget).
    package func advance(budget: Int) -> Bool {
        guard bytes.count < byteCount else { return true }
        if bytes.isEmpty { bytes.reserveCapacity(byteCount) }
        var left = budget
        while left > 0, piece < pieces.count {
            let whole = pieces[piece]
            let end = min(whole.count, offset + left)
            let part = UnsafeRawBufferPointer(rebasing: whole[offset..<end])
            let summed = max(0, FrameFormat.summedFrom - bytes.count)
            bytes.append(contentsOf: part.assumingMemoryBound(to: UInt8.self))
            if part.count > summed { crc = crc32c(UnsafeRawBufferPointer(rebasing: part[summed...]), continuing: crc) }
            left -= part.count
            offset = end
            if end == whole.count {
                piece += 1
                offset = 0
            }
        }
        guard bytes.count == byteCount else { return false }
        bytes.withUnsafeMutableBytes {
            $0.storeBytes(of: crc.littleEndian, toByteOffset: FrameFormat.crcAt, as: UInt32.self)
        }
        freeMemory()
        return true
    }

    /// Does all that is left. O(bytes left).
    package func finish() -> [UInt8] {
        while !advance(budget: .max) {}
        return bytes
    }
}

/// The checksum of a received frame, computed in slices; `Replica.receive` compares it.
package struct FrameCheck: Sendable {
    package let bytes: [UInt8]
    package private(set) var crc: UInt32 = 0
    private var at = FrameFormat.summedFrom

    package init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Sums up to `budget` bytes; true when all are. O(budget).
    package mutating func advance(budget: Int) -> Bool {
        guard at < bytes.count else { return true }
        let end = min(bytes.count, at + min(budget, bytes.count))
        crc = bytes.withUnsafeBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[at..<end]), continuing: crc) }
        at = end
        return at == bytes.count
    }
}
