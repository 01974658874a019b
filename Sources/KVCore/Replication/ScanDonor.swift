// The giving side of a catch-up scan: walks the table in slices and offers what the asker lacks, chunk by chunk.

import KVBase

/// One scan for one asker. A chunk number stands for a fixed range of the table: a lost one is built again from where
/// it began to where it ended, so nothing is kept for resending but cursors (docs/replication.md 7.3), and the asker
/// may have taken either copy.
final class ScanDonor {
    /// A donor that was not asked for this long forgets the scan.
    static let idleMillisMax: Millis = 10_000
    /// The same where a connection may come back and the scan go on.
    static let idleMillisMaxConnected: Millis = 60_000
    /// A chunk that arrived at the other machine this long ago and is still asked for is sent again.
    static let patienceConnected: Millis = 15_000
    private static let entriesPerWalk = 8
    /// A chunk may pass its size by so much, or a sixteenth, before it is cut between two entries.
    private static let overshootBytes = 64 * 1024
    /// A chunk that is built again must end where it did, but may have grown to so many times a chunk's size, what it
    /// may be over, and one value.
    private static let grownMax = 2

    let session: UInt32
    /// For a remote asker, the actor that asked: pages go to it.
    let askerIndex: Int
    private let filter: VersionVector
    let everything: Bool
    private var startVector: VersionVector
    private var askedAt: Millis
    let startedAt: Millis
    /// What was on the way when the connection was lost has to go again.
    private var isBroken = false
    /// Chunks below are merged by the asker; it may be sent chunks below `limit`.
    private var acked: UInt64 = 0
    private var limit: UInt64 = 1

    /// Where each chunk from `acked` on begins, as far as that is settled.
    private var starts: [UInt64]
    private var cursor: WalkCursor
    /// Number of the chunk being built, or waiting to be sent when `isBuilt`.
    private var number: UInt64 = 0
    private var isBuilt = false
    private var isEnd = false
    private var wasLastSent = false
    private var sentAt: Millis = 0

    // Encoded for another server, by reference for a sibling.
    private let isLocal: Bool
    private var encoded = OutputBuffer()
    private var encoder = EntryEncoder()
    private var entries = DeltaEntries()
    /// Of the step under way. Borrowed: good until the store changes.
    private var offered: [Record] = []
    private var hasGrown = false
    /// Bytes of the chunk that is built, and of those sent and not merged yet as far as known.
    private var builtBytes = 0
    private var largestBytes = 0
    private var unacked: [Int] = []

    init(
        session: UInt32, askerIndex: Int, filter: VersionVector, everything: Bool, start: VersionVector,
        isLocal: Bool, at now: Millis
    ) {
        self.session = session
        self.askerIndex = askerIndex
        self.filter = filter
        self.everything = everything
        startVector = start
        self.isLocal = isLocal
        (askedAt, startedAt) = (now, now)
        cursor = WalkCursor()
        starts = [cursor.position]
    }

    deinit {
        encoded.deallocate()
        entries.clear()
    }

    /// The vector that the scan proves: what had been seen when it began.
    var start: VersionVector { startVector }
    var lastAskAt: Millis { askedAt }
    /// Number of the chunk being built, or waiting to be sent.
    var building: UInt64 { number }
    /// It is the last one.
    var isLast: Bool { isEnd }
    /// The last chunk went out.
    var isDone: Bool { wasLastSent }
    /// The chunk cannot be sent any more. The scan stands still and its asker asks anew after a while, under a new
    /// number: another donor for this one would cut its chunks differently.
    var isOutgrown: Bool { hasGrown }
    /// Entries of the built chunk for another server, and the latest stamp among them.
    var entryCount: Int { encoder.count }
    var millisMax: Millis { encoder.millisMax }

    /// For a planted mistake: the scan proves a vector that is newer than the state it began with.
    func pretend(_ start: VersionVector) { startVector = start }

    /// The built chunk's entries for a sibling.
    func takeEntries() -> DeltaEntries { entries.take() }

    /// Whether a slice of walking would bring the next chunk nearer.
    var wantsWork: Bool { !wasLastSent && !isBuilt && !hasGrown && number < limit }

    /// Whether a chunk is ready to go. A large one waits until the asker has merged those before it: what a link holds
    /// is bounded, and it would be dropped.
    func isReady(unackedBytesMax: Int) -> Bool {
        guard isBuilt, !wasLastSent, !hasGrown, !isBroken, number < limit else { return false }
        return isLocal || unacked.isEmpty || unacked.reduce(builtBytes, +) <= unackedBytesMax
    }

    /// The asker's state: what it merged, how far it may be sent to. A chunk that it should have had by now is built
    /// again.
    func asked(next: UInt64, credit: UInt64, at now: Millis, patience: Millis) -> Bool {
        askedAt = now
        guard !hasGrown, next >= acked, next - acked <= UInt64(starts.count) else { return false }
        starts.removeFirst(Int(next - acked))
        unacked.removeFirst(min(unacked.count, Int(next - acked)))
        acked = next
        limit = next + credit
        if next > number, !wasLastSent { skip(to: next) }
        let position = isBuilt && !wasLastSent ? number : number + (wasLastSent ? 1 : 0)
        if next >= position { isBroken = false }
        if credit > 0, next < position, isBroken || patience != .max && now - sentAt > patience,
            let from = starts.first
        {
            isBroken = false
            rewind(to: next, from)
            return true
        }
        return false
    }

    func linkBroke() { isBroken = true }

