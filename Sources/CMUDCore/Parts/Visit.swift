// What a session was when it began, for the summary at its end. A part of `GameSession`; on its thread.

import KVBase

struct Visit {
    private var began: Moment
    private var firstRank = Rank.undergraduate
    private var firstEarned: Int64 = 0
    private var wasGreeted = false

    init(_ moment: Moment) { began = moment }

    /// The welcome was said: news may follow.
    var isWelcomed: Bool { wasGreeted }
    var rankAtStart: Rank { firstRank }

    mutating func arrive(_ moment: Moment, _ rank: Rank, earned: Int64) {
        (began, firstRank, firstEarned) = (moment, rank, earned)
    }

    mutating func welcome() { wasGreeted = true }

    func seconds(now: Millis) -> Int64 { (now - began.steady) / 1_000 }
    func earned(of total: Int64) -> Int64 { total - firstEarned }

    func checkInvariants(now: Millis, rank: Rank) {
        check(began.steady <= now)
        check(!wasGreeted || firstRank <= rank)
    }
}
