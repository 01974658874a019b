// Joining, and one log line per change of a link. Loop thread of the first query actor; decisions about members are the
// replica's.

import KVBase
import KVCore
import KVRuntime
import Logging

/// Introduces this server to the addresses of `--join` until each has answered, and to whoever turns out to be new at
/// a known address (a restarted server knows nobody if it was started without `--join`).
final class Membership {
    private static let introduceMillis: Int64 = 1000
    /// The first attempts come faster: usually both sides are there.
    private static let introduceSoonMillis: Int64 = 20

    private let system: ActorSystem
    private unowned let loop: Loop
    private let log: Logger
    private var unanswered: [String]
    private let own: String
    private var states: [String: Bool] = [:]
    /// Loop time of the last introduction to an address: two at once would be one too many for the pair's pace.
    private var introducedAt: [String: Nanos] = [:]
    unowned var replicator: Replicator!

    init(system: ActorSystem, loop: Loop, join: [Endpoint], log: Logger) {
        (self.system, self.loop, self.log) = (system, loop, log)
        own = system.address
        unanswered = join.map(\.description).filter { $0 != system.address }
    }

    /// Once the actor is on its loop.
    func begin() {
        for address in unanswered { system.keepLink(to: address) }
        guard !unanswered.isEmpty else { return }
        log.info("joining \(unanswered.joined(separator: ", "))")
        introduce(after: Membership.introduceSoonMillis)
    }

    private func introduce(after millis: Int64) {
        loop.schedule(afterMillis: millis) { [unowned self] in
            guard !unanswered.isEmpty else { return }
            // Only over a link that stands: what is queued for an address that does not answer would come late and
            // twice.
            for target in unanswered where states[target] == true { introduce(to: target) }
            introduce(after: Membership.introduceMillis)
        }
    }

    private func introduce(to target: String) {
        let now = loop.nowNanos
        if let last = introducedAt[target], now - last < Membership.introduceMillis * 500_000 { return }
        introducedAt[target] = now
        replicator.introduce(
            Introduction(target: target, isAnswer: false, rows: replicator.rowsOwnFirst), to: target)
    }

    func introduced(_ introduction: Introduction) {
        guard introduction.isAnswer, let place = unanswered.firstIndex(of: introduction.target) else { return }
        unanswered.remove(at: place)
        // The server may call itself something else than the address it was reached by.
        if !introduction.rows.contains(where: { $0.address == Bytes(introduction.target) && $0.status.isMember }) {
            dropLink(to: introduction.target)
        }
    }

    /// `isKnown`: the server at the other end is in the member table.
    func linkChanged(_ change: LinkChange, isKnown: Bool) {
        if states[change.address] != change.isUp {
            let reason = change.reason.isEmpty ? "" : ": \(change.reason)"
            if change.isUp {
                log.info("connected to \(change.address)")
            } else if states[change.address] == nil {
                log.warning("no answer from \(change.address)\(reason); trying again until there is one")
            } else {
                log.warning("lost \(change.address)\(reason)")
            }
        }
        states[change.address] = change.isUp
        if change.isUp, !isKnown || unanswered.contains(change.address) { introduce(to: change.address) }
    }

    func dropLink(to address: String) {
        states[address] = nil
        introducedAt[address] = nil
        system.dropLink(to: address)
    }
}
