// Clients that the server closed of itself, by reason: counted for INFO, told in the log once a second. Any thread.

import KVBase
import Logging
import Synchronization

package final class ClosedClients: Sendable {
    package enum Reason: Int, CaseIterable, Sendable {
        case readsNothing, standsStill, holdsTooMuch, saysNotWho, asksBeforeLogin, leavesOutput, holdsMost, noMemory

        var text: String {
            switch self {
            case .readsNothing: "read nothing of a reply for 60 s"
            case .standsStill: "sent nothing more of a request for 60 s"
            case .holdsTooMuch:
                "had the longest unfinished request when those of all clients passed 1 GiB or a quarter of --maxmemory"
            case .saysNotWho: "did not say who it is within 30 s"
            case .asksBeforeLogin: "sent more than 8 KiB behind a login that waited"
            case .leavesOutput:
                "left more than \(Limits.outputBytesMax) bytes of replies, or \(Limits.outputBytesLong) for 10 s"
            case .holdsMost: "held most when requests and replies of all clients passed a quarter of --maxmemory"
            case .noMemory: "sent a request for which this server can have no more memory (ulimit -v)"
            }
        }

        /// For a client that may still read it.
        var reply: StaticString? {
            switch self {
            case .readsNothing: nil
            case .standsStill: "ERR closed: nothing more of the request came for 60 seconds"
            case .holdsTooMuch: "ERR closed: the unfinished requests of all clients hold too much, and this one most"
            case .noMemory: "OOM closed: this server can have no more memory for the request (ulimit -v)"
            case .asksBeforeLogin: "ERR closed: more than 8 KiB came behind a login that waits"
            case .saysNotWho, .leavesOutput, .holdsMost: nil
            }
        }
    }

    private struct Row {
        var count = 0
        var told = 0
        var peer = ""
    }

    private let rows = Mutex([Row](repeating: Row(), count: Reason.allCases.count))

    package init() {}

    func note(_ reason: Reason, peer: String) {
        rows.withLock {
            $0[reason.rawValue].count += 1
            $0[reason.rawValue].peer = peer
        }
    }

    func count(_ reason: Reason) -> Int { rows.withLock { $0[reason.rawValue].count } }

    /// One line for each reason that has closed clients since the last call.
    func report(to log: Logger) {
        let news = rows.withLock { rows in
            Reason.allCases.compactMap { reason -> String? in
                let row = rows[reason.rawValue]
                guard row.count > row.told else { return nil }
                rows[reason.rawValue].told = row.count
                let count = row.count - row.told
                let who = count == 1 ? "client \(row.peer)" : "\(count) clients, last \(row.peer),"
                return "closed \(who) that \(reason.text)"
            }
        }
        for line in news { log.notice("\(line)") }
    }
}
