// The live pairs of a data directory or a backup, in the order of their databases and keys. One thread.

import KVBase
import KVCore

/// All of it is in memory meanwhile.
package final class PairCursor: ItemSource {
    private static let pageEntries = 256

    private let store: Store
    private let now: Int64
    private var page: [FilePair] = []
    private var after: Bytes?
    private var isLast = false
    package private(set) var bytesRead = 0
    package var short: FileFault? { nil }

    /// `now`: in milliseconds since 1970.
    package init(_ folder: DataFolder, now: Int64) throws(FileFault) {
        self.now = now
        store = DataFolder.emptyStore()
        do throws(FileFault) { try folder.load(into: store, now: now) } catch {
            // The deinitialiser frees the store.
            throw error
        }
    }

    deinit { store.destroy() }

    package func next() throws(FileFault) -> FileItem? {
        while page.isEmpty, !isLast { turnPage() }
        return page.popLast().map { .pair($0) }
    }

    private func turnPage() {
        let records = withAfter { after in
            store.list(
                prefix: UnsafeRawBufferPointer(start: nil, count: 0), after: after, limit: PairCursor.pageEntries,
                now: now)
        }
        for place in (0..<records.count).reversed() {
            let record = records[place]
            let (database, key) = PairCursor.shown(record.key)
            var pair = FilePair(database: database, key: key, value: Bytes(record.value))
            bytesRead += key.count + pair.value.count
            if case .at(let millis) = store.deadline(of: store.key(record.key), now: now) { pair.deadline = millis }
            page.append(pair)
        }
        isLast = records.isLast
        after = records.position.map { Bytes($0) }
    }

    private func withAfter<R>(_ body: (UnsafeRawBufferPointer?) -> R) -> R {
        guard let after else { return body(nil) }
        return after.withBytes { body($0) }
    }

    /// A stored key as its client named it (docs/formats.md 6).
    private static func shown(_ key: UnsafeRawBufferPointer) -> (Int, Bytes) {
        guard key.count > 1, key[0] == 0xFF else { return (0, Bytes(key)) }
        if key[1] == 0xFF { return (0, Bytes(UnsafeRawBufferPointer(rebasing: key[1...]))) }
        return (Int(key[1]), Bytes(UnsafeRawBufferPointer(rebasing: key[2...])))
    }
}

extension DataFolder {
    /// Its owner destroys it.
    static func emptyStore() -> Store {
        Store(
            StoreConfig(
                hashSeed: 1, digestKey: 1, own: ActorUID(server: 1, index: 0), origins: OriginTable(),
                journalCapacity: 64))
    }
}
