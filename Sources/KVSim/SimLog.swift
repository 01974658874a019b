// The log of one simulated actor: carries out what `WriteLog` decides, and notes what its clients were promised. Used
// by SimWorld only, one thread.
import KVBase
import KVCore

final class SimLog {
    private(set) var plan: WriteLog!
    private(set) var refusesWrites = false
    private let actor: SimActor
    private unowned let home: SimHome
    private unowned(unsafe) let world: SimWorld
    private let thread = SimDiskThread()
    private let pen = SimDiskThread()
    private let index: Int
    private var files: [UInt64: SimFile] = [:]
    /// Own writes up to which each chunk goes.
    private var marks: [(chunk: UInt64, seq: UInt64)] = []
    /// When the oldest write was made that is not on the disk.
    private(set) var unsyncedSince: SimTime?
    /// Chunks that were answered and are not on the disk, oldest first.
    private var answered: [(chunk: UInt64, at: SimTime)] = []
    private var answeredThrough: UInt64 = 0

    init(_ actor: SimActor, _ home: SimHome, _ file: LogFile, _ world: SimWorld) {
        (self.actor, self.home, self.world) = (actor, home, world)
        index = Int(actor.uid.index)
        let name = DiskNames.log(file.header.server, index, file.number)
        files[file.number] = home.disk.file(name)
        plan = WriteLog(
            actor.store, home.options.policy, file: file, host: self, limits: home.options.limits,
            planted: home.planted)
        if home.options.policy == .everysec { flushAgain() }
    }

    private func flushAgain() {
        world.later(at: world.now + home.options.limits.flushMillis * simMillisecond, on: actor.view.origin) { [self] in
            guard !home.isDead else { return }
            plan.flushDue()
            flushAgain()
        }
    }

    func learn(_ item: LearnedItem) { plan.learn(item) }
    func noteRows() { plan.noteRows() }
    /// Own writes up to this one are in chunks.
    var logged: UInt64 { plan.logged }

    /// Before anything of the turn leaves.
    func turnEnded() {
        if index == 0 { home.turnEnded(actor) }
        plan.turnEnded()
    }

    private func seq(through chunk: UInt64) -> UInt64 {
        guard let last = marks.last else { return 0 }
        if chunk > last.chunk { return actor.ownSeq }
        let going = marks.prefix { $0.chunk <= chunk }
        return going.last?.seq ?? 0
    }
}

extension SimLog: LogHost {
    /// Clients come and go.
    var hasOthers: Bool {
        let second = UInt64(world.now / simSecond)
        return mix64(home.server &+ UInt64(index), second) % 100 < UInt64(home.options.othersPercent)
    }

    var now: Nanos { Nanos(world.now) * 1_000 }

    func append(_ chunk: UnsafeRawBufferPointer, to file: LogFile) -> Nanos? {
        guard let target = files[file.number], home.disk.write(chunk, to: target, at: file.end) else { return nil }
        return home.disk.slowMillis * 1_000_000
    }

    func write(_ pieces: LogPieces, syncing full: [UInt64]?) {
        let began = world.now
        world.outcome.points.hit("disk: pen")
        home.perform(index, on: pen) { [self] () -> Bool in
            for i in 0..<pieces.count {
                let piece = pieces[i]
                guard let file = files[piece.file] else { continue }
                guard home.disk.write(piece.bytes, to: file, at: piece.place) else { return false }
            }
            return true
        } _: { [self] isWritten in
            guard isWritten, let full else { return wrote(isWritten ? .done : .notWritten, since: began) }
            sync(full + pieces.files, on: pen) { [self] in wrote($0 ? .done : .notSynced, since: began) }
        }
    }

    private func wrote(_ result: LogWriting, since began: SimTime) {
        plan.wrote(result, nanos: Nanos(world.now - began) * 1_000)
    }

    private func sync(_ numbers: [UInt64], on thread: SimDiskThread, _ done: @escaping (Bool) -> Void) {
        let syncs = numbers.compactMap { files[$0] }.map { home.disk.beginSync($0) }
        home.perform(index, on: thread, syncs: true) { [self] () -> Bool in
            syncs.map { home.disk.endSync($0) }.allSatisfy { $0 }
        } _: { [self] isDone in
            world.outcome.points.hit(isDone ? "disk: sync" : "disk: sync failed")
            done(isDone)
        }
    }

