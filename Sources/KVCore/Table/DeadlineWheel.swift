// Which keys expire next, without their keys: a wheel of wheels. One thread.

import Glibc
import KVBase

/// Entries of eight bytes: the deadline in ticks of 64 ms, modulo 2^30, and the high half of where the key's hash
/// belongs in the table. An entry is a hint. Whoever takes one looks at the keys that it may mean, and passes it over
/// if they have another deadline by now.
///
/// A radix heap (Ahuja, Mehlhorn, Orlin, Tarjan, 1990) with digits of six bits: an entry lies at the level of the
/// highest digit in which its tick differs from where the wheel stands, in the bucket of that digit. The next bucket is
/// the lowest one of the lowest level that has any. When its time comes its entries go to lower levels, so each is
/// copied at most five times. A deadline that is more than 2^30 ticks ahead, two years, is filed that much earlier, as
/// often as needed; it is met too early then, and put in again. Where the clock is set back, or far ahead, every entry
/// is met at once and put in again.
struct DeadlineWheel {
    /// 2^6 ms.
    static let tickBits: Millis = 6
    private static let roundMask: UInt32 = 1 << 30 - 1
    private static let digitBits = 6
    private static let levels = 6
    private static let chunkBytes = 512
    private static let entriesPerChunk = (chunkBytes - MemoryLayout<Chunk>.stride) / MemoryLayout<UInt64>.stride

    private struct Chunk {
        var next: UnsafeMutablePointer<Chunk>?
        var count: Int
    }

    /// By level and digit: the oldest chunk, before the others.
    private let buckets: UnsafeMutablePointer<UnsafeMutablePointer<Chunk>?>
    /// The one that is being filled.
    private let newest: UnsafeMutablePointer<UnsafeMutablePointer<Chunk>?>
    /// By level: which digits have entries.
    private let used: UnsafeMutablePointer<UInt64>
    /// All ticks before this one have been taken.
    private var now: Millis = 0
    private var position: UInt32 { UInt32(truncatingIfNeeded: now) }
    /// Entries to be taken whatever their ticks say.
    private var moved: [UnsafeMutablePointer<Chunk>] = []
    /// A clock that is set back by less is waited for, in ticks; one that is further ahead was set: a year.
    private static let backTicksMax: Millis = 16
    private static let aheadTicksMax: Millis = 1 << 29
    private(set) var count = 0
    private(set) var bytes = 0
    /// Where stale entries are looked for next.
    private var purgeAt = 0

    init() {
        let slots = DeadlineWheel.levels << DeadlineWheel.digitBits
        buckets = .allocate(capacity: slots)
        buckets.initialize(repeating: nil, count: slots)
        newest = .allocate(capacity: slots)
        newest.initialize(repeating: nil, count: slots)
        used = .allocate(capacity: DeadlineWheel.levels)
        used.initialize(repeating: 0, count: DeadlineWheel.levels)
    }

    func deallocate() {
        for slot in 0..<(DeadlineWheel.levels << DeadlineWheel.digitBits) {
            if let chunk = buckets[slot] { DeadlineWheel.free(chain: chunk) }
        }
        for chunk in moved { DeadlineWheel.free(chain: chunk) }
        buckets.deallocate()
        newest.deallocate()
        used.deallocate()
    }

    private static func free(chain: UnsafeMutablePointer<Chunk>) {
        var chunk: UnsafeMutablePointer<Chunk>? = chain
        while let one = chunk {
            chunk = one.pointee.next
            Glibc.free(one)
        }
    }

    /// The first tick at which a deadline has surely passed.
    @inline(__always)
    private static func tick(_ deadline: Millis) -> Millis { (deadline &+ 63) &>> tickBits }

