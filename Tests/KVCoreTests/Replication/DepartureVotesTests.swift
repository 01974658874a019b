// Whose word counts when servers say of another one that it is gone.

import KVBase
import Testing

@testable import KVCore

@Suite struct DepartureVotesTests {
    @Test func moreThanHalfDecideAfterThreeSeconds() {
        var votes = DepartureVotes()
        for now: Millis in [0, 3_000] {
            votes.note(9, by: 1, at: now)
            votes.note(9, by: 2, at: now)
        }
        #expect(!votes.isAgreed(9, voters: [1, 2], electorate: 3, 2_999))
        #expect(votes.isAgreed(9, voters: [1, 2], electorate: 3, 3_000))
        #expect(!votes.isAgreed(9, voters: [1, 2], electorate: 4, 3_000))
        #expect(!votes.isAgreed(9, voters: [1], electorate: 2, 3_000))
    }

    @Test func aVoteStandsAsLongAsItIsRepeated() {
        var votes = DepartureVotes()
        for now: Millis in [0, 4_000, 9_000] { votes.note(9, by: 1, at: now) }
        #expect(!votes.stands(9, by: 1, forMillis: 10_000, 9_999))
        #expect(votes.stands(9, by: 1, forMillis: 10_000, 10_000))
        #expect(!votes.stands(9, by: 2, forMillis: 0, 10_000) && !votes.stands(8, by: 1, forMillis: 0, 10_000))
        votes.note(9, by: 1, at: 19_001)
        #expect(!votes.stands(9, by: 1, forMillis: 10_000, 20_000), "it was silent for ten seconds")
    }

    /// One that says it of very many takes away nobody's vote but its own.
    @Test func votesAreNotLostByAnothersMany() {
        var votes = DepartureVotes()
        for round in 0..<4 {
            let now = Millis(round) * 1_000
            votes.note(9, by: 1, at: now)
            votes.note(9, by: 2, at: now)
            for subject: UInt64 in 100..<300 { votes.note(subject, by: 3, at: now) }
            votes.checkInvariants()
        }
        #expect(votes.isAgreed(9, voters: [1, 2, 3], electorate: 3, 3_000))
    }
}
