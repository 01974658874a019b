// Puts a report together: each query actor tells of itself on its own thread, the rest are counters. The metrics loop's
// thread.

import Glibc
import KVBase
import KVCore
import KVRuntime

final class StatusCollector {
    /// An actor that does not answer by then is left out.
    static let patienceMillis: Int64 = 1_000
    /// A report is used again for so long: whoever asks ten thousand times costs the actors no more.
    static let freshMillis: Int64 = 200
    /// What waits for a report; more are refused.
    static let waitingMax = 256

    private let context: ServerContext
    private let loop: Loop
    private let actors: [(loop: Loop, shard: UncheckedBox<Shard>)]
    private let isLeaving: () -> Bool

    private var waiting: [(StatusReport) -> Void] = []
    /// Answers of the round under way, and its number.
    private var answers: [ActorReport] = []
    private var outstanding = 0
    private var round = 0
    private var last: (report: StatusReport, atNanos: Nanos)?

    init(
        _ context: ServerContext, loop: Loop, actors: [(loop: Loop, shard: UncheckedBox<Shard>)],
        isLeaving: @escaping () -> Bool
    ) {
        (self.context, self.loop, self.actors, self.isLeaving) = (context, loop, actors, isLeaving)
    }

    /// Calls `body` with a report no older than `freshMillis`, at once or within `patienceMillis`. False if too many
    /// wait.
    func report(_ body: @escaping (StatusReport) -> Void) -> Bool {
        if let last, loop.nowNanos - last.atNanos < StatusCollector.freshMillis * 1_000_000,
            last.report.isLeaving == isLeaving()
        {
            body(last.report)
            return true
        }
        guard waiting.count < StatusCollector.waitingMax else { return false }
        waiting.append(body)
        if waiting.count == 1 { ask() }
        return true
    }

    private func ask() {
        round += 1
        (answers, outstanding) = ([], 0)
        let (own, round) = (UncheckedBox(self), round)
        for (there, shard) in actors {
            let isTold = there.perform { [loop] in
                let report = shard.value.report()
                loop.perform { own.value.take(report, of: round) }
            }
            if isTold { outstanding += 1 }
        }
        guard outstanding > 0 else { return finish() }
        loop.schedule(afterMillis: StatusCollector.patienceMillis) { [weak self] in
            if let self, self.round == round, outstanding > 0 { finish() }
        }
    }

    private func take(_ report: ActorReport, of round: Int) {
        guard round == self.round, outstanding > 0 else { return }
        answers.append(report)
        outstanding -= 1
        if outstanding == 0 { finish() }
    }

    private func finish() {
        outstanding = 0
        let report = whole(answers.sorted { $0.index < $1.index })
        last = (report, loop.nowNanos)
        let waiting = self.waiting
        self.waiting = []
        for body in waiting { body(report) }
    }

    private func whole(_ actors: [ActorReport]) -> StatusReport {
        let (config, all) = (context.config, context.statistics)
        var report = StatusReport()
        (report.id, report.name, report.cluster) = (hex16(context.serverID), config.nameText, config.cluster)
        (report.version, report.inputOutput) = (ServerVersion.kvd, context.inputOutput)
        (report.address, report.processID) = (config.advertisedAddress.description, Int(getpid()))
        report.wallMillis = Machine.wallMillis
        report.uptimeSeconds = Int((Machine.monotonicNanos - context.startedNanos) / 1_000_000_000)
        report.isLeaving = isLeaving()
        (report.actorCount, report.actors) = (config.actors, actors)
        report.clientsMax = context.clientsAtMost
        report.blockedClients = all.reduce(0) { $0 + $1.blocked }
        report.connections = all.reduce(0) { $0 + $1.connectionsReceived }
        report.rejectedConnections = context.rejectedConnections
        report.closedClients = ClosedClients.Reason.allCases.map { ($0.label, context.closedClients.count($0)) }
        report.denied = context.access.denialCounts
        report.hits = all.reduce(0) { $0 + $1.hits }
        report.misses = all.reduce(0) { $0 + $1.misses }
        report.expired = all.reduce(0) { $0 + $1.expired }
        report.bytesReceived = all.reduce(0) { $0 + $1.bytesReceived }
        report.bytesSent = all.reduce(0) { $0 + $1.bytesSent }
        report.messages = context.messageCounters()
        addCommands(&report)
        addProcess(&report)
        report.slowCommands = context.slowLog.total
        report.slowest = context.slowLog.newest(StatusCollector.slowestShown, keeping: context.live.slowLogEntries)
        return report
    }

