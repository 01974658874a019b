// Turns an interval of own writes into a segment, in slices: coalesces by reading the current winners. Owned by one
// actor.

import KVBase

/// Walks the journal from `from + 1` to `target`. Each key goes in once, with its current winner, at the first of its
/// writes, so the interval may be cut anywhere and is still closed (docs/replication.md 4.2).
struct SegmentBuilder {
    let from: UInt64
    private let target: UInt64
    private var last: UInt64
    private var entries = DeltaEntries()
    /// Hashes of keys that went in before the last of their writes was reached; empty while no key is overwritten.
    private var coalesced = HashSet64()
    private let bytesMax: Int
    private let dotsMax: UInt64
    /// A record above it begins a segment, which ends with the write that made it: all earlier ones to its key would
    /// bring it once more.
    private let largeBytes: Int
    /// The next write's record is such a one.
    private var isAtLarge = false
    /// The write that made the large record that was taken; 0 if there is none.
    private var largeSeq: UInt64 = 0
    /// The entries as bytes, made in the same slices; nil where no other server gets them.
    private var section: EncodedSection?

    init(
        from: UInt64, target: UInt64, bytesMax: Int, dotsMax: Int, largeBytes: Int = .max, encodes: Bool = false
    ) {
        (self.from, self.target, self.bytesMax, self.dotsMax) = (from, target, bytesMax, UInt64(dotsMax))
        self.largeBytes = largeBytes
        last = from
        if encodes { section = EncodedSection() }
    }

    private var hasLost = false

    /// Last write looked at.
    var reached: UInt64 { last }
    /// The journal lost writes that were still to be looked at: what was reached is closed, the rest takes a scan.
    var isOverrun: Bool { hasLost }

    var isFinished: Bool {
        isAtLarge || last >= target || otherBytes >= bytesMax || last &- from >= dotsMax || hasLost
    }

    /// Looks at up to `budget` writes; returns how many it looked at.
    mutating func advance(_ store: Store, budget: Int, planted: PlantedMistakes) -> Int {
        let own = store.ownOrigin
        let first = store.journalFirstSeq
        var left = budget
        let ahead: UInt64 = 16
        var behind = OverflowSet()
        while left > 0, !isFinished {
            let seq = last &+ 1
            if seq < first {
                // Skipping what the journal no longer knows would claim writes that were never sent.
                guard planted(.journalCutPastAck) else {
                    hasLost = true
                    break
                }
                last = min(first &- 1, target)
                left &-= 1
                continue
            }
            let (far, middle, near) = (seq &+ ahead, seq &+ ahead / 2, seq &+ ahead / 4)
            if far <= target {
                if !repeats(far, store) { store.prefetchSlot(store.journalHash(far)) }
                if !repeats(middle, store) {
                    behind.note(Int(middle), isDone: store.prefetchRecord(store.journalHash(middle)))
                }
                if behind.take(Int(near)) { store.prefetchOverflow(store.journalHash(near)) }
            }
            if !(seq > from &+ 1 && repeats(seq, store)) {
                if largeBytes != .max, stops(before: store.journalHash(seq), store) {
                    isAtLarge = true
                    break
                }
                take(store.journalHash(seq), seq, own, store, planted)
            }
            last = seq
            left &-= 1
        }
        return budget &- left
    }

    /// Whether write `seq` was to the hash of the write before it, as one hot key's are: every key of that hash went
    /// in, or had no part in either write, when the one before was looked at.
    @inline(__always)
    private func repeats(_ seq: UInt64, _ store: Store) -> Bool {
        seq > store.journalFirstSeq && store.journalHash(seq) == store.journalHash(seq &- 1)
    }

    /// Whether the segment ends here because a large record comes, or what one stands for is complete.
    private mutating func stops(before hash: UInt64, _ store: Store) -> Bool {
        if largeSeq > 0 { return last >= largeSeq }
        var seq: UInt64 = 0
        let own = store.ownOrigin
        store.records(hash) { record in
            if record.keyCount + record.contentCount > largeBytes {
                seq = max(seq, record.origin == own ? record.seq : last &+ 1)
            }
        }
        if seq > 0, entries.count > 0 { return true }
        largeSeq = seq
        // It goes in a frame of its own, which encodes it.
        if seq > 0 { section = nil }
        return false
    }

    /// All but a large record, which no bound can make smaller.
    private var otherBytes: Int {
        largeSeq > 0 ? entries.payloadBytes &- entries.largestBytes : entries.payloadBytes
    }

    private mutating func take(
        _ hash: UInt64, _ seq: UInt64, _ own: OriginIndex, _ store: Store, _ planted: PlantedMistakes
    ) {
        store.records(hash) { record in
            let isOwn = record.origin == own
            // A smaller own seq means that another key shares the hash: its write was not this one.
            if isOwn && record.seq < seq { return }
            if isOwn && record.seq == seq {
                if !coalesced.isEmpty && coalesced.contains(SegmentBuilder.identity(record)) { return }
            } else if !coalesced.insert(SegmentBuilder.identity(record)) {
                return
            }
            if planted(.skipClosure), !isOwn { return }
            if planted(.coalesceDropsLast), isOwn, record.seq != seq { return }
            entries.append(hash, record.retained())
            section?.append(record, store.origins)
            if let escort = store.escort(record, hash), !planted(.escortForgotten) {
                entries.append(escort.hash, escort.record.retained())
                section?.append(escort.record, store.origins)
            } else if record.isExtended, let main = store.escort(ofPart: record) {
                entries.append(main.hash, main.record.retained())
                section?.append(main.record, store.origins)
            }
        }
    }

    /// Tells keys apart even where their table hashes collide.
    private static func identity(_ record: Record) -> UInt64 {
        hashBytes(record.keyPointer, record.keyCount, seed: 0x636C_6F73_7572_6521)
    }

    /// The segment for what was walked. `cut` is the vector now.
    mutating func finish(origin: OriginIndex, cut: VersionVector) -> DeltaSegment {
        DeltaSegment(
            origin: origin, from: from, to: last, isPage: false, cut: cut, taking: entries.take())
    }

    /// The bytes of what `finish` returned. They must be taken while that is held.
    mutating func takeSection() -> EncodedSection? {
        defer { section = nil }
        return section
    }

    mutating func abandon() {
        section = nil
        entries.clear()
    }
}

/// A growing open-addressing set of key hashes. 0 is kept apart.
struct HashSet64 {
    private var slots: [UInt64] = []
    private var count = 0
    private var hasZero = false

    var isEmpty: Bool { count == 0 && !hasZero }

    func contains(_ hash: UInt64) -> Bool {
        if hash == 0 { return hasZero }
        guard count > 0 else { return false }
        var at = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[at] != 0 {
            if slots[at] == hash { return true }
            at = (at + 1) & (slots.count - 1)
        }
        return false
    }

    /// False if it was there.
    mutating func insert(_ hash: UInt64) -> Bool {
        if hash == 0 {
            defer { hasZero = true }
            return !hasZero
        }
        if contains(hash) { return false }
        if (count + 1) * 2 > slots.count { grow() }
        place(hash)
        count += 1
        return true
    }

    private mutating func place(_ hash: UInt64) {
        var at = Int(truncatingIfNeeded: hash) & (slots.count - 1)
        while slots[at] != 0 { at = (at + 1) & (slots.count - 1) }
        slots[at] = hash
    }

    private mutating func grow() {
        let old = slots
        slots = [UInt64](repeating: 0, count: max(64, old.count * 2))
        for hash in old where hash != 0 { place(hash) }
    }
}
