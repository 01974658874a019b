// The manifest of a server that runs, and a disk that takes its time.

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
