// Finds other servers by the addresses and names of --join: what to look up, where to connect, what to say. Pure: time
// and news come in, effects go out. Whoever holds it.

import KVBase
import KVRuntime

/// A name may stand for many addresses, and for others each time it is looked up. As long as nobody has answered to it,
/// it is looked up again at every attempt; then each `lookMillis`, so that two halves of a cluster that were started
/// apart find each other, and a server that moved behind its name is found again.
struct Seeds {
    enum Effect: Equatable {
        /// Find out what the seed of this number stands for.
        case resolve(Int, HostPort)
        case keep(String)
        /// What is connected stays so.
        case drop(String)
        case tell(String)
        case warn(String)
    }

    static let lookMillis: Millis = 30_000
    static let retryMillis: Millis = 1_000
    /// How long the addresses are tried of a name by which somebody was found.
    static let tryMillis: Millis = 5_000
    static let aloneMillis: Millis = 60_000
    static let seedsMax = 64

    private struct Seed {
        let endpoint: Endpoint
        let target: HostPort
        /// Those it stood for when it was looked up last.
        var addresses: [String] = []
        var isNumeric: Bool
        var isResolving = false
        var nextLook: Millis = .min
        var hasAnswered = false
        /// Its addresses are given up then.
        var restAt: Millis?
        var problem = ""
        /// Addresses at which an attempt was in vain since it was looked up first.
        var failed: Set<String> = []
        var hasWarned = false
    }

    private var seeds: [Seed]
    /// Addresses that lead to a server that is connected, by its id.
    private var reached: [UInt64: Set<String>] = [:]
    private var kept: Set<String> = []
    /// Addresses that lead to this server.
    private var own: Set<String> = []
    /// When it last said that it joins, or that it is alone; nil before the first tick.
    private var saidAt: Millis?

    init(_ join: [Endpoint]) {
        seeds = join.prefix(Seeds.seedsMax).map { endpoint in
            // A wildcard is no address to go to; what a server prints that is bound to all may still be given.
            let host =
                HostPort(host: endpoint.host, port: 0).reach != .nowhere
                ? endpoint.host : endpoint.host.contains(":") ? "::1" : "127.0.0.1"
            let target = HostPort(host: host, port: UInt16(endpoint.port))
            return Seed(
                endpoint: endpoint, target: target,
                isNumeric: SocketAddress(host: target.host, port: target.port) != nil)
        }
    }

    /// Nobody has answered at any of them.
    var isAlone: Bool { !seeds.isEmpty && !seeds.contains(where: \.hasAnswered) }

    /// Looks at what is due. To be called at the start and about once a second.
    mutating func tick(_ now: Millis) -> [Effect] {
        var effects: [Effect] = []
        if saidAt == nil {
            if !seeds.isEmpty { effects.append(.tell("joining \(list { $0.endpoint.description })")) }
        }
        let saidBefore = saidAt ?? now
        if saidAt == nil { saidAt = now }
        for i in seeds.indices {
            if let rest = seeds[i].restAt, now >= rest {
                seeds[i].restAt = nil
                giveUp(i, &effects)
            }
            guard now >= seeds[i].nextLook, !seeds[i].isResolving else { continue }
            if seeds[i].isNumeric {
                take([seeds[i].target.description], i, now, &effects)
            } else {
                seeds[i].isResolving = true
                effects.append(.resolve(i, seeds[i].target))
            }
        }
        if isAlone, !seeds.allSatisfy({ $0.isNumeric && $0.addresses.allSatisfy(own.contains) }),
            now - saidBefore >= Seeds.aloneMillis
        {
            saidAt = now
            let problems = list { "\($0.endpoint)\($0.problem.isEmpty ? "" : " (\($0.problem))")" }
            effects.append(.warn("alone: nobody has answered at \(problems); still trying"))
        }
        return effects
    }

    private func list(_ text: (Seed) -> String) -> String { seeds.map(text).joined(separator: ", ") }

    /// What a seed stands for, or why that is not known.
    mutating func resolved(_ i: Int, _ result: Result<[String], SocketFailure>, _ now: Millis) -> [Effect] {
        var effects: [Effect] = []
        seeds[i].isResolving = false
        switch result {
        case .success(let addresses): take(addresses, i, now, &effects)
        case .failure(let failure):
            seeds[i].nextLook = now + (seeds[i].hasAnswered ? Seeds.lookMillis : Seeds.retryMillis)
            failed(i, "\(failure)", &effects)
        }
        return effects
    }

