// Deadlines in a simulated world: who sets them, what must follow, what all replicas show in the end. Part of SimWorld.
import KVBase
import KVCore

extension SimWorld {
    // MARK: The load

    /// What the next write does with the key's deadline.
    func drawDeadline(_ actor: SimActor) -> DeadlineChoice {
        guard options.expires, random.expiry.below(100) < options.volatilePercent else { return .none }
        return random.expiry.below(4) == 0 ? .keep : .at(drawEnd(actor))
    }

    private func drawEnd(_ actor: SimActor) -> Millis {
        min(
            RecordExtension.deadlineMax,
            max(0, actor.corrected) + 1 + Millis(random.expiry.below(Int(options.lifeMillisMax))))
    }

    /// EXPIRE, or in one of four cases PERSIST.
    func touch(_ key: Int, _ actor: SimActor) {
        let end = random.expiry.below(4) == 0 ? 0 : drawEnd(actor)
        guard look(key, actor), lookAtDeadline(key, actor) else { return }
        let before = actor.effective(key, oracle)
        let isShown = actor.isShown(key, oracle)
        // A counter that is shown without its value has no deadline.
        let deadline = before.map { $0.deadline > 0 && $0.deadline <= actor.corrected ? 0 : $0.deadline } ?? 0
        let expected: TouchOutcome = !isShown ? .absent : end == 0 && deadline == 0 ? .unchanged : .done
        let highest = newestOfDeadline(key, actor)
        let most = actor.stampMillisMax(seen: highest.ms, floor: 0)
        let main = isCounter(key) ? SimMain(key, actor, self) : nil
        let clock = actor.corrected
        let got = actor.expire(key, at: end)
        if got == .refused { return outcome.points.hit("write refused: no storable version") }
        let isOff = got != expected && mayBeOff(key, actor)
        guard got == expected || isOff else {
            return fail(SimViolation("I15", "a touch of \(keys.name(key)) was \(got), not \(expected)"))
        }
        guard got == .done else { return }
        if let main, !noteBase(key, actor, main, now: clock) { return }
        let touched = keys.count + key
        guard let record = actor.find(touched), let stamp = actor.stamp(of: record, oracle) else {
            return fail(SimViolation("I4", "a touch of \(keys.name(key)) left no record"))
        }
        guard oracle.precedes(highest, stamp) else {
            return fail(
                SimViolation("I5", "\(keys.name(touched)) \(oracle.name(stamp)) is not above its key's version"))
        }
        if stamp.ms > most {
            return fail(SimViolation("I5", "touch of \(keys.name(key)) stamped \(stamp.ms), the rule allows \(most)"))
        }
        outcome.points.hit(end == 0 ? "deadline taken away" : "deadline set apart")
        let write = SimWrite(key: Int32(touched), valueLength: 0, valueID: 0, ms: stamp.ms, at: now, deadline: end)
        if let violation = oracle.deadlineMismatch(record, write) { return fail(violation) }
        if let main = actor.find(key).flatMap({ actor.stamp(of: $0, oracle) }) {
            // It may extend what is shown by a deadline of a newer value only.
            let other = before.flatMap { counts.main(of: $0.version) } ?? .none
            counts.noteTouch(stamp, of: oracle.greater(main, other))
        }
        acknowledge(write, stamp, actor.view)
        if !failed { checkExtended(key, stamp, by: actor) }
    }

    /// An extension of a value that somebody has forgotten already, or an addition to it (I21), unless that one could
    /// not know of the writer or the writer's clock was set back.
    func checkExtended(_ key: Int, _ touch: SimStamp, by actor: SimActor) {
        guard let main = actor.find(key).flatMap({ actor.stamp(of: $0, oracle) }) else { return }
        for other in upActors() where other !== actor {
            let gone = other.view.collected[key]
            guard !oracle.precedes(gone, main), other.view.seen[key].isNone, other.find(key) == nil,
                oracle.write(gone).map({ !$0.isTombstone }) ?? false
            else { continue }
            let isExcused =
                !other.view.hadMet(actor.uid.server, key) || !other.countsAsMember(actor.uid.server)
                || !actor.countsItself || oracle.write(touch)?.unaware ?? false || forgotLiving
                || actor.view.clockMax >= deadline(of: gone, key, at: other)
            if isExcused {
                oracle.excusedKeys.insert(key)
                continue
            }
            return fail(
                SimViolation(
                    "I21",
                    "actor \(actor.view.origin) extended or counted at \(keys.name(key)) \(oracle.name(main)), which "
                        + "actor \(other.view.origin) has forgotten"))
        }
    }

