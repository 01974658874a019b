// Worlds with a member that lies: one of three says whatever frames allow, to everybody, all the time. What the others
// hold, their clocks and their lives must not be harmed (I28). Part of SimWorld.
import KVBase
package import KVCore

extension SimOptions {
    /// Of a hundred swarm seeds so many have a liar unless a run says otherwise.
    package static let liarPercent = 0

    mutating func drawLiar(percent: Int) {
        var random = PRNG(seed: seed ^ 0x11A2)
        guard profile == .swarm || percent == 100, random.below(100) < percent, !faults.contains(.rotten) else {
            return
        }
        makeLiar(&random)
    }

    var liarDescription: String {
        liar.map {
            ", server \($0) lies" + (newcomerClockIsUnset ? ", a newcomer's clock was never set" : "")
                + (slanderPercent > 0 ? ", \(slanderPercent) % that a newcomer is gone" : "")
        } ?? ""
    }

    /// Three servers that know each other, faults that harm nothing for good, and the second server lies. In some
    /// worlds a fourth one joins meanwhile, in some of those with a clock that was never set.
    mutating func makeLiar(_ random: inout PRNG) {
        // Values as large as lines of their own are made for are of that profile.
        if profile == .thin { valueBytesMax = usualBytesMax }
        profile = .swarm
        liar = 1
        servers = 3
        joiners = 0
        actors = (0..<slots).map { _ in random.within(1...3) }
        faults.formIntersection([.clockOffset, .clockDrift, .freeze, .reset, .spikes, .slowActor, .localDrop])
        loadMillis = min(loadMillis, 20_000)
        joinAtMillis = Millis(random.within(500...4_000))
        if transport == .datagram { transport = .stream }
        // Short pauses: who is silent is spoken of by others.
        freezeMillisMax = min(freezeMillisMax, 2_000)
        subsetFirst = false
        // Apart, so that other worlds stay what they were.
        var more = PRNG(seed: seed ^ 0x4E_E3C0)
        if more.chance(0.3) { addNewcomer(clockIsUnset: nil, &more) }
    }

    /// A fourth server joins while the second one lies. `clockIsUnset`: nil in half of the worlds.
    mutating func addNewcomer(clockIsUnset: Bool?, _ random: inout PRNG) {
        joiners = 1
        faults.insert(.join)
        actors = actors.prefix(servers) + [random.within(1...3)]
        joinAtMillis = Millis(random.within(3_500...8_000))
        newcomerClockIsUnset = clockIsUnset ?? random.chance(0.5)
        slanderPercent = random.pick([0, 50])
    }
}

extension SimWorld {
    func isLiar(_ slot: Int) -> Bool { slot == options.liar }

    func isOfLiar(_ id: UInt64) -> Bool { servers.contains { isLiar($0.slot) && $0.id == id } }

    /// What a liar's actor sends instead of an honest frame.
    func bent(_ frame: OutgoingFrame, of actor: SimActor) -> OutgoingFrame {
        guard isLiar(actor.view.slot), now > 3 * simSecond, random.lies.chance(0.5) else { return frame }
        let slandered = newcomerToSlander(to: frame.to.server)
        let lie = random.lies.pick(slandered == nil ? FrameLie.allCases : [.othersForgotten, .othersLeft])
        guard mayTell(lie, to: frame.to.server) else { return frame }
        let others = servers.filter { $0.isUp && $0.id != frame.to.server && !isLiar($0.slot) }.map(\.id)
        let third = slandered ?? (others.isEmpty ? 0 : random.lies.pick(others))
        let key = Array(keys.bytes(random.lies.below(keys.count)))
        // An entry in a third server's name that somebody lacks is not told apart from the truth.
        let honest = upActors()
        let knownTo = { (uid: ActorUID) in
            honest.reduce(UInt64.max) { min($0, $1.covered(uid, in: $1.sureVector)) }
        }
        guard
            let bytes = actor.forge(
                frame.bytes, lie, third: third, key: key, knownTo: knownTo, &random.lies)
        else { return frame }
        outcome.points.hit("lie: \(lie.rawValue)")
        return OutgoingFrame(to: frame.to, lane: frame.lane, session: frame.session, bytes: bytes)
    }

    /// With `slanderPercent`: the newcomer, often, from the moment it is there. Most have not met it then.
    private func newcomerToSlander(to id: UInt64) -> UInt64? {
        guard options.slanderPercent > 0 else { return nil }
        let newcomer = servers[options.servers]
        guard newcomer.isUp, newcomer.id != id, random.lies.below(100) < options.slanderPercent else { return nil }
        return newcomer.id
    }

    /// A newcomer sees with the eyes of those it joins, and who has not met two others knows no time but its own. Nor
    /// does it know one of two others' clocks from the other, if its own was never set.
    private func mayTell(_ lie: FrameLie, to id: UInt64) -> Bool {
        if [.wrongClock, .floorAhead, .stampAhead].contains(lie) {
            return upActors().allSatisfy { $0.uid.server != id || $0.knowsTime }
        }
        // Who says that it has seen what it has not gives a newcomer what others have deleted and collected.
        let hasNewcomer = (options.servers..<options.slots).contains { slot in
            !servers[slot].isUp || servers[slot].actors.contains { !actors[$0].hasCaughtUp }
        }
        if lie == .falseReport, hasNewcomer { return false }
        guard lie == .othersForgotten || lie == .othersLeft else { return true }
        return upActors().allSatisfy { $0.uid.server != id || $0.hasCaughtUp }
    }

    /// I28: nobody's stamps are moved by a lie.
    func checkStamp(_ ms: Millis, _ actor: SimActor) {
        guard options.liar != nil else { return }
        let latest = servers.filter { !isLiar($0.slot) }.map { $0.clock.wallMillis(at: now) }.max() ?? 0
        guard ms > latest + 24 * 3_600_000 else { return }
        fail(SimViolation("I28", "actor \(actor.view.origin) stamps \(ms - latest) ms ahead of every clock"))
    }

    /// I28: who lives is not talked out of it.
    func noteForgottenAmongLies(_ actor: SimActor) {
        guard options.liar != nil, !isLiar(actor.view.slot) else { return }
        fail(SimViolation("I28", "actor \(actor.view.origin) believes that its server is forgotten"))
    }
}
