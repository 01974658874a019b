// The end of a simulated world: faults stop, first perhaps only among some servers, and the healed part must converge,
// serve and clean up (I10-I13, I16). Part of SimWorld.
import KVBase
import KVCore

/// Longest a healed cluster may take to agree, beside its scans. Frames flow each 105 ms, so this is many rounds.
private let convergenceMillisMax: Millis = 30_000
/// A write into the healed cluster, visible everywhere.
private let probeMillisMax: Millis = 10_000
/// What that may take longer beside a liar: of a writer that was silent it may have said anything, which stands until
/// the writer was heard for ten seconds; then there may be a scan.
private let hearsayMillisMax: Millis = 20_000
/// Quiet time after which no tombstone may be left, beyond the tombstones' own age.
private let quietMillis: Millis = 70_000

/// What had been sent by direction, what waited to be, and how much data there was.
private struct SentBefore {
    var sent: [Int]
    var waiting: [Int]
    var live: Int
}

extension SimWorld {
    /// A random connected subset heals; the rest stays cut off and broken. The subset must agree and serve by itself.
    func subsetPhase() {
        var subset: Set<Int> = []
        for slot in 0..<options.slots where random.faults.chance(0.5) { subset.insert(slot) }
        if subset.isEmpty { subset.insert(random.faults.below(options.slots)) }
        heal(among: subset)
        cut(
            linksWhere { subset.contains($0) != subset.contains($1) }, note: "subset isolated",
            forAtMost: 3600 * simSecond)
        for server in servers where !subset.contains(server.slot) && server.isUp && random.faults.chance(0.4) {
            crash(server)
        }
        guard !failed else { return }
        // Newcomers alone have fragments of streams whose beginnings they were to scan: they are not ready
        // (docs/replication.md 8.4) while who is is out of reach. What their own clients write their actors exchange
        // all the same.
        if !actorsUp(in: subset).contains(where: \.hasCaughtUp) {
            outcome.points.hit("end: subset of newcomers alone")
            return
        }
        outcome.points.hit("end: subset phase")
        converge(subset, "I16")
        if !failed { probe(subset, "I16") }
    }

    /// Everything heals; all replicas become equal, and 60 s later nothing is left of the deletes.
    func wholePhase() {
        heal(among: nil)
        isHealed = true
        healedAt = now
        guard !failed else { return }
        let all = Set(0..<options.slots)
        converge(all, "I10")
        if !failed { probe(all, "I10") }
        // Damage done on purpose may lose what only the damaged replica held.
        if isRotten { return }
        if !failed { checkFloors() }
        if options.liar == nil, !failed { checkCounts() }
        if options.liar == nil, !forgotLiving, !failed { checkZeros() }
        // A liar keeps tombstones: who does not report may be owed them.
        if options.liar != nil { return }
        if !failed { quiet() }
    }

    private func actorsUp(in slots: Set<Int>) -> [SimActor] { upActors().filter { slots.contains($0.view.slot) } }

    /// Runs until all actors in `slots` are equal.
    private func converge(_ slots: Set<Int>, _ invariant: String) {
        let start = now
        let millisMax =
            convergenceMillisMax + scansMillisMax + linesMillisMax + doubtMillisMax(slots) + lossMillisMax
        let end = now + millisMax * simMillisecond
        let before = isWired ? SentBefore(sent: wires.sent, waiting: waitingBytes, live: liveBytes) : nil
        while !failed, now < end + unaskedTime {
            runUntil(now + 50 * simMillisecond)
            if agree(actorsUp(in: slots)) {
                let millis = (now - start) / simMillisecond
                say { "converged \(slots.sorted()) after \(millis) ms" }
                outcome.points.hit(millis <= 5_000 ? "end: converged within 5 s" : "end: converged after more than 5 s")
                examineAll()
                if let before { checkSent(since: before, millis: millis) }
                return
            }
        }
        guard !failed else { return }
        examineAll()
        guard !failed else { return }
        describe(actorsUp(in: slots))
        fail(
            SimViolation(
                isWired ? "I19" : invariant,
                "servers \(slots.sorted()) still differ: " + difference(actorsUp(in: slots))))
    }

