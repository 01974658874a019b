// Counters in a simulated world: who adds what, and what every replica must then show (I22). Part of SimWorld.
package import KVBase
import KVCore

/// Every addition ever acknowledged, and what each write of a value had seen of them.
package final class SimCounts {
    struct Added {
        var seq: UInt64
        var step: Int64
        /// When, by the clock that decides about deadlines.
        var at: Millis
        /// The addition that its part began with.
        var begin: UInt64
        /// Up to there its part is of a count that had expired by what its actor knew; and when the last of these was
        /// made.
        var cut: UInt64 = 0
        var cutAt: Millis = 0
    }

    /// What a write of a value takes away: of each actor the additions up to there, and all of an actor whose last one
    /// was made before `before`.
    struct Seen {
        var before: Millis = 0
        var seqs: [Int32: UInt64] = [:]
        /// The write says something of parts.
        var isSaid = false
        /// By actor: up to there its part had been deleted then. That counts nowhere any more but where the grave has
        /// not arrived.
        var buried: [Int32: UInt64] = [:]
    }

    /// A part was deleted up to there by somebody who knew these servers, and had this value, expired or not.
    struct Grave {
        var origin: Int32
        var seq: UInt64
        var known: Set<UInt64>
        var main: SimStamp
        var isExpired: Bool
    }

    /// Who had collected, or might have, what a write's clock had not reached yet; and what its actor had seen of each.
    private struct Lead {
        var ahead: Set<Int32>
        var seen: [UInt64]
    }

    /// By key, then by actor: in the order in which they were made.
    fileprivate(set) var added: [[Int32: [Added]]]
    fileprivate var seen: [SimStamp: Seen] = [:]
    /// Zeros that counting began with: how far their actor had seen each of the others when it stamped them.
    private var zeros: [SimStamp: [UInt64]] = [:]
    /// What was held of the key when a zero was stamped; perhaps another zero.
    private var heldUnder: [SimStamp: SimStamp] = [:]
    /// Those of them that were stamped above the floor, as their actor had no record of the key.
    private var zerosAboveFloor: Set<SimStamp> = []
    /// By zero: the servers that its actor had met, and its floor when it met them.
    private var floorsMet: [SimStamp: [UInt64: Millis]] = [:]
    private var leads: [SimStamp: Lead] = [:]
    /// By actor and seq: the millisecond of a part's record.
    private var partMillis: [Int32: [UInt64: Millis]] = [:]
    /// By a deadline set apart: the value that its actor had then.
    private var mainsOfTouches: [SimStamp: SimStamp] = [:]
    /// By key and actor that died: how far somebody still had its additions.
    fileprivate var floors: [[Int32: UInt64]]
    /// By key and actor: up to there its part was deleted, so whoever writes from now on has seen it or never will.
    fileprivate var buried: [[Int32: UInt64]]
    /// By key: graves of parts, and whom the actor had met that dug them.
    fileprivate var graves: [[Grave]]
    /// By key: the latest deadline for which an actor deleted its part.
    fileprivate var buriedFor: [Millis]
    /// Early writes that were stamped again.
    fileprivate var stampedAgain: Set<SimStamp> = []
    /// Keys that were written by a clock behind that.
    fileprivate var setBack: Set<Int> = []
    /// By key and actor: by which clock each write was made.
    fileprivate var clocks: [[Int32: [(seq: UInt64, clock: Millis)]]]

    package init(keys: Int) {
        added = Array(repeating: [:], count: keys)
        floors = added.map { _ in [:] }
        buried = floors
        graves = Array(repeating: [], count: keys)
        clocks = Array(repeating: [:], count: keys)
        buriedFor = Array(repeating: 0, count: keys)
    }

    /// A write over what an actor had of a key.
    func note(_ main: SimMain, _ stamp: SimStamp, onlySpent: Bool = false) {
        var taken = main.taken(onlySpent: onlySpent) ?? Seen()
        taken.buried = buried[main.key]
        seen[stamp] = taken
    }

    func seen(_ stamp: SimStamp, of key: Int) -> Seen { seen[stamp] ?? Seen(buried: buried[key]) }

    package func noteBuried(
        _ key: Int, _ origin: Int32, _ seq: UInt64, knowing: Set<UInt64>, main: SimStamp, expiredAt: Millis
    ) {
        buried[key][origin] = seq
        graves[key].append(
            Grave(origin: origin, seq: seq, known: knowing, main: main, isExpired: expiredAt > 0))
        buriedFor[key] = max(buriedFor[key], expiredAt)
    }

    func noteTouch(_ touch: SimStamp, of main: SimStamp) { mainsOfTouches[touch] = main }

    /// The value that a deadline was set for, if that is known.
    func main(of touch: SimStamp) -> SimStamp? { mainsOfTouches[touch] }

    /// How far an actor's part was deleted as this value had expired; `live` as below.
    package func buriedExpired(_ key: Int, _ origin: Int32, of main: SimStamp, live: UInt64?) -> UInt64 {
        graves[key].reduce(0) { most, grave in
            grave.origin == origin && grave.main == main && grave.isExpired && (live.map { grave.seq < $0 } ?? true)
                ? max(most, grave.seq) : most
        }
    }

    /// How far an actor's part was deleted by somebody who had not met the server that a write of the value is of: that
    /// one cannot have said so, and what was deleted before stays deleted (docs/replication.md 16.4). `live`: the part
    /// is here and has got no grave, or began again behind it.
    package func buriedUnaware(_ key: Int, _ origin: Int32, of writer: UInt64, live: UInt64?) -> UInt64 {
        graves[key].reduce(0) { most, grave in
            grave.origin == origin && (live.map { grave.seq < $0 } ?? true) && !grave.known.contains(writer)
                ? max(most, grave.seq) : most
        }
    }

    /// An actor has stamped a write again.
    func copy(from old: SimStamp, to new: SimStamp, _ actor: SimActor, _ oracle: SimOracle) {
        stampedAgain.insert(new)
        seen[new] = seen[old]
        if zeros[old] != nil { noteZero(new, over: old, actor, oracle, isAboveFloor: true) }
    }

    func noteZero(_ stamp: SimStamp, over held: SimStamp, _ actor: SimActor, _ oracle: SimOracle, isAboveFloor: Bool) {
        zeros[stamp] = oracle.uids.map { actor.covered($0) }
        heldUnder[stamp] = held
        if isAboveFloor { noteAboveFloor(stamp, met: actor.view.floors) }
    }

    package func noteAboveFloor(_ zero: SimStamp, met floors: [UInt64: Millis]) {
        zerosAboveFloor.insert(zero)
        floorsMet[zero] = floors
    }

    package func noteLead(_ stamp: SimStamp, _ ahead: Set<Int32>, seen: [UInt64]) {
        if !ahead.isEmpty { leads[stamp] = Lead(ahead: ahead, seen: seen) }
    }

    package func notePartMillis(_ origin: Int32, _ seq: UInt64, _ ms: Millis) {
        partMillis[origin, default: [:]][seq] = ms
    }

    /// Whether a zero may beat a write unseen (docs/replication.md 16.5): it was stamped above a floor. Either that was
    /// lifted above the write before the zero's actor knew of the write's server. Or the floor, or the clock that lifts
    /// it, was further ahead of the write's clock than a tombstone's age, and the write's actor had seen what the floor
    /// is of, as clause 1 of 10.1 demands. A newcomer takes the floor of any other over.
    package func mayBeat(_ zero: SimStamp, _ other: SimStamp, _ oracle: SimOracle) -> Bool {
        guard zerosAboveFloor.contains(zero) else { return false }
        let server = oracle.server(other)
        if server != oracle.server(zero), floorsMet[zero]?[server] ?? .max >= other.ms { return true }
        guard let lead = leads[other],
            lead.ahead.contains(zero.origin) || Int(zero.origin) >= lead.seen.count
        else { return false }
        let floor = zero.ms - 1
        return lead.seen.indices.contains { origin in
            let seen = Int(min(lead.seen[origin], UInt64(oracle.history[origin].count)))
            let parts = partMillis[Int32(origin)] ?? [:]
            return oracle.history[origin].prefix(seen).contains { $0.ms == floor }
                || parts.contains { $0.key <= UInt64(seen) && $0.value == floor }
        }
    }

    /// Whether the actor of a zero had seen a write when it stamped it; nil if it is none.
    func hadSeen(_ other: SimStamp, _ zero: SimStamp) -> Bool? {
        zeros[zero].map {
            other.origin == zero.origin || $0.indices.contains(Int(other.origin)) && $0[Int(other.origin)] >= other.seq
                || heldUnder[zero].map { $0 == other || hadSeen(other, $0) == true } ?? false
        }
    }
}