    /// How much of the table has been walked.
    var percent: Int { wasLastSent || isEnd ? 100 : Int(cursor.position * 100 / WalkCursor.positions) }

    /// All that was sent is with the other machine.
    func arrived(at now: Millis) { sentAt = now }

    /// The asker took first copies of chunks that were being built again.
    private func skip(to next: UInt64) {
        number = next
        isBuilt = false
        isEnd = false
        clear()
        if let from = starts.first { cursor = WalkCursor(position: from) } else { wasLastSent = true }
    }

    /// Where the chunk being built must end because it was sent before; nil if it may end anywhere.
    private var settledEnd: UInt64? {
        let next = Int(number - acked) + 1
        return next < starts.count ? starts[next] : nil
    }

    private func rewind(to next: UInt64, _ from: UInt64) {
        unacked.removeAll()
        cursor = WalkCursor(position: from)
        number = next
        isBuilt = false
        isEnd = false
        wasLastSent = false
        clear()
    }

    private func clear() {
        encoded.count = 0
        largestBytes = 0
        encoder = EntryEncoder()
        entries.clear()
    }

    /// Walks on, at most about `budget` entries. Returns the entries looked at.
    func advance(_ store: Store, budget: Int, bytesMax: Int, planted: PlantedMistakes) -> Int {
        guard wantsWork else { return 0 }
        // At once instead of by doubling: each step of that would copy, into memory that is fresh.
        let overshootMax = max(bytesMax / 16, ScanDonor.overshootBytes)
        if !isLocal, encoded.capacity < bytesMax { encoded.reserve(bytesMax + overshootMax - encoded.count) }
        var looked = 0
        // Few records at a time where they are large: a slice cannot be stopped in the middle.
        let average = max(1, store.recordBytes / max(1, store.count + store.tombstoneCount))
        let budget = min(budget, max(1, (bytesMax - byteCount) / average))
        let end = settledEnd
        var isFull = false
        while looked < budget, !cursor.isDone, !isFull, end.map({ cursor.position < $0 }) ?? (byteCount < bytesMax) {
            let before = cursor
            var bytes = look(planted) { store.walk(&cursor, budget: ScanDonor.entriesPerWalk, $0) }
            if byteCount + bytes > bytesMax + overshootMax {
                // One by one: a message has room for one largest value beside a chunk, and not for a bucket of them.
                cursor = before
                bytes = look(planted) { store.walkNarrowly(&cursor, $0) }
                if end == nil, byteCount > 0, byteCount + bytes > bytesMax {
                    (cursor, isFull) = (before, true)
                    offered.removeAll(keepingCapacity: true)
                }
            }
            // An empty stretch of the table is work too.
            looked += offered.count + 1
            offer(store)
        }
        encoder.forgetPrevious()
        builtBytes = byteCount
        if let end {
            isBuilt = cursor.position >= end
            // What was few bytes when the chunk's end was settled is more than a message now.
            hasGrown = byteCount - largestBytes > ScanDonor.grownMax * bytesMax + overshootMax
        } else if cursor.isDone {
            isBuilt = true
            isEnd = true
        } else {
            isBuilt = isFull || byteCount >= bytesMax
        }
        return max(looked, 64)
    }

    /// Of the chunk being built.
    private var byteCount: Int { isLocal ? entries.payloadBytes : encoded.count }

    /// Remembers in `offered` what a step of the walk visits and the asker lacks; returns about how many bytes that is.
    private func look(_ planted: PlantedMistakes, _ step: ((Record) -> Void) -> Void) -> Int {
        offered.removeAll(keepingCapacity: true)
        var bytes = 0
        step { record in
            if !everything, filter.covers(record.origin, record.seq) { return }
            if planted(.tombstoneSkippedInScan), record.isTombstone { return }
            offered.append(record)
            bytes += record.keyCount + record.contentCount
        }
        return bytes
    }

    private func offer(_ store: Store) {
        for record in offered {
            largestBytes = max(largestBytes, record.keyCount + record.contentCount)
            if isLocal {
                entries.append(store.hasher.hash(record.keyView), record.retained())
            } else {
                encoder.encode(record, store.origins, into: &encoded)
            }
            offerEscort(of: record, store)
        }
    }

    private func offerEscort(of record: Record, _ store: Store) {
        guard store.hasCompanions,
            let escort = store.escort(record, store.hasher.hash(record.keyView)) ?? store.escort(ofPart: record)
        else { return }
        if isLocal {
            entries.append(escort.hash, escort.record.retained())
        } else {
            encoder.encode(escort.record, store.origins, into: &encoded)
        }
    }

    /// The built chunk's entries, until the chunk goes out.
    var bytes: UnsafeRawBufferPointer { encoded.bytes }

    /// Bytes of the chunk that is being built, or is built and waits.
    var waitingBytes: Int { builtBytes }

    /// The built chunk's entries; the caller owns them and calls `sent` next.
    func takeEncoded() -> OutputBuffer {
        defer { encoded = OutputBuffer() }
        return encoded
    }

    /// The chunk went out: go on with the next.
    func sent(at now: Millis) {
        sentAt = now
        unacked.append(builtBytes)
        clear()
        if isEnd {
            wasLastSent = true
            return
        }
        // A repeated chunk may have been walked a little beyond its end; the next one begins where it did before.
        if let end = settledEnd { cursor = WalkCursor(position: end) } else { starts.append(cursor.position) }
        number += 1
        isBuilt = false
    }

    func checkInvariants() {
        check(!starts.isEmpty || wasLastSent)
        check(number + 1 >= acked)
    }
}
