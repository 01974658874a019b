// The one file that says what a data directory holds: whose it is, its lives, its snapshot. Pure, any thread.

package import KVBase

/// A text of lines, so that it can be read by eye; its last line is a checksum of those before. Written anew as a
/// whole, under another name first.
package struct Manifest: Equatable, Sendable {
    /// One life of the server: an id and its actors.
    package struct Life: Equatable, Sendable {
        package var server: UInt64
        package var actors: Int
        /// Of each actor the first file of its log that is needed beside the snapshot; 0: none is.
        package var firstLogs: [UInt64]

        package init(server: UInt64, actors: Int, firstLogs: [UInt64]) {
            (self.server, self.actors, self.firstLogs) = (server, actors, firstLogs)
        }

        package var isNeeded: Bool { firstLogs.contains { $0 > 0 } }
    }

    package struct Snapshot: Equatable, Sendable {
        package var number: UInt64
        package var bytes: UInt64
        /// When it was finished, in milliseconds since 1970.
        package var at: Millis

        package init(number: UInt64, bytes: UInt64, at: Millis) {
            (self.number, self.bytes, self.at) = (number, bytes, at)
        }
    }

    /// Why a text is no manifest that can be used.
    package enum Fault: Error, Equatable, Sendable {
        case damaged
        case newer(reader: Int)
    }

    /// It was made of a backup, and no server has used it yet.
    package var isRestored: Bool { !restored.isEmpty && !lives.contains(where: \.isNeeded) }

    package static let version = 1
    package static let reader = 1
    /// Lives that are kept although none of their logs is needed: their ids are told to other servers.
    package static let livesMax = 64
    package static let bytesMax = 1024 * 1024

    package var cluster: String
    package var name: String
    /// The name was given by the user.
    package var isNamed: Bool
    /// Grows with each restore of the whole; 0 as long as a server that joins has met no other.
    package var epoch: UInt64 = 1
    /// Which backup the directory began with, and how; empty if with none.
    package var restored = ""
    /// Oldest first.
    package var lives: [Life] = []
    package var snapshot: Snapshot?

    package init(cluster: String, name: String, isNamed: Bool) {
        (self.cluster, self.name, self.isNamed) = (cluster, name, isNamed)
    }

    /// Adds a life, and forgets the oldest ones of which nothing is needed.
    package mutating func begin(_ life: Life) {
        lives.append(life)
        while lives.count > Manifest.livesMax, let place = lives.firstIndex(where: { !$0.isNeeded }) {
            lives.remove(at: place)
        }
    }

    package var text: String {
        var lines = [
            "kvd-directory \(Manifest.version) reader \(Manifest.reader)", "cluster \(cluster)",
            "name \(name)\(isNamed ? " given" : "")", "epoch \(epoch)",
        ]
        if !restored.isEmpty { lines.append("restored \(restored)") }
        for life in lives {
            let logs = life.firstLogs.map { String($0) }.joined(separator: " ")
            lines.append("life \(Manifest.hex(life.server)) actors \(life.actors) logs \(logs)")
        }
        if let snapshot { lines.append("snapshot \(snapshot.number) bytes \(snapshot.bytes) at \(snapshot.at)") }
        let body = lines.joined(separator: "\n") + "\n"
        return body + Manifest.last(body) + "\n"
    }

    /// The last line behind these.
    private static func last(_ body: String) -> String {
        "crc " + String(Array(body.utf8).withUnsafeBytes { crc32c($0) }, radix: 16)
    }

    package static func hex(_ id: UInt64) -> String { ActorUID.hex(id, 16) }

    package init(parsing text: String) throws(Fault) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        let first = (lines.first ?? "").split(separator: " ")
        // Whatever else a later release writes, this line stays.
        guard first.count == 4, first[0] == "kvd-directory", first[2] == "reader", let version = Int(first[1]),
            let reader = Int(first[3])
        else { throw .damaged }
        guard reader <= Manifest.version else { throw .newer(reader: version) }
        guard lines.count >= 3, lines.last == "", lines[lines.count - 2].hasPrefix("crc ") else { throw .damaged }
        let body = lines.dropLast(2).joined(separator: "\n") + "\n"
        guard lines[lines.count - 2] == Manifest.last(body) else { throw .damaged }
        self.init(cluster: "", name: "", isNamed: false)
        for line in lines.dropFirst().dropLast(2) {
            guard take(line.split(separator: " ").map(String.init), line) else { throw .damaged }
        }
    }

    private mutating func take(_ words: [String], _ line: Substring) -> Bool {
        switch words.first {
        case "cluster": cluster = String(line.dropFirst("cluster ".count))
        case "name" where words.count >= 2: (name, isNamed) = (words[1], words.count == 3)
        case "epoch" where words.count == 2:
            guard let number = UInt64(words[1]) else { return false }
            epoch = number
        case "restored" where words.count > 1: restored = words[1...].joined(separator: " ")
        case "life" where words.count >= 6 && words[2] == "actors" && words[4] == "logs":
            let logs = words[5...].compactMap { UInt64($0) }
            guard let id = UInt64(words[1], radix: 16), let actors = Int(words[3]),
                (1...Limits.actorsMax).contains(actors), logs.count == actors, logs.count == words.count - 5
            else { return false }
            lives.append(Life(server: id, actors: actors, firstLogs: logs))
        case "snapshot" where words.count == 6:
            guard let number = UInt64(words[1]), let bytes = UInt64(words[3]), let at = Millis(words[5]) else {
                return false
            }
            snapshot = Snapshot(number: number, bytes: bytes, at: at)
        // Of a later release, which says that this one may read it.
        default: break
        }
        return true
    }
}
