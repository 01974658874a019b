// One query actor's private replica: table, ordered index, digest, journal, tombstones. The one door to them. One
// thread.

import CIntrinsics
import Glibc
package import KVBase

package struct StoreConfig {
    /// Secret of this process: places keys in the table.
    package var hashSeed: UInt64
    /// Secret shared by the cluster: digests of equal content are equal on every server.
    package var digestKey: UInt64
    package var own: ActorUID
    package var origins: OriginTable
    /// Own writes remembered for delta frames.
    package var journalCapacity: Int
    /// All ones; tests clear bits of it to make key hashes collide, which also turns the table's own scattering off.
    package var hashMask: UInt64 = .max

    package init(
        hashSeed: UInt64, digestKey: UInt64, own: ActorUID, origins: OriginTable,
        journalCapacity: Int = Limits.journalEntriesMax, hashMask: UInt64 = .max
    ) {
        (self.hashSeed, self.digestKey, self.own, self.origins) = (hashSeed, digestKey, own, origins)
        (self.journalCapacity, self.hashMask) = (journalCapacity, hashMask)
    }
}

/// What a merge did with an entry.
package enum MergeOutcome: Equatable, Sendable {
    /// It won and is now the key's record.
    case applied
    /// The store holds a greater version.
    case older
    /// The store holds exactly this.
    case same
    /// Same version, different content: a bug somewhere. The same side won as would anywhere else, and it was counted.
    case divergent
    /// Not storable: version or lengths outside what a record can hold.
    case rejected
}

