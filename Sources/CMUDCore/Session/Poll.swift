// What a session looks at again and again, and how often (docs/cmud/design.md 7). Values, any thread.

import KVBase

enum Poll: CaseIterable {
    case room, tells, building, beat, own, gifts, problem, score, claim

    /// Milliseconds after the arrival, and after each time it is done.
    var times: (first: Millis, every: Millis) {
        switch self {
        case .room, .tells: (1_000, 1_000)
        case .building: (500, 3_000)
        case .beat, .own: (2_500, 5_000)
        case .gifts: (5_000, 5_000)
        case .problem: (3_000, 3_000)
        case .score, .claim: (60_000, 60_000)
        }
    }

    /// A sign of life that others wait for keeps its pace when nobody types.
    var isSteady: Bool { self == .beat }

    /// Nobody typed for so long, and nothing is worked on: polls are three times as far apart.
    static let idleMillis: Millis = 120_000
    static let idleFactor: Millis = 3
    /// The room is looked at once a second for each so many people who were heard of.
    static let peopleASecond = 25

    func interval(people: Int, isIdle: Bool) -> Millis {
        let crowd = self == .room ? Millis(people / Poll.peopleASecond) * 1_000 : 0
        return max(times.every, crowd) * (isIdle && !isSteady ? Poll.idleFactor : 1)
    }
}
