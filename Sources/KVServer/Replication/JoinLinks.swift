// Joining, and one log line per change of a link. Loop thread of the first query actor; decisions about members are the
// replica's, those about --join its seeds'.

import KVBase
import KVRuntime
import Logging

/// Carries out what the seeds decide; the members that the answers name take over.
final class JoinLinks {
    private let system: ActorSystem
    private unowned let loop: Loop
    private let log: Logger
    private var seeds: Seeds
    private var states: [String: Bool] = [:]
    /// Why an address refuses this server, as it was said last.
    private var refusals: [String: String] = [:]
    private var timer: LoopTimer?

    init(system: ActorSystem, loop: Loop, join: [Endpoint], log: Logger) {
        (self.system, self.loop, self.log) = (system, loop, log)
        seeds = Seeds(join)
    }

    deinit { timer?.cancel() }

    private var now: Millis { loop.nowNanos / 1_000_000 }

    /// Once the actor is on its loop.
    func begin() {
        carryOut(seeds.tick(now))
        timer = loop.schedule(everyMillis: Seeds.retryMillis) { [unowned self] in carryOut(seeds.tick(now)) }
    }

    private func carryOut(_ effects: [Seeds.Effect]) {
        for effect in effects {
            switch effect {
            case .resolve(let seed, let target): resolve(seed, target)
            case .keep(let address): system.keepLink(to: address)
            case .drop(let address):
                // Where it is up somebody else keeps it: that it was up is remembered, for when it is lost.
                if states[address] != true { forget(address) }
                system.dropLink(to: address, closing: false)
            case .tell(let line): log.info("\(line)")
            case .warn(let line): log.warning("\(line)")
            }
        }
    }

    private func resolve(_ seed: Int, _ target: HostPort) {
        let box = UncheckedBox(WeakJoinLinks(value: self))
        system.resolve(target) { result in
            guard let this = box.value.value else { return }
            this.carryOut(this.seeds.resolved(seed, result.map { $0.map(\.description) }, this.now))
        }
    }

    /// The member table knows the server at the other end of a link.
    func known(_ server: UInt64) { carryOut(seeds.known(server)) }

    func linkChanged(_ change: LinkChange) {
        if change.isUp {
            seeds.linkUp(change.incarnation, at: change.addresses + [change.peerAddress], now)
        } else if change.incarnation != 0 {
            seeds.linkDown(change.incarnation)
        } else {
            let (isSeed, effects) = seeds.linkFailed(
                at: change.addresses, change.reason, isItself: change.isItself, now)
            carryOut(effects)
            if isSeed { return }
        }
        say(change)
    }

    private func say(_ change: LinkChange) {
        defer { states[change.address] = change.isUp }
        let refusal = change.isRefused ? change.reason : nil
        // The line may be cut and then be refused: both are news.
        let isNews = states[change.address] != change.isUp || refusal != nil && refusals[change.address] != refusal
        guard isNews else { return }
        refusals[change.address] = change.isUp ? nil : refusal ?? refusals[change.address]
        let reason = change.reason.isEmpty ? "" : ": \(change.reason)"
        if change.isUp {
            log.info("connected to \(change.name.text.isEmpty ? "" : "\(change.name.text) at ")\(change.peerAddress)")
        } else if states[change.address] == true {
            log.warning("lost \(change.address)\(reason)")
        } else {
            log.warning("no answer from \(change.address)\(reason); trying again until there is one")
        }
    }

    /// Not a member's any more.
    func dropLink(to address: String) {
        forget(address)
        system.dropLink(to: address, isTold: true)
    }

    private func forget(_ address: String) { (states[address], refusals[address]) = (nil, nil) }
}

private struct WeakJoinLinks { weak var value: JoinLinks? }