extension SimWorld {
    /// Keys that are counted at; the others hold bytes.
    func isCounter(_ key: Int) -> Bool { options.countPercent > 0 && key % 2 == 0 && key < keys.count }

    // MARK: The load

    /// INCRBY or DECRBY.
    func count(_ key: Int, _ actor: SimActor) {
        let steps: [Int64] = [1, 1, 1, 2, 10, -1, -3, 1 << 40]
        let step = steps[random.counts.below(steps.count)]
        guard look(key, actor), lookAtDeadline(key, actor) else { return }
        // What has arrived without its value counts, though it is not shown.
        let before = SimMain(key, actor, self).expected(isSettled: true)
        let main = SimMain(key, actor, self)
        let clock = actor.corrected
        let got = actor.increment(key, by: step)
        if got == .refused { return outcome.points.hit("write refused: no storable version") }
        var isRight = got == .value((before ?? 0) + step)
        if !isRight, case .value = got { isRight = mayBeOff(key, actor) }
        guard isRight else {
            say { "actor \(actor.view.origin): \(main)" }
            return fail(
                SimViolation("I22", "\(step) added to \(before ?? 0) at \(keys.name(key)) gave \(got)"))
        }
        guard noteBase(key, actor, main, now: clock) else { return }
        let origin = Int32(actor.view.origin)
        let seq = UInt64(oracle.history[Int(origin)].count) + 1
        let last = main.last(of: origin)
        guard actor.ownSeq == seq else {
            return fail(SimViolation("I22", "an increment of \(keys.name(key)) left no part of its own"))
        }
        let cutoff = SimMain(key, actor, self).seen.before
        var added = SimCounts.Added(seq: seq, step: step, at: max(clock, cutoff), begin: last?.begin ?? seq)
        if let last { (added.cut, added.cutAt) = last.at < cutoff ? (last.seq, last.at) : (last.cut, last.cutAt) }
        if added.cut > last?.cut ?? 0 { outcome.points.hit("part cut by an expiry") }
        counts.added[key][origin, default: []].append(added)
        outcome.points.hit("counted")
        acknowledgeUntracked(actor, seq, of: (key, actor.uid))
        // Nobody may have forgotten what it was added to.
        if !failed { checkExtended(key, SimStamp(ms: 0, origin: origin, seq: seq), by: actor) }
        if !failed { checkCount(key, actor) }
    }

