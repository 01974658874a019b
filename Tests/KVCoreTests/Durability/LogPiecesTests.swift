// What is more than a turn may bear comes into a log over several turns: what is there, and what is claimed, then.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct LogPiecesTests {
    /// Own writes in pieces of so many bytes, each chunk one that could be the last; `between` comes between two calls.
    private func log(_ log: TestLog, after from: UInt64 = 0, piecewise bytes: Int, between: (Int) -> Void) -> Int {
        var pieces = 0
        while true {
            let through = log.writer.own(log.store, after: from, bytesMax: bytes)
            pieces += 1
            seal(log)
            if through != nil { return pieces }
            between(pieces)
        }
    }

    private func seal(_ log: TestLog) {
        guard !log.writer.isOpen else { return }
        log.change(0) { $0 += Array(log.writer.seal()) }
        log.writer.clear()
    }

    @Test(arguments: [64, 500, 3_000, 1 << 20]) func itIsClaimedWithItsLastPiece(_ bytes: Int) throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        for i in 0..<40 { log.store.set("key \(i % 30)", String(repeating: "v", count: i * 50), now: 1_000) }
        let pieces = self.log(log, piecewise: bytes) { _ in }
        #expect(pieces > (bytes < 4_000 ? 10 : 0))
        let back = try Comeback(origins, [log])
        #expect(back.seen(log.uid) == 40)
        #expect(back.store.digestAll == log.store.digestAll)
        #expect(back.findings == [])
        guard pieces > 1 else { return }
        log.change(0) { $0.removeLast(3) }
        #expect(try Comeback(origins, [log]).seen(log.uid) == 0, "without the end nothing is claimed")
    }

    @Test func aWriteThatIsOverwrittenBetweenTwoPiecesIsThereAsItIsThen() throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        for i in 0..<20 { log.store.set("key \(i)", String(repeating: "v", count: 400), now: 1_000) }
        var overwritten = 0
        _ = self.log(log, piecewise: 900) { _ in
            log.store.set("key \(19 - overwritten)", "later", now: 1_000)
            overwritten += 1
        }
        #expect(overwritten > 3)
        let back = try Comeback(origins, [log])
        #expect(back.seen(log.uid) == 20, "what came later is of the next interval")
        for i in 0..<20 { #expect(back.store.shown("key \(i)", now: 1_000) != nil, "key \(i)") }
    }

    /// A value that is overwritten while it is put in stays as it was; a file then holds a number behind its interval.
    @Test func aValueThatIsOverwrittenWhileItIsPutInIsWhole() throws {
        let origins = OriginTable()
        let log = TestLog(origins)
        log.store.set("large", String(repeating: "v", count: 30_000), now: 1_000)
        let pieces = self.log(log, piecewise: 5_000) { piece in log.store.set("large", "now \(piece)", now: 1_000) }
        #expect(pieces == 7)
        let back = try Comeback(origins, [log])
        #expect(back.seen(log.uid) == 1 && back.store.shown("large", now: 1_000)?.count == 30_000)
    }

    /// The journal may forget what is still to come: that is not claimed.
    @Test func whatTheJournalForgotMeanwhileIsNotClaimed() throws {
        let origins = OriginTable()
        for isLarge in [false, true] {
            let log = TestLog(origins, server: isLarge ? 8 : 9)
            for i in 0..<20 {
                let count = isLarge && i == 4 ? 9_000 : 400
                log.store.set("key \(i)", String(repeating: "v", count: count), now: 1_000)
            }
            _ = self.log(log, piecewise: 2_100) { piece in if piece == 2 { log.store.trimJournal(through: 16) } }
            let back = try Comeback(origins, [log])
            #expect(back.seen(log.uid) == 0)
            #expect(back.state.newest[origins.index(of: log.uid)!] == 20)
            #expect(back.store.shown("key 14", now: 1_000) == nil && back.store.shown("key 17", now: 1_000) != nil)
        }
    }

    /// Small and large values by turns: a page for each run of small ones, and one for each large one.
    @Test(arguments: [1_000, 5_000, 100_000]) func whatOthersWroteIsClaimedWithItsLastValue(_ bytes: Int) throws {
        let origins = OriginTable()
        let (own, other) = (TestLog(origins), TestLog(origins, server: 8))
        for i in 0..<30 {
            other.store.set("key \(i)", String(repeating: "v", count: i % 7 == 2 ? 20_000 : 90), now: 1_000)
        }
        let segment = other.segment()
        var (done, calls) = (0, 0)
        while done < segment.count {
            done = own.writer.learned(segment, from: done, bytesMax: 500, valueBytesMax: bytes)
            calls += 1
            let isOpen = own.writer.isOpen
            seal(own)
            guard !isOpen else { continue }
            let back = try Comeback(origins, [own])
            #expect(back.findings == [] && back.store.count == done)
            #expect(back.seen(other.uid) == (done == 30 ? 30 : 0))
        }
        #expect(calls > (bytes < 20_000 ? 4 * 20_000 / max(bytes, 4_096) : 5))
        let back = try Comeback(origins, [own])
        #expect(back.store.digestAll == other.store.digestAll)
    }
}
