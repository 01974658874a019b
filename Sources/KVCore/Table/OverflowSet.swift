// Which of the lookups to come need the third step of prefetching. Value; one thread.

/// For loops that prefetch all the time instead of group by group: a bit for each of the next 64 lookups, by number.
struct OverflowSet {
    private var bits: UInt64 = 0

    /// Lookup `number` does or does not (`Store.prefetchRecord` returned true) need `Store.prefetchOverflow`.
    @inline(__always)
    mutating func note(_ number: Int, isDone: Bool) {
        bits |= (isDone ? 0 : 1) &<< UInt64(truncatingIfNeeded: number & 63)
    }

    /// Whether lookup `number` needs it; asked once.
    @inline(__always)
    mutating func take(_ number: Int) -> Bool {
        let bit: UInt64 = 1 &<< UInt64(truncatingIfNeeded: number & 63)
        defer { bits &= ~bit }
        return bits & bit != 0
    }
}
