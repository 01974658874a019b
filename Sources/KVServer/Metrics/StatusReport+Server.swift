// A report of this process: what its actors said of themselves, and its counters. Any thread.

import Glibc
import KVBase
import KVRuntime

extension StatusReport {
    /// `actors`: what they said of themselves, in their order. Any thread.
    init(_ context: ServerContext, actors: [ActorReport], isLeaving: Bool) {
        let (config, all) = (context.config, context.statistics)
        self.init()
        (id, name, cluster) = (hex16(context.serverID), config.nameText, config.cluster)
        (version, inputOutput) = (ServerVersion.kvd, context.inputOutput)
        (address, processID) = (config.advertisedAddress.description, Int(getpid()))
        wallMillis = Machine.wallMillis
        uptimeSeconds = Int((Machine.monotonicNanos - context.startedNanos) / 1_000_000_000)
        self.isLeaving = isLeaving
        (actorCount, self.actors) = (config.actors, actors)
        clientsMax = context.clientsAtMost
        blockedClients = all.reduce(0) { $0 + $1.blocked }
        connections = all.reduce(0) { $0 + $1.connectionsReceived }
        rejectedConnections = context.rejectedConnections
        if let persistence = context.persistence {
            quarantinedBytes = persistence.quarantinedBytes
            disk = persistence.report()
            isDiskFailing = persistence.saveFigures.hasFailed || persistence.logs.contains(where: \.isFailing)
        }
        readPercent = context.loading.figures().map { Int($0.percent) }
        closedClients = ClosedClients.Reason.allCases.map { ($0.label, context.closedClients.count($0)) }
        denied = context.access.denialCounts
        hits = all.reduce(0) { $0 + $1.hits }
        misses = all.reduce(0) { $0 + $1.misses }
        expired = all.reduce(0) { $0 + $1.expired }
        bytesReceived = all.reduce(0) { $0 + $1.bytesReceived }
        bytesSent = all.reduce(0) { $0 + $1.bytesSent }
        messages = context.messageCounters()
        addCommands(context)
        addProcess(context)
        certificateEnd = Int(context.certificateEndsAt)
        slowCommands = context.slowLog.total
        slowest = context.slowLog.newest(StatusReport.slowestShown, keeping: context.live.slowLogEntries)
    }

    private static let slowestShown = 8

    private mutating func addCommands(_ context: ServerContext) {
        let all = context.statistics
        var latencies = ["get", "set", "other"].map { LatencyReport(name: $0, histogram: LatencyHistogram(), nanos: 0) }
        for (index, row) in CommandTable.standard.rows.enumerated() {
            let figures = all.figures(of: index)
            guard figures.calls + figures.rejected > 0 else { continue }
            commands.append(
                CommandReport(
                    name: row.nameText, calls: figures.calls, rejected: figures.rejected, failed: figures.failed,
                    nanos: figures.nanos))
            let place = index == CommandTable.getRow ? 0 : index == CommandTable.setRow ? 1 : 2
            latencies[place].histogram.add(all.histogram(of: index))
            latencies[place].nanos += figures.nanos
        }
        self.latencies = latencies
        var errors: [String: Int] = [:]
        for statistics in all { errors.merge(statistics.byCommand.errorCounts, uniquingKeysWith: +) }
        self.errors = errors.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map {
            (code: $0.key, count: $0.value)
        }
    }

    private mutating func addProcess(_ context: ServerContext) {
        memoryBytes = Memory.allocatedBytes()
        context.memoryPeak.note(memoryBytes)
        memoryPeakBytes = context.memoryPeak.bytes
        (residentBytes, machineBytes) = (Memory.residentBytes(), Memory.machineBytes)
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        processorSeconds =
            Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
            + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
        openFilesMax = ServerContext.openFilesMax
        openFiles = OpenFiles.count()
    }
}

extension Persistence {
    /// What the logs have met since the start, all together. O(actors); any thread.
    func report() -> DiskReport {
        var report = DiskReport(snapshotErrors: saveFigures.failures)
        for log in logs {
            report.writeErrors += log.failedWrites
            report.syncErrors += log.failedSyncs
            report.lagMillis = max(report.lagMillis, log.lagMillis(now: Machine.monotonicNanos))
        }
        return report
    }
}
