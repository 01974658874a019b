// What is known of the connection to a server: what left, what arrived, and how hungry the line is.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct ServerLinkTests {
    private func progress(_ session: UInt64, left: UInt64 = 0, delivered: UInt64 = 0) -> LinkProgress {
        var progress = LinkProgress(session: session)
        (progress.live.left, progress.bulk.left) = (left, left)
        (progress.live.delivered, progress.bulk.delivered) = (delivered, delivered)
        return progress
    }

    /// One live frame at a time; a second bulk frame may wait while the first one leaves.
    @Test func aLaneIsFreeWhileLittleOfItWaits() {
        var link = ServerLink()
        #expect(!link.isUp && link.downSince == nil)
        link.up(7, greeted: 0)
        let first = link.handOver(.bulk, 0)
        #expect(link.isFree(.bulk) && !link.isEmpty(.bulk))
        let second = link.handOver(.bulk, 10)
        #expect((first, second) == (1, 2) && !link.isFree(.bulk) && link.isFree(.live))
        #expect(link.handOver(.live, 10) == 1 && !link.isFree(.live))
        #expect(link.moved(progress(7, left: 1, delivered: 1), 20) == true)
        #expect(link.isFree(.bulk) && link.isFree(.live) && link.hasLeft(.bulk, 1) && !link.hasLeft(.bulk, 2))
        #expect(link.moved(progress(7, left: 2, delivered: 1), 30) == true)
        #expect(link.isEmpty(.bulk) && link.isDelivered(.bulk, 1) && !link.isAllDelivered(.bulk))
        link.checkInvariants()
        link.up(8, greeted: 0)
        _ = link.handOver(.live, 40)
        #expect(!link.isFree(.live) && link.isAlmostFree(.live))
        _ = link.handOver(.live, 50)
        #expect(!link.isAlmostFree(.live))
        #expect(link.moved(progress(8, left: 1), 60) == true && link.isAlmostFree(.live))
        link.checkInvariants()
    }

    /// A section is what the line carries in a while; all that a frame holds once the journal may lose writes.
    @Test func whatTheJournalMayLoseIsSentWhateverTheLineCarries() {
        let config = ReplicaConfig(
            clusterId: 1, server: 1, actorIndex: 0, actorCount: 1, address: Bytes("a:1"), joining: false)
        var link = ServerLink()
        link.up(7, greeted: 0)
        var slow = progress(7)
        slow.bytesPerSecond = 500_000
        #expect(link.moved(slow, 10) == true)
        let bytes = [FrameLimits.Backlog.usual, .large, .greatest].map { FrameLimits(link, $0, config).sectionBytes }
        #expect(bytes == [105_000, 1_000_000, config.frameBytesMax / 4 * 3])
    }

    @Test func progressOfAnotherConnectionSaysNothing() {
        var link = ServerLink()
        #expect(link.moved(progress(0, left: 1), 0) == false)
        link.up(7, greeted: 1)
        #expect(link.hasLeft(.live, 1) && !link.isAllDelivered(.live))
        #expect(link.moved(progress(6, left: 9, delivered: 9), 0) == false && !link.isDelivered(.live, 1))
        link.down(500)
        #expect(!link.isUp && link.downSince == 500 && link.moved(progress(7, left: 9), 600) == false)
        link.up(8, greeted: 0)
        #expect(link.downSince == nil && link.session == 8 && link.isAllDelivered(.live))
        link.checkInvariants()
    }

    /// The next connection takes the same path, so what was learned of it stays.
    @Test func chunksGrowWhileTheLineTakesThemAtOnce() {
        var link = ServerLink()
        link.up(7, greeted: 0)
        for i in UInt64(1)...10 {
            _ = link.handOver(.bulk, Millis(i) * 1_000)
            _ = link.moved(progress(7, left: i), Millis(i) * 1_000 + 104)
        }
        #expect(link.appetite == 64)
        _ = link.handOver(.bulk, 20_000)
        _ = link.moved(progress(7, left: 11), 20_800)
        #expect(link.appetite == 64)
        // The second of two frames is timed from when the first one left.
        _ = link.handOver(.bulk, 30_000)
        _ = link.handOver(.bulk, 30_000)
        _ = link.moved(progress(7, left: 12), 30_500)
        var slow = progress(7, left: 13)
        (slow.bytesPerSecond, slow.roundTripMillis) = (50_000, 80)
        _ = link.moved(slow, 31_301)
        link.down(40_000)
        link.up(8, greeted: 0)
        #expect(link.appetite == 32 && link.bytesPerSecond == 50_000 && link.roundTripMillis == 80)
        link.checkInvariants()
    }
}