    func make(_ number: UInt64, capacity: Int) {
        let header = home.header(.log, index, number)
        home.perform(index, on: thread) { [self] () -> SimFile? in
            SimHome.makeLog(header, capacity, home.options, home.disk)
        } _: { [self] file in
            files[number] = file ?? files[number]
            plan.made(file == nil ? nil : LogFile(header, capacity: capacity))
        }
    }

    func sync(_ numbers: [UInt64]) {
        sync(numbers, on: thread) { [self] isDone in
            plan.synced(isDone)
            // What a sync that failed took is promised again once a snapshot has it.
            if home.options.policy != .no, isDone, plan.isWell {
                world.note(promise: seq(through: plan.synced), of: actor, power: true)
            }
        }
    }

    func release(_ file: UInt64) { files[file] = nil }

    func wait(_ millis: Int64, for alarm: LogAlarm) {
        world.later(at: world.now + millis * simMillisecond, on: actor.view.origin) { [self] in
            if !home.isDead { plan.ring(alarm) }
        }
    }

    func save(tells: Bool) {
        guard tells else { return home.save(true, nil) }
        let box = SimUnchecked((self, home))
        home.save(true) { isDone in
            let (log, home) = box.value
            home.tell(log.index) { log.plan.saved(isDone) }
        }
    }

    func requestTurn() { world.schedule(actor, at: world.now + SimTime(home.options.turnMicros)) }
    func vector() -> VersionVector { actor.replica.durableVector }
    func rows() -> [MemberRow]? { actor.replica.memberRows }
    func giveUp(_ segment: DeltaSegment) { actor.replica.giveUp(segment) }

    func refuseWrites(_ refuses: Bool) {
        if refuses != refusesWrites {
            world.outcome.points.hit(refuses ? "disk: writes refused" : "disk: writes go on")
        }
        refusesWrites = refuses
    }

    func aim(at chunk: UInt64, through seq: UInt64) {
        if unsyncedSince == nil { unsyncedSince = world.now }
        // What was executed when the disk took nothing was not answered; later a snapshot has it.
        marks.append((chunk, plan.isWell ? seq : marks.last?.seq ?? 0))
        if marks.count > 4_096 { marks.removeFirst(2_048) }
    }

    func letGo(through chunk: UInt64) {
        noteAnswered(through: chunk)
        let seq = seq(through: chunk)
        world.note(promise: seq, of: actor, power: home.options.policy == .always)
    }

    /// I29: nothing is answered while what was answered a second ago is not on the disk.
    private func noteAnswered(through chunk: UInt64) {
        guard home.options.policy == .everysec, chunk > answeredThrough else { return }
        answeredThrough = chunk
        answered.removeFirst(answered.prefix { $0.chunk <= plan.synced }.count)
        answered.append((chunk, world.now))
        guard let age = answered.first.map({ world.now - $0.at }) else { return }
        guard age > SimTime(home.options.limits.unsyncedNanosMax / 1_000) else { return }
        world.fail(
            SimViolation(
                "I29", "actor \(actor.view.origin) answers; what it did \(age / simMillisecond) ms ago is on no disk"))
    }

    func holdAnswered() { world.outcome.points.hit("disk: large chunk") }
    /// Clients of this turn get no answer: nothing was promised to them.
    func closeAnswered() {}
    func closeHeld() {}

    func note(_ news: LogNews) {
        switch news {
        case .grew(let bytes): return home.noteLogged(bytes)
        case .unsynced(let isAny): unsyncedSince = isAny ? world.now : nil
        case .failed:
            // What was put together and is not written was not answered.
            let answered = seq(through: plan.written)
            for i in marks.indices where marks[i].chunk > plan.written { marks[i].seq = answered }
            world.outcome.points.hit("disk: log given up")
        case .resumed: world.outcome.points.hit("disk: log goes on")
        case .full: world.outcome.points.hit("disk: no next file")
        default: break
        }
        world.say { "log of actor \(self.actor.view.origin): \(news)" }
    }
}

/// One thread runs everything.
struct SimUnchecked<T>: @unchecked Sendable {
    let value: T
    init(_ value: T) { self.value = value }
}
