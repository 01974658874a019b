// One actor's part of a counter: what it has added to a key, in a record that nobody else writes. Values, any thread.

import KVBase

/// The value of a part's record (`Companion.partKind`): 40 bytes, and 32 more where an expiry has cut it.
struct CounterPart: Equatable {
    /// What had been added before the count expired by what its actor knew.
    struct Earlier: Equatable {
        var sum: Int128
        /// The clock at the last of these additions, and its seq.
        var at: Millis
        var last: UInt64
    }

    static let bytes = 40
    static let cutBytes = bytes + 32
    /// More than 2^40 writes of 2^63 cannot be; 65,536 of these fit 128 bits.
    static let magnitudeMax: UInt128 = 1 << 104
    /// Actors that may count at one key. As each start of a server brings new ones, a counter that is never set can
    /// come near it.
    static let partsMax = 1024

    /// The seq of the write that began it: what was written before is of a part that was collected.
    var begin: UInt64
    /// Of all that was added since.
    var sum: Int128
    /// The corrected clock when something was added last.
    var at: Millis
    /// The seq of the write that added it: not that of the record, which a newcomer may write again above a floor.
    var last: UInt64
    /// Part of the sum.
    private(set) var earlier: Earlier?

    init(begin: UInt64, at: Millis) { (self.begin, sum, self.at, last) = (begin, 0, at, begin) }

    /// Nil for a record that is none: a tombstone, or one that no honest peer made.
    init?(_ record: Record) {
        let value = record.value
        guard !record.isTombstone, CounterPart.isLength(value.count), let place = value.baseAddress else { return nil }
        begin = place.loadUnaligned(as: UInt64.self)
        sum = place.loadUnaligned(fromByteOffset: 8, as: Int128.self)
        at = place.loadUnaligned(fromByteOffset: 24, as: Millis.self)
        last = place.loadUnaligned(fromByteOffset: 32, as: UInt64.self)
        guard sum.magnitude <= CounterPart.magnitudeMax, last <= Version.seqMax else { return nil }
        guard value.count == CounterPart.cutBytes else { return }
        let cut = Earlier(
            sum: place.loadUnaligned(fromByteOffset: 40, as: Int128.self),
            at: place.loadUnaligned(fromByteOffset: 56, as: Millis.self),
            last: place.loadUnaligned(fromByteOffset: 64, as: UInt64.self))
        guard cut.sum.magnitude <= CounterPart.magnitudeMax, cut.last <= last else { return nil }
        earlier = cut
    }

    static func isLength(_ count: Int) -> Bool { count == bytes || count == cutBytes }

    /// Another addition. `expired`: the count that its actor has expired then, or 0: what was added before is of that
    /// count.
    mutating func add(_ step: Int64, now: Millis, expired: Millis, seq: UInt64) {
        if at < expired { earlier = Earlier(sum: sum, at: at, last: last) }
        sum += Int128(step)
        (at, last) = (max(now, expired), seq)
    }

    /// As the value of its record, valid while `body` runs.
    func with<R>(_ body: (ByteView) -> R) -> R {
        let count = earlier == nil ? CounterPart.bytes : CounterPart.cutBytes
        return withUnsafeTemporaryAllocation(byteCount: count, alignment: 16) { buffer in
            buffer.storeBytes(of: begin, as: UInt64.self)
            buffer.storeBytes(of: sum, toByteOffset: 8, as: Int128.self)
            buffer.storeBytes(of: at, toByteOffset: 24, as: Millis.self)
            buffer.storeBytes(of: last, toByteOffset: 32, as: UInt64.self)
            if let earlier {
                buffer.storeBytes(of: earlier.sum, toByteOffset: 40, as: Int128.self)
                buffer.storeBytes(of: earlier.at, toByteOffset: 56, as: Millis.self)
                buffer.storeBytes(of: earlier.last, toByteOffset: 64, as: UInt64.self)
            }
            return body(ByteView(UnsafeRawBufferPointer(buffer)))
        }
    }

