// The sixteen databases, as parts of one store: how a key of each is stored, and which keys are shown. Loop thread.

import KVBase
import KVCore
import RESP

/// One database's keys among those of all (docs/data-model.md 1).
///
/// A key of database n, from 1, is stored as 0xFF, n, key. One of database 0 is stored as it is; where it begins with
/// 0xFF, that byte is doubled. So the byte order of keys stays, and whoever uses database 0 only pays for one look at
/// a byte. 0xFF 0x00 begins what is no client's.
struct Keyspace {
    static let count = 16
    private static let doubled: UInt8 = 0xFF

    let number: UInt8
    let store: Store
    /// What has expired by then is not shown.
    let now: Millis

    /// Whether keys of this database lie there as the client names them; all but those that begin with 0xFF.
    static func isStoredAlike(_ key: ByteView, _ number: UInt8) -> Bool {
        number == 0 && (key.count <= 0 || key.start.load(as: UInt8.self) != Store.mark)
    }

    /// Live keys. O(1).
    var count: Int {
        guard number == 0 else { return store.count(marked: number) }
        return (0..<UInt8(Keyspace.count)).reduce(store.count) { $0 - store.count(marked: $1) }
    }

    /// Those of them with a deadline. O(1).
    var volatileCount: Int {
        guard number == 0 else { return store.volatileCount(marked: number) }
        return (0..<UInt8(Keyspace.count)).reduce(store.volatileCount) { $0 - store.volatileCount(marked: $1) }
    }

    /// What a client calls a stored key.
    @inline(__always)
    static func shown(_ key: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        guard key.count > 1, key[0] == Store.mark else { return key }
        return UnsafeRawBufferPointer(rebasing: key[(key[1] == doubled ? 1 : 2)...])
    }

    /// A client's key, or the beginning of keys, as it is stored.
    func stored(_ key: UnsafeRawBufferPointer) -> Bytes { Keyspace.stored(key, number) }

    static func stored(_ key: UnsafeRawBufferPointer, _ number: UInt8) -> Bytes {
        if number > 0 { return Bytes([Store.mark, number] + Array(key)) }
        return Bytes(key.first == Store.mark ? [Store.mark] + Array(key) : Array(key))
    }

    /// The same behind what `bytes` holds.
    static func append(_ key: ByteView, of number: UInt8, to bytes: inout OutputBuffer) {
        bytes.append(Store.mark)
        if number > 0 { bytes.append(number) }
        bytes.append(key.bytes)
    }

    /// Shown records whose keys begin with `prefix` and come after `after`, both as they are stored, at most `limit`.
    /// A page may be shorter than `limit`, or empty, and yet not be the last one. Borrowed as `Store.list` says.
    /// O(log n + results).
    func page(prefix: UnsafeRawBufferPointer, after: UnsafeRawBufferPointer?, limit: Int) -> KeyPage {
        if number > 0 || prefix.count > 0 {
            return KeyPage(store.list(prefix: prefix, after: after, limit: limit, now: now))
        }
        // Two ranges: keys that begin with less than the mark, and those with it twice.
        let hasSecond = store.count(marked: Keyspace.doubled) > 0
        if after.map({ $0.first != Store.mark }) ?? true {
            let page = store.list(prefix: prefix, after: after, limit: limit, now: now)
            let count = firstMarked(page)
            if count == page.count {
                let isBehind = page.position?.first == Store.mark
                return isBehind ? KeyPage(page, isLast: !hasSecond, position: Keyspace.mark) : KeyPage(page)
            }
            if count > 0 || !hasSecond {
                return KeyPage(page.prefix(count), isLast: !hasSecond, position: Keyspace.mark)
            }
        }
        return withUnsafeBytes(of: UInt16(0xFFFF)) {
            KeyPage(store.list(prefix: $0, after: after, limit: limit, now: now))
        }
    }

    private static let mark = Bytes([Store.mark])

    func page(prefix: Bytes, after: Bytes?, limit: Int) -> KeyPage {
        prefix.withBytes { prefix in
            guard let after else { return page(prefix: prefix, after: nil, limit: limit) }
            return after.withBytes { page(prefix: prefix, after: $0, limit: limit) }
        }
    }

    /// What all keys of the database begin with, as far as there is such a thing.
    var start: Bytes { stored(UnsafeRawBufferPointer(start: nil, count: 0)) }

    /// Where the records of the page begin whose keys are marked. O(log page).
    private func firstMarked(_ page: RecordPage) -> Int {
        var (low, high) = (0, page.count)
        while low < high {
            let middle = (low + high) / 2
            if page[middle].key.first == Store.mark { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

/// A page of one database.
struct KeyPage {
    let records: RecordPage
    /// No key follows.
    let isLast: Bool
    /// To go on behind it.
    let position: Bytes?

    init(_ page: RecordPage) { self.init(page, isLast: page.isLast, position: page.position.map { Bytes($0) }) }

    init(_ page: RecordPage, isLast: Bool, position: Bytes?) {
        (records, self.isLast, self.position) = (page, isLast, position)
    }

    var count: Int { records.count }
}

extension Execution {
    var keyspace: Keyspace { Keyspace(number: session.state.pointee.database, store: store, now: nowMillis) }

    /// Puts argument `k`, a key in the form in which it is stored, into another database.
    func moveKey(_ k: Int, to number: UInt8) {
        let shown = Bytes(Keyspace.shown(argument(k).bytes))
        let bytes = shown.withBytes { Keyspace.stored($0, number) }
        storedKey.pointee.count = 0
        bytes.withBytes { storedKey.pointee.append($0) }
        batch.arguments[Int(command.firstArgument) + k] = ByteView(storedKey.pointee.bytes)
    }

    private var storedKey: UnsafeMutablePointer<OutputBuffer> { shard.movedKey }

    /// Puts the keys among the arguments, from `first` to `last`, into the form in which they are stored.
    func storeKeys(first: Int, last: Int, step: Int) {
        let number = session.state.pointee.database
        let start = Int(command.firstArgument)
        shard.storeKeys(of: batch, start + first, through: start + last, step: step, number)
    }
}

extension Shard {
    /// Keys of a batch, by their places among all its arguments, in the form in which they are stored. The bytes are
    /// the shard's, until the next call. One that is too long becomes one that every check finds too long.
    func storeKeys(of batch: CommandBatch, _ first: Int, through last: Int, step: Int, _ number: UInt8) {
        var (bytes, isNeeded) = (0, false)
        for k in stride(from: first, through: last, by: step) {
            let key = batch.arguments[k]
            if Keyspace.isStoredAlike(key, number) { continue }
            isNeeded = true
            bytes += min(key.count, Limits.keyBytesMax) + 2
        }
        guard isNeeded else { return }
        storedKeys.pointee.count = 0
        storedKeys.pointee.shrink(to: Shard.storedKeysKeptBytes)
        storedKeys.pointee.reserve(bytes)
        for k in stride(from: first, through: last, by: step) {
            let key = batch.arguments[k]
            if Keyspace.isStoredAlike(key, number) { continue }
            guard key.count <= Limits.keyBytesMax else {
                batch.arguments[k].count = .max / 2
                continue
            }
            let at = storedKeys.pointee.count
            Keyspace.append(key, of: number, to: &storedKeys.pointee)
            batch.arguments[k] = ByteView(storedKeys.pointee.base + at, storedKeys.pointee.count - at)
        }
    }
}
