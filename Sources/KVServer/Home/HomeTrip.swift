// Commands of one client that follow each other and have one home elsewhere: they go there together and come back
// together. Belongs to one thread at a time: who was sent it last.

import KVBase
import KVCore
import KVRuntime
import RESP
import Synchronization

/// A client's commands of one key each, in the order in which it sent them, with nothing between them: so their order
/// stays, and no command of the client is run while they are away. There it has commands, the records of their keys as
/// the asking actor has them, and its clock; back it has the replies and the records as they are then.
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

    private unowned(unsafe) var session: Session?
    /// The asking actor and the home, from 1.
    private(set) var from = 0
    private(set) var home = 0
    /// Among the asking actor's trips; -1 when it is none of them.
    @exclusivity(unchecked) var place = -1
    /// On the monotonic clock.
    private var sentNanos: Nanos = 0
    @exclusivity(unchecked) private var end: End?
    /// Rows of the commands, and how long each has run here.
    @exclusivity(unchecked) private var rows: [(row: Int, ticks: UInt64)] = []
    /// What the last command was answered here: it comes behind the others' replies.
    let tail = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
    /// Of the replies: written to the client.
    private var written = 0
    private var restsWritten = 0

    /// How it ended.
    private enum End {
        case answered
        /// The home did not come to it in time: nothing was done.
        case late
        /// The home has stopped.
        case stopped
    }

    // Everybody's.

    let queue = CommandQueue()
    /// Of the keys: what the asking actor has, and back what the home has.
    @exclusivity(unchecked) private var records: [SharedRecord] = []
    private var resp3 = false
    private var database: UInt8 = 0
    /// The asking actor's clock: what has expired there has expired at the home, too, whose turn may have begun before.
    private var now: Millis = 0

    // The answer.

    /// Commands that have been run.
    private var done = 0
    private let output = UnsafeMutablePointer<OutputBuffer>.allocate(capacity: 1)
    /// Large values, and where among the replies they belong.
    private var rests: [(at: Int, reply: LargeReply)] = []
    /// Where replies begin that are errors.
    private var errors: [Int] = []
    /// Commands that took long.
    private var slow: [(index: Int, ticks: UInt64)] = []
    private var ticks: UInt64 = 0
    /// The actor that ran the commands, and its own writes then.
    private var ranAt: (actor: Int, ownSeq: UInt64)?

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
        output.pointee.deallocate()
        output.deallocate()
        tail.pointee.deallocate()
        tail.deallocate()
    }

    private func forget() {
        for shared in records { shared.record.release() }
        records.removeAll(keepingCapacity: true)
        for rest in rests { rest.reply.cancel() }
        rests.removeAll()
    }

    // MARK: Before

    /// A trip of that session's commands begins.
    func begin(_ session: Session, to home: Int) {
        (self.session, from, self.home) = (session, session.shard.index, home)
        (resp3, database) = (session.state.pointee.resp3, session.state.pointee.database)
    }

    /// Another command may come along.
    var hasRoom: Bool { queue.count < HomeTrip.commandsMax && queue.byteCount < HomeTrip.bytesMax }

    /// The command under way goes along, its key in the form in which it is stored.
    func take(_ x: Execution) { queue.append(x) }

    /// A command of that row comes along, or is answered in `tail`; it has run for so long here.
    func note(_ row: Int, ticks: UInt64) { rows.append((row, ticks)) }

    /// It goes.
    func leave(_ shard: Shard) {
        now = shard.state.pointee.nowMillis
        sentNanos = Machine.monotonicNanos
        collect(shard.state.pointee.store)
        shard.keep(self)
        // Its session is running, and looks by itself.
        if shard.homes?.send(self, to: home) != true { end = .stopped }
    }

    /// The records of its keys as they are now.
    private func collect(_ store: Store) {
        var last = ByteView(UnsafeRawPointer(bitPattern: 8)!, -1)
        queue.eachKey { key in
            // A hot key is one after the other.
            if key.count == last.count, key.hasBytes(last.bytes) { return }
            last = key
            store.eachRecord(of: store.key(key)) { records.append(SharedRecord($0, hash: $1)) }
        }
    }

    // MARK: At the home

    /// Merges what it brings.
    func bring(to shard: Shard) {
        for shared in records {
            shard.merge(shared)
            shared.record.release()
        }
        records.removeAll(keepingCapacity: true)
    }

    /// The home is about to run it, or goes on with it; false if it is not wanted any more.
    func mayRun() -> Bool {
        done > 0
            || phase.compareExchange(expected: Phase.waiting, desired: Phase.begun, ordering: .relaxed).exchanged
    }

    /// Runs its commands, one at least, as long as the turn has not done enough or until `deadline`. True if all have
    /// been run.
    func run(at shard: Shard, until deadline: Nanos) -> Bool {
        let state = shard.state
        let own = state.pointee.nowMillis
        state.pointee.nowMillis = max(own, now)
        defer { state.pointee.nowMillis = own }
        let guest = shard.guest
        guest.state.pointee.resp3 = resp3
        if guest.state.pointee.database != database { guest.state.pointee.database = database }
        let before = state.pointee.store.ownSeq
        let (batch, noticed) = (shard.fill(from: queue), state.pointee.times.noticed)
        repeat {
            let from = output.pointee.count
            let spent = guest.runAtHome(batch[done], of: batch, output)
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
        } while done < queue.count && (!state.pointee.budget.isSpent || Machine.monotonicNanos < deadline)
        let ownSeq = state.pointee.store.ownSeq
        if ownSeq > before { ranAt = (shard.index, ownSeq) }
        return done == queue.count
    }

    var hasWritten: Bool { ranAt != nil }

    /// All replies become this error: what was done may be lost.
    func refuse(_ reply: StaticString) {
        forget()
        output.pointee.count = 0
        errors = []
        for _ in 0..<queue.count {
            errors.append(output.pointee.count)
            output.pointee.error(reply)
        }
    }

    /// With what the home has now.
    func giveBack(from shard: Shard) {
        collect(shard.state.pointee.store)
        _ = shard.homes?.send(self, to: from)
    }

    // MARK: Afterwards

    /// It is here again.
    func arrive(at shard: Shard) {
        bring(to: shard)
        shard.letGo(self)
        if end == nil { finish(.answered) }
    }

    /// The home has stopped.
    func stop() { finish(.stopped) }

    /// An actor that has stopped does not take it. On the thread of who sent it there.
    func refused(by index: Int) { if index == home, index != from { stop() } }

    /// It has been away for long. What a home has begun with is waited for.
    func isLate(_ now: Nanos) -> Bool { now &- sentNanos > HomeAsk.waitMillisMax &* 1_000_000 }

    func giveUp() {
        guard phase.compareExchange(expected: Phase.waiting, desired: Phase.givenUp, ordering: .relaxed).exchanged
        else { return }
        finish(.late)
    }

    private func finish(_ end: End) {
        self.end = end
        session?.owner?.sessionShouldRun()
    }

    override var isSuspended: Bool { end == nil }
    override var isSlowable: Bool { false }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        guard let end else { return false }
        let from = x.output.pointee.count
        switch end {
        case .answered: if !write(&x, outputMax) { return false }
        case .late: for _ in 0..<queue.count { x.error(HomeAsk.lateness) }
        case .stopped: for _ in 0..<queue.count { x.error(HomeAsk.failure) }
        }
        x.output.pointee.append(tail.pointee.bytes)
        if end != .answered { for _ in 0..<queue.count { x.shard.noteCommand(nil, x.output, from: from) } }
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
        if let (actor, ownSeq) = ranAt { session.written[actor] = ownSeq }
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
        rows.removeAll(keepingCapacity: true)
        if !errors.isEmpty { errors = [] }
        if !slow.isEmpty { slow = [] }
        (ticks, ranAt, end) = (0, nil, nil)
        phase.store(Phase.waiting, ordering: .relaxed)
        shard.takeSpare(self)
    }
}

extension HomeTrip: HomeJob {}