    /// What it adds to a value whose write has taken `taken`, and what was added before `before`, as far as that can be
    /// told apart: nil if there is nothing beyond.
    func added(_ uid: ActorUID, _ taken: TakenView?, before: Millis) -> Int128? {
        let before = max(before, taken?.before ?? 0)
        if at < before { return nil }
        var (gone, seq): (Int128, UInt64) = (0, 0)
        if let entry = taken?.entry(of: uid) {
            if last <= entry.seq { return nil }
            if begin <= entry.seq { (gone, seq) = (entry.sum, entry.seq) }
        }
        if let earlier, earlier.at < before, earlier.last > seq { gone = earlier.sum }
        return sum - gone
    }
}

/// Which actors have a part of which key, deleted ones that are not collected yet too: by the key's hash. Keys of one
/// hash are not told apart; who looks a part up finds out. One thread.
///
/// In many small tables, so that none takes long to grow.
struct PartBook {
    private static let shardBits = 10
    private var shards: [[UInt64: Actors]] = []

    /// Most counters are counted at by one actor: it needs no list.
    enum Actors {
        case one(ActorUID)
        case many([ActorUID])

        /// Nil if there are none.
        init?(_ uids: [ActorUID]) {
            guard let first = uids.first else { return nil }
            self = uids.count == 1 ? .one(first) : .many(uids)
        }

        var uids: [ActorUID] {
            switch self {
            case .one(let uid): [uid]
            case .many(let uids): uids
            }
        }

        var count: Int {
            switch self {
            case .one: 1
            case .many(let uids): uids.count
            }
        }

        @inline(__always)
        func forEach(_ visit: (ActorUID) -> Void) {
            switch self {
            case .one(let uid): visit(uid)
            case .many(let uids): for uid in uids { visit(uid) }
            }
        }
    }

    /// Those of keys with this hash, sorted; one that has parts of several keys occurs as often.
    func actors(_ hash: UInt64) -> Actors? {
        shards.isEmpty ? nil : shards[PartBook.shard(hash)][hash]
    }

    mutating func add(_ uid: ActorUID, _ hash: UInt64) {
        if shards.isEmpty { shards = Array(repeating: [:], count: 1 << PartBook.shardBits) }
        var uids = shards[PartBook.shard(hash)].removeValue(forKey: hash)?.uids ?? []
        uids.insert(uid, at: uids.firstIndex { uid < $0 } ?? uids.count)
        shards[PartBook.shard(hash)][hash] = Actors(uids)
    }

    mutating func remove(_ uid: ActorUID, _ hash: UInt64) {
        guard !shards.isEmpty, var uids = shards[PartBook.shard(hash)].removeValue(forKey: hash)?.uids else { return }
        if let at = uids.firstIndex(of: uid) { uids.remove(at: at) }
        shards[PartBook.shard(hash)][hash] = Actors(uids)
    }

    var isEmpty: Bool { shards.allSatisfy(\.isEmpty) }

    private static func shard(_ hash: UInt64) -> Int { Int(hash &>> UInt64(64 - shardBits)) }
}

/// Records made to show the numbers of counters: they live as long as a borrowed record may be looked at.
struct ShownNumbers {
    /// Numbers that may be looked at together; a page of a listing may have more.
    private static let keptMax = 64
    private var records: [Record] = []
    private var listed: [Record] = []
    private var next = 0

    /// Takes the reference over.
    mutating func keep(_ record: Record, isListed: Bool) -> Record {
        if isListed {
            listed.append(record)
        } else if records.count < ShownNumbers.keptMax {
            records.append(record)
        } else {
            records[next].release()
            records[next] = record
            next = (next + 1) % ShownNumbers.keptMax
        }
        return record
    }

    /// Another page is to be made.
    mutating func clearPage() {
        if listed.isEmpty { return }
        for record in listed { record.release() }
        listed.removeAll(keepingCapacity: true)
    }

    mutating func deallocate() {
        clearPage()
        for record in records { record.release() }
        records = []
    }
}

extension Record {
    /// What a part says, for a trace; nil of any other record.
    package var partText: String? {
        CounterPart(self).map { part in
            let cut = part.earlier.map { ", of it \($0.sum) to \($0.last) at \($0.at)" } ?? ""
            return "sum \(part.sum) begun \(part.begin) last \(part.last) at \(part.at)\(cut)"
        }
    }
}
