// The clients of a simulated world: reads, writes, deletes and listings at random actors. Part of SimWorld.
import KVBase
import KVCore

extension SimWorld {
    /// One client operation, then the next one's time.
    func operate() {
        guard loading else { return }
        queue.push(
            .operation, at: now + random.workload.interval(mean: simSecond / SimTime(options.operationsPerSecond)))
        let up = servers.filter { $0.isUp && $0.frozenUntil <= now && $0.leavingSince == nil && !isLiar($0.slot) }
        guard !up.isEmpty else { return }
        let server = up[random.workload.below(up.count)]
        let actor = actors[server.actors[random.workload.below(server.actors.count)]]
        let busy = actor.busyUntil > now
        let key = chooseKey()
        var repeats = 1
        while random.workload.below(100) < options.burstPercent, repeats < 20 { repeats += 1 }
        for _ in 0..<repeats where !failed {
            // Choices are drawn whether or not the actor can take them, to keep the stream the same.
            let choice = random.workload.below(100)
            let hops = random.workload.below(100) < options.hopPercent
            if busy { continue }
            perform(choice, hops, key, actor)
        }
        if !busy, !failed { turn(actor) }
    }

    private func chooseKey() -> Int {
        switch options.keyChoice {
        case .uniform: return random.workload.below(keys.count)
        case .hot: return random.workload.below(random.workload.chance(0.7) ? min(3, keys.count) : keys.count)
        case .zipf:
            // Halving ranges: each key of the lower half is as likely as all of the range it was halved from.
            var range = keys.count
            while range > 1, random.workload.chance(0.5) { range = (range + 1) / 2 }
            return random.workload.below(range)
        }
    }

    private func perform(_ choice: Int, _ hops: Bool, _ key: Int, _ actor: SimActor) {
        outcome.operations += 1
        if let log = actor.log, log.refusesWrites { return read(key, actor) }
        if options.expires, random.expiry.below(100) < options.touchPercent { return touch(key, actor) }
        if isCounter(key), random.counts.below(100) < options.countPercent { return count(key, actor) }
        if choice < options.putPercent {
            put(key, actor, hops: hops, deadline: drawDeadline(actor))
        } else if choice < options.putPercent + options.deletePercent {
            delete(key, actor)
        } else if choice < options.putPercent + options.deletePercent + options.listPercent {
            list(actor)
        } else {
            read(key, actor)
        }
    }

    func put(
        _ key: Int, _ actor: SimActor, hops: Bool, deadline: DeadlineChoice = .none, length fixed: Int? = nil
    ) {
        let view = actor.view
        guard look(key, actor), lookAtDeadline(key, actor) else { return }
        // The client comes from another actor, where it has seen some version of this key.
        var floor: Millis = 0
        if hops {
            let up = upActors()
            let other = up[random.workload.below(up.count)].view
            floor = max(0, other.seen[key].ms)
        }
        let most = actor.stampMillisMax(seen: newestSeen(key, view).ms, floor: floor)
        let (end, kept) = expectedDeadline(key, actor, deadline)
        let id = nextValueID
        nextValueID &+= 1
        let drawn = fixed ?? drawLength()
        let number = isCounter(key) ? Int64(id % 1_000) - 100 : nil
        if let number { scratch = Array("\(number)".utf8) } else { SimValue.fill(&scratch, id: id, length: drawn) }
        let length = scratch.count
        let main = number == nil ? nil : SimMain(key, actor, self)
        guard let record = actor.put(key, scratch, deadline: deadline, floor: floor) else {
            outcome.points.hit("write refused: no storable version")
            return
        }
        guard let stamp = actor.stamp(of: record, oracle) else {
            return fail(SimViolation("I4", "a put returned a record of an unknown actor"))
        }
        if stamp.ms <= floor {
            return fail(SimViolation("I17", "put with floor \(floor) got \(stamp.ms)"))
        }
        if stamp.ms > most, !isRotten {
            return fail(SimViolation("I5", "put of \(keys.name(key)) stamped \(stamp.ms), the rule allows \(most)"))
        }
        checkStamp(stamp.ms, actor)
        let write = SimWrite(
            key: Int32(key), valueLength: Int32(length), valueID: id, ms: stamp.ms, at: now, deadline: end, kept: kept,
            number: number)
        if let main { counts.note(main, stamp) }
        if let violation = oracle.deadlineMismatch(record, write) { return fail(violation) }
        acknowledge(write, stamp, view)
    }

    private func drawLength() -> Int {
        if options.profile == .thin, random.workload.below(100) >= options.largePercent {
            return random.workload.below(options.usualBytesMax + 1)
        }
        return options.valueBytesMax == 0 ? 0 : random.workload.below(options.valueBytesMax + 1)
    }

