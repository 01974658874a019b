// What can be learnt, once a rank and for good: the second decision of the game. Pure values, any thread.

/// The raw value is the stored one.
package enum Subject: Int, CaseIterable, Sendable {
    case tuning, theory, care

    package var key: String {
        switch self {
        case .tuning: "tuning"
        case .theory: "theory"
        case .care: "care"
        }
    }

    /// What the first lesson is worth, in thousandths: of coins, of progress, of the chance that something breaks.
    var firstPermille: Int64 {
        switch self {
        case .tuning: 400
        case .theory: 200
        case .care: 40
        }
    }

    /// What `lessons` of them are worth: each adds half of what the one before added, so that a second subject is soon
    /// worth more than a third lesson in the first.
    package func permille(_ lessons: Int64) -> Int64 {
        (0..<max(0, min(lessons, 10))).reduce(0) { $0 + (firstPermille >> $1) }
    }

    /// What so many lessons do, in words.
    package func effect(_ lessons: Int64) -> String {
        let value = permille(lessons)
        switch self {
        case .tuning: return "\(value / 10) % more coins in a block"
        case .theory: return "\(value / 10) % more progress in a step"
        case .care: return "\(value / 10) of 100 steps fewer break something"
        }
    }

    /// The key or a beginning of it.
    package init?(word: String) {
        let wanted = word.lowercased()
        let found = Subject.allCases.filter { $0.key.hasPrefix(wanted) }
        guard !wanted.isEmpty else { return nil }
        if let exact = found.first(where: { $0.key == wanted }) {
            self = exact
        } else if found.count == 1 {
            self = found[0]
        } else {
            return nil
        }
    }
}
