// Commands of one client that follow each other and run at their homes: those of one home go there together, and the
// client's session goes on when all have been run. Belongs to one thread at a time: who was sent it last.

import KVBase
import KVCore
import KVRuntime
import RESP
import Synchronization

/// A client's commands of one key each, in the order in which it sent them, with nothing between them: so their order
/// stays, and no command of the client is run while they are away. They are run in legs: neighbours of one home. To a
/// home elsewhere it brings the records of their keys as the asking actor has them, and its clock; back it has the
/// replies and the records as they are then. What has its home at the asking actor is run there in between.
///
/// Used again when it is done, so a way to a home costs no allocation but the envelope.
final class HomeTrip: Continuation, @unchecked Sendable {
    /// Commands together, and bytes of their arguments above which no other one comes along.
    static let commandsMax = Batch.commandsPerParse
    static let bytesMax = 64 * 1024
    /// Values from this size on come back by reference.
    static let largeReplyBytes = 16 * 1024
    /// What a trip may hold between its uses.
    private static let keptBytes = 4 * 1024

    // The asking actor's.

    @exclusivity(unchecked) private unowned(unsafe) var session: Session?
    /// The asking actor, from 1.
    @exclusivity(unchecked) private(set) var from = 0
    /// Among the asking actor's trips; -1 when it is none of them.
    @exclusivity(unchecked) var place = -1
    /// On the monotonic clock.
    @exclusivity(unchecked) private var sentNanos: Nanos = 0
    @exclusivity(unchecked) private var end: End?
    /// What the last command was answered here: it comes behind the others' replies.
    let tail = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
    /// Of the replies: written to the client.
    @exclusivity(unchecked) private var written = 0
    @exclusivity(unchecked) private var restsWritten = 0

    /// How it ended.
    private enum End {
        case answered
        /// A home did not come to it in time: from there on nothing was done.
        case late
        /// A home has stopped.
        case stopped
    }

    /// Neighbours of one home.
    private struct Leg {
        /// From 1.
        var home: Int
        /// Behind the last one.
        var end: Int
    }

    // Everybody's.

    let queue = CommandQueue()
    /// Rows of the commands, and how long each has run at the asking actor when it was looked at.
    @exclusivity(unchecked) private var rows: [(row: Int, ticks: UInt64)] = []
    @exclusivity(unchecked) private var legs: [Leg] = []
    /// Keys of the leg under way.
    @exclusivity(unchecked) private var keyCount = 0
    /// The one under way, what had been run before it, and what was there of the answer.
    @exclusivity(unchecked) private var leg = 0
    @exclusivity(unchecked) private var before = Before()
    /// Of the leg's keys: what the asking actor has, and back what the home has.
    @exclusivity(unchecked) private var records = SharedRecordList()
    /// The home had all that it was brought, and no more. Where it writes nothing there is nothing to bring back.
    @exclusivity(unchecked) private var isAlike = false
    @exclusivity(unchecked) private var resp3 = false
    @exclusivity(unchecked) private var database: UInt8 = 0
    /// The asking actor's clock: what has expired there has expired at the home, too, whose turn may have begun before.
    @exclusivity(unchecked) private var now: Millis = 0

    // The answer.

    /// Commands that have been run.
    @exclusivity(unchecked) private var done = 0
    private let output = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
    /// Large values, and where among the replies they belong.
    @exclusivity(unchecked) private var rests: [(at: Int, reply: LargeReply)] = []
    /// Where replies begin that are errors.
    @exclusivity(unchecked) private var errors: [Int] = []
    /// Commands that took long.
    @exclusivity(unchecked) private var slow: [(index: Int, ticks: UInt64)] = []
    @exclusivity(unchecked) private var ticks: UInt64 = 0
    /// The actor that ran the leg, and its own writes then, if it wrote.
    @exclusivity(unchecked) private var ranAt: (actor: Int, ownSeq: UInt64)?

    private struct Before {
        var done = 0
        var bytes = 0
        var rests = 0
        var errors = 0
    }

    private enum Phase {
        static let waiting: UInt8 = 0
        static let begun: UInt8 = 1
        static let givenUp: UInt8 = 2
    }

    /// As of a `HomeRequest`.
    private let phase = Atomic<UInt8>(Phase.waiting)

    override init() {
        super.init()
        output.initialize(to: OutputBuffer(capacity: 512))
        tail.initialize(to: OutputBuffer())
    }

    deinit {
        forget()
        records.deallocate()
        output.pointee.deallocate()
        output.deallocate()
        tail.pointee.deallocate()
        tail.deallocate()
    }

    private func forget() {
        records.releaseAll()
        if rests.isEmpty { return }
        for rest in rests { rest.reply.cancel() }
        rests.removeAll()
    }

    // MARK: Before