    /// What the founder holds before anybody else comes.
    func prefill(percent: Int, length: Int? = nil, limit: Int = .max) {
        let founder = servers[0].actors.map { actors[$0] }
        guard percent > 0, !founder.isEmpty else { return }
        for key in 0..<min(limit, keys.count) where key % 100 < percent && !failed {
            let drawn = length ?? random.workload.below(options.valueBytesMax + 1)
            put(key, founder[key % founder.count], hops: false, length: drawn)
        }
        for actor in founder where !failed { turn(actor) }
    }

    private func delete(_ key: Int, _ actor: SimActor) {
        guard look(key, actor), lookAtDeadline(key, actor) else { return }
        let present = actor.isShown(key, oracle)
        let main = isCounter(key) ? SimMain(key, actor, self) : nil
        let outcome = actor.delete(key)
        switch outcome {
        case .absent:
            if present, actor.refusesDelete(key) {
                self.outcome.points.hit("write refused: no storable version")
            } else if present, !mayBeOff(key, actor) {
                fail(SimViolation("I15", "a delete of present \(keys.name(key)) found nothing"))
            }
        case .deleted(let record):
            guard present || mayBeOff(key, actor), record.isTombstone, let stamp = actor.stamp(of: record, oracle)
            else {
                return fail(SimViolation("I15", "a delete of \(keys.name(key)) returned no tombstone of its own"))
            }
            if let main { counts.note(main, stamp) }
            acknowledge(
                SimWrite(key: Int32(key), valueLength: -1, valueID: 0, ms: stamp.ms, at: now), stamp, actor.view)
        }
    }

    func acknowledge(_ write: SimWrite, _ stamp: SimStamp, _ view: SimView, isAgain: Bool = false) {
        var write = write
        let (key, length) = (Int(write.key), write.valueLength)
        write.clockMax = view.clockMax
        guard Int(stamp.origin) == view.origin else {
            return fail(SimViolation("I4", "actor \(view.origin) wrote in the name of actor \(stamp.origin)"))
        }
        // A newcomer's early delete stays under whatever was ever collected: only values are stamped again above it.
        let collected = length < 0 ? oracle.collected[key] : oracle.remembered[key]
        write.unaware = oracle.precedes(stamp, collected)
        write.forgotten = forgotten(above: stamp, of: key)
        trace.fold(UInt64(bitPattern: stamp.ms))
        if key >= 0 { noteWriting(key % keys.count, actors[view.origin]) }
        say {
            "\(length < 0 ? "delete" : "put") \(self.keys.name(key)) on actor \(view.origin) "
                + self.oracle.name(stamp)
        }
        if write.unaware, actors[view.origin].hasCaughtUp, !forgotLiving {
            let writer = oracle.server(stamp)
            let binding = upActors().reduce(SimStamp.none) {
                oracle.greater($0, $1.view.collected(key, binding: writer))
            }
            if oracle.precedes(stamp, binding) {
                return fail(
                    SimViolation(
                        "I5",
                        "actor \(view.origin) wrote \(keys.name(key)) \(oracle.name(stamp)) under "
                            + "\(oracle.name(binding)), which others collected"))
            }
        }
        // A zero need not be above a deadline set apart, but its own is. What is stamped again leaves that one alone.
        let highest = counts.hadSeen(stamp, stamp) == nil ? stamp : write.kept ?? stamp
        if options.expires, !isAgain, !write.unaware, key < keys.count,
            oracle.precedes(highest, newestSeen(key, view))
        {
            return fail(SimViolation("I5", "\(keys.name(key)) \(oracle.name(stamp)) is below its deadline's version"))
        }
        if let violation = view.noteWrite(key, stamp, tombstone: length < 0, oracle) { return fail(violation) }
        if let violation = oracle.acknowledge(write, stamp: stamp) { return fail(violation) }
        noteLead(key, stamp, actors[view.origin])
    }

    /// What was collected above a write of a key, if that died with those who knew of it.
    private func forgotten(above stamp: SimStamp, of key: Int) -> SimStamp {
        guard oracle.precedes(stamp, oracle.collected[key]), !oracle.precedes(stamp, oracle.remembered[key]) else {
            return .none
        }
        let isHeld = upActors().contains { other in
            other.find(key).flatMap { other.stamp(of: $0, oracle) }.map { oracle.precedes(stamp, $0) } ?? false
        }
        return isHeld ? .none : oracle.collected[key]
    }