    /// A write that the figures of keys are not kept of: of a part.
    func acknowledgeUntracked(_ actor: SimActor, _ seq: UInt64, of part: (key: Int, uid: ActorUID)) {
        if let record = actor.partRecord(part.key, part.uid), record.seq == seq, actor.originUID(record) == actor.uid {
            counts.notePartMillis(Int32(actor.view.origin), seq, record.ms)
        }
        noteWriting(part.key, actor)
        let write = SimWrite(key: -1, valueLength: 0, valueID: 0, ms: 0, at: now)
        let stamp = SimStamp(ms: 0, origin: Int32(actor.view.origin), seq: seq)
        trace.fold(seq)
        say { "actor \(stamp.origin) wrote a part at \(seq)" }
        if let violation = oracle.acknowledge(write, stamp: stamp) { fail(violation) }
    }

    /// A command that found no value may have written 0 first. False when that broke an invariant.
    func noteBase(_ key: Int, _ actor: SimActor, _ before: SimMain, now clock: Millis) -> Bool {
        guard isCounter(key), let record = actor.find(key), let stamp = actor.stamp(of: record, oracle),
            stamp != before.stamp
        else { return !failed }
        outcome.points.hit(before.stamp.isNone ? "counter begun" : "counter begun anew")
        counts.note(before, stamp, onlySpent: true)
        counts.noteZero(stamp, over: before.stamp, actor, oracle, isAboveFloor: before.stamp.isNone)
        var write = SimWrite(
            key: Int32(key), valueLength: 1, valueID: 0, ms: stamp.ms, at: now, kept: oracle.kept(by: record), number: 0
        )
        write.isProvisional = actor.isUnsure
        acknowledge(write, stamp, actor.view)
        // Over what has expired it stands above the deadline's version. Where nothing is here it stands above the
        // floor, which may be above what clocks that are far behind stamp.
        if !failed, !before.stamp.isNone, before.expiredAt == 0 { checkZero(key, stamp, beside: [Int32(key)]) }
        return !failed
    }

