// The manifest of a server that runs: the cluster's epoch, and a disk that does not take it or takes its time.

import Foundation
import KVBase
import KVCore
import KVRuntime
import KVTestTraits
import Logging
import Testing

@testable import KVServer

@Suite(.blocking) struct ManifestTests {
    /// A directory of a server that joins, and has met nobody.
    private final class World: @unchecked Sendable {
        let path = NSTemporaryDirectory() + "kvd-manifest-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
        let persistence: Persistence

        init() throws {
            let directory = try DataDirectory.open(path, cluster: "test")
            var manifest = Manifest(cluster: "test", name: "one", isNamed: true)
            manifest.epoch = 0
            persistence = Persistence(
                directory, DiskSettings(), server: 7, actors: 1, manifest: manifest, recovered: nil,
                log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        }

        deinit {
            persistence.backups.finish()
            try? FileManager.default.removeItem(atPath: path)
        }

        /// As it is on the disk.
        func kept() throws -> UInt64 {
            try Manifest(parsing: String(contentsOfFile: path + "/MANIFEST", encoding: .utf8)).epoch
        }

        /// The disk takes no manifest, or does again.
        func refuse(_ refuses: Bool) throws {
            let temporary = path + "/MANIFEST.new"
            if refuses {
                try FileManager.default.createDirectory(atPath: temporary, withIntermediateDirectories: false)
            } else {
                try FileManager.default.removeItem(atPath: temporary)
            }
        }

        /// Behind what the thread that waits for the disk has to do.
        func isTried() -> Bool {
            let done = Locked(false)
            persistence.backups.perform { done.withLock { $0 = true } }
            return eventually { done.withLock { $0 } }
        }
    }

    /// A server without an epoch believes servers of before a restore.
    @Test func anEpochThatTheDiskDidNotTakeIsWrittenLater() throws {
        let world = try World()
        try world.persistence.change { _ in }
        #expect(try world.kept() == 0)
        try world.refuse(true)
        world.persistence.adopt(epoch: 5)
        #expect(world.isTried())
        #expect(try world.kept() == 0)
        // With whatever is written next, and without.
        try world.refuse(false)
        try world.persistence.change { $0.isNamed = false }
        #expect(try world.kept() == 5)
        try world.refuse(true)
        world.persistence.adopt(epoch: 6)
        #expect(world.isTried())
        try world.refuse(false)
        world.persistence.look()
        #expect(world.isTried())
        #expect(try world.kept() == 6)
    }

    /// A backup of a server that joined since it started is of its cluster's epoch.
    @Test func filesAreOfTheEpochThatWasMet() throws {
        let world = try World()
        #expect(world.persistence.epoch == 0)
        world.persistence.adopt(epoch: 5)
        #expect(world.persistence.epoch == 5)
    }

    /// A full disk is no reason to try and to complain as often as clients write.
    @Test func aSnapshotThatFailedIsTriedAgainAfterAWhile() throws {
        let world = try World()
        let asked = Locked(0)
        world.persistence.saves { _, _ in asked.withLock { $0 += 1 } }
        func grow() { world.persistence.noteLogged(2 * DiskSettings.saveAfterBytesMin) }
        grow()
        #expect(asked.withLock { $0 } == 1)
        for tries in 1...2 {
            world.persistence.noteSaving()
            world.persistence.noteSaved(nil, writes: 0, logged: 0, nanos: 0)
            for _ in 0..<100 { grow() }
            #expect(asked.withLock { $0 } == tries)
            world.persistence.look()
            for _ in 0..<100 { grow() }
            #expect(asked.withLock { $0 } == tries + 1)
        }
    }

    /// A loop that asks which snapshot there is does not wait for a disk that hangs.
    @Test func whoReadsTheManifestWaitsForNoDisk() throws {
        let world = try World()
        let seen = Locked(false)
        try world.persistence.change { [persistence = world.persistence] _ in
            _ = SystemThread.detach {
                _ = persistence.manifestNow
                seen.withLock { $0 = true }
            }
            #expect(eventually(seconds: 5) { seen.withLock { $0 } })
        }
    }
}

/// Polls until `condition` holds. False after `seconds`.
private func eventually(seconds: Double = 60, _ condition: () -> Bool) -> Bool {
    let deadline = Machine.monotonicNanos + Int64(seconds * 1e9)
    while !condition() {
        if Machine.monotonicNanos > deadline { return false }
        usleep(500)  // poll again
    }
    return true
}
