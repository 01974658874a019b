// The turn's budget: units, the table of shares, and that all of them together stay below a millisecond.

import KVTestTraits
import Testing

@testable import KVBase

@Suite(.blocking) struct TurnBudgetTests {
    private static let began: Nanos = 5_000_000_000

    private func begun() -> TurnBudget {
        var budget = TurnBudget()
        budget.begin(at: TurnBudgetTests.began)
        return budget
    }

    /// The deadline in microseconds of the turn, of a share that begins so many microseconds into it.
    private func end(
        _ budget: TurnBudget, _ share: TurnBudget.Share, adding: Bool = false, from micros: Int
    ) -> Int {
        let now = TurnBudgetTests.began + Nanos(micros) * 1000
        return Int((budget.deadline(for: share, adding: adding, now: now) - TurnBudgetTests.began) / 1000)
    }

    @Test func aBudgetIsSpentBehindItsLastUnit() {
        var budget = begun()
        budget.spend(TurnBudget.unitsMax)
        #expect(!budget.isSpent)
        budget.spend(1)
        #expect(budget.isSpent && budget.stopped == nil)
        // The same turn goes on, the next one has all again.
        budget.begin(at: TurnBudgetTests.began)
        #expect(budget.isSpent)
        budget.begin(at: TurnBudgetTests.began + 1)
        #expect(!budget.isSpent && budget.left == 2048)
    }

    @Test func whatIsCountedIsAQuarterOfAMicrosecond() {
        #expect(TurnBudget.units(entries: 300) == 200 && TurnBudget.units(entries: 1) == 0)
        #expect(TurnBudget.units(bytes: 128 * 1024) == 128 && TurnBudget.units(bytes: 1023) == 0)
        #expect(TurnBudget.unitsPerNewKey == 4)
    }

    @Test func stoppingSpendsAllAndTheFirstReasonStays() {
        var budget = begun()
        budget.stop(.memory)
        budget.stop(.time)
        #expect(budget.isSpent && budget.stopped == .memory)
        budget.begin(at: TurnBudgetTests.began + 1)
        #expect(!budget.isSpent && budget.stopped == nil)
        // One that is overdrawn stays so.
        budget.spend(5000)
        budget.stop(.time)
        #expect(budget.left == 2048 - 5000 && budget.stopped == .time)
    }

    @Test func sharesEndWhereTheTableSays() {
        var budget = begun()
        #expect(end(budget, .received, from: 10) == 600)
        #expect(end(budget, .received, adding: true, from: 10) == 250)
        #expect(end(budget, .waiting, from: 10) == 310)
        #expect(end(budget, .waiting, from: 400) == 600)
        #expect(end(budget, .waiting, adding: true, from: 100) == 350)
        #expect(end(budget, .waiting, from: 700) == 600, "is over as it begins: one session is run all the same")
        #expect(end(budget, .slice, from: 590) == 890)
        #expect(end(budget, .replication, from: 100) == 450)
        #expect(end(budget, .replication, from: 300) == 550)
        #expect(end(budget, .replicationServing, from: 100) == 200)
        #expect(end(budget, .replicationServing, from: 890) == 940, "never nothing")
        #expect(end(budget, .tending, from: 0) == 300)
        // Less for those that wait in a turn that has done enough, and for nobody else.
        budget.stop(.time)
        #expect(end(budget, .waiting, from: 100) == 200)
        #expect(end(budget, .waiting, from: 550) == 600)
        #expect(end(budget, .slice, from: 100) == 400 && end(budget, .replication, from: 100) == 450)
    }

    @Test func allSharesOfOneTurnStayBelowAMillisecond() {
        #expect(TurnBudget.latestEnd == 950_000)
        #expect(TurnBudget.latestEnd < TurnBudget.turnNanosMax)
        // The longest way through a turn, share by share, whatever is added and however busy.
        for adding in [false, true] {
            for isSpent in [false, true] {
                var budget = begun()
                if isSpent { budget.stop(.time) }
                let received = end(budget, .received, adding: adding, from: 0)
                let lastSession = max(received, end(budget, .waiting, adding: adding, from: received))
                let waiting = end(budget, .slice, from: lastSession)
                let replication = end(budget, .replication, from: waiting)
                #expect(replication < 1000, "adding \(adding), spent \(isSpent)")
            }
        }
        // What is tended begins only in a turn that leaves it room.
        #expect(TurnBudget.limit(.tending).end < TurnBudget.limit(.replication).end)
        for share in TurnBudget.Share.allCases {
            let limit = TurnBudget.limit(share)
            #expect(limit.endAdding <= limit.end && limit.mostSpent <= limit.most && limit.least <= limit.mostSpent)
        }
    }

    /// An actor without a loop has no turns: its clock ends nothing.
    @Test func aBudgetOfNoTurnHasNoEndByTheTurnsClock() {
        let budget = TurnBudget()
        let now: Nanos = 1 << 60
        #expect(!budget.isSpent)
        #expect(budget.deadline(for: .received, now: now) > now + 1_000_000_000)
        #expect(budget.deadline(for: .waiting, now: now) == now + 300_000)
        #expect(budget.deadline(for: .slice, now: now) == now + 300_000)
    }
}
