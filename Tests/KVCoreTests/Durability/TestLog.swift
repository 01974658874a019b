// A store with a log in memory, for the tests of what a directory holds. One thread.

import KVBase

@testable import KVCore

/// One actor: what it writes becomes chunks of files that are arrays.
final class TestLog {
    let store: Store
    let uid: ActorUID
    private(set) var files: [(header: DiskHeader, bytes: [UInt8])] = []
    var writer: ChunkWriter
    private var logged: UInt64 = 0

    init(_ origins: OriginTable, server: UInt64 = 9, actor: UInt16 = 0) {
        uid = ActorUID(server: server, index: actor)
        store = TestLog.store(origins, server: server, actor: actor)
        writer = ChunkWriter(origins: origins)
        begin()
    }

    deinit {
        store.destroy()
        writer.deallocate()
    }

    static func store(_ origins: OriginTable, server: UInt64, actor: UInt16 = 0) -> Store {
        Store(
            StoreConfig(
                hashSeed: 1, digestKey: 2, own: ActorUID(server: server, index: actor), origins: origins,
                journalCapacity: 1 << 16))
    }

    /// The next file.
    func begin() {
        let before = files.last.map { (file: $0.header.number, chunks: writer.number) }
        let number = UInt64(files.count + 1)
        let header = DiskHeader(
            kind: .log, file: mix64(uid.server &+ UInt64(uid.index), number) | 1, server: uid.server,
            actor: Int(uid.index), number: number, name: "test", lineage: [5, 6])
        files.append((header, header.encoded()))
        writer.begin(file: header)
        if let before { writer.follows(file: before.file, chunks: before.chunks) }
    }

    /// What was written since the last turn.
    func turn(_ more: (inout ChunkWriter) -> Void = { _ in }) {
        more(&writer)
        if store.ownSeq > logged { writer.own(store, after: logged) }
        logged = store.ownSeq
        guard !writer.isEmpty else { return }
        files[files.count - 1].bytes += Array(writer.seal())
        writer.clear()
    }

    /// All that a scan of this actor would bring, as an interval of its writes.
    func segment(from: UInt64 = 0) -> DeltaSegment {
        var builder = SegmentBuilder(from: from, target: store.ownSeq, bytesMax: .max, dotsMax: 1 << 20)
        while !builder.isFinished { _ = builder.advance(store, budget: 1024, planted: []) }
        return builder.finish(origin: store.ownOrigin, cut: VersionVector())
    }

    /// Hears all that the other one wrote.
    func hear(_ other: TestLog) {
        let segment = other.segment()
        withExtendedLifetime(segment) { for entry in segment.entries { store.merge(entry.record, entry.hash) } }
    }

    func change(_ file: Int, _ body: (inout [UInt8]) -> Void) { body(&files[file].bytes) }
    func drop(_ file: Int) { files.remove(at: file) }
}

/// Stores that come back from bytes.
final class Comeback {
    let stores: [Store]
    let recovery: Recovery
    private(set) var state = RecoveredState()
    private(set) var findings: [LogFinding] = []

    init(
        _ origins: OriginTable, actors: Int = 1, snapshot: [UInt8]? = nil, _ logs: [TestLog],
        lineage: [UInt64] = [9], now: Millis = 1_000, isWhole: Bool = true, crew: (any RecoveryCrew)? = nil
    ) throws {
        stores = (0..<actors).map { TestLog.store(origins, server: 77, actor: UInt16($0)) }
        recovery = Recovery(stores: stores, now: now, crew: crew)
        if let snapshot { try snapshot.withUnsafeBytes { try recovery.readSnapshot($0) } }
        for log in logs {
            // The bytes must stay while they are read.
            let files = log.files.map { file in
                let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: file.bytes.count, alignment: 8)
                copy.copyBytes(from: file.bytes)
                return LogFileBytes(header: file.header, bytes: UnsafeRawBufferPointer(copy))
            }
            defer { for file in files { file.bytes.deallocate() } }
            findings += try recovery.readLog(files, isWhole: isWhole)
        }
        state = recovery.finish(lineage: lineage)
        for store in stores { store.checkInvariants() }
    }

    deinit { for store in stores { store.destroy() } }

    var store: Store { stores[0] }
    func seen(_ uid: ActorUID) -> UInt64 { store.origins.index(of: uid).map { state.vector[$0] } ?? 0 }
}

/// A snapshot of a store as bytes; `between` is called between two steps of the walk.
func takeSnapshot(
    _ store: Store, vector: VersionVector, frontier: VersionVector = VersionVector(), file: UInt64 = 31,
    rows: [MemberRow] = [], between: () -> Void = {}
) -> [UInt8] {
    let header = DiskHeader(kind: .snapshot, file: file, server: 9, actor: 0, number: 1)
    var bytes = header.encoded()
    var writer = ChunkWriter(origins: store.origins)
    defer { writer.deallocate() }
    writer.begin(file: header)
    var walk = SnapshotWalk()
    while !walk.isDone {
        writer.beginPage()
        while !walk.isDone, writer.byteCount < 4096 {
            walk.step(store, into: &writer)
            between()
        }
        writer.endPage()
        bytes += Array(writer.seal())
        writer.clear()
    }
    writer.rows(rows)
    writer.end(
        SnapshotEnd(vector: vector, frontier: frontier, floor: store.gcFloor, records: walk.records))
    bytes += Array(writer.seal())
    return bytes
}
