// Which rate is the knee: what is tried next, and how much one try is believed. Pure, any thread.

/// Why a rate was not kept up with, the surest first.
enum Shortfall: String, Codable, CaseIterable {
    /// Replies were errors.
    case errors
    /// A thread of the server was busy all the time.
    case server
    /// This load generator was busy all the time.
    case driver
    /// Others had the processors: the server or this load generator waited for one.
    case machine
    /// Nobody was busy and nobody waited: the server's own tail, or the network's.
    case latency
    /// Nobody here was busy, and the server's process is not known.
    case unknown

    /// A higher rate would not be kept up with either.
    var isLimit: Bool { self == .errors || self == .server || self == .driver }
}

/// One try of a rate; a shortfall if it was not kept up with.
struct Trial {
    var shortfall: Shortfall?
}

struct KneeSearch {
    /// The greatest rate kept up with and why none above it was; nil where there is none such.
    struct Knee: Equatable {
        var rate: Double?
        var bound: Shortfall?
    }

    static let triesMax = 3
    static let stepsDownMax = 12
    /// Steps down in a row that others disturbed: a lower rate is no better then.
    static let disturbedStepsMax = 3
    static let growth = 4.0 / 3
    static let shrinking = 0.75

    var from: Double
    var rateMax: Double
    var refine: Int

    /// What disturbs a machine only ever makes a rate look worse, so one good try is believed. A bad one is repeated,
    /// and two of three decide; the shortfall is the surest of those seen, nil if the rate was kept up with.
    func decide(_ attempt: () throws -> Trial) rethrows -> Shortfall? {
        var bad: [Shortfall] = []
        for tries in 1...Self.triesMax {
            if let shortfall = try attempt().shortfall {
                bad.append(shortfall)
            } else if tries == 1 || tries - bad.count == 2 {
                return nil
            }
            if bad.count == 2 { break }
        }
        return Shortfall.allCases.first { bad.contains($0) }
    }

    /// Up by a third while the server keeps up. Where it does not and nobody was busy, the next higher rate is tried
    /// too: if that one is kept up with, the lower one was disturbed. Then down by a quarter until a rate is kept up
    /// with, or others disturb one after the other, and the interval is halved.
    func run(_ attempt: (Double) throws -> Trial) rethrows -> Knee {
        var good: Double?
        var bad: (rate: Double, shortfall: Shortfall)?
        var rate = from
        while rate <= rateMax {
            guard let shortfall = try decide({ try attempt(rate) }) else {
                (good, bad) = (rate, nil)
                rate *= Self.growth
                continue
            }
            if bad != nil { break }
            bad = (rate, shortfall)
            if shortfall.isLimit { break }
            rate *= Self.growth
        }
        guard var bad else { return Knee(rate: good) }
        var disturbed = 0
        for _ in 0..<Self.stepsDownMax where good == nil && disturbed < Self.disturbedStepsMax {
            let lower = bad.rate * Self.shrinking
            if let shortfall = try decide({ try attempt(lower) }) { bad = (lower, shortfall) } else { good = lower }
            disturbed = bad.shortfall == .machine ? disturbed + 1 : 0
        }
        for _ in 0..<refine {
            guard let known = good else { break }
            let middle = (known + bad.rate) / 2
            if let shortfall = try decide({ try attempt(middle) }) { bad = (middle, shortfall) } else { good = middle }
        }
        return Knee(rate: good, bound: bad.shortfall)
    }
}
