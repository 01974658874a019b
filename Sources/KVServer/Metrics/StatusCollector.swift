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
        let report = StatusReport(
            context, actors: answers.sorted { $0.index < $1.index }, isLeaving: isLeaving())
        last = (report, loop.nowNanos)
        let waiting = self.waiting
        self.waiting = []
        for body in waiting { body(report) }
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
    /// Whether data commands are answered, in INFO's word.
    var dataCommands: String {
        state.pointee.isLoading || state.pointee.isReading ? "loading" : state.pointee.writeRefusal.info
    }

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
        report.refusal = dataCommands
        guard let replicator else { return report }
        let (replica, figures) = (replicator.replica, replicator.replica.statistics)
        report.lagMillis = replicator.lagMillis
        report.divergences = Int(clamping: figures.divergences)
        report.futureStamps = Int(clamping: figures.futureStamps)
        report.journalOverruns = Int(clamping: figures.journalOverruns)
        report.clockRejects = Int(clamping: figures.clockRejects)
        report.tombstonesCollected = Int(clamping: figures.tombstonesCollected)
        report.clockCorrectionMillis = replica.clockCorrectionMillis(replicator.moment)
        report.state = replica.ownState
        report.caughtUpPercent = replicator.caughtUpPercent
        report.peers = replicator.peers()
        report.hold = replica.expiryHold(replicator.moment).map { $0.text(report.peers) }
        return report
    }
}

extension ExpiryHold {
    /// Servers by their names, as far as they are known.
    func text(_ peers: [PeerRow]) -> String {
        func name(_ id: UInt64) -> String { peers.first { $0.id == id }?.name ?? hex16(id) }
        return switch self {
        case .departed(let id): "what \(name(id)) left is not agreed on yet"
        case .silent(let id): "\(name(id)) does not say what it has"
        case .behind(let id, let millis):
            "\(name(id)) last reported a time \(millis) ms behind: its clock is slow, or its report late"
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
        case .asksBeforeLogin: "asks_before_login"
        case .leavesOutput: "leaves_output"
        case .holdsMost: "holds_most"
        case .noMemory: "no_memory"
        }
    }
}