    /// When a value that was forgotten had ended, by what was forgotten with it.
    private func deadline(of gone: SimStamp, _ key: Int, at other: SimActor) -> Millis {
        let (write, touch) = (oracle.write(gone), other.view.collected[keys.count + key])
        let isTouched = oracle.precedes(write?.kept ?? gone, touch)
        return (isTouched ? oracle.write(touch) : write)?.deadline ?? 0
    }

    /// What a write must say of the deadline: when it ends, and whose version that has if it was kept.
    func expectedDeadline(_ key: Int, _ actor: SimActor, _ choice: DeadlineChoice) -> (Millis, SimStamp?) {
        switch choice {
        case .none: return (0, nil)
        case .at(let end): return (end, nil)
        case .keep:
            guard actor.isShown(key, oracle), let kept = actor.effective(key, oracle),
                kept.deadline == 0 || kept.deadline > actor.corrected
            else { return (0, nil) }
            // What a zero says of its deadline is no version to keep: it may be above the write's.
            if let record = actor.find(key), let stamp = actor.stamp(of: record, oracle),
                oracle.precedes(stamp, kept.version), oracle.kept(by: record) == kept.version
            {
                return (0, nil)
            }
            return (kept.deadline, kept.version)
        }
    }

    /// Brings the view of a key's deadline up to date; false when that broke an invariant.
    func lookAtDeadline(_ key: Int, _ actor: SimActor) -> Bool {
        options.expires ? look(keys.count + key, actor) : true
    }

    /// The newest version of a key and of its deadline that an actor has seen.
    func newestSeen(_ key: Int, _ view: SimView) -> SimStamp {
        options.expires ? oracle.greater(view.seen[key], view.seen[keys.count + key]) : view.seen[key]
    }

    /// The same, and the version by which a zero says that it has no deadline: that may be above its own, and its actor
    /// may not have the deadline that was set apart.
    private func newestOfDeadline(_ key: Int, _ actor: SimActor) -> SimStamp {
        oracle.greater(newestSeen(key, actor.view), actor.find(key).flatMap { oracle.kept(by: $0) } ?? .none)
    }

    // MARK: The end

    /// A client sees the same of a key at both, but for those that end about now: clocks are right again, but turns
    /// take their time, and an expired value may be gone here and hidden there.
    func showsAlike(_ key: Int, _ one: SimActor, _ other: SimActor) -> Bool {
        if oracle.excusedKeys.contains(key) { return true }
        let passed = passedAbout
        let isOver = [one, other].contains { actor in
            actor.effective(key, oracle).map { $0.deadline > 0 && $0.deadline <= passed } ?? false
        }
        if isCounter(key), !isOver, one.get(key).map({ Array($0.value) }) != other.get(key).map({ Array($0.value) }) {
            return false
        }
        guard holdsAlike(key, one, other, passed) else { return false }
        let (a, b) = (shown(key, one), shown(key, other))
        if a == b { return true }
        return [a, b].allSatisfy { $0.map { $0.deadline > 0 && $0.deadline <= passed } ?? true }
    }

    /// A clock that was ahead may have let one forget what another shows again.
    private var latestClock: Millis { upActors().reduce(0) { max($0, $1.view.clockMax, $1.corrected) } }
    private var passedAbout: Millis { latestClock + 2_000 }

    /// A value's time has passed by some clock: whoever was still fetching it need not have got it.
    func isOver(_ key: Int, _ stamp: SimStamp) -> Bool { endOf(key, stamp).map { $0 <= latestClock } ?? false }

    /// It ends about now: replicas may agree before each of them has it (`showsAlike`).
    func isNearlyOver(_ key: Int, _ stamp: SimStamp) -> Bool { endOf(key, stamp).map { $0 <= passedAbout } ?? false }

    private func endOf(_ key: Int, _ stamp: SimStamp) -> Millis? {
        guard options.expires, let write = oracle.write(stamp), !write.isTombstone else { return nil }
        let touch = oracle.floors[keys.count + key]
        let deadline =
            oracle.precedes(write.kept ?? stamp, touch) ? oracle.write(touch)?.deadline ?? 0 : write.deadline
        return deadline > 0 ? deadline : nil
    }