/// A few words passed by value; all state is behind the pointer. Freed by `destroy()`.
///
/// Records returned are borrowed: valid until the store is next changed. Whoever keeps one longer calls `retained()`.
package struct Store {
    let state: UnsafeMutablePointer<StoreState>

    package init(_ config: StoreConfig) {
        state = .allocate(capacity: 1)
        state.initialize(to: StoreState(config))
    }

    /// Releases every record and frees the store.
    package func destroy() {
        var cursor = WalkCursor()
        while !cursor.isDone { state.pointee.table.walk(&cursor, budget: 4096) { $0.release() } }
        state.pointee.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }

    // MARK: Figures

    /// Keys that are shown: neither deleted nor expired, as far as `expireDue` has looked.
    package var count: Int { state.pointee.figures.shown }
    package var tombstoneCount: Int { state.pointee.table.count - state.pointee.figures.stored }
    /// Tombstones of keys that are shown again, as something was added to them since.
    package var revivedCount: Int { state.pointee.figures.revived }
    /// Records that are no tombstones: shown keys, expired ones that are still kept, companions.
    package var storedCount: Int { state.pointee.figures.stored }
    /// Shown keys with a deadline.
    package var volatileCount: Int { state.pointee.figures.volatile }
    /// Expired keys that are still kept.
    package var expiredKeptCount: Int { state.pointee.figures.expiredKept }
    /// Keys that have expired here since the start.
    package var expiredTotal: UInt64 { state.pointee.figures.expiredTotal }
    /// How long the keys with a deadline are shown on average, in milliseconds; 0 if there is none.
    package func averageTimeToLive(now: Millis) -> Millis { state.pointee.figures.averageTimeToLive(now) }
    /// Sum over the records but tombstones of a keyed mix of key, version and value: equal content, equal digest, on
    /// any server.
    package var digest: UInt64 { state.pointee.liveDigest &+ state.pointee.volatileDigest }
    /// The same of what no replica drops by its clock: values without a deadline. For comparison between replicas.
    package var steadyDigest: UInt64 { state.pointee.liveDigest }
    /// That of `digest` and tombstones too.
    package var digestAll: UInt64 { digest &+ state.pointee.tombstoneDigest }
    /// Own writes so far: the seq of the last one.
    package var ownSeq: UInt64 { state.pointee.ownSeq }
    package var own: ActorUID { state.pointee.config.own }
    package var ownOrigin: OriginIndex { state.pointee.ownOrigin }
    package var origins: OriginTable { state.pointee.config.origins }
    /// Merges that met the same version with different content; must stay 0.
    package var divergenceCount: Int { state.pointee.divergences }
    /// Greatest timestamp of any tombstone collected; later writes are stamped above it (docs/replication.md
    /// 3.2, 10.4).
    package var gcFloor: Millis { state.pointee.gcFloor }
    /// Lifts `gcFloor`, for a joiner that is handed one. Never lowers it.
    package func raiseGCFloor(to ms: Millis) {
        state.pointee.gcFloor = max(state.pointee.gcFloor, min(ms, Version.msMax - 1))
    }
    /// Allocated for the records held; a record shared with other actors counts in each.
    package var recordBytes: Int { state.pointee.recordBytes }
    /// Allocated for table and index: what one more actor costs when it shares the records.
    package var indexBytes: Int { state.pointee.table.bytes + state.pointee.index.bytes }
    /// Allocated for the wheel of deadlines.
    package var expiryBytes: Int { state.pointee.wheel.bytes }
    package var journalBytes: Int { state.pointee.journal.bytes }

    // MARK: Hashing and prefetching

    /// The hash of a key, the same in all stores with one seed, so that siblings hash a key once. It never leaves the
    /// process.
    package func hash(_ key: ByteView) -> UInt64 { state.pointee.hasher.hash(key) }

    /// Computes `hash` without the store, on any thread.
    package var hasher: KeyHasher { state.pointee.hasher }

    /// Where a hash belongs in this store's table.
    @inline(__always)
    func place(_ hash: UInt64) -> UInt64 { state.pointee.hasher.place(hash) }

    /// Starts loading a key's bucket; first step of a batch.
    package func prefetchSlot(_ hash: UInt64) { state.pointee.table.prefetchBucket(place(hash)) }

    /// Starts loading a key's record; second step of a batch. False if `prefetchOverflow` is to follow a little later.
    package func prefetchRecord(_ hash: UInt64) -> Bool { state.pointee.table.prefetchRecord(place(hash)) }

    /// Third step, for the keys whose bucket overflowed into the next.
    package func prefetchOverflow(_ hash: UInt64) { state.pointee.table.prefetchOverflow(place(hash)) }

    // MARK: Reading

    /// The record of a key that is shown at `now`, a corrected clock's: neither deleted nor expired. O(1), no
    /// allocation.
    package func get(_ key: HashedKey, now: Millis) -> Record? {
        // A key with companions has a marked slot; nothing is looked at for any other.
        guard let slot = state.pointee.table.findUnmarked(key.view, place(key.hash)) else {
            return state.pointee.table.markedCount == 0 ? nil : marked(key, now)
        }
        let record = slot.record
        return record.isPlain ? record : unusual(slot, now)
    }

    @inline(never)
    private func marked(_ key: HashedKey, _ now: Millis) -> Record? {
        state.pointee.table.findMarked(key.view, place(key.hash)).flatMap { unusual($0, now) }
    }

    @inline(never)
    private func unusual(_ slot: HashTable.Slot, _ now: Millis) -> Record? {
        shownRecord(slot, now, isListed: false)
    }

    /// The record of a key, tombstone or live, or nil. O(1).
    package func find(_ key: HashedKey) -> Record? {
        state.pointee.table.find(key.view, place(key.hash))?.record
    }

    /// Every record whose key has exactly this hash, tombstones too: nearly always one or none. O(1).
    package func records(_ hash: UInt64, _ visit: (Record) -> Void) {
        let hasher = state.pointee.hasher
        let place = place(hash)
        state.pointee.table.forEachSlot(fragment: UInt32(truncatingIfNeeded: place &>> 32)) { slot in
            let record = slot.record
            if hasher.place(of: record) == place { visit(record) }
            return true
        }
    }

    /// The winners of the key of own write `seq`, which the journal has, without those that another own write up to
    /// `last` left: most are told by their number alone. O(1).
    func records(written seq: UInt64, last: UInt64, _ visit: (Record) -> Void) {
        let (own, hasher) = (state.pointee.ownOrigin, state.pointee.hasher)
        let place = hasher.place(journalHash(seq))
        state.pointee.table.forEachSlot(fragment: UInt32(truncatingIfNeeded: place &>> 32)) { slot in
            let record = slot.record
            if record.origin == own, record.seq <= last {
                if record.seq == seq { visit(record) }
            } else if hasher.place(of: record) == place {
                visit(record)
            }
            return true
        }
    }

    // MARK: Walking

    /// Visits records, tombstones too, from the cursor on: about `budget`, then returns. `visit` must not change the
    /// store. An entry that is there from the beginning to the end of a walk is visited, whatever changes in between.
    package func walk(_ cursor: inout WalkCursor, budget: Int, _ visit: (Record) -> Void) {
        state.pointee.table.walk(&cursor, budget: budget, visit)
    }

    /// As above, by the smallest step: nearly always one record, or none.
    package func walkNarrowly(_ cursor: inout WalkCursor, _ visit: (Record) -> Void) {
        state.pointee.table.walkNarrowly(&cursor, visit)
    }

    // MARK: Journal

    /// Oldest own write still in the journal; greater than `ownSeq` when it is empty.
    package var journalFirstSeq: UInt64 { state.pointee.journal.first }
    /// The key hash of own write `seq`, which must be in `journalFirstSeq ... ownSeq`.
    package func journalHash(_ seq: UInt64) -> UInt64 { state.pointee.journal.hash(seq) }
    /// Own writes that the journal keeps at least.
    var journalCapacity: Int { state.pointee.journal.capacity }
    /// Forgets own writes up to `seq`, once every peer has them.
    package func trimJournal(through seq: UInt64) { state.pointee.journal.trim(through: seq) }

    // MARK: Housekeeping

    /// Work left over from writes, in one slice under a millisecond. Returns whether some is left. Call it in idle
    /// turns; nothing breaks if it is never called.
    @discardableResult
    package func maintain() -> Bool {
        flushIndex()
        return false
    }

    /// Brings the ordered index up to date.
    func flushIndex() {
        guard state.pointee.pendingCount > 0, !state.pointee.isLoading else { return }
        let pending = UnsafeBufferPointer(start: state.pointee.pending, count: state.pointee.pendingCount)
        state.pointee.pendingCount = 0
        state.pointee.index.reconcile(pending, state.pointee.table, state.pointee.hasher)
    }

    /// Brings the ordered index up to date for the older half of the changes that it may be behind by.
    func flushIndexHalf() {
        // `endLoading` looks at all keys.
        guard !state.pointee.isLoading else { return state.pointee.pendingCount = 0 }
        let pending = UnsafeMutableBufferPointer(start: state.pointee.pending, count: state.pointee.pendingCount)
        let half = OrderedIndex.groupMax
        state.pointee.index.reconcileGroup(
            UnsafeBufferPointer(rebasing: pending[..<half]), next: UnsafeBufferPointer(rebasing: pending[half...]),
            state.pointee.table, state.pointee.hasher)
        state.pointee.pendingCount &-= half
        pending.baseAddress!.update(from: pending.baseAddress! + half, count: state.pointee.pendingCount)
    }
}

