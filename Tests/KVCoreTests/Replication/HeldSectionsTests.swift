// Sections that wait for a sibling's word: what is let go when, and what is given up.

import KVBase
import Testing

@testable import KVCore

@Suite struct HeldSectionsTests {
    private func work(_ number: UInt64, _ unsaid: [(OriginIndex, UInt64)], bytes: Int = 100) -> BlockWork {
        let block = Block(kind: .section(origin: 9, from: 0, to: number), count: 3, millisMax: 0, from: 0, to: bytes)
        var work = BlockWork(
            bytes: [UInt8](repeating: 0, count: bytes), block: block, sender: ActorUID(server: number, index: 0),
            cut: VersionVector())
        for (origin, seq) in unsaid { work.unsaid.raise(origin, to: seq) }
        return work
    }

    private func hold(_ work: BlockWork, _ held: inout HeldSections, _ now: Millis = 0) -> Bool {
        held.hold(work, now)
    }

    private func takeSaid(
        _ held: inout HeldSections, _ now: Millis, by said: (OriginIndex) -> UInt64
    ) -> [UInt64] { held.takeSaid(now, by: said).map(\.sender.server) }

    @Test func whatIsSaidIsLetGoAsItCame() {
        var held = HeldSections()
        let isHeld = [work(1, [(2, 10), (3, 5)]), work(2, [(3, 4)])].map { hold($0, &held, 1_000) }
        #expect(isHeld == [true, true])
        let none = takeSaid(&held, 1_200) { _ in 3 }
        let first = held.takeSaid(1_300) { $0 == 3 ? 4 : 9 }
        #expect(none == [] && first.map(\.sender.server) == [2])
        #expect(first[0].unsaid.count == 0 && !first[0].isRefused && first[0].decoder.left == 3)
        let second = takeSaid(&held, 1_400) { $0 == 3 ? 5 : 10 }
        #expect(second == [1] && held.isEmpty)
        held.checkInvariants()
    }

    /// Nobody says what was never written.
    @Test func whatIsNeverSaidIsGivenUp() {
        var held = HeldSections()
        let isHeld = [hold(work(1, [(2, .max)]), &held, 1_000), hold(work(2, [(2, 7)]), &held, 1_400)]
        let late = takeSaid(&held, 1_000 + HeldSections.patienceMillis) { _ in 6 }
        #expect(isHeld == [true, true] && late == [] && !held.isEmpty)
        let said = takeSaid(&held, 1_600) { _ in 7 }
        #expect(said == [2] && held.isEmpty)
    }

    @Test func thereIsABound() {
        var held = HeldSections()
        let isHeld = (0...HeldSections.countMax).map { hold(work(UInt64($0) + 1, [(2, 9)]), &held) }
        #expect(isHeld == Array(repeating: true, count: HeldSections.countMax) + [false])
        let late = takeSaid(&held, HeldSections.patienceMillis) { _ in 0 }
        #expect(late == [] && held.isEmpty)
        let half = HeldSections.bytesMax / 2
        let areHeld = [half, half, 1].map { hold(work(1, [(2, 9)], bytes: $0), &held) }
        #expect(areHeld == [true, true, false])
        held.checkInvariants()
    }
}
