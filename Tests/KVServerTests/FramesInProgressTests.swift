// Large frames between two turns: order, slices, bounds.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore
@testable import KVServer

@Suite struct FramesInProgressTests {
    private let to = ActorUID(server: 9, index: 0)

    private func large(_ byte: UInt8, _ count: Int = FrameSlice.bytes) -> OutgoingFrame {
        var buffer = OutputBuffer()
        for _ in 0..<count { buffer.append(byte) }
        let bytes = buffer.bytes
        return OutgoingFrame(to: to, seal: FrameSeal([bytes], buffers: [buffer]))
    }

    private func small(_ byte: UInt8) -> OutgoingFrame { OutgoingFrame(to: to, bytes: [byte]) }

    @Test func smallFramesWaitOnlyBehindLargeOnes() {
        var frames = FramesInProgress()
        #expect(!frames.mustWait(small(1)) && !frames.mustWait([1]))
        #expect(frames.mustWait(large(1)) && frames.mustWait([UInt8](repeating: 1, count: FrameSlice.bytes)))
        frames.append(large(2))
        #expect(frames.mustWait(small(1)) && !frames.mustWait([1]))
        frames.append([UInt8](repeating: 1, count: FrameSlice.bytes), 5)
        #expect(frames.mustWait([1]))
    }

    @Test func whatGoesOutKeepsItsOrderAndTakesAsManySlicesAsItIsLong() {
        var frames = FramesInProgress()
        frames.append(large(1, 3 * FrameSlice.bytes))
        frames.append(small(2))
        frames.append(large(3, FrameSlice.bytes + 1))
        var sent: [(UInt8, slices: Int)] = []
        var slices = 0
        while !frames.isEmpty {
            slices += 1
            guard let frame = frames.sealed() else { continue }
            sent.append((frame.bytes.last!, slices))
            slices = 0
        }
        #expect(sent.map(\.0) == [1, 2, 3])
        #expect(sent.map(\.slices) == [3, 1, 2])
        let none = frames.sealed()
        #expect(none == nil)
    }

    @Test func whatArrivesKeepsItsOrderItsLinkAndItsChecksum() {
        var frames = FramesInProgress()
        let first = [UInt8](repeating: 7, count: 2 * FrameSlice.bytes)
        frames.append(first, 11)
        frames.append([8, 8], 12)
        var taken: [FramesInProgress.Checked] = []
        for _ in 0..<4 { if let checked = frames.checked() { taken.append(checked) } }
        #expect(taken.map(\.link) == [11, 12])
        #expect(taken.first?.bytes == first)
        #expect(taken.first?.crc == first[9...].withUnsafeBytes { crc32c($0) })
        #expect(frames.isEmpty)
    }

    /// One always fits, however large; what comes then is dropped as a network may.
    @Test func whatArrivesIsBounded() {
        var frames = FramesInProgress()
        let half = [UInt8](repeating: 1, count: FramesInProgress.bytesMax / 2)
        for link in 1...4 { frames.append(half, UInt64(link)) }
        var links: [UInt64] = []
        for _ in 0..<2 * FramesInProgress.bytesMax / FrameSlice.bytes {
            if let checked = frames.checked() { links.append(checked.link) }
        }
        #expect(links == [1, 2] && frames.isEmpty)
    }

    /// Its writer has numbered it on its connection: nothing would be sent there again before that one ends.
    @Test func nothingThatGoesOutIsDropped() {
        var frames = FramesInProgress()
        for byte in 1...3 { frames.append(large(UInt8(byte), FramesInProgress.bytesMax / 2)) }
        var sent: [UInt8] = []
        while !frames.isEmpty { if let frame = frames.sealed() { sent.append(frame.bytes[0]) } }
        #expect(sent == [1, 2, 3])
    }
}
