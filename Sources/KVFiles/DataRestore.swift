// Makes a data directory out of a backup. One thread; waits for the disk.

import Glibc
import KVBase
import KVCore

package enum RestoreMode: String, CaseIterable, Sendable {
    /// An older state of this cluster: newer writes win.
    case rejoin
    /// New writes, as if they were made now.
    case importing = "import"
    /// The truth from now on: servers with older data are refused.
    case newEpoch = "new-epoch"
}

package struct DataRestore {
    /// Written at a time.
    private static let pieceBytes = 1024 * 1024

    package private(set) var bytes = 0

    /// `folder` is new or empty, and so again if this throws. `cluster`: whose directory it shall be; nil: that of the
    /// backup. `random` is asked for ids. O(bytes).
    package init(
        _ backup: String, into folder: String, _ mode: RestoreMode, cluster: String? = nil, nowMillis: Int64,
        random: () -> UInt64
    ) throws(FileFault) {
        let source = try DataFolder(backup)
        guard let snapshot = source.snapshot, source.logs.isEmpty || mode == .importing else {
            throw FileFault(
                backup, "it has logs, so it is a data directory and no backup: kvd --dir starts from it as it is")
        }
        let size = try DataCheck.check(snapshot: snapshot)
        let header = try DataRestore.header(snapshot)
        let mark = DataRestore.mark(header, mode)
        let (name, written) = (header.name.description, source.manifest?.cluster ?? header.cluster.description)
        if mode != .importing, let cluster, !written.isEmpty, cluster != written {
            throw FileFault(backup, "it is of cluster '\(written)', not '\(cluster)'; --mode import takes its pairs")
        }
        var manifest = Manifest(
            cluster: cluster ?? (written.isEmpty ? "kvd" : written), name: source.manifest?.name ?? name,
            isNamed: source.manifest?.isNamed ?? false)
        manifest.restored = mark
        let output = try OutputFolder(folder)
        do throws(FileFault) {
            if mode == .importing {
                let made = try ImportedSnapshot(source, manifest, nowMillis: nowMillis, random: random)
                manifest.begin(Manifest.Life(server: made.server, actors: 1, firstLogs: [0]))
                try output.write(made.bytes, as: "snapshot-1")
                bytes = made.bytes.count
            } else {
                manifest.epoch = mode == .newEpoch ? UInt64(nowMillis) : max(1, header.epoch)
                for id in header.lineage + [header.server] {
                    manifest.begin(Manifest.Life(server: id, actors: 1, firstLogs: [0]))
                }
                try output.copy(snapshot, as: "snapshot-1", pieceBytes: DataRestore.pieceBytes)
                bytes = size
            }
            manifest.snapshot = Manifest.Snapshot(number: 1, bytes: UInt64(bytes), at: nowMillis)
            try output.write(Array(manifest.text.utf8), as: DataFolder.manifestName)
        } catch {
            output.undo()
            throw error
        }
    }

    private static func mark(_ header: DiskHeader, _ mode: RestoreMode) -> String {
        "\(Manifest.hex(header.file)) \(mode.rawValue)"
    }

    /// Whether a directory began with this backup. Throws if it holds other data.
    package static func isDone(
        _ backup: String, into folder: String, _ mode: RestoreMode
    ) throws(FileFault) -> Bool {
        guard DataFolder.isOne(folder) else { return false }
        let found = try DataFolder(folder).manifest?.restored ?? ""
        // The backup need not stay where it was.
        guard access(backup, F_OK) == 0 else { return !found.isEmpty }
        guard let snapshot = try DataFolder(backup).snapshot else { throw FileFault(backup, "it has no snapshot") }
        if found == mark(try header(snapshot), mode) { return true }
        throw FileFault(
            folder, "it holds other data; give a new directory, or take --restore out to start with what is there")
    }

    private static func header(_ snapshot: String) throws(FileFault) -> DiskHeader {
        let page = try InputFile(path: snapshot).bytes(DiskHeader.byteCount)
        do { return try page.withUnsafeBytes { try DiskHeader(reading: $0) } } catch {
            throw (error as? DiskFault).map { DataFolder.fault(snapshot, $0) } ?? FileFault(snapshot, "\(error)")
        }
    }
}

/// The pairs of a backup as a snapshot of new writes, of a server that is over.
struct ImportedSnapshot {
    let server: UInt64
    private(set) var bytes: [UInt8]

    init(
        _ source: DataFolder, _ manifest: Manifest, nowMillis: Int64, random: () -> UInt64
    ) throws(FileFault) {
        server = random()
        let store = Store(
            StoreConfig(
                hashSeed: 1, digestKey: 1, own: ActorUID(server: server, index: 0), origins: OriginTable(),
                journalCapacity: 64))
        defer { store.destroy() }
        let pairs = try PairCursor(source, now: nowMillis)
        while case .pair(let pair) = try pairs.next() {
            let key = ImportedSnapshot.stored(pair.key, pair.database)
            let record = key.withBytes { key in
                pair.value.withBytes { value in
                    store.put(
                        store.key(key), value: ByteView(value),
                        deadline: pair.deadline.map { .at($0) } ?? .none, now: nowMillis)
                }
            }
            guard record != nil else { throw FileFault(source.path, "a key cannot be stamped: is the clock right?") }
        }
        let header = DiskHeader(
            kind: .snapshot, file: random() | 1, epoch: manifest.epoch, server: server, actor: 0, number: 1,
            name: Bytes(manifest.name), cluster: Bytes(manifest.cluster))
        bytes = header.encoded()
        write(store, header)
    }

    private mutating func write(_ store: Store, _ header: DiskHeader) {
        var writer = ChunkWriter(origins: store.origins)
        defer { writer.deallocate() }
        writer.begin(file: header)
        var walk = SnapshotWalk()
        while !walk.isDone {
            writer.beginPage()
            while !walk.isDone, writer.byteCount < SnapshotWalk.blockBytes { walk.step(store, into: &writer) }
            writer.endPage()
            seal(&writer)
        }
        var vector = VersionVector()
        vector.set(store.ownOrigin, store.ownSeq)
        writer.end(SnapshotEnd(vector: vector, frontier: VersionVector(), floor: 0, records: walk.records))
        seal(&writer)
    }

    private mutating func seal(_ writer: inout ChunkWriter) {
        bytes.append(contentsOf: writer.seal())
        writer.clear()
    }

    /// A client's key as it is stored (docs/formats.md 6).
    private static func stored(_ key: Bytes, _ database: Int) -> Bytes {
        if database > 0 { return Bytes([0xFF, UInt8(database)] + key.array) }
        return key.array.first == 0xFF ? Bytes([0xFF] + key.array) : key
    }
}