    // MARK: What must be shown

    /// The number that an actor must show of a key, from the additions that it has and what its record's write had
    /// seen; nil if the key is not there.
    func expected(_ key: Int, _ actor: SimActor) -> Int64? { SimMain(key, actor, self).expected() }

    /// I22, by a client's eyes.
    func checkCount(_ key: Int, _ actor: SimActor, isSettled: Bool = false) {
        guard isCounter(key), !isRotten, !oracle.excusedKeys.contains(key) else { return }
        let wanted = SimMain(key, actor, self).expected(isSettled: isSettled)
        let shown = actor.get(key).map { String(decoding: $0.value, as: UTF8.self) }
        guard shown != wanted.map({ "\($0)" }) else { return }
        if shown == nil, hasLostZero(key, actor) { return outcome.points.hit("part left without its value") }
        if mayBeOff(key, actor) { return }
        say { "\(SimMain(key, actor, self))" }
        fail(
            SimViolation(
                "I22",
                "actor \(actor.view.origin) shows \(shown ?? "nothing") of \(keys.name(key)), and was told "
                    + "\(wanted.map { "\($0)" } ?? "nothing")"))
    }

    /// The zero went with the newcomer that wrote it, and a part alone shows nothing (docs/replication.md 13): whoever
    /// added to what is here is gone, and of all writes of the key nothing is left but what was collected.
    private func hasLostZero(_ key: Int, _ actor: SimActor) -> Bool {
        actor.find(key) == nil && !oracle.precedes(oracle.collected[key], oracle.floors[key])
            && SimMain(key, actor, self).adding.allSatisfy { oracle.departed.contains($0) }
    }

    /// A count may differ from what was added: others delete the parts of a server that they have removed, though it
    /// lives; or clocks were set back behind a deadline that had passed (docs/replication.md 13).
    func mayBeOff(_ key: Int, _ actor: SimActor) -> Bool {
        guard isCounter(key) else { return false }
        if forgotLiving {
            outcome.points.hit("count off after a living server was removed")
            return true
        }
        if oracle.excusedKeys.contains(key) { return true }
        noteSetBack(key, actor)
        guard counts.setBack.contains(key) else { return false }
        oracle.excusedKeys.insert(key)
        outcome.points.hit("count off after clocks were set back")
        return true
    }

    /// What is written by a clock behind a deadline for which a part was deleted goes on to those whose clocks are not.
    func noteSetBack(_ key: Int, _ actor: SimActor) {
        if isCounter(key), actor.corrected < counts.buriedFor[key] { counts.setBack.insert(key) }
    }

    /// Before the next write of an actor, which is of that key.
    func noteWriting(_ key: Int, _ actor: SimActor) {
        noteSetBack(key, actor)
        guard isCounter(key) else { return }
        let seq = UInt64(oracle.history[actor.view.origin].count) + 1
        counts.clocks[key][Int32(actor.view.origin), default: []].append((seq, actor.corrected))
    }