/// Everything one store owns.
struct StoreState {
    /// Keys that appeared or vanished since the ordered index was last brought up to date. From then on the older half
    /// follows at a time, while the buckets of the other half are loaded: one put bears 16 changes, not all. (With 64
    /// at once it was a millisecond for one put where memory is slow.)
    static let pendingMax = 2 * OrderedIndex.groupMax

    var table = HashTable()
    var hasher: KeyHasher
    let recordDigest: RecordDigest
    var ownSeq: UInt64 = 0
    var gcFloor: Millis = 0
    /// Latest stamp of an own write.
    var stampMax: Millis = Version.msMax
    var distance = DistanceAllowance()
    var ownOrigin: OriginIndex
    var figures = StoreFigures()
    let marked = MarkedCounts()
    var liveDigest: UInt64 = 0
    /// Of records with a deadline, and of companions.
    var volatileDigest: UInt64 = 0
    var tombstoneDigest: UInt64 = 0
    var recordBytes = 0
    var divergences = 0
    var journal: Journal
    var pending: UnsafeMutablePointer<UInt64>
    var pendingCount = 0
    /// Between `beginLoading` and `endLoading`: the ordered index is empty.
    var isLoading = false
    var index = OrderedIndex()
    var page = PageBuffer()
    var tombstones = TombstoneQueue()
    var wheel = DeadlineWheel()
    /// The corrected clock when `expireDue` was last called.
    var clock: Millis = 0
    /// Expired keys and companions that may be superseded, as they came.
    var leftovers = TombstoneQueue()
    /// New entries of the wheel since stale ones were looked for.
    var filed = 0
    /// Scratch for looking after the wheel.
    var entries: [UInt64] = []
    /// Which actors have parts of which counters.
    var parts = PartBook()
    var shownNumbers = ShownNumbers()
    var lastCounter: LastCounter?
    /// Times that a record was put in, replaced, taken out or given a mark that is a companion or may have some.
    var unusualChanges: UInt64 = 0
    /// While this actor has not caught up with others.
    var zeros: ProvisionalZeros?
    /// A planted mistake: a write looks at its own record alone.
    var ignoresCompanions = false
    /// A planted mistake: a write does not say what it has taken of a counter.
    var forgetsTaken = false
    /// A planted mistake: RESTAMP writes below what it is to beat.
    var restampsBelow = false
    /// A planted mistake: a part is deleted as soon as it adds nothing.
    var buriesEarly = false
    /// A planted mistake: a count that begins after an expiry goes on from the old one.
    var leavesParts = false
    /// A planted mistake: who adds to a part that has expired adds to all of it.
    var leavesPartsWhole = false
    /// A planted mistake: counting begins above a deadline set apart.
    var beatsDeadlines = false
    /// A planted mistake: a deadline set apart is forgotten before the delete of its key.
    var forgetsCompanionsAlone = false
    /// A planted mistake: what is written again has the deadline of its own record, whatever was set apart.
    var dropsDeadlines = false
    let config: StoreConfig

    init(_ config: StoreConfig) {
        self.config = config
        let salt = mix64(config.own.server ^ 0xA076_1D64_78BD_642F, UInt64(config.own.index) ^ 0xE703_7ED1_A0B4_28DB)
        hasher = KeyHasher(
            seed: config.hashSeed, mask: config.hashMask, salt: config.hashMask == .max ? salt | 1 : 1)
        guard let origin = config.origins.intern(config.own) else { preconditionFailure("too many actor UIDs") }
        ownOrigin = origin
        recordDigest = RecordDigest(secret: config.digestKey, own: origin, origins: config.origins)
        journal = Journal(capacity: config.journalCapacity)
        pending = .allocate(capacity: StoreState.pendingMax)
    }

    mutating func deallocate() {
        table.deallocate()
        journal.deallocate()
        marked.deallocate()
        recordDigest.deallocate()
        pending.deallocate()
        page.deallocate()
        tombstones.deallocate()
        wheel.deallocate()
        leftovers.deallocate()
        shownNumbers.deallocate()
        index.deallocate()
    }
}