    /// A trip of that session's commands begins.
    func begin(_ session: Session) {
        (self.session, from) = (session, session.shard.index)
        (resp3, database) = (session.state.pointee.resp3, session.state.pointee.database)
    }

    /// Another command may come along.
    var hasRoom: Bool { queue.count < HomeTrip.commandsMax && queue.byteCount < HomeTrip.bytesMax }

    /// The command under way goes along, its key in the form in which it is stored.
    func take(_ x: Execution, to home: Int) {
        queue.append(x)
        lengthen(home)
    }

    /// A command of that row comes along as it stands.
    func take(_ command: ParsedCommand, of batch: CommandBatch, to home: Int, _ row: Int) {
        queue.append(command, of: batch)
        lengthen(home)
        note(row, ticks: 0)
    }

    private func lengthen(_ home: Int) {
        if let last = legs.last, last.home == home {
            legs[legs.count &- 1].end = queue.count
        } else {
            legs.append(Leg(home: home, end: queue.count))
        }
    }

    /// A command of that row comes along, or is answered in `tail`; it has run for so long here.
    func note(_ row: Int, ticks: UInt64) { rows.append((row, ticks)) }

    /// It goes. Its session is running, and looks by itself.
    func leave(_ shard: Shard) {
        shard.keep(self)
        if !go(shard) { end = .stopped }
    }

    /// The next leg begins; false if its home has stopped. The asking actor's thread.
    private func go(_ shard: Shard) -> Bool {
        before = Before(done: done, bytes: output.pointee.count, rests: rests.count, errors: errors.count)
        ranAt = nil
        now = shard.state.pointee.nowMillis
        sentNanos = shard.loop?.nowNanos ?? Machine.monotonicNanos
        phase.store(Phase.waiting, ordering: .relaxed)
        let home = legs[leg].home
        guard home != from else {
            shard.take(job: self)
            return true
        }
        collect(shard.state.pointee.store)
        return shard.homes?.send(self, to: home) ?? false
    }

    /// The records of the leg's keys as they are now.
    private func collect(_ store: Store) {
        var last = ByteView(UnsafeRawPointer(bitPattern: 8)!, -1)
        keyCount = 0
        for i in before.done..<legs[leg].end {
            // A hot key is one after the other.
            guard let key = queue.key(i), key.count != last.count || !key.hasBytes(last.bytes) else { continue }
            last = key
            keyCount &+= 1
            store.eachRecord(of: store.key(key)) { records.append(SharedRecord($0, hash: $1)) }
        }
    }

    // MARK: At the home

    /// Merges what it brings.
    func bring(to shard: Shard) {
        isAlike = shard.merge(records) && records.count == keyCount
        records.releaseAll()
    }

    /// The home is about to run a leg, or goes on with it; false if it is not wanted any more.
    func mayRun() -> Bool {
        phase.load(ordering: .relaxed) == Phase.begun
            || phase.compareExchange(expected: Phase.waiting, desired: Phase.begun, ordering: .relaxed).exchanged
    }

    /// What the home has may be another one then.
    func putOff() { isAlike = false }

    /// Runs commands of the leg, one at least, as long as the turn has not done enough or until `deadline`. True if all
    /// have been run.
    func run(at shard: Shard, until deadline: Nanos) -> Bool {
        let state = shard.state
        let own = state.pointee.nowMillis
        state.pointee.nowMillis = max(own, now)
        defer { state.pointee.nowMillis = own }
        let guest = shard.guest
        guest.state.pointee.resp3 = resp3
        if guest.state.pointee.database != database { guest.state.pointee.database = database }
        let ownBefore = state.pointee.store.ownSeq
        let (first, end) = (done, legs[leg].end)
        let (batch, noticed) = (shard.fill(from: queue, first..<end), state.pointee.times.noticed)
        repeat {
            let from = output.pointee.count
            let spent = guest.runAtHome(rows[done].row, batch[done &- first], of: batch, output)
            ticks &+= spent
            if spent >= noticed { slow.append((done, spent)) }
            if let rest = guest.continuation {
                guest.continuation = nil
                if let large = rest as? LargeReply { rests.append((output.pointee.count, large)) }
            } else if output.pointee.count > from, output.pointee.bytes[from] == UInt8(ascii: "-") {
                errors.append(from)
            }
            done += 1
            state.pointee.budget.spend(4 &+ TurnBudget.units(bytes: output.pointee.count &- from))
        } while done < end && (!state.pointee.budget.isSpent || Machine.monotonicNanos < deadline)
        let ownSeq = state.pointee.store.ownSeq
        if ownSeq > ownBefore { ranAt = (shard.index, ownSeq) }
        return done == end
    }

    var hasWritten: Bool { ranAt != nil }