    private mutating func take(_ addresses: [String], _ i: Int, _ now: Millis, _ effects: inout [Effect]) {
        let hasAnswered = seeds[i].hasAnswered
        seeds[i].nextLook = now + (hasAnswered || seeds[i].isNumeric ? Seeds.lookMillis : Seeds.retryMillis)
        seeds[i].addresses = addresses
        seeds[i].failed.formIntersection(addresses)
        for address in kept where !seeds.contains(where: { $0.addresses.contains(address) }) {
            drop(address, &effects)
        }
        for address in addresses where !own.contains(address) && !kept.contains(address) && !isReached(address) {
            kept.insert(address)
            effects.append(.keep(address))
        }
        if hasAnswered { seeds[i].restAt = now + Seeds.tryMillis }
        answered(by: addresses.filter(isReached), now)
    }

    private func isReached(_ address: String) -> Bool { reached.values.contains { $0.contains(address) } }

    private mutating func drop(_ address: String, _ effects: inout [Effect]) {
        guard kept.remove(address) != nil else { return }
        effects.append(.drop(address))
    }

    /// Addresses of a seed at which nobody is, while somebody is at others.
    private mutating func giveUp(_ i: Int, _ effects: inout [Effect]) {
        for address in seeds[i].addresses {
            let isWanted = seeds.contains { !$0.hasAnswered && $0.addresses.contains(address) }
            if !isWanted { drop(address, &effects) }
        }
    }

    private mutating func answered(by addresses: some Collection<String>, _ now: Millis) {
        for i in seeds.indices where !seeds[i].addresses.allSatisfy({ !addresses.contains($0) }) {
            if !seeds[i].hasAnswered { seeds[i].restAt = now + Seeds.tryMillis }
            seeds[i].hasAnswered = true
            seeds[i].nextLook = max(seeds[i].nextLook, now + Seeds.lookMillis)
            (seeds[i].problem, seeds[i].hasWarned) = ("", false)
        }
    }

    // MARK: News of links

    mutating func linkUp(_ server: UInt64, at addresses: [String], _ now: Millis) {
        reached[server] = Set(addresses)
        answered(by: addresses, now)
    }

    mutating func linkDown(_ server: UInt64) { reached[server] = nil }

    /// An attempt was in vain. True if these are a seed's addresses: then that has been said here.
    mutating func linkFailed(at addresses: [String], _ reason: String, isItself: Bool, _ now: Millis) -> (
        isSeed: Bool, effects: [Effect]
    ) {
        var effects: [Effect] = []
        let mine = addresses.filter(kept.contains)
        if isItself {
            own.formUnion(mine)
            for address in mine { drop(address, &effects) }
        }
        for i in seeds.indices where seeds[i].addresses.contains(where: mine.contains) {
            if isItself, !seeds[i].addresses.allSatisfy(own.contains) { continue }
            // One answer is enough: as long as another address has not been tried, nothing is said.
            seeds[i].failed.formUnion(mine)
            let hasLeft = !seeds[i].addresses.allSatisfy { seeds[i].failed.contains($0) || own.contains($0) }
            failed(i, reason, isItself: isItself, isSaid: !hasLeft, &effects)
        }
        return (!mine.isEmpty, effects)
    }

    private mutating func failed(
        _ i: Int, _ reason: String, isItself: Bool = false, isSaid: Bool = true, _ effects: inout [Effect]
    ) {
        seeds[i].problem = reason
        guard isSaid, !seeds[i].hasAnswered, !seeds[i].hasWarned else { return }
        seeds[i].hasWarned = true
        // A name may stand for another server one day; an address of this one is not tried again.
        let advice =
            isItself
            ? "give --join the address of another server, and see whether --advertise names this one"
            : "trying again until somebody answers"
        effects.append(.warn("cannot join at \(seeds[i].endpoint): \(reason); \(advice)"))
    }

    /// The member table has the server, and its link is kept by that.
    mutating func known(_ server: UInt64) -> [Effect] {
        var effects: [Effect] = []
        for address in reached[server] ?? [] { drop(address, &effects) }
        return effects
    }
}