    /// What both hold of a key or its deadline is the same; what only one holds is no longer shown.
    private func holdsAlike(_ key: Int, _ one: SimActor, _ other: SimActor, _ passed: Millis) -> Bool {
        for (key, isMain) in [(key, true), (keys.count + key, false)] {
            let (a, b) = (one.find(key), other.find(key))
            if let a, let b, one.stamp(of: a, oracle) != other.stamp(of: b, oracle) { return false }
            guard isMain, (a == nil) != (b == nil) else { continue }
            let holder = a == nil ? other : one
            guard let effective = holder.effective(key, oracle) else { continue }
            if effective.deadline == 0 || effective.deadline > passed { return false }
        }
        return true
    }

    /// Which keys count as steady at one and not, or not so, at another.
    func steadyDifference(_ group: [SimActor]) -> String {
        var text = ""
        for key in 0..<keys.count {
            let steady = group.map { actor in
                actor.effective(key, oracle).flatMap { $0.deadline == 0 ? actor.find(key) : nil }
                    .flatMap { actor.stamp(of: $0, oracle) } ?? .none
            }
            if Set(steady).count > 1 {
                text += "; \(keys.name(key)): " + steady.map { oracle.name($0) }.joined(separator: " ")
            }
        }
        return text + (oracle.excusedKeys.isEmpty ? "" : "; excused: \(oracle.excusedKeys.count)")
    }

    func showsAlike(_ one: SimActor, _ other: SimActor) -> Bool {
        (0..<keys.count).allSatisfy { showsAlike($0, one, other) }
    }

    func shownDifference(_ key: Int, _ one: SimActor, _ other: SimActor) -> String {
        func text(_ actor: SimActor) -> String {
            shown(key, actor).map { "\(oracle.name($0.stamp)) until \($0.deadline - simEpochMillis)" } ?? "nothing"
        }
        return "\(keys.name(key)) is \(text(one)) on actor \(one.view.origin) and \(text(other)) on actor "
            + "\(other.view.origin)"
    }

    private struct Shown: Equatable {
        var stamp: SimStamp
        var deadline: Millis
    }

    private func shown(_ key: Int, _ actor: SimActor) -> Shown? {
        guard let stamp = actor.liveStamp(key, oracle), let effective = actor.effective(key, oracle) else { return nil }
        return Shown(stamp: stamp, deadline: effective.deadline)
    }

    /// Half a minute after a value's time, and as long after the faults, nothing of it is left, and no deadline that
    /// has no effect (I13).
    func keptTooLong() -> SimViolation? {
        guard options.expires else { return nil }
        let latest = simEpochMillis + now / simMillisecond - 30_000 - options.tombstoneAgeMillis
        guard healedAt + 40 * simSecond < now else { return nil }
        for actor in upActors() {
            for key in 0..<keys.count {
                let (main, touch) = (actor.find(key), actor.find(keys.count + key))
                guard main?.ms ?? 0 < latest, touch?.ms ?? 0 < latest, !isCounted(key, actor) else { continue }
                let effective = actor.effective(key, oracle)
                if effective.map({ $0.deadline > 0 && $0.deadline < latest }) ?? false {
                    return SimViolation("I13", "actor \(actor.view.origin) keeps expired \(keys.name(key))")
                }
                if let touch, effective?.version != actor.stamp(of: touch, oracle) {
                    return SimViolation(
                        "I13", "actor \(actor.view.origin) keeps the \(keys.name(keys.count + key))")
                }
            }
        }
        return nil
    }
}

extension SimOracle {
    /// What a write's record must say of its deadline (I23).
    func deadlineMismatch(_ record: Record, _ write: SimWrite) -> SimViolation? {
        let isPlain = Int(write.key) < keys.count && write.deadline == 0 && write.kept == nil
        if isPlain, !record.isExtended { return nil }
        // It may say what it has taken of a counter.
        if isPlain, record.addition.deadline == 0, record.addition.version == nil { return nil }
        guard !isPlain, record.isExtended, record.addition.deadline == write.deadline else {
            return SimViolation("I23", "\(keys.name(Int(write.key))) was written with another deadline than asked for")
        }
        let kept = record.addition.version.map { version in
            SimStamp(ms: version.ms, origin: Int32(index(of: version.uid) ?? -1), seq: version.seq)
        }
        return kept == write.kept
            ? nil : SimViolation("I23", "\(keys.name(Int(write.key))) kept a deadline under another version")
    }
}