    @inline(__always)
    private static func tick(of entry: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: entry &>> 32) }

    @inline(__always)
    static func fragment(of entry: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: entry) }

    /// Whether one entry does for both.
    @inline(__always)
    static func isSame(_ a: Millis, _ b: Millis) -> Bool { tick(a) == tick(b) }

    @inline(__always)
    static func means(_ entry: UInt64, _ deadline: Millis) -> Bool {
        (tick(of: entry) ^ UInt32(truncatingIfNeeded: tick(deadline))) & roundMask == 0
    }

    /// Notes a deadline. O(1).
    mutating func push(_ deadline: Millis, fragment: UInt32, now: Millis) {
        follow(now)
        let present = now &>> DeadlineWheel.tickBits
        let distance = DeadlineWheel.tick(deadline) &- present
        let mask = Millis(DeadlineWheel.roundMask)
        // One that has passed keeps its tick, by which it is known should the clock be set back.
        let filed = distance < 0 ? -(-distance & mask) : distance & mask
        put(UInt64(UInt32(truncatingIfNeeded: present &+ filed)) &<< 32 | UInt64(fragment))
    }

    /// Sets the wheel to where the clock is, if that was set.
    private mutating func follow(_ clock: Millis) {
        let tick = clock &>> DeadlineWheel.tickBits
        guard count > 0 else { return now = tick }
        if tick >= now &- DeadlineWheel.backTicksMax, tick <= now &+ DeadlineWheel.aheadTicksMax { return }
        now = tick
        for slot in 0..<(DeadlineWheel.levels << DeadlineWheel.digitBits) {
            if let chunk = buckets[slot] { moved.append(chunk) }
            (buckets[slot], newest[slot]) = (nil, nil)
        }
        for level in 0..<DeadlineWheel.levels { used[level] = 0 }
    }

    private mutating func put(_ entry: UInt64) {
        var tick = DeadlineWheel.tick(of: entry)
        // What has passed already is taken next.
        if Int32(bitPattern: tick &- position) < 0 { tick = position }
        let difference = tick ^ position
        let level = difference == 0 ? 0 : (31 - difference.leadingZeroBitCount) / DeadlineWheel.digitBits
        let digit = Int(tick &>> UInt32(level * DeadlineWheel.digitBits)) & 63
        append(entry, level << DeadlineWheel.digitBits | digit)
    }

    private mutating func append(_ entry: UInt64, _ slot: Int) {
        var chunk = newest[slot]
        if chunk == nil || chunk!.pointee.count == DeadlineWheel.entriesPerChunk { chunk = extend(slot) }
        DeadlineWheel.entries(chunk!)[chunk!.pointee.count] = entry
        chunk!.pointee.count &+= 1
        count &+= 1
    }

    /// Gives a bucket another chunk.
    private mutating func extend(_ slot: Int) -> UnsafeMutablePointer<Chunk> {
        let bytes = DeadlineWheel.chunkBytes
        let fresh = (malloc(bytes) ?? outOfMemory(bytes)).bindMemory(to: Chunk.self, capacity: 1)
        fresh.initialize(to: Chunk(next: nil, count: 0))
        if let last = newest[slot] { last.pointee.next = fresh } else { buckets[slot] = fresh }
        newest[slot] = fresh
        used[slot &>> DeadlineWheel.digitBits] |= 1 &<< UInt64(slot & 63)
        self.bytes &+= bytes
        return fresh
    }

    private static func entries(_ chunk: UnsafeMutablePointer<Chunk>) -> UnsafeMutablePointer<UInt64> {
        UnsafeMutableRawPointer(chunk + 1).assumingMemoryBound(to: UInt64.self)
    }

    private mutating func takeLast(_ slot: Int) -> UInt64? {
        guard let chunk = buckets[slot] else { return nil }
        chunk.pointee.count &-= 1
        count &-= 1
        let entry = DeadlineWheel.entries(chunk)[chunk.pointee.count]
        if chunk.pointee.count == 0 { drop(chunk, slot) }
        return entry
    }

    /// Gives up the oldest chunk, whose entries are taken.
    private mutating func drop(_ chunk: UnsafeMutablePointer<Chunk>, _ slot: Int) {
        buckets[slot] = chunk.pointee.next
        if buckets[slot] == nil {
            newest[slot] = nil
            used[slot &>> DeadlineWheel.digitBits] &= ~(1 &<< UInt64(slot & 63))
        }
        Glibc.free(chunk)
        bytes &-= DeadlineWheel.chunkBytes
    }

    // MARK: Time

    /// Whether an entry's time has come by `now`, or one has to be moved to know. O(1).
    mutating func isDue(_ now: Millis) -> Bool {
        guard count > 0 else { return false }
        follow(now)
        return !moved.isEmpty || next(before: limit(now)) != nil
    }

    private func limit(_ now: Millis) -> UInt32 { UInt32(truncatingIfNeeded: now &>> DeadlineWheel.tickBits) }

    /// The bucket that is next, and the first tick of its range, if that is not after `limit`.
    private func next(before limit: UInt32) -> (slot: Int, level: Int, tick: UInt32)? {
        // A bucket in whose range the wheel stands is emptied before anything else: it may hold what comes first.
        for level in 1..<DeadlineWheel.levels {
            let digit = position &>> UInt32(level * DeadlineWheel.digitBits) & 63
            if used[level] &>> UInt64(digit) & 1 != 0 {
                return (level << DeadlineWheel.digitBits | Int(digit), level, position)
            }
        }
        for level in 0..<DeadlineWheel.levels where used[level] != 0 {
            let shift = UInt32(level * DeadlineWheel.digitBits)
            // Digits before the present one are of the next round, where ticks themselves wrap.
            let present = position &>> shift & 63
            let ahead = used[level] &>> UInt64(present)
            let digit =
                ahead != 0 ? present + UInt32(ahead.trailingZeroBitCount) : UInt32(used[level].trailingZeroBitCount)
            let above = shift + UInt32(DeadlineWheel.digitBits)
            let high = above >= 32 ? 0 : (position &>> above) &<< above
            let tick = high | digit &<< shift
            guard Int32(bitPattern: tick &- limit) <= 0 else { return nil }
            return (level << DeadlineWheel.digitBits | Int(digit), level, tick)
        }
        return nil
    }

    /// Takes an entry whose tick is not after that of `now`; nil if there is none. `budget` is lessened by the entries
    /// moved on the way and by one; where it is used up the answer is nil too.
    mutating func take(_ now: Millis, budget: inout Int) -> UInt64? {
        follow(now)
        if budget > 0, let chunk = moved.last {
            budget &-= 1
            return takeMoved(chunk)
        }
        let limit = limit(now)
        while budget > 0, count > 0, let bucket = next(before: limit) {
            self.now = max(self.now, self.now &+ Millis(Int32(bitPattern: bucket.tick &- position)))
            budget &-= 1
            if bucket.level == 0 { return takeLast(bucket.slot) }
            // One by one, as the rest may be for another turn: what was moved lies at lower levels, which come first.
            guard let entry = takeLast(bucket.slot) else { return nil }
            put(entry)
        }
        return nil
    }

    private mutating func takeMoved(_ chunk: UnsafeMutablePointer<Chunk>) -> UInt64 {
        chunk.pointee.count &-= 1
        count &-= 1
        let entry = DeadlineWheel.entries(chunk)[chunk.pointee.count]
        if chunk.pointee.count == 0 {
            moved[moved.count - 1] = chunk.pointee.next ?? chunk
            if chunk.pointee.next == nil { moved.removeLast() }
            Glibc.free(chunk)
            bytes &-= DeadlineWheel.chunkBytes
        }
        return entry
    }

    // MARK: Stale entries

    /// Takes a chunk's entries from somewhere, the oldest there, as most of those are stale; sorted, for the caller to
    /// put back those that are still meant.
    mutating func takeSome(into some: inout [UInt64]) {
        some.removeAll(keepingCapacity: true)
        guard let slot = nextUsed(after: purgeAt), let chunk = buckets[slot] else { return }
        purgeAt = slot
        some.append(contentsOf: UnsafeBufferPointer(start: DeadlineWheel.entries(chunk), count: chunk.pointee.count))
        count &-= chunk.pointee.count
        drop(chunk, slot)
        some.sort()
    }

    /// The next bucket with entries, by level and digit, and around.
    private func nextUsed(after slot: Int) -> Int? {
        var (level, digits) = (slot &>> DeadlineWheel.digitBits, ~UInt64(1) << UInt64(slot & 63))
        for _ in 0...DeadlineWheel.levels {
            let wanted = used[level] & digits
            if wanted != 0 { return level &<< DeadlineWheel.digitBits | wanted.trailingZeroBitCount }
            level = level &+ 1 == DeadlineWheel.levels ? 0 : level &+ 1
            digits = ~0
        }
        return nil
    }

    /// Puts an entry back that `take` or `takeSome` returned.
    mutating func putBack(_ entry: UInt64) { put(entry) }
}