    /// The same of what was written before the part was deleted, and had not arrived where it was (81736).
    func noteSetBack(_ key: Int, unheardBy actor: SimActor, of deadline: Millis) {
        let isUnheard = counts.clocks[key].contains { origin, writes in
            let covered = actor.covered(oracle.uids[Int(origin)])
            return writes.contains { $0.seq > covered && $0.clock < deadline }
        }
        if isUnheard { counts.setBack.insert(key) }
    }

    // MARK: Servers that die, and the end

    /// Before a server goes: what others have of its additions, and of those whose actors went before.
    func noteCountsHeld(_ gone: SimServer) {
        guard options.countPercent > 0 else { return }
        let others = upActors().filter { $0.view.slot != gone.slot }
        for key in 0..<keys.count where isCounter(key) {
            for origin in counts.added[key].keys {
                guard gone.actors.contains(Int(origin)) || oracle.departed.contains(origin) else { continue }
                let uid = oracle.uids[Int(origin)]
                let held = others.map { $0.partSeq(key, uid)?.seq ?? 0 }.max() ?? 0
                counts.floors[key][origin] = min(counts.floors[key][origin] ?? .max, held)
            }
        }
    }

    /// Nothing that was acknowledged is missing (I11), and all show the same.
    func checkCounts(isFinal: Bool = false) {
        for key in 0..<keys.count where isCounter(key) && !failed && !oracle.excusedKeys.contains(key) {
            for actor in upActors() where !failed {
                checkCount(key, actor, isSettled: true)
                // What a dead server left comes to the others after a while; it may make no difference to the number.
                if !isFinal { continue }
                for (origin, list) in counts.added[key] {
                    let last = counts.floors[key][origin] ?? list.last?.seq ?? 0
                    let uid = oracle.uids[Int(origin)]
                    guard let held = actor.partSeq(key, uid) else { continue }
                    if held.seq < last, !held.isForeign, !forgotLiving {
                        fail(
                            SimViolation(
                                "I11",
                                "actor \(actor.view.origin) has additions of actor \(origin) to "
                                    + "\(keys.name(key)) up to \(held.seq) of \(last)"))
                    }
                }
            }
        }
    }

    /// The value 0 that counting begins with loses to every write that its actor had not seen (I24), but for one of the
    /// millisecond of the delete that it replaces, and one by a clock too far behind where there was nothing to
    /// replace.
    private func checkZero(_ key: Int, _ zero: SimStamp, beside names: [Int32]) {
        var beaten = SimStamp.none
        for origin in oracle.history.indices {
            for (index, write) in oracle.history[origin].enumerated()
            where names.contains(write.key) && write.ms > 0 {
                let stamp = SimStamp(ms: write.ms, origin: Int32(origin), seq: UInt64(index) + 1)
                guard oracle.precedes(stamp, zero), counts.hadSeen(stamp, stamp) == nil else { continue }
                if counts.hadSeen(stamp, zero) == false, counts.mayBeat(zero, stamp, oracle) {
                    outcome.points.hit("zero above what a clock far behind stamped")
                    continue
                }
                beaten = oracle.greater(beaten, stamp)
            }
        }
        // An early write that is stamped again has the stamp of a floor of then, and may come behind a later one.
        guard beaten.ms < zero.ms - 1, !beaten.isNone, !oracle.departed.contains(beaten.origin),
            counts.hadSeen(beaten, zero) == false, !counts.stampedAgain.contains(beaten)
        else { return }
        fail(
            SimViolation(
                "I24",
                "counting at \(keys.name(key)) began with \(oracle.name(zero)), which beat "
                    + "\(oracle.name(beaten)), unseen"))
    }

    /// The same of what all show at the end: a write may have been stamped after the zero that beats it.
    func checkZeros() {
        for key in 0..<keys.count where isCounter(key) && !failed && !oracle.excusedKeys.contains(key) {
            guard let actor = upActors().first, let record = actor.find(key),
                let zero = actor.stamp(of: record, oracle),
                counts.hadSeen(zero, zero) != nil
            else { continue }
            // What a deadline set apart ends, it ends wherever it arrives.
            checkZero(key, zero, beside: [Int32(key), Int32(keys.count + key)])
        }
    }

