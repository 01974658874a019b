// What one server says of itself at one moment, for metrics, status.json and the page. Values; any thread.

import KVBase

/// Of one query actor, put together by its own thread.
struct ActorReport: Sendable {
    var index = 0
    var port = 0
    var clients = 0
    var commands = 0
    var commandsPerSecond = 0
    var keys = 0
    var volatileKeys = 0
    var tombstones = 0
    var recordBytes = 0
    var longestTurnMicros = 0
    var longestTurnWork = ""
    var longTurns = 0
    var lagMillis: Millis = 0
    var divergences = 0
    var futureStamps = 0
    var journalOverruns = 0
    var clockRejects = 0
    var tombstonesCollected = 0
    /// What keeps expired values and tombstones from going, in words; nil if nothing does.
    var hold: String?
    var clockCorrectionMillis: Millis = 0
    /// `up`, `syncing` or `alone`.
    var state = "up"
    var caughtUpPercent = 100
    /// Why data commands are refused, if they are.
    var refusal = "served"
    var peers: [PeerRow] = []
}

/// Of one command of the table.
struct CommandReport: Sendable {
    var name: String
    var calls: Int
    var rejected: Int
    var failed: Int
    var nanos: Int
}

/// GET, SET and all others.
struct LatencyReport: Sendable {
    var name: String
    var histogram: LatencyHistogram
    var nanos: Int
}

/// Of the directory; zeros without one.
struct DiskReport: Sendable {
    /// Writes to the logs that failed, syncs of them, and snapshots.
    var writeErrors = 0
    var syncErrors = 0
    var snapshotErrors = 0
    /// How long the oldest write has waited that is not on the disk.
    var lagMillis: Millis = 0
}

/// Something that an operator should know, and what to do about it.
struct Finding: Sendable, Equatable {
    enum Weight: String, Sendable { case notice, warning, critical }
    var weight: Weight
    var what: String
    var advice: String
}

struct StatusReport: Sendable {
    var id = ""
    var name = ""
    var cluster = ""
    var version = ""
    var address = ""
    var inputOutput = ""
    var processID = 0
    var wallMillis: Millis = 0
    var uptimeSeconds = 0
    var isLeaving = false
    /// How many actors there are; those that answered in time are in `actors`.
    var actorCount = 0
    var actors: [ActorReport] = []
    var clientsMax = 0
    var blockedClients = 0
    var connections = 0
    var rejectedConnections = 0
    /// Of damaged files that were set aside.
    var quarantinedBytes = 0
    /// How much of its directory the server has read; nil if it reads none.
    var readPercent: Int?
    /// The log or the last snapshot could not be written.
    var isDiskFailing = false
    var disk = DiskReport()
    var closedClients: [(reason: String, count: Int)] = []
    var denied = AccessLog.Counts()
    var hits = 0
    var misses = 0
    var expired = 0
    var bytesReceived = 0
    var bytesSent = 0
    var messages = MessageCounters()
    var commands: [CommandReport] = []
    var latencies: [LatencyReport] = []
    var errors: [(code: String, count: Int)] = []
    var memoryBytes = 0
    var memoryPeakBytes = 0
    var residentBytes = 0
    var machineBytes = 0
    var processorSeconds = 0.0
    /// Seconds since 1970; 0 if this server has no certificate.
    var certificateEnd = 0
    var openFiles = 0
    var openFilesMax = 0
    var slowCommands = 0
    var slowest: [SlowLog.Entry] = []

    /// Peers as the slowest of this server's actors sees them: the largest lag, the sum of what is pending.
    var peers: [PeerRow] {
        var rows: [UInt64: PeerRow] = [:]
        for actor in actors {
            for peer in actor.peers {
                guard var row = rows[peer.id] else {
                    rows[peer.id] = peer
                    continue
                }
                row.pending += peer.pending
                row.lagMillis = max(row.lagMillis, peer.lagMillis)
                row.backlogBytes += peer.backlogBytes
                row.heardMillisAgo = max(row.heardMillisAgo, peer.heardMillisAgo)
                row.roundTripMillis = max(row.roundTripMillis, peer.roundTripMillis)
                if PeerRow.rank(peer.state) > PeerRow.rank(row.state) { row.state = peer.state }
                rows[peer.id] = row
            }
        }
        return rows.values.sorted { ($0.name, $0.id) < ($1.name, $1.id) }
    }

    /// Of the actor that speaks for the server; `loading` while the directory is read.
    var state: String {
        isLeaving ? "leaving" : readPercent != nil ? "loading" : actors.first?.state ?? "unknown"
    }
    var caughtUpPercent: Int { actors.first?.caughtUpPercent ?? 0 }
    var lagMillis: Millis { actors.map(\.lagMillis).max() ?? 0 }
    var commandsPerSecond: Int { actors.reduce(0) { $0 + $1.commandsPerSecond } }

    /// Why no new clients should be sent here; nil if they may.
    var unreadiness: String? {
        if isLeaving { return "leaving: what was acknowledged is being handed over" }
        if actors.count < actorCount {
            return "busy: \(actorCount - actors.count) of \(actorCount) actors do not answer"
        }
        guard let first = actors.first else { return "busy: no actor answers" }
        if let readPercent { return "loading: \(readPercent) % of the directory has been read" }
        switch first.state {
        case "syncing": return "joining: \(first.caughtUpPercent) % of the data has arrived"
        case "alone" where uptimeSeconds < Int(Gate.aloneMillis / 1000): return "joining: nobody has answered yet"
        default: break
        }
        if first.refusal == "loading" { return "joining: data commands wait for the data" }
        return nil
    }
}

extension PeerRow {
    /// The worse, the greater.
    static func rank(_ state: State) -> Int {
        switch state {
        case .up: 0
        case .syncing: 1
        case .suspect: 2
        case .down: 3
        }
    }
}