    private static let slowestShown = 8

    private func addCommands(_ report: inout StatusReport) {
        let all = context.statistics
        var latencies = ["get", "set", "other"].map { LatencyReport(name: $0, histogram: LatencyHistogram(), nanos: 0) }
        for (index, row) in CommandTable.standard.rows.enumerated() {
            let figures = all.figures(of: index)
            guard figures.calls + figures.rejected > 0 else { continue }
            report.commands.append(
                CommandReport(
                    name: row.nameText, calls: figures.calls, rejected: figures.rejected, failed: figures.failed,
                    nanos: figures.nanos))
            let place = index == CommandTable.getRow ? 0 : index == CommandTable.setRow ? 1 : 2
            latencies[place].histogram.add(all.histogram(of: index))
            latencies[place].nanos += figures.nanos
        }
        report.latencies = latencies
        var errors: [String: Int] = [:]
        for statistics in all { errors.merge(statistics.byCommand.errorCounts, uniquingKeysWith: +) }
        report.errors = errors.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map {
            (code: $0.key, count: $0.value)
        }
    }

    private func addProcess(_ report: inout StatusReport) {
        report.memoryBytes = Memory.allocatedBytes()
        context.memoryPeak.note(report.memoryBytes)
        report.memoryPeakBytes = context.memoryPeak.bytes
        (report.residentBytes, report.machineBytes) = (Memory.residentBytes(), Memory.machineBytes)
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        report.processorSeconds =
            Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
            + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
        report.openFilesMax = ServerContext.clientsPossible + 64
        report.openFiles = OpenFiles.count()
    }
}

/// What the kernel says of this process.
enum OpenFiles {
    /// Looking at each number costs as much as there are, so a bound on it. -1 if /proc is not there.
    static func count() -> Int {
        guard let folder = opendir("/proc/self/fd") else { return -1 }
        defer { closedir(folder) }
        var count = 0
        while let entry = readdir(folder) {
            if entry.pointee.d_name.0 != CChar(UInt8(ascii: ".")) { count += 1 }
        }
        // The folder itself is open too.
        return count - 1
    }
}

extension Shard {
    /// What this actor says of itself. O(peers); its thread.
    func report() -> ActorReport {
        publish()
        publishStore()
        let store = state.pointee.store
        var report = ActorReport()
        (report.index, report.port) = (index, context.config.port + index)
        (report.clients, report.commands) = (sessions.count, state.pointee.counters.commands)
        report.commandsPerSecond = statistics.commandsPerSecond
        (report.keys, report.volatileKeys) = (store.count, store.volatileCount)
        (report.tombstones, report.recordBytes) = (store.tombstoneCount, store.recordBytes)
        let longest = statistics.longestTurnOnProcessor
        (report.longestTurnMicros, report.longestTurnWork) = (longest.micros, longest.work.text)
        report.longTurns = statistics.longTurns
        report.refusal = state.pointee.isLoading ? "loading" : state.pointee.writeRefusal.info
        guard let replicator else { return report }
        let (replica, figures) = (replicator.replica, replicator.replica.statistics)
        report.lagMillis = replicator.lagMillis
        report.divergences = Int(clamping: figures.divergences)
        report.futureStamps = Int(clamping: figures.futureStamps)
        report.journalOverruns = Int(clamping: figures.journalOverruns)
        report.clockRejects = Int(clamping: figures.clockRejects)
        report.tombstonesCollected = Int(clamping: figures.tombstonesCollected)
        report.hold = replica.expiryHold(replicator.moment).map { $0.text }
        report.clockCorrectionMillis = replica.clockCorrectionMillis
        report.state = replica.ownState
        report.caughtUpPercent = replicator.caughtUpPercent
        report.peers = replicator.peers()
        return report
    }
}

extension ExpiryHold {
    var text: String {
        switch self {
        case .departed(let id): "what \(hex16(id)) left is not agreed on yet"
        case .silent(let id): "\(hex16(id)) does not say what it has"
        case .behind(let id, let millis): "the clock of \(hex16(id)) is \(millis) ms behind"
        }
    }
}

extension ClosedClients.Reason {
    /// As metrics call it.
    var label: String {
        switch self {
        case .readsNothing: "reads_nothing"
        case .standsStill: "stands_still"
        case .holdsTooMuch: "holds_too_much"
        case .saysNotWho: "says_not_who"
        }
    }
}