    /// Of a write to a counter or its deadline: who was so far ahead that a zero of theirs may beat it.
    func noteLead(_ key: Int, _ stamp: SimStamp, _ writer: SimActor) {
        guard isCounter(key % keys.count) else { return }
        // An early write that is stamped again may keep a stamp that is far behind.
        let clock = min(writer.corrected, stamp.ms)
        // All clocks may have been set back since.
        let ahead = upActors().filter {
            max($0.floor, max($0.corrected, $0.view.clockMax) - options.tombstoneAgeMillis) > clock
        }
        counts.noteLead(
            stamp, Set(ahead.map { Int32($0.view.origin) }), seen: oracle.uids.map { writer.covered($0) })
    }

    /// A part from a clock that was ahead is collected, and its key after it, when that time has come.
    func newestPart(_ key: Int) -> Millis {
        guard isCounter(key) else { return 0 }
        return upActors().reduce(Millis(0)) { newest, actor in
            counts.added[key].keys.reduce(newest) {
                max($0, actor.partRecord(key, oracle.uids[Int($1)])?.ms ?? 0)
            }
        }
    }

    /// Whether a key's parts keep it from being forgotten, or showed it again.
    func isCounted(_ key: Int, _ actor: SimActor) -> Bool {
        isCounter(key) && oracle.uids.indices.contains { actor.partSeq(key, oracle.uids[$0]) != nil }
    }
}

/// What one actor has of a key's value, and of the additions to it.
struct SimMain: CustomStringConvertible {
    let key: Int
    let stamp: SimStamp
    let seen: SimCounts.Seen
    /// Its value; nil if there is none, or none any more.
    private let value: Int64?
    /// When it expired.
    let expiredAt: Millis
    /// By actor: the additions that are here.
    private var here: [(origin: Int32, added: [SimCounts.Added])] = []
    /// By actor: the seq of a part that is here and not deleted.
    private var parts: [Int32: UInt64] = [:]
    private let hasParts: Bool
    /// Its value was forgotten before their servers were met: by actor, the addition that the part here began with.
    private var unmet: [Int32: UInt64] = [:]

    init(_ key: Int, _ actor: SimActor, _ world: SimWorld) {
        let oracle = world.oracle
        self.key = key
        let record = actor.find(key)
        stamp = record.flatMap { actor.stamp(of: $0, oracle) } ?? .none
        let last = stamp.isNone ? actor.view.collected[key] : stamp
        seen = world.counts.seen(last, of: key)
        var ended: Millis = 0
        var number: Int64?
        var (isLent, isForgotten) = (false, false)
        if let record, !record.isTombstone {
            let effective = actor.effective(key, oracle)
            let deadline = effective?.deadline ?? 0
            // A deadline that came before the value it was set for shows an older one again meanwhile.
            isLent = effective.flatMap { world.counts.main(of: $0.version) }.map { oracle.precedes(last, $0) } ?? false
            if deadline > 0, deadline <= actor.corrected { ended = deadline }
            if ended == 0 { number = oracle.write(stamp)?.number }
        } else if stamp.isNone, let gone = oracle.write(last), !gone.isTombstone {
            // It was forgotten once it had expired.
            (ended, isForgotten) = (actor.corrected, true)
        }
        (value, expiredAt) = (number, ended)
        var hasParts = false
        for (origin, list) in world.counts.added[key].sorted(by: { $0.key < $1.key }) {
            let uid = oracle.uids[Int(origin)]
            let part = actor.partSeq(key, uid)
            hasParts = hasParts || part != nil
            if let part, !part.isDeleted { parts[origin] = part.seq }
            let covered = actor.covered(uid)
            let foreign = world.counts.floors[key][origin] ?? .max
            let reach = part.map { $0.isForeign ? foreign : $0.seq } ?? (covered == VersionVector.retired ? 0 : covered)
            let live = part.flatMap { $0.isDeleted ? nil : $0.seq }
            let buried = seen.buried[origin].flatMap { buried in live.map { buried < $0 } ?? true ? buried : nil } ?? 0
            let gone = max(
                buried, world.counts.buriedUnaware(key, origin, of: oracle.server(last), live: live),
                isLent ? world.counts.buriedExpired(key, origin, of: last, live: live) : 0)
            let held = list.filter { $0.seq <= reach && $0.seq > gone }
            if !held.isEmpty { here.append((origin, held)) }
            if isForgotten, let live, !actor.view.hadMet(uid.server, key) {
                unmet[origin] = held.last { $0.seq <= live }?.begin
            }
        }
        self.hasParts = hasParts
    }

