// What a start refuses, and what it goes on with, where files of a directory are damaged or missing.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

/// Files that are arrays.
private final class Files: DirectoryReader {
    final class Copy: DirectoryBytes {
        let bytes: UnsafeRawBufferPointer

        init(_ array: [UInt8]) {
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: array.count, alignment: 8)
            copy.copyBytes(from: array)
            bytes = UnsafeRawBufferPointer(copy)
        }

        deinit { bytes.deallocate() }
    }

    var all: [String: [UInt8]] = [:]
    /// How many bytes had been merged, each time when that was told.
    var merged: [Int] = []

    func noteMerged(_ bytes: Int) { merged.append((merged.last ?? 0) + bytes) }

    func names() -> [String] { all.keys.sorted() }

    func read(_ name: String, syncs: Bool) throws(DirectoryFault) -> any DirectoryBytes {
        guard let bytes = all[name] else { throw .missing(name) }
        return Copy(bytes)
    }
}

@Suite(.blocking) struct DirectoryRecoveryTests {
    private static let snapshot = DiskNames.snapshot(1)
    private static let logs = [DiskNames.log(9, 0, 2), DiskNames.log(9, 0, 3)]

    /// A snapshot of ten keys, and the two files of a log behind it with ten more; `others`: another server is known.
    private struct Directory {
        let files = Files()
        var manifest = Manifest(cluster: "c", name: "n", isNamed: true)
        let origins = OriginTable()

        init(others: Bool) {
            let log = TestLog(origins)
            for i in 0..<10 { log.store.set("old \(i)", "v", now: 1_000) }
            log.turn()
            var vector = VersionVector()
            vector.set(log.store.ownOrigin, log.store.ownSeq)
            files.all[DirectoryRecoveryTests.snapshot] = takeSnapshot(log.store, vector: vector)
            log.begin()
            for i in 0..<10 {
                if i == 5 { log.begin() }
                log.store.set("new \(i)", "v", now: 1_000)
                log.turn {
                    guard i == 9 else { return }
                    // What is not there was on the disk.
                    $0.synced(file: 3, chunks: 4)
                    if others { $0.rows([MemberRow(server: 8, status: .up, actorCount: 1, address: "")]) }
                }
            }
            for (name, file) in zip(DirectoryRecoveryTests.logs, log.files.dropFirst()) { files.all[name] = file.bytes }
            manifest.lives = [Manifest.Life(server: 9, actors: 1, firstLogs: [2])]
            manifest.snapshot = Manifest.Snapshot(number: 1, bytes: 1, at: 1)
        }

        /// How many keys are there, and how far the writer is said to be seen.
        func start(repairs: Bool = false) throws -> (found: DirectoryState, keys: Int, seen: UInt64) {
            let store = TestLog.store(OriginTable(), server: 77)
            defer { store.destroy() }
            let found = try DirectoryRecovery.run(manifest, files, into: [store], now: 1_000, repairs: repairs)
            let origin = store.origins.index(of: ActorUID(server: 9, index: 0))
            return (found, store.count, origin.map { found.state.vector[$0] } ?? 0)
        }
    }

    /// A bit in the first chunk, in the header, or all of it.
    enum Harm: CaseIterable { case flip, header, missing }
    /// Nothing says that there was a last file of a log.
    private static let harms: [(Harm, String)] = [
        (.flip, snapshot), (.header, snapshot), (.missing, snapshot), (.flip, logs[0]), (.header, logs[0]),
        (.missing, logs[0]), (.flip, logs[1]), (.header, logs[1]),
    ]

    private func harm(_ directory: Directory, _ name: String, _ harm: Harm) {
        switch harm {
        case .flip: directory.files.all[name]![DiskHeader.byteCount + 20] ^= 1
        case .header: directory.files.all[name]![30] ^= 1
        case .missing: directory.files.all[name] = nil
        }
    }

    @Test func whatWasReadIsToldByAndByAndAddsUp() throws {
        let directory = Directory(others: false)
        let files = directory.files
        #expect(try directory.start().keys == 20)
        #expect(files.merged.last == files.all.values.reduce(0) { $0 + $1.count })
        #expect(files.merged.count > 2 * files.all.count && files.merged == files.merged.sorted())
        files.merged = []
        // What cannot be read is passed over.
        files.all[DirectoryRecoveryTests.logs[1]]![DiskHeader.byteCount + 40] ^= 1
        _ = try directory.start(repairs: true)
        #expect(files.merged.last == files.all.values.reduce(0) { $0 + $1.count })
        #expect(
            directory.manifest.neededLogs(among: files.names() + ["log-9", "snapshot-2"]) == DirectoryRecoveryTests.logs
        )
        var later = directory.manifest
        later.lives[0].firstLogs = [3]
        #expect(later.neededLogs(among: files.names()) == [DirectoryRecoveryTests.logs[1]])
        later.lives[0].firstLogs = [0]
        #expect(later.neededLogs(among: files.names()).isEmpty)
    }

    @Test func aWholeDirectoryIsRead() throws {
        let start = try Directory(others: false).start()
        #expect(start.keys == 20 && start.seen == 20)
        #expect(start.found.damages.isEmpty && start.found.torn.isEmpty && start.found.unwritten.isEmpty)
    }

    @Test(arguments: harms) func aDamagedFileIsRefusedAloneAndNamed(_ kind: Harm, _ name: String) throws {
        let directory = Directory(others: false)
        harm(directory, name, kind)
        do {
            _ = try directory.start()
            Issue.record("it starts")
        } catch let fault as DirectoryFault {
            #expect(fault.file == name && fault.reason.hasSuffix("; --repair starts with what is intact"))
        }
        let repaired = try directory.start(repairs: true)
        #expect(Set(repaired.found.damages.map(\.file)) == [name])
        #expect(repaired.keys < 20 && repaired.keys >= 10)
    }

    @Test(arguments: Harm.allCases, [snapshot, logs[0]])
    func whereOthersAreKnownTheStartGoesOnAndProvesNothingOfIt(_ kind: Harm, _ name: String) throws {
        let directory = Directory(others: true)
        harm(directory, name, kind)
        let start = try directory.start()
        #expect(Set(start.found.damages.map(\.file)) == [name])
        #expect(start.keys < 20)
        #expect(start.seen < 20, "what is missing is fetched")
    }
}