    /// What the machine wrote by itself: a newcomer stamps its first writes again once it hears what the others had
    /// collected.
    func noteRestamped(_ actor: SimActor) {
        let origin = actor.view.origin
        while !failed, UInt64(oracle.history[origin].count) < actor.ownSeq {
            let seq = UInt64(oracle.history[origin].count) + 1
            if let again = actor.takeRestamp(seq) {
                guard let old = oracle.write(again.old) else {
                    return fail(SimViolation("I4", "actor \(origin) stamped again what was never written"))
                }
                outcome.points.hit("early write stamped again")
                var write = old
                (write.ms, write.at, write.unaware, write.isProvisional) = (again.new.ms, now, false, false)
                if old.isTombstone { (write.valueLength, write.number) = (1, 0) }
                (write.deadline, write.kept) = (again.deadline, again.kept)
                guard again.end == again.endBefore else {
                    return fail(
                        SimViolation(
                            "I23",
                            "\(keys.name(Int(write.key))) \(oracle.name(again.old)) was stamped again and ends at "
                                + "\(again.end), not at \(again.endBefore)"))
                }
                counts.copy(from: again.old, to: again.new, actor, oracle)
                if old.isTombstone {
                    counts.noteZero(again.new, over: again.old, actor, oracle, isAboveFloor: true)
                }
                acknowledge(write, again.new, actor.view, isAgain: true)
                continue
            }
            if let key = actor.keyAdopted(by: seq) {
                // An entry of a departed actor, sent on: whoever covers this number must hold something of the key.
                var write = SimWrite(key: Int32(key), valueLength: 0, valueID: 0, ms: 0, at: now)
                write.unaware = true
                let stamp = SimStamp(ms: 0, origin: Int32(origin), seq: seq)
                outcome.points.hit("entry of a departed server adopted")
                if let violation = oracle.acknowledge(write, stamp: stamp) { return fail(violation) }
                continue
            }
            if let part = actor.part(seq) {
                if let uid = part.buried, let gone = oracle.index(of: uid) {
                    outcome.points.hit(uid == actor.uid ? "part deleted" : "retired part deleted")
                    let main = SimMain(part.key, actor, self)
                    counts.noteBuried(
                        part.key, Int32(gone), uid == actor.uid ? seq : .max,
                        knowing: Set(actor.rows.map(\.server)), main: main.stamp, expiredAt: main.expiredAt)
                    if main.expiredAt > 0 { noteSetBack(part.key, unheardBy: actor, of: main.expiredAt) }
                }
                acknowledgeUntracked(actor, seq, of: (part.key, part.buried ?? actor.uid))
                continue
            }
            return fail(SimViolation("I4", "actor \(origin) made write \(seq) by itself, which cannot be found"))
        }
    }

    private func read(_ key: Int, _ actor: SimActor) {
        guard look(key, actor), lookAtDeadline(key, actor) else { return }
        // `look` has compared the record with what this actor, and so this client, saw before (I15).
        let found = actor.get(key)
        if (found != nil) != actor.isShown(key, oracle), !mayBeOff(key, actor) {
            fail(SimViolation("I15", "GET and the stored records of \(keys.name(key)) disagree"))
        }
        if !failed { checkCount(key, actor) }
        trace.fold(UInt64(key) &+ (found == nil ? 0 : 1))
    }

    /// Brings the view of one key up to date before a client touches it; false when that broke an invariant.
    func look(_ key: Int, _ actor: SimActor) -> Bool {
        let view = actor.view
        view.noteClock(actor.corrected)
        guard let record = actor.find(key) else {
            if view.seen[key].isNone { return true }
            examineNow(actor)
            return !failed
        }
        guard let stamp = actor.stamp(of: record, oracle) else {
            fail(SimViolation("I4", "\(keys.name(key)) holds a version of an actor that never was"))
            return false
        }
        if stamp == view.seen[key] { return true }
        // The dot itself is checked when the vector covers it; here only the order of versions.
        examineNow(actor)
        return !failed
    }

    private func examineNow(_ actor: SimActor) {
        actor.forceLook()
        examine(actor)
    }

    /// LIST with a prefix must equal a walk over all keys at that instant, in byte order.
    private func list(_ actor: SimActor) {
        let group = random.workload.below(5)
        var expected: [Int] = []
        for key in 0..<keys.count where group == 4 || key % 4 == group {
            if actor.isShown(key, oracle) { expected.append(key) }
        }
        expected.sort { keys.bytes($0).lexicographicallyPrecedes(keys.bytes($1)) }
        let prefix: [UInt8] = group == 4 ? [107] : [107, 97 + UInt8(group)]
        let listed = actor.list(prefix: prefix, pageSize: random.workload.within(1...100))
        if listed.count != expected.count
            || zip(listed, expected).contains(where: { !$0.elementsEqual(keys.bytes($1)) })
        {
            let odd = unlike(listed, expected).filter { !mayBeOff($0, actor) }
            if odd.isEmpty, !unlike(listed, expected).isEmpty { return }
            fail(
                SimViolation(
                    "I15",
                    "LIST on actor \(actor.view.origin) has \(listed.count) of \(expected.count) keys, or another "
                        + "order; not alike are " + odd.prefix(3).map { keys.name($0) }.joined(separator: ", ")))
        }
    }

    /// The keys that only one of both has.
    private func unlike(_ listed: [[UInt8]], _ expected: [Int]) -> [Int] {
        let found = listed.map { name in name.withUnsafeBytes { keys.number(of: $0) ?? -1 } }
        return Set(found).symmetricDifference(expected).sorted()
    }
}
