// Which first messages are recordings.

import KVBase
import Testing

@testable import KVRuntime

@Suite struct SeenHellosTests {
    private func hello(_ number: UInt64, tail: [UInt8] = []) -> [UInt8] {
        var random = PRNG(seed: number)
        let bytes = (0..<32).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        return [0x16, 3, 1, 0, 40, 1, 0, 0, 36, 3, 3] + bytes + [0, 0] + tail
    }

    @Test func whatWasSaidBeforeIsNotFresh() {
        var hellos = SeenHellos(seed: 1)
        #expect([hello(1), hello(2)].map { hellos.isFresh($0) } == [true, true])
        // Nor with other bytes around it.
        var other = hello(1)
        other[2] = 3
        let again = [hello(1), hello(2), hello(1, tail: [9, 9]), other]
        #expect(again.map { hellos.isFresh($0) } == [false, false, false, false])
    }

    /// Else pieces of a recording would be as many new ones.
    @Test func aRecordTooShortForItIsNone() {
        var hellos = SeenHellos(seed: 1)
        var short = hello(3)
        short[4] = 10
        let all = [short, Array(hello(3)[..<42]), [], hello(3)]
        #expect(all.map { hellos.isFresh($0) } == [false, false, false, true])
    }

    @Test func theOldestAreForgotten() {
        var hellos = SeenHellos(seed: 1)
        let count = (0...UInt64(SeenHellos.countMax)).count { hellos.isFresh(hello($0)) }
        #expect(count == SeenHellos.countMax + 1)
        hellos.checkInvariants()
        let (second, first) = (hellos.isFresh(hello(1)), hellos.isFresh(hello(0)))
        #expect(!second && first)
        hellos.checkInvariants()
    }
}
