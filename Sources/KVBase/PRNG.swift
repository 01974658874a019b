// A small seedable generator for tests, jitter and simulation. Not for secrets. A value: use from one thread at a time.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): 64 bits of state, one seed
/// gives one sequence on every machine. O(1) per number.
@usableFromInline package struct PRNG: RandomNumberGenerator, Sendable {
    @usableFromInline var state: UInt64

    package init(seed: UInt64) { state = seed }

    @inlinable
    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z &>> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z &>> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z &>> 31)
    }

    /// A number in `0 ..< bound`, without division (Lemire's multiply-high). `bound` must be positive.
    @inlinable
    package mutating func below(_ bound: Int) -> Int {
        precondition(bound > 0)
        return Int(next().multipliedFullWidth(by: UInt64(bound)).high)
    }

    /// True with probability `p` in `0...1`.
    @inlinable
    package mutating func chance(_ p: Double) -> Bool { Double(next() &>> 11) * 0x1p-53 < p }

    /// An independent generator derived from this one, so that parts of a test do not disturb each other's sequence.
    package mutating func fork() -> PRNG { PRNG(seed: next()) }
}
