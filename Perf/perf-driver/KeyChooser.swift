// Which key the next request is about: uniform, Zipf, latest, one hot key, sequential, unique. One engine's thread.

import Foundation
import KVBase

enum Distribution: Equatable, Sendable {
    case uniform
    /// Exponent; YCSB's is 0.99.
    case zipf(Double)
    /// Zipf from the newest key backwards (YCSB D).
    case latest(Double)
    case hot
    case sequential

    init?(_ text: String) {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let hasExponent = parts.count == 2
        guard let exponent = hasExponent ? Double(parts[1]) : 0.99, exponent > 0, exponent <= 10 else { return nil }
        switch parts[0] {
        case "zipf": self = .zipf(exponent)
        case "latest": self = .latest(exponent)
        case "uniform" where !hasExponent: self = .uniform
        case "hot" where !hasExponent: self = .hot
        case "sequential" where !hasExponent: self = .sequential
        default: return nil
        }
    }

    var text: String {
        switch self {
        case .uniform: "uniform"
        case .zipf(let exponent): "zipf:\(exponent)"
        case .latest(let exponent): "latest:\(exponent)"
        case .hot: "hot"
        case .sequential: "sequential"
        }
    }
}

/// Ranks 1...n with probability proportional to rank^-s, in constant time and memory for any n and s: W. Hörmann and
/// G. Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions", 1996.
struct Zipf {
    private let exponent: Double
    private let n: Double
    private let integralFirst: Double
    private let integralLast: Double
    private let threshold: Double

    init(n: Int, exponent: Double) {
        self.exponent = exponent
        self.n = Double(n)
        integralFirst = Self.integral(1.5, exponent) - 1
        integralLast = Self.integral(Double(n) + 0.5, exponent)
        threshold = 2 - Self.inverse(Self.integral(2.5, exponent) - pow(2, -exponent), exponent)
    }

    private static func integral(_ x: Double, _ s: Double) -> Double {
        s == 1 ? log(x) : (pow(x, 1 - s) - 1) / (1 - s)
    }

    private static func inverse(_ y: Double, _ s: Double) -> Double {
        s == 1 ? exp(y) : pow(max(0, 1 + y * (1 - s)), 1 / (1 - s))
    }

    func rank(_ random: inout PRNG) -> Int {
        while true {
            let u = integralLast + Double(random.next() >> 11) * 0x1p-53 * (integralFirst - integralLast)
            let x = Self.inverse(u, exponent)
            let k = min(max((x + 0.5).rounded(.down), 1), n)
            if k - x <= threshold || u >= Self.integral(k + 0.5, exponent) - pow(k, -exponent) { return Int(k) }
        }
    }
}

/// Indices of keys. Inserted keys follow the loaded ones and those of earlier runs, n together: engine e of E inserts
/// n + e, n + e + E, …
struct KeyChooser {
    let distribution: Distribution
    let keys: Int
    private let zipf: Zipf?
    /// Odd and coprime to `keys`: spreads neighbouring ranks over the key space, so that hot keys are not neighbours.
    private let stride: Int
    private var next: Int
    private let step: Int
    private let first: Int
    private var inserted = 0
    private var nextInsert: Int
    private let end: Int

    init(_ workload: Workload, engine: Int, engines: Int) {
        distribution = workload.distribution
        keys = workload.keys
        switch workload.distribution {
        case .zipf(let s), .latest(let s): zipf = Zipf(n: workload.keys, exponent: s)
        default: zipf = nil
        }
        func gcd(_ a: Int, _ b: Int) -> Int { b == 0 ? a : gcd(b, a % b) }
        var stride = max(1, Int(Double(keys) * 0.618)) | 1
        while gcd(stride, keys) != 1 { stride += 2 }
        self.stride = stride
        next = engine
        step = engines
        first = engine
        nextInsert = keys + workload.firstInsert + engine
        end = workload.keysEnd
    }

    @inline(__always)
    mutating func existing(_ random: inout PRNG) -> Int {
        switch distribution {
        case .uniform: return random.below(keys)
        case .zipf: return (zipf.unsafelyUnwrapped.rank(&random) &- 1) &* stride % keys
        case .latest:
            // Ranks count backwards from this engine's newest insert, then through the loaded keys.
            let rank = zipf.unsafelyUnwrapped.rank(&random) - 1
            return rank < inserted ? nextInsert - (rank + 1) * step : keys - 1 - (rank - inserted) % keys
        case .hot: return 0
        case .sequential:
            let index = next
            next += step
            if next >= keys { next = first }
            return index
        }
    }

    /// The next insert would have too many digits.
    @inline(__always)
    var isUsedUp: Bool { nextInsert >= end }

    /// What a later run has to begin behind: no insert of this engine was at or above it.
    var insertsEnd: Int { nextInsert - first - keys }

    mutating func fresh() -> Int {
        let index = nextInsert
        inserted += 1
        nextInsert += step
        return index
    }
}
