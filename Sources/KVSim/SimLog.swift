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
    private let index: Int
    private var files: [UInt64: SimFile] = [:]
    /// Own writes up to which each chunk goes.
    private var marks: [(chunk: UInt64, seq: UInt64)] = []
    /// When the oldest write was made that is not on the disk.
    private(set) var unsyncedSince: SimTime?

    init(_ actor: SimActor, _ home: SimHome, _ file: LogFile, _ world: SimWorld) {
        (self.actor, self.home, self.world) = (actor, home, world)
        index = Int(actor.uid.index)
        let name = DiskNames.log(file.header.server, index, file.number)
        files[file.number] = home.disk.file(name)
        plan = WriteLog(
            actor.store, home.options.policy, file: file, host: self, limits: home.options.limits,
            planted: home.planted)
        if home.options.policy == .everysec { flushEachSecond() }
    }

    private func flushEachSecond() {
        world.later(at: world.now + simSecond, on: actor.view.origin) { [self] in
            guard !home.isDead else { return }
            plan.flushSecond()
            flushEachSecond()
        }
    }

    func learn(_ item: LearnedItem) { plan.learn(item) }
    func noteRows() { plan.noteRows() }

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
    func append(_ chunk: UnsafeRawBufferPointer, to file: LogFile) -> Bool {
        guard let target = files[file.number], home.disk.write(chunk, to: target, at: file.end) else { return false }
        home.noteLogged(chunk.count)
        return true
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
        let syncs = numbers.compactMap { files[$0] }.map { home.disk.beginSync($0) }
        home.perform(index, on: thread) { [self] () -> Bool in
            syncs.map { home.disk.endSync($0) }.allSatisfy { $0 }
        } _: { [self] isDone in
            world.outcome.points.hit(isDone ? "disk: sync" : "disk: sync failed")
            plan.synced(isDone)
            if home.options.policy != .no, isDone {
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

    func aim(at chunk: UInt64) {
        if unsyncedSince == nil { unsyncedSince = world.now }
        // What was executed when the disk took nothing was not answered; later a snapshot has it.
        marks.append((chunk, plan.isWell ? plan.logged : marks.last?.seq ?? 0))
        if marks.count > 4_096 { marks.removeFirst(2_048) }
    }

    func letGo(through chunk: UInt64) {
        let seq = seq(through: chunk)
        world.note(promise: seq, of: actor, power: home.options.policy == .always)
    }

    /// Clients of this turn get no answer: nothing was promised to them.
    func closeAnswered() {}
    func closeHeld() {}

    func note(_ news: LogNews) {
        switch news {
        case .unsynced(let isAny): unsyncedSince = isAny ? world.now : nil
        case .failed: world.outcome.points.hit("disk: log given up")
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