    private func agree(_ group: [SimActor]) -> Bool {
        guard let first = group.first else { return true }
        let uids = group.map { $0.uid }
        for actor in group {
            // A newcomer may still stamp its first writes again. What a liar has seen is nobody's measure.
            if isHealed && !(actor.hasCaughtUp && (actor.isSettled || !oracle.liars.isEmpty)) { return false }
            if actor.steadyDigest != first.steadyDigest { return false }
            let isAlike =
                options.expires
                ? showsAlike(actor, first) : actor.liveCount == first.liveCount
            if !isAlike { return false }
            for uid in uids where actor.covered(uid) != first.covered(uid) { return false }
        }
        return true
    }

    /// What two scans of everything take, one after the other: a server may have to scan another before it is scanned
    /// itself. Some seeds shrink the chunks until each holds one entry; each chunk waits for its acknowledgement.
    private var scansMillisMax: Millis {
        let entriesPerChunk = max(1, options.bootstrapChunkBytes / (options.valueBytesMax / 2 + 60))
        // Tombstones, deadlines and parts of counters: small, but a key may have one for each actor that ever was.
        let additions = max(0, (upActors().map { $0.storedCount + $0.tombstoneCount }.max() ?? 0) - options.keys)
        let additionsPerChunk = max(1, options.bootstrapChunkBytes / 100)
        let chunks = Millis(options.keys / entriesPerChunk + additions / additionsPerChunk + 1)
        // What is lost between siblings goes again after five times the usual distance.
        let distance = 110 + 550 * Millis(options.localDropPerMille) / 1_000
        return 2 * chunks * (distance + 2 * Millis(options.latencyMillisMax + options.jitterMillis))
    }

    /// A journal that holds a tenth of a second repairs nothing: each loss costs a scan, and scans lose chunks as well
    /// (14608).
    private var lossMillisMax: Millis {
        options.dropPerMille >= 100 && options.journalCapacity * 10 < options.operationsPerSecond ? 90_000 : 0
    }

    /// Only digests find damage done on purpose, and they are not compared for a while after others told of a writer
    /// that is silent (docs/replication.md 5.7). Whoever is outside of a subset is silent to it.
    private func doubtMillisMax(_ slots: Set<Int>) -> Millis {
        isRotten && slots.count < options.slots ? Replica.unsettledMillis : 0
    }

    /// Only digests find a delete that nobody could ask about as well: between servers, and then between the actors of
    /// each, who may give each other the old write once more.
    private var unaskedTime: SimTime { hasUnaskedDelete ? Replica.unsettledMillis * simMillisecond : 0 }

    /// Live data as a scan carries it.
    var liveBytes: Int {
        (0..<keys.count).reduce(0) { sum, key in
            let held = upActors().compactMap { $0.get(key) }.map { $0.keyCount + $0.valueCount + 16 }
            return sum + (held.max() ?? 0)
        }
    }

    /// What thin lines may take beyond that: two scans of everything, as above, each half as long again as one plain
    /// connection would need (I19).
    private var linesMillisMax: Millis {
        guard isWired else { return 0 }
        let worst = wires.bandwidth.min() ?? simUnlimitedBandwidth
        let roundTrip = 2 * Millis(options.latencyMillisMax + options.jitterMillis)
        return 3 * SimOptions.idealMillis(bytes: liveBytes, bandwidth: worst, roundTripMillis: roundTrip)
    }

    /// Nothing is sent over and over (I19): beside what waited already, a scan of everything for each actor and each
    /// server's own writes over each line, and what frames take that carry nothing. The trials of `SimScenario`, where
    /// it is known who needs what, are stricter.
    private func checkSent(since before: SentBefore, millis: Millis) {
        guard !failed else { return }
        let data = max(liveBytes, before.live)
        let actors = options.actors.max() ?? 1
        let slack = Int(millis / 100 + 10) * 1_500 * actors + 128 * 1024
        for direction in before.sent.indices {
            let sent = wires.sent[direction] - before.sent[direction] - before.waiting[direction] - slack
            if sent > data * 26 / 10 { outcome.points.hit("wire: much more sent than there is") }
            guard sent > data * 26 / 10 * actors else { continue }
            let (from, to) = (direction / options.slots, direction % options.slots)
            return fail(
                SimViolation("I19", "server \(from) sent server \(to) \(sent + slack) bytes for \(data) of data"))
        }
    }

