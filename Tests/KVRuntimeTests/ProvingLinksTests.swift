// Which handshake gives way when there are too many.

import Testing

@testable import KVRuntime

@Suite struct ProvingLinksTests {
    @Test func theOldestOfTheHostWithMostGivesWay() {
        var proving = ProvingLinks()
        #expect(proving.oldestOfMost == nil)
        proving.begin(1, of: "192.0.2.1")
        for link: UInt64 in 2...4 { proving.begin(link, of: "192.0.2.2") }
        #expect(proving.count == 4 && proving.oldestOfMost == 2)
        proving.end(2)
        #expect(proving.oldestOfMost == 3)
        // Of two hosts with one each the one that began first.
        proving.end(3)
        #expect(proving.count == 2 && proving.oldestOfMost == 1)
        proving.checkInvariants()
    }

    @Test func oneIsCountedOnceAndEndsOnce() {
        var proving = ProvingLinks()
        proving.begin(7, of: "192.0.2.1")
        proving.begin(7, of: "192.0.2.1")
        proving.end(8)
        #expect(proving.count == 1)
        proving.end(7)
        proving.end(7)
        #expect(proving.count == 0 && proving.oldestOfMost == nil)
        proving.checkInvariants()
    }
}
