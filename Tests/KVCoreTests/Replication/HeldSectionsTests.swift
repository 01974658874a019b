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

    @Test func whatIsSaidIsLetGoAsItCame() {
        var held = HeldSections()
        #expect(held.isEmpty && held.hold(work(1, [(2, 10), (3, 5)]), 1_000) && held.hold(work(2, [(3, 4)]), 1_100))
        #expect(held.takeSaid(1_200) { _ in 3 }.isEmpty)
        let first = held.takeSaid(1_300) { $0 == 3 ? 4 : 9 }
        #expect(first.map(\.sender.server) == [2] && first[0].unsaid.count == 0 && !first[0].isRefused)
        #expect(first[0].decoder.left == 3)
        #expect(held.takeSaid(1_400) { $0 == 3 ? 5 : 10 }.map(\.sender.server) == [1] && held.isEmpty)
        held.checkInvariants()
    }

    /// Nobody says what was never written.
    @Test func whatIsNeverSaidIsGivenUp() {
        var held = HeldSections()
        #expect(held.hold(work(1, [(2, .max)]), 1_000) && held.hold(work(2, [(2, 7)]), 1_400))
        #expect(held.takeSaid(1_000 + HeldSections.patienceMillis) { _ in 6 }.isEmpty && !held.isEmpty)
        #expect(held.takeSaid(1_600) { _ in 7 }.map(\.sender.server) == [2] && held.isEmpty)
    }

    @Test func thereIsABound() {
        var held = HeldSections()
        for number in 0..<HeldSections.countMax { #expect(held.hold(work(UInt64(number) + 1, [(2, 9)]), 0)) }
        #expect(!held.hold(work(1, [(2, 9)]), 0))
        #expect(held.takeSaid(HeldSections.patienceMillis) { _ in 0 }.isEmpty && held.isEmpty)
        let half = HeldSections.bytesMax / 2
        #expect(held.hold(work(1, [(2, 9)], bytes: half), 0) && held.hold(work(2, [(2, 9)], bytes: half), 0))
        #expect(!held.hold(work(3, [(2, 9)], bytes: 1), 0))
        held.checkInvariants()
    }
}
