// Writes of one key never overtake each other, and whoever waits is told once the store has the value.

@testable import CMUDCore
import KVBase
import Testing

@Suite struct PutQueueTests {
    private final class Told { var names: [String] = [] }
    private let told = Told()
    private func note(_ name: String) -> () -> Void { { [told] in told.names.append(name) } }

    @Test func onePutOfAKeyIsUnderWayAndTheNewestFollows() throws {
        var puts = PutQueue()
        puts.add("k", [1], note("first"))
        let firstSent = puts.begin("k")
        let first = try #require(firstSent)
        #expect(first.value == [1] && puts.begin("k") == nil, "one at a time")
        puts.add("k", [2], note("second"))
        puts.add("k", [3], note("third"))
        puts.checkInvariants()
        let doneStored = puts.stored("k", first.number)
        let done = try #require(doneStored)
        #expect(done.isChanged)
        for tell in done.told { tell() }
        #expect(told.names == ["first"], "the others wait for a later value")
        let secondSent = puts.begin("k")
        let second = try #require(secondSent)
        #expect(second.value == [3], "the one in between is skipped")
        let lastStored = puts.stored("k", second.number)
        let last = try #require(lastStored)
        for tell in last.told { tell() }
        #expect(told.names == ["first", "second", "third"] && !last.isChanged && puts.isEmpty)
    }

    @Test func whatFailedIsSentAgain() throws {
        var puts = PutQueue()
        puts.add("k", [1], note("one"))
        let firstSent = puts.begin("k")
        let first = try #require(firstSent)
        puts.add("k", [2])
        let isWanted = puts.failed("k", first.number)
        #expect(isWanted)
        puts.checkInvariants()
        let secondSent = puts.begin("k")
        let second = try #require(secondSent)
        #expect(second.value == [2] && second.number != first.number)
        #expect(puts.stored("k", first.number) == nil, "an answer to the one that was given up says nothing")
        #expect(puts.stored("k", second.number)?.told.count == 1 && puts.isEmpty)
    }

    @Test func anAbandonedKeyHandsItsWaitersOver() throws {
        var puts = PutQueue()
        puts.add("old", [1], note("waiter"))
        let underSent = puts.begin("old")
        let under = try #require(underSent)
        puts.add("old", [2])
        let waiters = puts.abandon("old")
        #expect(waiters.count == 1 && puts.isEmpty)
        puts.add("old", [9], note("again"))
        #expect(!puts.failed("old", under.number) && puts.stored("old", under.number) == nil, "its Put is forgotten")
        #expect(puts.begin("old")?.value == [9])
        puts.checkInvariants()
        puts.clear()
        #expect(puts.isEmpty && puts.begin("old") == nil)
    }

    @Test func keysComeInOrder() {
        var puts = PutQueue()
        for key in ["c", "a", "b"] { puts.add(key, []) }
        #expect(puts.keys == ["a", "b", "c"])
    }
}