    /// Those of an actor's additions that count. A part that was deleted and begun again is another one: what was
    /// added to it does not bring back what its grave ended, nor what its actor knew to have expired. What an expired
    /// value said went with it: it does not bind the part of a server that was met later (docs/replication.md 16.4).
    private func counted(_ origin: Int32, _ added: [SimCounts.Added]) -> [SimCounts.Added] {
        let taken = seen.seqs[origin] ?? 0
        var counted: [SimCounts.Added] = []
        var last: SimCounts.Added?
        for one in added.reversed() {
            if last?.begin != one.begin { last = one }
            let before = unmet[origin] == one.begin ? 0 : max(seen.before, expiredAt)
            let hasExpired = last!.at < before || one.seq <= last!.cut && last!.cutAt < before
            if one.seq > taken, !hasExpired { counted.append(one) }
        }
        return counted
    }

    /// The last addition to an actor's part that is here; nil if there is none, or a grave.
    func last(of origin: Int32) -> SimCounts.Added? {
        parts[origin].flatMap { seq in here.first { $0.origin == origin }?.added.last { $0.seq <= seq } }
    }

    /// Additions to a value that has not arrived are not shown yet, unless everything has: `isSettled`.
    func expected(isSettled: Bool = false) -> Int64? {
        var (sum, isThere) = (Int128(value ?? 0), value != nil)
        if stamp.isNone, !isSettled { return nil }
        for (origin, added) in here {
            for one in counted(origin, added) {
                sum += Int128(one.step)
                isThere = true
            }
        }
        return isThere ? Int64(clamping: sum) : nil
    }

    /// The actors whose additions count.
    var adding: [Int32] { here.filter { !counted($0.origin, $0.added).isEmpty }.map(\.origin) }

    /// What a write over it takes; `onlySpent`: only what counts no more in any case.
    func taken(onlySpent: Bool = false) -> SimCounts.Seen? {
        // What a record that was forgotten said went with it.
        let isSaid = seen.isSaid && !stamp.isNone
        guard !stamp.isNone || !onlySpent, hasParts || onlySpent || isSaid else { return nil }
        var taken = seen
        taken.before = stamp.isNone ? 0 : max(taken.before, expiredAt)
        taken.isSaid = isSaid || taken.before > 0
        for (origin, added) in here {
            guard let part = parts[origin], !onlySpent || counted(origin, added).isEmpty else { continue }
            taken.seqs[origin] = max(taken.seqs[origin] ?? 0, part)
            taken.isSaid = true
        }
        return taken
    }

    var description: String {
        "value \(value.map { "\($0)" } ?? "none") at \(stamp), expired \(expiredAt), seen \(seen.before) \(seen.seqs), "
            + "parts \(parts), additions " + here.map { "\($0.origin): \($0.added)" }.joined(separator: "; ")
    }
}

extension SimActor {
    /// The record of an actor's part of a key: its seq, whether it is deleted, and by somebody else.
    func partSeq(_ key: Int, _ uid: ActorUID) -> (seq: UInt64, isDeleted: Bool, isForeign: Bool)? {
        partRecord(key, uid).map { ($0.seq, $0.isTombstone, originUID($0) != uid) }
    }
}
