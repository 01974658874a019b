// Who says of a server that can be heard that it is gone. A part of `Replica`; on its actor's thread.

import KVBase

/// One server's word, repeated while it says so.
struct DepartureVote: Sendable, Equatable {
    var subject: UInt64
    var voter: UInt64
    var since: Millis
    var at: Millis
}

/// One message decides nothing: a vote counts after it has stood for a while, and only together with others.
struct DepartureVotes {
    private static let votesMax = 64
    /// A vote that is not repeated is over.
    private static let standsMillis: Millis = 10_000
    /// From when on it counts.
    static let countsMillis: Millis = 3_000

    private var votes: [DepartureVote] = []

    /// To be told to siblings.
    var all: [DepartureVote] { votes }

    /// `voter` says so now. O(votes).
    mutating func note(_ subject: UInt64, by voter: UInt64, at now: Millis) {
        note(DepartureVote(subject: subject, voter: voter, since: now, at: now))
    }

    /// A sibling has heard it.
    mutating func note(_ vote: DepartureVote) {
        votes.removeAll { max($0.at, vote.at) - $0.at > DepartureVotes.standsMillis }
        if let place = votes.firstIndex(where: { $0.subject == vote.subject && $0.voter == vote.voter }) {
            votes[place].since = min(votes[place].since, vote.since)
            votes[place].at = max(votes[place].at, vote.at)
            return
        }
        if votes.count >= DepartureVotes.votesMax {
            // Its own, if it has one: who says it of very many takes away nobody else's.
            votes.remove(at: votes.firstIndex { $0.voter == vote.voter } ?? 0)
        }
        votes.append(vote)
    }

    /// Whether `voter` has said so for so long, and says so still. O(votes).
    func stands(_ subject: UInt64, by voter: UInt64, forMillis length: Millis, _ now: Millis) -> Bool {
        votes.contains { $0.subject == subject && $0.voter == voter && now - $0.since >= length }
    }

    /// Whether more than half of `electorate` say so of the subject, each for long enough. `voters` are those of the
    /// electorate that can vote. O(votes).
    func isAgreed(_ subject: UInt64, voters: [UInt64], electorate: Int, _ now: Millis) -> Bool {
        let count = votes.count {
            $0.subject == subject && voters.contains($0.voter) && now - $0.at <= DepartureVotes.standsMillis
                && now - $0.since >= DepartureVotes.countsMillis
        }
        return 2 * count > electorate
    }

    func checkInvariants() { check(votes.count <= DepartureVotes.votesMax && votes.allSatisfy { $0.since <= $0.at }) }
}
