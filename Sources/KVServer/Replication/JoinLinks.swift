// Joining, and one log line per change of a link. Loop thread of the first query actor; decisions about members are the
// replica's.

import KVRuntime
import Logging

/// Keeps the links to the addresses of `--join` until each has answered; the members that the answers name take over.
final class JoinLinks {
    private let system: ActorSystem
    private let log: Logger
    private var unanswered: [String]
    private var states: [String: Bool] = [:]
    unowned var replicator: Replicator!

    init(system: ActorSystem, join: [Endpoint], log: Logger) {
        (self.system, self.log) = (system, log)
        unanswered = join.map(\.description).filter { $0 != system.address }
    }

    /// Once the actor is on its loop.
    func begin() {
        for address in unanswered { system.keepLink(to: address) }
        guard !unanswered.isEmpty else { return }
        log.info("joining \(unanswered.joined(separator: ", "))")
    }

    /// Nobody has answered at an address of `--join` yet.
    var isUnanswered: Bool { !unanswered.isEmpty }

    /// The member table knows the server at the other end of a link. The address it was asked for may be another than
    /// it calls itself by.
    func answered(at address: String, by own: String) {
        guard let place = unanswered.firstIndex(of: address) else { return }
        unanswered.remove(at: place)
        if own != address { dropLink(to: address) }
    }

    func linkChanged(_ change: LinkChange) {
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
    }

    func dropLink(to address: String) {
        states[address] = nil
        system.dropLink(to: address)
    }
}