    /// What still differs, for the report.
    func difference(_ group: [SimActor]) -> String {
        guard let first = group.first else { return "nobody runs" }
        for actor in group.dropFirst() {
            if options.expires, let key = (0..<keys.count).first(where: { !showsAlike($0, first, actor) }) {
                return shownDifference(key, first, actor)
            }
            for key in 0..<keys.count where !options.expires {
                let (one, other) = (first.liveStamp(key, oracle), actor.liveStamp(key, oracle))
                if one == other { continue }
                return "\(keys.name(key)) is \(oracle.name(one ?? .none)) on actor \(first.view.origin) and "
                    + "\(oracle.name(other ?? .none)) on actor \(actor.view.origin)"
            }
            for peer in group where actor.covered(peer.uid) != first.covered(peer.uid) {
                return "actor \(first.view.origin) has \(first.covered(peer.uid)) and actor \(actor.view.origin) has "
                    + "\(actor.covered(peer.uid)) of actor \(peer.view.origin)"
            }
        }
        return "digests only: " + group.map { String($0.steadyDigest, radix: 16) }.joined(separator: " ")
            + (options.expires ? steadyDifference(group) : "")
    }

    /// The state of each actor, into the trace.
    func describe(_ group: [SimActor]) {
        for actor in group { say { actor.summary(self.oracle) } }
    }

    /// One write on every actor, each visible everywhere within the promise: the healed part serves.
    private func probe(_ slots: Set<Int>, _ invariant: String) {
        let group = actorsUp(in: slots)
        let refusedBefore = outcome.points.count("write refused: no storable version")
        for actor in group where !failed {
            put(random.workload.below(keys.count), actor, hops: false)
            if !failed { turn(actor) }
        }
        if outcome.points.count("write refused: no storable version") > refusedBefore {
            return fail(SimViolation(invariant, "a healed actor still refuses writes"))
        }
        let most = probeMillisMax + (options.liar == nil ? 0 : hearsayMillisMax)
        let end = now + (most + scansMillisMax + linesMillisMax) * simMillisecond
        while !failed, now < end {
            runUntil(now + 50 * simMillisecond)
            if agree(actorsUp(in: slots)) {
                examineAll()
                compareAll(actorsUp(in: slots))
                agreedDigest = actorsUp(in: slots).first?.steadyDigest
                return
            }
        }
        if !failed {
            let group = actorsUp(in: slots)
            describe(group)
            fail(SimViolation(invariant, "a write after healing is not everywhere: " + difference(group)))
        }
    }

    /// Equal digests must mean equal contents, key by key (I10 without trust in the digest), and digests equal to a
    /// fresh computation (I9).
    private func compareAll(_ group: [SimActor]) {
        guard let first = group.first else { return }
        for actor in group where !failed {
            for key in 0..<keys.count
            where options.expires
                ? !showsAlike(key, first, actor) : actor.liveStamp(key, oracle) != first.liveStamp(key, oracle)
            {
                return fail(SimViolation("I10", "equal digests, but " + difference(group)))
            }
            if let violation = actor.recomputeDigest() { fail(violation) }
        }
    }

    /// No acknowledged write lost (I11), nothing older than a delete that had seen it (I12).
    private func checkFloors() {
        guard let actor = upActors().first else { return }
        for key in 0..<keys.count where !failed {
            let floor = oracle.floors[key]
            var best = oracle.greater(actor.view.seen[key], oracle.collected[key])
            if options.disks != nil, !shownIsOld(key, floor, actor) { continue }
            // Where nothing or an older delete is, a delete is in effect, although its tombstone may still be on its
            // way from another replica: what replicas agree on (I10) is what clients see. The same of a value that is
            // about to end.
            let shown = actor.view.seen[key]
            let isAbsent = shown.isNone || oracle.write(shown)?.isTombstone ?? false
            if isAbsent, oracle.write(floor)?.isTombstone ?? false || isNearlyOver(key, floor) {
                best = upActors().reduce(best) { oracle.greater($0, $1.view.seen[key]) }
            }
            if oracle.precedes(best, floor), !isOver(key, floor) {
                fail(
                    SimViolation(
                        "I11", "\(keys.name(key)) ended as \(oracle.name(best)), acknowledged was \(oracle.name(floor))"
                    ))
            }
        }
    }

