// What one simulated query actor is known to hold, and the checks made each time it is looked at (I1-I5, I7, I12). Used
// by SimWorld only, one thread.
package import KVBase
package import KVCore

/// The oracle's picture of one actor. It is brought up to date by `examine`, which compares the actor's store and
/// version vector with what was seen there before and with the full history.
package final class SimView {
    package let origin: Int
    package let slot: Int
    /// Newest version seen here per key, live or tombstone; none when the key is absent.
    package private(set) var seen: [SimStamp]
    /// Greatest tombstone collected here per key.
    package private(set) var collected: [SimStamp]
    /// Per dense actor: how far this actor's version vector has been checked against history.
    package private(set) var covered: [UInt64] = []
    /// Per dense actor: it was of a retired server here at the last look.
    private var retired: [Bool] = []
    /// Servers that were known here when `collected` was noted, whatever had become of them.
    private var met: [[UInt64]]
    private var live: [Bool]
    /// The rows held here at the last look: whatever was collected since then was collected knowing at least these.
    private var known: [MemberRow] = []
    /// The greatest corrected clock it has shown.
    private(set) var clockMax: Millis = 0

    /// When each server was met.
    private var metAt: [UInt64: SimTime] = [:]
    /// By server: the floor when it was met. What it had written until then may be below.
    private(set) var floors: [UInt64: Millis] = [:]

    func noteMet(_ server: UInt64, _ now: SimTime, floor: Millis) {
        guard metAt[server] == nil else { return }
        metAt[server] = now
        floors[server] = floor
    }

    /// Whether a server was met only after that time.
    func metLate(_ server: UInt64, _ time: SimTime) -> Bool { metAt[server].map { $0 > time } ?? false }

    func noteClock(_ now: Millis) { clockMax = max(clockMax, now) }

    package init(origin: Int, slot: Int, keys: Int) {
        self.origin = origin
        self.slot = slot
        seen = Array(repeating: .none, count: keys)
        collected = seen
        met = Array(repeating: [], count: keys)
        live = Array(repeating: false, count: keys)
    }

    package func covers(_ stamp: SimStamp) -> Bool {
        Int(stamp.origin) < covered.count && covered[Int(stamp.origin)] >= stamp.seq
    }

    package func covered(_ origin: Int) -> UInt64 { origin < covered.count ? covered[origin] : 0 }

    package func holds(_ key: Int, atLeast stamp: SimStamp, _ oracle: SimOracle) -> Bool {
        !oracle.precedes(oracle.greater(seen[key], collected[key]), stamp)
    }

    /// What survives here of a key: a version held or a tombstone already collected.
    package func best(_ key: Int, _ oracle: SimOracle) -> SimStamp { oracle.greater(seen[key], collected[key]) }

    /// What was collected here of a key, if that binds a write of `server`: it was known here then.
    package func collected(_ key: Int, binding server: UInt64) -> SimStamp {
        collected[key].isNone || met[key].contains(server) ? collected[key] : .none
    }

    /// It came back with a disk and has not caught up: others may have collected what it has.
    private(set) var isReturning = false
    /// At the last look its zeros stood as they would stay.
    private var isSettled = false

    /// Takes what an actor found on its disk for what it had seen. Each must have been written (I4). `promised`: up to
    /// which write of an actor that disk has all, whatever became of its server.
    func restore(_ actor: SimActor, _ oracle: SimOracle, promised: (Int) -> UInt64) -> SimViolation? {
        isReturning = true
        for key in 0..<oracle.keys.total {
            guard let record = actor.find(key) else { continue }
            guard let stamp = actor.stamp(of: record, oracle) else {
                return SimViolation("I4", "\(at(key, oracle)) came back with a version of an actor that never was")
            }
            if let violation = oracle.mismatch(record, key: key, stamp: stamp) { return violation }
            (seen[key], live[key]) = (stamp, !record.isTombstone)
        }
        known = actor.rows
        noteDeletes(actor, oracle, promised)
        return nil
    }

    /// Deletes that its disk says it has seen, and that are not there: they were collected here.
    private func noteDeletes(_ actor: SimActor, _ oracle: SimOracle, _ promised: (Int) -> UInt64) {
        let vector = actor.vector
        for origin in oracle.uids.indices {
            var last = actor.covered(oracle.uids[origin], in: vector)
            if last == VersionVector.retired { last = promised(origin) }
            for index in 0..<min(Int(last), oracle.history[origin].count) {
                let write = oracle.history[origin][index]
                let stamp = SimStamp(ms: write.ms, origin: Int32(origin), seq: UInt64(index) + 1)
                guard write.isTombstone, write.key >= 0, oracle.precedes(seen[Int(write.key)], stamp) else { continue }
                let key = Int(write.key)
                collected[key] = oracle.greater(collected[key], stamp)
                met[key] = known.map(\.server)
            }
        }
    }

    package func noteKnown(_ rows: [MemberRow]) { known = rows }

    // MARK: Own writes

    /// Checks the write rule (I5) for a write about to be acknowledged, and takes it over.
    package func noteWrite(_ key: Int, _ stamp: SimStamp, tombstone: Bool, _ oracle: SimOracle) -> SimViolation? {
        guard oracle.precedes(seen[key], stamp) else {
            return SimViolation(
                "I5", "\(at(key, oracle)) wrote \(oracle.name(stamp)) over \(oracle.name(seen[key]))")
        }
        guard oracle.precedes(collected[key], stamp) else {
            return SimViolation(
                "I5", "\(at(key, oracle)) wrote \(oracle.name(stamp)) under collected \(oracle.name(collected[key]))")
        }
        seen[key] = stamp
        live[key] = !tombstone
        return nil
    }

    // MARK: Looking at the actor

    /// Compares everything. `visible` is told each dot that became covered since the last look. O(keys + new dots).
    package func examine(
        _ actor: SimActor, _ oracle: SimOracle, others: [SimActor], visible: (Int, SimWrite) -> Void
    ) -> SimViolation? {
        let hasReturned = isReturning && actor.hasCaughtUp
        isSettled = actor.isSettled
        let before = hasReturned ? [] : covered
        noteClock(actor.corrected)
        if let violation = readVector(actor, oracle, others) { return violation }
        for key in 0..<oracle.keys.total {
            if let violation = examine(key: key, actor, oracle, others) { return violation }
        }
        // What it dropped at the end it had dropped before this look.
        if hasReturned { isReturning = false }
        for origin in covered.indices {
            let from = origin < before.count ? before[origin] : 0
            guard covered[origin] > from else { continue }
            for seq in from..<covered[origin] {
                let write = oracle.history[origin][Int(seq)]
                let stamp = SimStamp(ms: write.ms, origin: Int32(origin), seq: seq + 1)
                if let violation = closure(Int(write.key), stamp, oracle, others) { return violation }
                if origin != self.origin { visible(origin, write) }
            }
        }
        return nil
    }

    /// Version vector: only forward, never beyond what its actor wrote (I3).
    private func readVector(_ actor: SimActor, _ oracle: SimOracle, _ others: [SimActor]) -> SimViolation? {
        while covered.count < oracle.uids.count {
            covered.append(0)
            retired.append(false)
        }
        let vector = actor.vector
        for origin in covered.indices where !oracle.liars.contains(oracle.uids[origin].server) {
            var value = actor.covered(oracle.uids[origin], in: vector)
            let wasRetired = retired[origin]
            retired[origin] = value == VersionVector.retired
            // A retired server: this replica claims to have all of its writes that any member had when it was retired.
            // Whoever comes later may have more; then the server is taken up again where it was left.
            if retired[origin] {
                if wasRetired { continue }
                value = others.reduce(covered[origin]) { most, other in
                    let id = other.uid.server
                    let counted = known.contains { $0.server == id } && actor.countsAsMember(id)
                    return id != oracle.uids[origin].server && (counted || id == actor.uid.server)
                        ? max(most, other.view.covered(origin)) : most
                }
            } else if wasRetired {
                covered[origin] = min(covered[origin], value)
            }
            if value == covered[origin] { continue }
            if !oracle.liars.isEmpty, value < covered[origin] {
                covered[origin] = value
                continue
            }
            guard value > covered[origin] else {
                return SimViolation(
                    "I3", "actor \(self.origin) forgot actor \(origin): \(covered[origin]) -> \(value)")
            }
            // Of one that is silent a liar may say anything until it is heard again; in the end all must be equal.
            if !oracle.liars.isEmpty, value > UInt64(oracle.history[origin].count) { continue }
            guard value <= UInt64(oracle.history[origin].count) else {
                return SimViolation(
                    "I3",
                    "actor \(self.origin) claims seq \(value) of actor \(origin), which wrote "
                        + "\(oracle.history[origin].count)")
            }
            covered[origin] = value
        }
        return nil
    }

    /// Every covered dot has its key here at that version or newer, or collected (I2).
    private func closure(_ key: Int, _ stamp: SimStamp, _ oracle: SimOracle, _ others: [SimActor]) -> SimViolation? {
        // A part of a counter: I22 looks at those.
        if key < 0 || holds(key, atLeast: stamp, oracle) { return nil }
        // An interval may lack a delete that was collected; what it left is dropped at the end of the first scan.
        if isReturning, !oracle.precedes(oracle.collected[key], stamp) { return nil }
        // It was written when nobody knew of that any more.
        if oracle.isForgotten(stamp, under: seen[key]) { return nil }
        // A replica that joined later never held a tombstone which the others collected before, perhaps since they were
        // looked at last; what it wrote itself before it met them may still be here, and so may an older delete.
        if seen[key].isNone || !live[key] || oracle.write(seen[key])?.unaware ?? false || isProvisional(key, oracle),
            !oracle.precedes(oracle.collected[key], stamp)
                || others.contains(where: { $0.view !== self && $0.view.hasBuried(key, since: stamp, $0, oracle) })
        {
            return nil
        }
        if seen[key].isNone {
            // A client's operation looks at one actor: what that got may come from others that have collected since.
            let haveOthers =
                others.contains { $0.view.hasCollected(key, since: stamp, $0, oracle) }
                || oracle.unlooked().contains { hasGone(key, since: stamp, $0, oracle) }
            // It came, was deleted and collected since the last look.
            if let gone = oracle.latestGone(of: key, since: stamp, covers: covers) {
                let violation = noteCollected(key, gone, oracle, others)
                // What the others forgot first was never here, so this clock need not have reached its end.
                return haveOthers && violation?.invariant == "I20" ? nil : violation
            }
            if haveOthers { return nil }
        }
        return SimViolation(
            "I2",
            "\(at(key, oracle)) covers \(oracle.name(stamp)) but holds \(oracle.name(seen[key])), collected "
                + oracle.name(collected[key]))
    }

    /// What is here is a zero from before its actor caught up, below what others may have collected. What that actor
    /// makes of it then has a dot of its own. It settles its zeros when it catches up, at once, unless it joined by way
    /// of a newcomer.
    private func isProvisional(_ key: Int, _ oracle: SimOracle) -> Bool {
        (Int(seen[key].origin) != origin || !isSettled) && oracle.write(seen[key])?.isProvisional ?? false
    }

    private func examine(key: Int, _ actor: SimActor, _ oracle: SimOracle, _ others: [SimActor]) -> SimViolation? {
        guard let record = actor.find(key) else {
            return seen[key].isNone ? nil : noteGone(key, oracle, others)
        }
        guard let stamp = actor.stamp(of: record, oracle) else {
            return SimViolation("I4", "\(at(key, oracle)) holds a version of an actor that never was")
        }
        if stamp == seen[key] { return nil }
        // A delete was collected since the last look, and an older one came, of a server that was not met before.
        if record.isTombstone, !live[key], oracle.precedes(stamp, seen[key]), actor.floor >= seen[key].ms {
            if let violation = noteCollected(key, seen[key], oracle, others) { return violation }
            seen[key] = stamp
            return nil
        }
        if let violation = oracle.mismatch(record, key: key, stamp: stamp) { return violation }
        if mayBeCollected(key, before: stamp, floor: actor.floor, oracle),
            let violation = noteCollected(key, seen[key], oracle, others)
        {
            return violation
        }
        return noteNewer(key, stamp, tombstone: record.isTombstone, oracle, isMember: actor.countsItself)
    }

    /// What was held at the last look may have been collected before an older write came, of a server that was not met
    /// before. Of a value `noteCollected` says whether its time has come.
    package func mayBeCollected(_ key: Int, before stamp: SimStamp, floor: Millis, _ oracle: SimOracle) -> Bool {
        let mayBeForgotten = oracle.keys.total > oracle.keys.count
        return oracle.precedes(stamp, seen[key]) && floor >= seen[key].ms && (mayBeForgotten || !live[key])
            && !known.contains { $0.server == oracle.server(stamp) }
    }

    /// A version that was not here at the last look: newer than the last (I1), and not one that a collected tombstone
    /// had already beaten (I12 here, I7 elsewhere).
    package func noteNewer(
        _ key: Int, _ stamp: SimStamp, tombstone: Bool, _ oracle: SimOracle, isMember: Bool = true
    ) -> SimViolation? {
        guard oracle.precedes(seen[key], stamp) else {
            return SimViolation(
                "I1", "\(at(key, oracle)) went back from \(oracle.name(seen[key])) to \(oracle.name(stamp))")
        }
        let isUnaware = oracle.write(stamp)?.unaware ?? false || oracle.forgotLiving
        // The collected tombstone itself resurrects nothing; it may come again, over a write that was unaware of it.
        if oracle.precedes(stamp, collected[key]), !isUnaware {
            return SimViolation(
                "I12",
                "\(at(key, oracle)) resurrected \(oracle.name(stamp)) under collected "
                    + oracle.name(collected[key]))
        }
        // Who has left or was removed counts no longer for collecting, and nobody takes anything from it.
        if oracle.precedes(stamp, oracle.remembered[key]), !isUnaware, isMember {
            return SimViolation(
                "I7",
                "\(at(key, oracle)) received \(oracle.name(stamp)) after \(oracle.name(oracle.remembered[key])) "
                    + "was collected elsewhere")
        }
        oracle.say?("\(at(key, oracle)) has \(oracle.name(stamp)), had \(oracle.name(seen[key]))")
        seen[key] = stamp
        live[key] = !tombstone
        return nil
    }

    /// The key is gone: it must have been a tombstone.
    private func noteGone(_ key: Int, _ oracle: SimOracle, _ others: [SimActor]) -> SimViolation? {
        // What was held may itself be the tombstone, of a departed actor whose vector entry never reached it.
        let held = seen[key]
        guard let gone = oracle.latestGone(of: key, since: held, covers: { $0 == held || covers($0) }) else {
            if isReturning, !oracle.precedes(oracle.collected[key], held) {
                oracle.say?("\(at(key, oracle)) dropped \(oracle.name(held)), which was collected")
                (seen[key], live[key], collected[key]) = (.none, false, oracle.collected[key])
                met[key] = known.map(\.server)
                return nil
            }
            return SimViolation("I1", "\(at(key, oracle)) lost \(oracle.name(seen[key])) without a delete")
        }
        return noteCollected(key, gone, oracle, others)
    }

    /// What was held here at the last look is gone by now, through a delete that is not older than `stamp`.
    private func hasCollected(_ key: Int, since stamp: SimStamp, _ actor: SimActor, _ oracle: SimOracle) -> Bool {
        let held = seen[key]
        return !held.isNone && hasGone(key, since: oracle.greater(stamp, held), held: held, actor, oracle)
    }

    /// An actor, looked at or not, has held or seen a delete not older than `stamp`, and has nothing of the key.
    private func hasGone(
        _ key: Int, since stamp: SimStamp, held: SimStamp = .none, _ actor: SimActor, _ oracle: SimOracle
    ) -> Bool {
        guard actor.find(key) == nil else { return false }
        let vector = actor.vector
        let delete = oracle.latestGone(of: key, since: stamp) {
            $0 == held || actor.covered(oracle.uids[Int($0.origin)], in: vector) >= $0.seq
        }
        return delete != nil
    }

    /// A delete not older than `stamp` was held here at the last look, and is gone by now.
    private func hasBuried(_ key: Int, since stamp: SimStamp, _ actor: SimActor, _ oracle: SimOracle) -> Bool {
        let held = seen[key]
        guard !held.isNone, !live[key], !oracle.precedes(held, stamp) else { return false }
        return actor.find(key).flatMap { actor.stamp(of: $0, oracle) }.map { oracle.precedes($0, held) } ?? true
    }

    /// Nobody may still hold what a collected tombstone deleted (I7).
    private func noteCollected(
        _ key: Int, _ tombstone: SimStamp, _ oracle: SimOracle, _ others: [SimActor]
    ) -> SimViolation? {
        collected[key] = oracle.greater(collected[key], tombstone)
        oracle.noteCollected(key, tombstone)
        oracle.say?("\(at(key, oracle)) collected \(oracle.name(tombstone))")
        seen[key] = .none
        live[key] = false
        let collector = others.first { $0.view === self }
        if let violation = noteForgotten(key, tombstone, oracle, collector) { return violation }
        met[key] = known.map(\.server)
        oracle.excuse(writesOf: key, before: tombstone) { !met[key].contains($0) }
        for other in others where other.view !== self && !oracle.forgotLiving {
            // Who was forgotten, or has not been met yet, is not asked; it starts anew, or its writes come as new ones.
            if let collector, !collector.countsAsMember(other.uid.server) { continue }
            if other.view.isReturning { continue }
            guard let record = other.find(key), let stamp = other.stamp(of: record, oracle) else { continue }
            if oracle.precedes(stamp, tombstone), oracle.write(stamp)?.unaware == false {
                return SimViolation(
                    "I7",
                    "\(at(key, oracle)) collected \(oracle.name(tombstone)) while actor \(other.view.origin) "
                        + "holds \(oracle.name(stamp))")
            }
        }
        return nil
    }

    /// Whether a server was known here when the key was collected.
    package func hadMet(_ server: UInt64, _ key: Int) -> Bool { met[key].contains(server) }

    /// A value or a deadline was forgotten, not a delete: its time must have come (I20), and no extension of it may be
    /// lost (I21).
    private func noteForgotten(
        _ key: Int, _ gone: SimStamp, _ oracle: SimOracle, _ collector: SimActor?
    ) -> SimViolation? {
        guard let write = oracle.write(gone), !write.isTombstone, !write.unaware, let collector else { return nil }
        let main = key % oracle.keys.count
        if key != main {
            // What a server wrote that was not met at the last look may have come after that.
            guard let stamp = collector.find(main).flatMap({ collector.stamp(of: $0, oracle) }),
                known.contains(where: { $0.server == oracle.server(stamp) }),
                let held = oracle.write(stamp), !held.isTombstone, oracle.precedes(held.kept ?? stamp, gone)
            else { return nil }
            return SimViolation("I20", "\(at(key, oracle)) forgot \(oracle.name(gone)), which is in effect")
        }
        // Those seen by now may have come after the value was forgotten: then they are late, and looked at as such.
        let touches = oracle.touches(of: key, after: write.kept ?? gone).filter {
            covers($0) || $0 == seen[oracle.keys.count + key] || $0 == collected[oracle.keys.count + key]
        }.sorted { oracle.precedes($1, $0) }
        let ends = (touches + [.none]).map { (touch: $0, deadline: oracle.write($0)?.deadline ?? write.deadline) }
        guard let (touch, deadline) = ends.first(where: { $0.deadline > 0 && $0.deadline <= clockMax }) else {
            return SimViolation(
                "I20", "\(at(key, oracle)) forgot \(oracle.name(gone)) before its deadline \(ends[0].deadline)")
        }
        if oracle.precedes(gone, oracle.newest(key)) { return nil }
        for late in oracle.touches(of: key, after: oracle.greater(touch, write.kept ?? gone)) {
            guard let later = oracle.write(late), later.deadline == 0 || later.deadline > deadline else {
                continue
            }
            let server = oracle.server(late)
            let isKnown = known.contains { $0.server == server } && collector.countsAsMember(server)
            guard isKnown, later.clockMax < deadline, !later.unaware, !oracle.departed.contains(late.origin)
            else {
                oracle.excusedKeys.insert(key)
                continue
            }
            return SimViolation(
                "I21", "\(at(key, oracle)) forgot \(oracle.name(gone)), extended by \(oracle.name(late))")
        }
        return nil
    }

    private func at(_ key: Int, _ oracle: SimOracle) -> String { "actor \(origin) \(oracle.keys.name(key))" }
}
