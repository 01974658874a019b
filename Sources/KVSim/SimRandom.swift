// The simulator's randomness: one generator per concern, all from one seed. Used by SimWorld only, one thread.
package import KVBase

/// Separate streams keep a seed's faults the same when, say, the workload draws one number more.
package struct SimRandom {
    package var options: PRNG
    package var network: PRNG
    package var workload: PRNG
    package var faults: PRNG
    package var clocks: PRNG
    package var identity: PRNG
    package var lies: PRNG
    /// Of its own root, so that worlds without deadlines stay what they were.
    package var expiry: PRNG
    package var counts: PRNG
    package var disks: PRNG

    package init(seed: UInt64) {
        var root = PRNG(seed: seed ^ 0x6B76_642D_7369_6D21)
        options = root.fork()
        network = root.fork()
        workload = root.fork()
        faults = root.fork()
        clocks = root.fork()
        identity = root.fork()
        lies = root.fork()
        expiry = PRNG(seed: seed ^ 0x6578_7069_7265_7321)
        counts = PRNG(seed: seed ^ 0x636F_756E_7465_7221)
        disks = PRNG(seed: seed ^ 0x6469_736B_7321_2121)
    }
}

extension PRNG {
    /// A number in the closed range, uniformly.
    package mutating func within(_ range: ClosedRange<Int>) -> Int { range.lowerBound + below(range.count) }

    /// One of `choices`, uniformly.
    package mutating func pick<T>(_ choices: [T]) -> T { choices[below(choices.count)] }

    /// A waiting time with mean `mean`: exponential by inversion of a coarse table, never 0 and at most 8 times the
    /// mean. Integer arithmetic only, so that every machine draws the same.
    package mutating func interval(mean: SimTime) -> SimTime {
        // Sum of geometric trials: the position of the first hit in a Bernoulli(1/8) sequence, in eighths of the mean.
        var eighths = 1
        while eighths < 64, below(8) != 0 { eighths += 1 }
        return max(1, mean * SimTime(eighths) / 8 + SimTime(below(max(1, Int(mean / 8)))))
    }
}

/// Order-dependent 64-bit fold of everything that happens, printed at the end: same seed, same fold.
package struct SimTrace {
    package private(set) var hash: UInt64 = 0x9E37_79B9_7F4A_7C15

    package init() {}

    package mutating func fold(_ value: UInt64) { hash = mix64(hash ^ value, 0xA076_1D64_78BD_642F) &+ value }

    package mutating func fold(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress else { return fold(0) }
        fold(hashBytes(base, bytes.count, seed: 0x5EED))
    }
}
