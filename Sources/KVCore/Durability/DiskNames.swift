// How the files of a data directory are called. Pure, any thread.

package enum DiskNames {
    package static let manifest = "MANIFEST"
    /// Of a file that is not finished: the ending.
    package static let unfinished = ".new"

    package static func log(_ server: UInt64, _ actor: Int, _ number: UInt64) -> String {
        "log-\(ActorUID.hex(server, 16))-\(actor)-\(number)"
    }

    package static func snapshot(_ number: UInt64) -> String { "snapshot-\(number)" }

    /// A log's file, by its name.
    package struct Log: Equatable, Sendable {
        package var name: String
        package var server: UInt64
        package var actor: Int
        package var number: UInt64

        package init?(_ name: String) {
            let parts = name.split(separator: "-")
            guard parts.count == 4, parts[0] == "log", let server = UInt64(parts[1], radix: 16),
                let actor = Int(parts[2]), let number = UInt64(parts[3])
            else { return nil }
            (self.name, self.server, self.actor, self.number) = (name, server, actor, number)
        }
    }

    /// Those of logs, in order.
    package static func logs(among names: [String]) -> [Log] {
        names.compactMap { Log($0) }.sorted {
            ($0.server, $0.actor, $0.number) < ($1.server, $1.actor, $1.number)
        }
    }
}

extension Manifest {
    /// A snapshot is on the disk, and this is the first file of each own log that is needed beside it. What was read at
    /// the start is in the stores, and so in the snapshot.
    package mutating func settle(_ snapshot: Snapshot, of server: UInt64, firstLogs: [UInt64]) {
        self.snapshot = snapshot
        for i in lives.indices {
            lives[i].firstLogs = lives[i].server == server ? firstLogs : lives[i].firstLogs.map { _ in 0 }
        }
    }

    /// Files of logs that a start reads.
    package func neededLogs(among names: [String]) -> [String] {
        DiskNames.logs(among: names).filter { file in
            guard let life = lives.first(where: { $0.server == file.server }),
                life.firstLogs.indices.contains(file.actor)
            else { return false }
            return life.firstLogs[file.actor] > 0 && file.number >= life.firstLogs[file.actor]
        }.map(\.name)
    }

    /// Files of that name hold nothing that counts, now that this is the manifest and no longer `before`.
    package func unneeded(among names: [String], before: Manifest) -> [String] {
        names.filter { name in
            if let old = before.snapshot, old != snapshot, name == DiskNames.snapshot(old.number) { return true }
            guard let file = DiskNames.Log(name), let life = lives.first(where: { $0.server == file.server }),
                life.firstLogs.indices.contains(file.actor)
            else { return false }
            let first = life.firstLogs[file.actor]
            return first == 0 || file.number < first
        }
    }

    /// What a process left that ended in the middle: files without their name, snapshots and logs that the manifest
    /// does not name.
    package func leftovers(among names: [String]) -> [String] {
        names.filter { name in
            if let log = DiskNames.Log(name) { return !lives.contains { $0.server == log.server } }
            let isUnfinished = name.hasSuffix(DiskNames.unfinished)
            if name.hasPrefix("snapshot-") {
                return isUnfinished || name != snapshot.map { DiskNames.snapshot($0.number) }
            }
            return isUnfinished && name.hasPrefix("log-")
        }
    }
}
