// Counters of several stores, merged in any order: the number is what was added, less what SET, DEL and expiry took.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct CounterTests {
    /// Two stores that share a table of writers, and a third that takes from both.
    private struct Pair {
        let origins = OriginTable()
        let a: Store
        let b: Store

        init() {
            a = ExpiryTests.store(3, origins)
            b = ExpiryTests.store(8, origins)
        }

        func destroy() {
            a.destroy()
            b.destroy()
        }

        /// What a third store shows after both, in both orders.
        func both(now: Millis, _ check: (Store) -> Void) {
            for order in [[a, b], [b, a]] {
                let third = ExpiryTests.store(11, origins)
                for one in order { one.copy(to: third) }
                third.checkInvariants()
                check(third)
                third.destroy()
            }
        }
    }

    private static func with(_ body: (Pair) -> Void) {
        let pair = Pair()
        body(pair)
        pair.a.checkInvariants()
        pair.b.checkInvariants()
        pair.destroy()
    }

    @Test func whatTwoAddAtTheSameTimeAddsUp() {
        CounterTests.with { pair in
            #expect(pair.a.increment("n", by: 5, now: 1_000) == .value(5))
            #expect(pair.b.increment("n", by: 7, now: 1_000) == .value(7))
            #expect(pair.b.increment("n", by: -2, now: 1_001) == .value(5))
            pair.both(now: 2_000) {
                #expect($0.shown("n", now: 2_000) == "10" && $0.keys(now: 2_000) == ["n"] && $0.count == 1)
                #expect($0.increment("n", now: 2_000) == .value(11))
            }
        }
    }

    /// What the SET had not seen counts on top of it.
    @Test(arguments: [-1_000, 1_000] as [Millis]) func aSetTakesWhatItHasSeen(_ skew: Millis) {
        CounterTests.with { pair in
            pair.a.increment("n", by: 5, now: 10_000)
            pair.a.copy(to: pair.b)
            pair.a.increment("n", by: 100, now: 10_001)
            pair.b.set("n", "40", now: 10_002 + skew)
            #expect(pair.b.shown("n", now: 10_002) == "40")
            pair.both(now: 20_000) { #expect($0.shown("n", now: 20_000) == "140") }
        }
    }

    /// A floor from a clock that is ahead is above what others write over the same delete.
    @Test func aZeroOverARecordHasNoRegardToTheFloor() {
        CounterTests.with { pair in
            pair.a.set("n", "5", now: 1_000)
            pair.a.remove("n", now: 2_000)
            pair.a.copy(to: pair.b)
            pair.a.raiseGCFloor(to: 500_000)
            #expect(pair.a.increment("n", by: 1, now: 600_000) == .value(1))
            #expect(pair.a.increment("other", by: 1, now: 600_000) == .value(1))
            for (name, ms) in [("n", 2_000), ("other", 500_001)] as [(String, Millis)] {
                Bytes(name).withBytes { #expect(pair.a.find(pair.a.key($0))?.ms == ms) }
            }
            pair.b.set("n", "40", now: 3_000)
            pair.both(now: 700_000) { #expect($0.shown("n", now: 700_000) == "41") }
        }
    }

    /// Two deletes in one millisecond, or by a clock that was set back in between, of which another actor knows only
    /// the first when it counts: its zero beats the first, and not the second, which has taken more. With either order
    /// of ids.
    @Test(arguments: [true, false], [-500, 0, 1, 2] as [Millis]) func aSecondDeleteBeatsTheZeroOverTheFirst(
        _ isSwapped: Bool, _ later: Millis
    ) {
        CounterTests.with { pair in
            let (a, b) = isSwapped ? (pair.b, pair.a) : (pair.a, pair.b)
            a.increment("n", by: 5, now: 1_000)
            a.delete("n", now: 1_000)
            a.copy(to: b)
            a.increment("n", by: 7, now: 1_000)
            a.delete("n", now: 1_000 + later)
            #expect(b.increment("n", now: 1_000 + later) == .value(1))
            pair.both(now: 2_000) { #expect($0.shown("n", now: 2_000) == "1") }
        }
    }

    /// The same of a value set right after the delete.
    @Test(arguments: [true, false], [-500, 0, 1, 2] as [Millis]) func aSetAfterADeleteBeatsTheZeroOverTheDelete(
        _ isSwapped: Bool, _ later: Millis
    ) {
        CounterTests.with { pair in
            let (a, b) = isSwapped ? (pair.b, pair.a) : (pair.a, pair.b)
            a.set("n", "9", now: 1_000)
            a.delete("n", now: 1_000)
            a.copy(to: b)
            a.set("n", "100", now: 1_000 + later)
            b.increment("n", now: 1_000 + later)
            pair.both(now: 2_000) { #expect($0.shown("n", now: 2_000) == "101") }
        }
    }

    /// A deadline that was set elsewhere, after the second delete and before the first one arrived there: the zero
    /// over the first delete is not above that deadline's stamp, which no delete had seen.
    @Test(arguments: [true, false]) func aSecondDeleteBeatsTheZeroWhereADeadlineIsNewer(_ isSwapped: Bool) {
        CounterTests.with { pair in
            let (a, b) = isSwapped ? (pair.b, pair.a) : (pair.a, pair.b)
            a.increment("n", by: 5, now: 1_000)
            a.copy(to: b)
            b.expire("n", at: 900_000, now: 5_000)
            #expect(a.delete("n", now: 2_000) != nil)
            a.copy(to: b)
            #expect(b.shown("n", now: 5_000) == nil)
            a.increment("n", by: 7, now: 2_100)
            #expect(a.delete("n", now: 2_200) != nil)
            #expect(b.increment("n", now: 5_001) == .value(1))
            #expect(b.deadline("n", now: 5_001) == .never)
            pair.both(now: 6_000) {
                #expect($0.shown("n", now: 6_000) == "1" && $0.deadline("n", now: 6_000) == .never)
                $0.checkInvariants()
            }
        }
    }

    /// A deadline that is newer than the delete of its key, where everybody has both: it is not forgotten before the
    /// delete is, and so the zero over the delete says which deadline it beats. With either order of ids.
    @Test(arguments: [true, false]) func aDeadlineIsForgottenWithTheDelete(_ isSwapped: Bool) {
        CounterTests.with { pair in
            let (a, b) = isSwapped ? (pair.b, pair.a) : (pair.a, pair.b)
            a.set("n", "5", now: 1_000)
            a.copy(to: b)
            b.expire("n", at: 900_000, now: 2_000)
            a.delete("n", now: 1_500)
            a.copy(to: b)
            b.copy(to: a)
            #expect(a.sweepLeftovers(budget: 10) { _, _ in true } == 0)
            #expect(a.increment("n", by: 1, now: 1_600) == .value(1))
            pair.both(now: 6_000) {
                #expect($0.shown("n", now: 6_000) == "1" && $0.deadline("n", now: 6_000) == .never)
                $0.checkInvariants()
            }
        }
    }

    /// A newcomer's zero is beaten by a delete that its donor still has: another one goes to those who have collected
    /// that, as they take neither the delete nor a part alone.
    @Test(arguments: [6_000, 4_000] as [Millis]) func aNewcomerCountsAgainAboveADeleteThatOthersHaveCollected(
        _ floor: Millis
    ) {
        CounterTests.with { pair in
            pair.b.set("n", "5", now: 4_900)
            pair.b.remove("n", now: 5_000)
            pair.a.beginProvisionalZeros()
            pair.a.increment("n", by: 3, now: 5_500)
            pair.a.increment("m", by: 1, now: 5_500)
            pair.b.copy(to: pair.a)
            pair.a.raiseGCFloor(to: floor)
            var again: [String] = []
            pair.a.settleZeros(isLast: true) { _, new in again.append(String(decoding: new.key, as: UTF8.self)) }
            let isCollected = floor > 5_000
            #expect(again.sorted() == (isCollected ? ["m", "n"] : ["m"]))
            Bytes("n").withBytes {
                #expect(pair.a.find(pair.a.key($0))?.ms == (isCollected ? floor + 1 : 5_000))
            }
            pair.both(now: 7_000) { #expect($0.shown("n", now: 7_000) == "3" && $0.shown("m", now: 7_000) == "1") }
        }
    }

    /// A newcomer's zero goes above the floor, and others have set a deadline for it meanwhile, or of the count that it
    /// has joined: that is not beaten, and what had expired is not shown again.
    @Test(arguments: [1_500, 900_000] as [Millis], [1_100, 5_000] as [Millis])
    func aNewcomersZeroWrittenAgainHasTheDeadlineThatOthersHaveSet(_ end: Millis, _ floor: Millis) {
        CounterTests.with { pair in
            pair.a.beginProvisionalZeros()
            pair.a.increment("n", by: 3, now: 1_000)
            pair.a.copy(to: pair.b)
            pair.b.expire("n", at: end, now: 1_200)
            pair.b.copy(to: pair.a)
            pair.a.raiseGCFloor(to: floor)
            pair.a.settleZeros(isLast: true) { _, _ in }
            Bytes("n").withBytes { #expect(pair.a.find(pair.a.key($0))?.ms == floor + 1) }
            pair.both(now: 6_000) {
                #expect($0.shown("n", now: 6_000) == (end > 6_000 ? "3" : nil))
                #expect($0.deadline("n", now: 6_000) == (end > 6_000 ? .at(end) : nil))
            }
        }
    }

    /// A newcomer's deadline is below a floor, and its key was deleted: it does not end what a sibling begins to count
    /// meanwhile, whether that has arrived or only the delete has.
    @Test(arguments: [true, false], [true, false])
    func aDeletedDeadlineIsNotWrittenAgainUnderWhatBeginsAnew(_ isSwapped: Bool, _ hasArrived: Bool) {
        CounterTests.with { pair in
            let (a, b) = isSwapped ? (pair.b, pair.a) : (pair.a, pair.b)
            for store in [a, b] { store.beginProvisionalZeros() }
            a.increment("n", by: 5, now: 1_000)
            a.copy(to: b)
            b.expire("n", at: 9_000, now: 1_500)
            b.copy(to: a)
            a.remove("n", now: 2_000)
            if !hasArrived { a.copy(to: b) }
            a.increment("n", by: 3, now: 2_100)
            if hasArrived { a.copy(to: b) }
            b.raiseGCFloor(to: 100_000)
            for seq in 1...b.ownSeq { b.raise(own: seq) { _, _ in } }
            b.copy(to: a)
            #expect(a.shown("n", now: 120_000) == "3" && a.deadline("n", now: 120_000) == .never)
            a.raiseGCFloor(to: 100_000)
            a.settleZeros(isLast: true) { _, _ in }
            pair.both(now: 120_000) {
                #expect($0.shown("n", now: 120_000) == "3" && $0.deadline("n", now: 120_000) == .never)
            }
        }
    }

    @Test func distanceIsKeptAsFastAsTimePasses() {
        var distance = DistanceAllowance()
        #expect(distance.take(DistanceAllowance.millisMax, 50_000) && !distance.take(1, 50_000))
        #expect(distance.take(3, 50_003) && !distance.take(1, 50_003))
        // A clock that is set back gives nothing, and takes nothing away.
        #expect(!distance.take(1, 40_000) && distance.take(2, 40_002))
        #expect(distance.take(DistanceAllowance.millisMax, 90_000) && !distance.take(1, 90_000))
    }

    @Test func anAddedSumIsNoSet() {
        CounterTests.with { pair in
            pair.a.set("n", "100", now: 1_000)
            // Later, and unaware of it.
            pair.b.increment("n", now: 2_000)
            pair.both(now: 3_000) { #expect($0.shown("n", now: 3_000) == "101") }
        }
    }

    /// The last of several SETs stands for all that each of them had seen.
    @Test func aSetInheritsWhatItReplaces() {
        CounterTests.with { pair in
            let third = ExpiryTests.store(11, pair.origins)
            defer { third.destroy() }
            pair.a.increment("n", by: 5, now: 1_000)
            // This one gets the value without what was added before it.
            pair.a.set("n", "1", now: 1_001)
            Bytes("n").withBytes { _ = third.merge(pair.a.find(pair.a.key($0))!) }
            #expect(third.shown("n", now: 1_002) == "1")
            third.set("n", "2", now: 1_003)
            pair.a.copy(to: third)
            #expect(third.shown("n", now: 1_004) == "2")
            pair.b.increment("n", by: 3, now: 1_002)
            pair.b.copy(to: third)
            #expect(third.shown("n", now: 1_004) == "5")
            third.checkInvariants()
        }
    }

    @Test func unseenAdditionsOutliveADelete() {
        CounterTests.with { pair in
            pair.a.increment("n", by: 5, now: 1_000)
            pair.a.expire("n", at: 900_000, now: 1_000)
            pair.a.copy(to: pair.b)
            pair.a.increment("n", by: 2, now: 1_001)
            pair.b.remove("n", now: 1_002)
            #expect(pair.b.shown("n", now: 1_002) == nil && pair.b.count == 0)
            pair.both(now: 2_000) { third in
                #expect(third.shown("n", now: 2_000) == "2" && third.count == 1)
                #expect(third.keys(now: 2_000) == ["n"] && third.deadline("n", now: 2_000) == .never)
                #expect(third.increment("n", now: 2_000) == .value(3))
                #expect(third.expire("n", at: 5_000, now: 2_000) == .done)
                #expect(third.shown("n", now: 2_000) == "3" && third.deadline("n", now: 2_000) == .at(5_000))
                #expect(third.remove("n", now: 2_001) && third.count == 0 && third.keys(now: 2_001) == [])
                third.checkInvariants()
            }
        }
    }

    @Test func expiryTakesWhatWasAddedBefore() {
        CounterTests.with { pair in
            pair.a.increment("n", by: 5, now: 1_000)
            pair.a.expire("n", at: 2_000, now: 1_000)
            pair.a.copy(to: pair.b)
            pair.b.increment("n", by: 100, now: 1_500)
            pair.a.expireAll(now: 3_000)
            #expect(pair.a.shown("n", now: 3_000) == nil && pair.a.count == 0)
            #expect(pair.a.increment("n", now: 3_000) == .value(1))
            #expect(pair.a.deadline("n", now: 3_000) == .never && pair.a.count == 1)
            // What was added before and arrives late is of the old count.
            pair.both(now: 4_000) { #expect($0.shown("n", now: 4_000) == "1") }
            // A server that did not know the deadline goes on with a new one.
            #expect(pair.b.increment("n", by: 10, now: 3_500) == .value(10))
            pair.both(now: 4_000) { #expect($0.shown("n", now: 4_000) == "11") }
        }
    }

    /// Additions of before the deadline, of which another server had not heard when it began anew, do not come back
    /// when their actor adds again.
    @Test(arguments: [true, false]) func anExpiredPartIsCutWhereItsActorAddsAgain(_ isSwapped: Bool) {
        CounterTests.with { pair in
            let (a, b) = isSwapped ? (pair.b, pair.a) : (pair.a, pair.b)
            a.increment("n", by: 5, now: 1_000)
            a.expire("n", at: 2_000, now: 1_000)
            a.copy(to: b)
            b.increment("n", by: 100, now: 1_500)
            #expect(a.increment("n", now: 3_000) == .value(1))
            a.copy(to: b)
            #expect(b.shown("n", now: 3_400) == "1")
            #expect(b.increment("n", by: 10, now: 3_500) == .value(11) && b.shown("n", now: 3_500) == "11")
            #expect(b.increment("n", now: 3_600) == .value(12))
            pair.both(now: 4_000) { #expect($0.shown("n", now: 4_000) == "12") }
        }
    }

    /// Both begin anew: whichever of the two zeros wins, only what was added afterwards counts.
    @Test(arguments: [true, false]) func bothBeginAnewAfterAnExpiry(_ isSwapped: Bool) {
        CounterTests.with { pair in
            let (a, b) = isSwapped ? (pair.b, pair.a) : (pair.a, pair.b)
            a.increment("n", by: 5, now: 1_000)
            b.increment("n", by: 7, now: 1_000)
            a.expire("n", at: 2_000, now: 1_000)
            a.copy(to: b)
            b.copy(to: a)
            a.increment("n", by: 100, now: 1_900)
            b.increment("n", by: -1_000, now: 1_900)
            #expect(a.increment("n", now: 2_100) == .value(1) && b.increment("n", by: 10, now: 2_100) == .value(10))
            pair.both(now: 3_000) { #expect($0.shown("n", now: 3_000) == "11") }
        }
    }

    /// What was cut by an expiry counts on top of a value that was written without knowledge of that expiry.
    @Test func whatACutTookCountsWhereNothingHadExpired() {
        CounterTests.with { pair in
            pair.a.increment("n", by: 5, now: 1_000)
            pair.a.copy(to: pair.b)
            pair.a.expire("n", at: 2_000, now: 1_000)
            pair.a.increment("n", by: 100, now: 1_500)
            pair.b.set("n", "50", now: 2_500)
            #expect(pair.a.increment("n", now: 3_000) == .value(1))
            pair.both(now: 4_000) { #expect($0.shown("n", now: 4_000) == "151") }
        }
    }

    @Test func aPartThatWasCutIsReadAsItWasWritten() {
        var part = CounterPart(begin: 3, at: 1_000)
        part.add(5, now: 1_000, expired: 0, seq: 3)
        part.add(7, now: 1_500, expired: 1_500, seq: 4)
        #expect(part.earlier == CounterPart.Earlier(sum: 5, at: 1_000, last: 3) && part.sum == 12)
        part.add(1, now: 1_400, expired: 1_500, seq: 6)
        #expect(part.earlier?.last == 3 && part.at == 1_500 && part.sum == 13)
        part.with { bytes in
            let name: [UInt8] = [0xFF, 0, Companion.partKind, 1] + [UInt8](repeating: 0, count: Companion.uidBytes)
            name.withUnsafeBytes { name in
                func read(_ count: Int) -> CounterPart? {
                    let record = Record.create(
                        key: ByteView(name), RecordExtension(deadline: 0), value: ByteView(bytes.start, count), ms: 9,
                        origin: 0, seq: 6)
                    defer { record.release() }
                    return CounterPart(record)
                }
                #expect(bytes.count == CounterPart.cutBytes && read(bytes.count) == part)
                for count in 0..<bytes.count where count != CounterPart.bytes { #expect(read(count) == nil) }
            }
        }
    }

    @Test func whatIsAddedToATextStaysHidden() {
        CounterTests.with { pair in
            pair.a.increment("n", by: 5, now: 1_000)
            pair.b.set("n", "text", now: 2_000)
            pair.both(now: 3_000) { third in
                #expect(third.shown("n", now: 3_000) == "text" && third.increment("n", now: 3_000) == .notAnInteger)
                third.set("n", "3", now: 3_001)
                #expect(third.shown("n", now: 3_001) == "3")
            }
        }
    }

    @Test func sumsBeyond64BitsEndAtTheLimit() {
        CounterTests.with { pair in
            pair.a.increment("n", by: .max, now: 1_000)
            pair.b.increment("n", by: .max, now: 1_000)
            pair.both(now: 2_000) { third in
                #expect(third.shown("n", now: 2_000) == "\(Int64.max)")
                #expect(third.increment("n", now: 2_000) == .overflow)
                #expect(third.increment("n", by: -1, now: 2_000) == .overflow)
                third.set("n", "0", now: 2_001)
                #expect(third.increment("n", by: -1, now: 2_001) == .value(-1))
            }
        }
    }

    /// A part is deleted by its actor, once all know what took it; then the rest may go; then it begins anew.
    @Test func partsGoWithTheirKey() {
        CounterTests.with { pair in
            let rule = PartRule(mayBury: { $0 == pair.a.own })
            pair.a.increment("n", by: 5, now: 1_000)
            pair.a.remove("n", now: 1_001)
            #expect(pair.a.sweepTombstones(budget: 10) { _ in true } == 0)
            // Its taking is not known everywhere.
            pair.a.sweepLeftovers(budget: 10, parts: rule) { _, _ in false }
            #expect(pair.a.storedCount == 1 && pair.a.tombstoneCount == 1)
            pair.a.copy(to: pair.b)
            // Not this one's to delete.
            pair.b.sweepLeftovers(budget: 10, parts: rule.of(pair.b.own)) { _, _ in true }
            #expect(pair.b.storedCount == 1)
            pair.a.sweepLeftovers(budget: 10, parts: rule) { _, _ in true }
            #expect(pair.a.storedCount == 0 && pair.a.tombstoneCount == 2)
            pair.a.copy(to: pair.b)
            #expect(pair.b.tombstoneCount == 2 && pair.b.shown("n", now: 2_000) == nil)
            for store in [pair.a, pair.b] {
                // First the part's, then the key's.
                for _ in 0..<3 { store.sweepTombstones(budget: 10) { _ in true } }
                #expect(store.tombstoneCount == 0 && store.storedCount == 0)
                store.checkInvariants()
            }
            #expect(pair.a.increment("n", now: 3_000) == .value(1))
            pair.a.copy(to: pair.b)
            #expect(pair.b.shown("n", now: 3_000) == "1")
        }
    }

    /// A tombstone that has taken a part stays until that has come, and gone, everywhere.
    @Test func whatTookAPartWaitsForIt() {
        CounterTests.with { pair in
            pair.a.increment("n", by: 5, now: 1_000)
            pair.a.remove("n", now: 1_001)
            Bytes("n").withBytes { _ = pair.b.merge(pair.a.find(pair.a.key($0))!) }
            let unknown = PartRule(isKnown: { _, _ in false })
            #expect(pair.b.sweepTombstones(budget: 10, parts: unknown) { _ in true } == 0)
            pair.a.copy(to: pair.b)
            #expect(pair.b.shown("n", now: 2_000) == nil)
        }
    }

    @Test func aMalformedExtensionIsRefused() {
        var taken = TakenSums()
        taken.raise(ActorUID(server: 7, index: 1), seq: 9, sum: -3)
        taken.raise(ActorUID(server: 5, index: 0), seq: 2, sum: 1 << 70)
        taken.raise(before: 1_000)
        let version = Version(ms: 5, uid: ActorUID(server: 7, index: 1), seq: 3)
        for version in [nil, version] {
            let made = RecordExtension(deadline: 77, version: version, taken: taken)
            var bytes = [UInt8](repeating: 0, count: made.byteCount)
            bytes.withUnsafeMutableBytes { made.write(to: $0.baseAddress!) }
            bytes.withUnsafeBytes {
                #expect(RecordExtension.isValid($0) && RecordExtension(reading: $0.baseAddress!) == made)
                #expect(RecordExtension.byteCount(at: $0.baseAddress!) == made.byteCount)
                for count in 0..<made.byteCount {
                    #expect(!RecordExtension.isValid(UnsafeRawBufferPointer(rebasing: $0[..<count])))
                }
            }
            // Unsorted, and a sum that nobody can have added up.
            var unsorted = bytes
            let first = made.byteCount - 64
            unsorted[first] = 0xFF
            #expect(!unsorted.withUnsafeBytes { RecordExtension.isValid($0) })
            bytes[made.byteCount - 1] = 0x40
            #expect(!bytes.withUnsafeBytes { RecordExtension.isValid($0) })
        }
    }
}

extension PartRule {
    fileprivate func of(_ uid: ActorUID) -> PartRule { PartRule(isKnown: isKnown, mayBury: { $0 == uid }) }
}
