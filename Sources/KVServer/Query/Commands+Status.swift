// KVD STATUS and DOCTOR: what the server says of itself, for people and scripts. Handlers; loop thread.

import KVBase
import KVRuntime
import RESP
import Synchronization

/// Reports of all actors, put in by each on its own thread.
private final class ActorReports: Sendable {
    private let reports = Mutex<[ActorReport]>([])

    func add(_ report: ActorReport) { reports.withLock { $0.append(report) } }
    var all: [ActorReport] { reports.withLock { $0.sorted { $0.index < $1.index } } }
}

extension Commands {
    /// Calls `body` with a report of the whole server, when all actors have told of themselves.
    private static func withReport(_ x: inout Execution, _ body: @escaping (inout Execution, StatusReport) -> Void) {
        let reports = ActorReports()
        AskAll.run(&x) { shard in
            reports.add(shard.report())
            return []
        } _: { x, _ in
            let isLeaving = x.shard.state.pointee.writeRefusal == .leaving
            body(&x, StatusReport(x.shard.context, actors: reports.all, isLeaving: isLeaving))
        }
    }

    /// KVD STATUS: JSON, as /status.json. KVD STATUS TABLE: lines of words parted by tabs, the first are headings.
    static func kvdStatus(_ x: inout Execution) {
        guard x.count == 2 || x.count == 3 else { return x.wrongArity("kvd|status") }
        if x.count == 3, !x.argument(2, is: "TABLE") { return x.error("ERR syntax error") }
        let isTable = x.count == 3
        withReport(&x) { x, report in
            guard isTable else { return x.output.pointee.bulk(report.json) }
            let rows = report.table
            x.output.pointee.arrayHeader(rows.count)
            for row in rows { x.output.pointee.bulk(row.joined(separator: "\t")) }
        }
    }

    /// KVD DOCTOR: for each finding its weight, what is wrong and what to do. Empty if nothing is.
    static func kvdDoctor(_ x: inout Execution) {
        guard x.count == 2 else { return x.wrongArity("kvd|doctor") }
        withReport(&x) { x, report in
            let findings = report.findings
            x.output.pointee.arrayHeader(findings.count)
            for finding in findings {
                x.output.pointee.arrayHeader(3)
                x.output.pointee.bulk(finding.weight.rawValue)
                x.output.pointee.bulk(finding.what)
                x.output.pointee.bulk(finding.advice)
            }
        }
    }
}

extension StatusReport {
    /// This server first, then the others as it sees them; `-` for what only they know.
    var table: [[String]] {
        let own = [
            name, address, state, "\(lagMillis)", "\(peers.reduce(0) { $0 + $1.pending })", "-", "-",
            "\(actors.map(\.keys).max() ?? 0)", "\(actors.reduce(0) { $0 + $1.clients })", "\(commandsPerSecond)",
            Memory.human(residentBytes),
        ]
        let others = peers.map { peer in
            [
                peer.name, peer.address, peer.state.rawValue, "\(peer.lagMillis)", "\(peer.pending)",
                "\(peer.roundTripMillis)", "\(peer.clockOffsetMillis)", "-", "-", "-", "-",
            ]
        }
        return [
            [
                "SERVER", "ADDRESS", "STATE", "LAG MS", "PENDING", "RTT MS", "CLOCK MS", "KEYS", "CLIENTS", "OPS/S",
                "MEMORY",
            ], own,
        ] + others
    }
}