    /// I18: a value that is older than what disks or memories still had. False if it broke.
    private func shownIsOld(_ key: Int, _ floor: SimStamp, _ actor: SimActor) -> Bool {
        let shown = actor.view.seen[key]
        guard !shown.isNone, let write = oracle.write(shown), !write.isTombstone, !write.unaware,
            oracle.precedes(shown, floor)
        else { return true }
        fail(SimViolation("I18", "\(keys.name(key)) ended as \(oracle.name(shown)), there was \(oracle.name(floor))"))
        return false
    }

    /// Whoever was forgotten by mistake and is gone for half of the others or fewer stays a member for the rest, as
    /// somebody came who was told nothing: that is not told apart from a lie, so the operator stops it (decision 0165).
    private func stopDisputed() {
        guard let server = servers.first(where: { $0.isUp && $0.id == lastForgotten }) else { return }
        let others = upActors().filter { $0.uid.index == 0 && $0.uid.server != server.id }
        let against = others.count { $0.rows.contains { $0.server == server.id && !$0.status.isMember } }
        guard against > 0, 2 * against <= others.count else { return }
        outcome.points.hit("end: living server that some take for gone is stopped")
        crash(server, restartAfterMillis: 50)
    }

    /// Quiet until tombstones must be gone (I13); then nothing may have changed.
    private func quiet() {
        guard let digest = agreedDigest else { return }
        stopDisputed()
        let newest = (0..<keys.count).reduce(Millis(0)) { newest, key in
            upActors().reduce(max(newest, newestPart(key))) { max($0, $1.tombstoneMillis(key) ?? 0) }
        }
        guard newest > 0 || oracle.uids.count > upActors().count else { return }
        // Parts of counters are deleted once what has taken them is known everywhere, and then it may go.
        let quietEnough = quietMillis + (options.countPercent > 0 ? 40_000 : 0)
        let wait = max(quietEnough, newest - simEpochMillis - now / simMillisecond + quietEnough)
        // A tombstone from a clock an hour ahead stays for an hour: too long to wait for in every such seed.
        guard wait < 2 * quietMillis else { return }
        let end = now + wait * simMillisecond
        while !failed, now < end {
            runUntil(min(end, now + 2 * simSecond))
            if upActors().contains(where: { $0.tombstoneCount > 0 || $0.vectorSize > upActors().count }) { continue }
            // Expired values and deadlines without effect go only when servers that went are retired everywhere.
            if keptTooLong() == nil { break }
        }
        examineAll()
        guard !failed else { return }
        // A removed server may have been started again meanwhile and be catching up.
        if !agree(upActors()) { converge(Set(0..<options.slots), "I10") }
        guard !failed else { return }
        for actor in upActors() where actor.steadyDigest != digest {
            return fail(SimViolation("I10", "actor \(actor.view.origin) changed although nobody wrote"))
        }
        if let violation = keptTooLong() { return fail(violation) }
        checkCounts(isFinal: true)
        guard !failed else { return }
        for actor in upActors() {
            if actor.tombstoneCount > 0 {
                describe(upActors())
                return fail(
                    SimViolation("I13", "actor \(actor.view.origin) keeps \(actor.tombstoneCount) tombstones"))
            }
            if actor.vectorSize > upActors().count {
                describe(upActors())
                return fail(
                    SimViolation(
                        "I13",
                        "the version vector of actor \(actor.view.origin) has \(actor.vectorSize) entries for "
                            + "\(upActors().count) live actors"))
            }
        }
        outcome.points.hit("end: all tombstones collected, vectors small")
    }
}