    /// All replies of the leg become this error: what was done may be lost.
    func refuse(_ reply: StaticString) {
        for rest in rests[before.rests...] { rest.reply.cancel() }
        rests.removeSubrange(before.rests...)
        errors.removeSubrange(before.errors...)
        output.pointee.count = before.bytes
        for _ in before.done..<done {
            errors.append(output.pointee.count)
            output.pointee.error(reply)
        }
    }

    /// With what the home has now.
    func giveBack(from shard: Shard) {
        if shard.index == from { return goOn(shard, isAtHome: true) }
        if !isAlike || ranAt != nil { collect(shard.state.pointee.store) }
        _ = shard.homes?.send(self, to: from)
    }

    // MARK: Afterwards

    /// It is here again.
    func arrive(at shard: Shard) {
        bring(to: shard)
        goOn(shard)
    }

    /// A leg is done. Of a client that has gone the others are not run. `isAtHome`: it was run here.
    private func goOn(_ shard: Shard, isAtHome: Bool = false) {
        if let session, end == nil {
            if let (actor, ownSeq) = ranAt, actor != from { session.written.note(actor, ownSeq) }
            leg &+= 1
            if leg < legs.count {
                if !go(shard) { finish(.stopped, isAtHome: isAtHome) }
                return
            }
        }
        shard.letGo(self)
        if end == nil { finish(.answered, isAtHome: isAtHome) }
    }

    /// The home has stopped.
    func stop() { finish(.stopped) }

    /// An actor that has stopped does not take it. On the thread of who sent it there.
    func refused(by index: Int) { if index == legs[leg].home { stop() } }

    /// It has been away for long. What a home has begun with is waited for.
    func isLate(_ now: Nanos) -> Bool { now &- sentNanos > HomeAsk.waitMillisMax &* 1_000_000 }

    func giveUp() {
        guard phase.compareExchange(expected: Phase.waiting, desired: Phase.givenUp, ordering: .relaxed).exchanged
        else { return }
        finish(.late)
    }

    /// Where it was run here, the log may be in the middle of a turn's writes: what comes behind is none of them.
    private func finish(_ end: End, isAtHome: Bool = false) {
        self.end = end
        guard isAtHome else { return session?.owner?.sessionShouldRun() ?? () }
        if let session { session.shard.enqueue(session) }
    }

    override var isSuspended: Bool { end == nil }
    override var isElsewhere: Bool { isSuspended }
    override var isSlowable: Bool { false }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        guard let end else { return false }
        guard write(&x, outputMax) else { return false }
        if end != .answered {
            for _ in before.done..<queue.count {
                let from = x.output.pointee.count
                x.error(end == .late ? HomeAsk.lateness : HomeAsk.failure)
                x.shard.noteCommand(nil, x.output, from: from)
            }
        }
        x.output.pointee.append(tail.pointee.bytes)
        conclude(x)
        return true
    }

    /// The replies, large ones in slices.
    private func write(_ x: inout Execution, _ outputMax: Int) -> Bool {
        while restsWritten < rests.count {
            write(&x, to: rests[restsWritten].at)
            guard rests[restsWritten].reply.step(&x, outputMax: outputMax) else { return false }
            restsWritten += 1
        }
        write(&x, to: output.pointee.count)
        return true
    }

    private func write(_ x: inout Execution, to end: Int) {
        x.output.pointee.append(UnsafeRawBufferPointer(rebasing: output.pointee.bytes[written..<end]))
        written = end
    }

    /// What the commands leave behind here.
    private func conclude(_ x: Execution) {
        let session = x.session
        for at in errors { x.shard.noteCommand(nil, output, from: at) }
        let share = rows.isEmpty ? 0 : ticks / UInt64(rows.count)
        for (row, ticks) in rows { x.shard.state.pointee.times.note(row, ticks: ticks &+ share) }
        session.state.pointee.commandsAhead = max(8, min(2 * rows.count, Batch.commandsPerParse))
        guard !slow.isEmpty else { return }
        var batch = CommandBatch()
        queue.fill(&batch)
        for (index, ticks) in slow { session.noteSlow(batch[index], of: batch, ticks) }
        batch.deallocate()
    }

    /// Nobody waits any more. One that is here is used again.
    override func cancel() {
        guard let shard = session?.shard else { return }
        session = nil
        shard.letGo(self)
        guard end == .answered else { return }
        forget()
        guard queue.byteCount <= HomeTrip.keptBytes, output.pointee.capacity <= HomeTrip.keptBytes else { return }
        queue.removeAll()
        (output.pointee.count, tail.pointee.count, written, restsWritten, done) = (0, 0, 0, 0, 0)
        leg = 0
        legs.removeAll(keepingCapacity: true)
        rows.removeAll(keepingCapacity: true)
        if !errors.isEmpty { errors = [] }
        if !slow.isEmpty { slow = [] }
        (ticks, ranAt, end) = (0, nil, nil)
        shard.takeSpare(self)
    }
}

extension HomeTrip: HomeJob {}
