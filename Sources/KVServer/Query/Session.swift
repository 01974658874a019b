// One client: its unparsed input, its protocol, and the command it is in the middle of. Knows nothing of sockets: bytes
// come in, replies go to a buffer the caller names. Loop thread of its shard.

import CIntrinsics
package import KVBase
import KVCore
import KVRuntime
import RESP

/// What a session wants after a turn.
package enum SessionStatus: Equatable, Sendable {
    /// More input.
    case idle
    /// Another turn: it holds complete commands, or a command in progress.
    case ready
    /// That its output drains first, then another turn.
    case blocked
    /// Nothing, until what its command waits for has come: then it is given a turn.
    case suspended
    /// That its output is sent and the connection closed.
    case closing
}

/// Why bytes that arrive are not parsed and run at once.
struct SessionHolds: OptionSet {
    let rawValue: UInt16
    /// Parsed ahead and not run yet.
    static let parsedAhead = SessionHolds(rawValue: 1)
    /// A command is being carried on in slices.
    static let continuation = SessionHolds(rawValue: 2)
    static let closing = SessionHolds(rawValue: 4)
    static let waiting = SessionHolds(rawValue: 8)
    /// Its output must drain first.
    static let blocked = SessionHolds(rawValue: 16)
    /// CLIENT REPLY OFF or SKIP.
    static let muted = SessionHolds(rawValue: 32)
    static let beforeLongCommand = SessionHolds(rawValue: 64)
    /// It wrote, and what it was answered is not on the disk yet.
    static let unsaved = SessionHolds(rawValue: 256)
    /// Nothing behind the command just run is run in this go.
    static let stopping: SessionHolds = [.continuation, .closing, .muted, .beforeLongCommand]
}

package struct SessionState {
    package var id: Int
    package var resp3 = false
    /// As SELECT chose.
    var database: UInt8 = 0 {
        didSet { chooseWay() }
    }
    /// Between MULTI and EXEC.
    var isQueueing = false {
        didSet { chooseWay() }
    }
    /// Each command is looked at before it is run: the client has not said who it is, or may not do everything.
    var isRestricted = false {
        didSet { chooseWay() }
    }
    /// The parser's limits are others from the next command on.
    var hasNewLimits = false
    /// Commands of more arguments, or all, go through the table.
    private(set) var recognisedArgumentsMax: Int32 = 3
    /// What it ran last added keys: it waits where the shard is held back.
    var isAdding = false
    var holds: SessionHolds = []
    var replies = ReplyMode.on {
        didSet { self[.muted] = replies != .on }
    }
    /// Blocked, and the client writes on without reading: it is read nevertheless, as it may read when it has written.
    var readsOn = false
    /// Index in the shard's list; -1 once removed.
    var place = -1
    var name = Bytes([])
    var libraryName = Bytes([])
    var libraryVersion = Bytes([])
    var peer = ""
    var local = ""
    var descriptor = -1
    var createdMillis: Millis
    /// From then on it has so long to say who it is.
    var askedMillis: Millis
    /// When the session last made progress; a stalled reader of a long reply is closed after a while.
    var activeMillis: Millis
    /// Of one that waits for its output to drain: how much was there when it was last looked at, for either purpose.
    var unsentBytes = 0
    var unsentBytesBefore = 0
    /// How many commands are parsed at first when it goes on; 0: as many as always. Those behind the next trip to a
    /// home are parsed anew.
    var commandsAhead = 0
    /// Since when it is more than `Limits.outputBytesLong`; nil if it is not.
    var muchUnsentSince: Millis?
    var lastCommand: StaticString = "NULL"
    var lastSubcommand = Bytes([])
    /// Of the command that goes on in slices: its row, -1 where it has none, and how long it has run.
    var runningRow: Int32 = -1
    var runningTicks: UInt64 = 0
    /// Between seeing that a command has to wait for the end of a pause and leaving it in the input.
    var isHeldByPause = false
    /// MONITOR, and the lines that it did not get.
    var isMonitor = false
    var monitorLinesDropped = 0

    var parser = RESPParser(limits: RESPLimits())
    /// Bytes `inputStart ..< input.count` are not consumed yet.
    var input = OutputBuffer()
    var inputStart = 0
    /// What the shard's count of waiting input has of this session.
    var heldInput = 0

    private mutating func chooseWay() { recognisedArgumentsMax = database == 0 && !isQueueing && !isRestricted ? 3 : 0 }

    subscript(_ hold: SessionHolds) -> Bool {
        get { !holds.isDisjoint(with: hold) }
        set { if newValue { holds.formUnion(hold) } else { holds.subtract(hold) } }
    }

    package var closing: Bool {
        get { self[.closing] }
        set { self[.closing] = newValue }
    }
    package var isWaiting: Bool {
        get { self[.waiting] }
        set { self[.waiting] = newValue }
    }
    var isBlocked: Bool {
        get { self[.blocked] }
        set { self[.blocked] = newValue }
    }
}

/// Whoever has the session's output at hand.
package protocol SessionOwner: AnyObject {
    /// Time for another turn of a session that said `ready`.
    func sessionShouldRun()
    /// Is to be closed at once, or, with `reply`, when that has been sent.
    func sessionRefused(reply: StaticString?)
    /// Is blocked, and its client is to be read nevertheless.
    func sessionReadsOn()
    /// Sends what answers nothing, behind all replies so far.
    func sessionTold(_ bytes: UnsafeRawBufferPointer)
    /// Bytes of replies that the kernel has not taken, and of the buffers they are in.
    var sessionUnsentBytes: Int { get }
    var sessionOutputBytes: Int { get }
}

extension SessionOwner {
    package func sessionTold(_ bytes: UnsafeRawBufferPointer) {}
}

package final class Session {
    /// Unparsed input kept when nothing is pending; more is given back.
    private static let inputKeptBytes = 16 * 1024

    package let shard: Shard
    package let state: UnsafeMutablePointer<SessionState>
    /// The command being carried on in slices.
    var continuation: Continuation? {
        didSet { state.pointee[.continuation] = continuation != nil }
    }
    /// A command that was just run is to be run at its key's home, and has not left yet.
    @exclusivity(unchecked) var trip: HomeTrip?
    package weak var owner: (any SessionOwner)?
    /// Who the client is, and whether it has proved it or need not.
    var login: Login
    var isAuthenticated: Bool
    /// Since MULTI.
    var transaction: Transaction? {
        didSet { state.pointee.isQueueing = transaction != nil }
    }
    /// Since WATCH.
    var watched: [WatchedKey] = []
    /// For WAIT.
    @exclusivity(unchecked) var written = WritesElsewhere()
    /// Since KVD BACKUP: what it does not fetch is given up when it is gone.
    var backupReader: BackupReader?
    /// Arguments of the command that goes on in slices, for the slow log.
    var runningWords: [Bytes]?
    /// Stands for a client of another actor, or one in a transaction.
    let isGuest: Bool

    /// Bytes that arrived while a long command reads its arguments from `input`.
    private var late = OutputBuffer()
    var isBeforeLongCommand: Bool { state.pointee[.beforeLongCommand] }

    package convenience init(shard: Shard, peer: String = "", local: String = "", descriptor: Int = -1) {
        self.init(
            shard, id: shard.context.nextClientID(), peer: peer, local: local, descriptor: descriptor, isGuest: false)
        shard.add(self)
    }

    /// No client of its own: it is not counted.
    convenience init(guestOf shard: Shard) {
        self.init(shard, id: 0, peer: "", local: "", descriptor: -1, isGuest: true)
    }

    private init(_ shard: Shard, id: Int, peer: String, local: String, descriptor: Int, isGuest: Bool) {
        (self.shard, self.isGuest) = (shard, isGuest)
        (login, isAuthenticated) = shard.context.access.arrival()
        let now = shard.state.pointee.nowMillis
        state = .allocate(capacity: 1)
        state.initialize(
            to: SessionState(
                id: id, peer: peer, local: local, descriptor: descriptor, createdMillis: now, askedMillis: now,
                activeMillis: now))
        guard !isGuest else { return }
        enter(login, isAuthenticated: isAuthenticated)
        if state.pointee.hasNewLimits { restartParser() }
    }

    private var isClosed = false

    /// Leaves the shard and frees what it holds, except `state`, which lives as long as the object.
    package func close() {
        guard !isClosed else { return }
        isClosed = true
        discardTransaction()
        unblock()
        watch(false)
        shard.remove(self)
        endContinuation()
        backupReader?.close()
        state.pointee.inputStart = state.pointee.input.count
        late.count = 0
        noteInput()
        state.pointee.parser.deallocate()
        state.pointee.input.deallocate()
        late.deallocate()
    }

    deinit {
        precondition(isClosed, "a session is closed before it goes away")
        state.deinitialize(count: 1)
        state.deallocate()
    }

    /// Its command waits for something that is not a turn.
    var isSuspended: Bool { continuation?.isSuspended ?? false }

    var mustStop: Bool { state.pointee[.stopping] }

    /// Bytes received and not consumed.
    package var pendingInput: Int { state.pointee.input.count - state.pointee.inputStart + late.count }

    // Input.

    /// Nothing is left over from earlier bytes, neither input nor work.
    @inline(__always)
    var mayParseAhead: Bool {
        let s = state
        return s.pointee.holds.isEmpty && s.pointee.inputStart == s.pointee.input.count
    }

    /// Parses bytes into the shard's batch, behind what other sessions put there; `answerAhead` or `postpone` must
    /// follow. Only if `mayParseAhead`; the bytes stay until then.
    @inline(__always)
    func parseAhead(_ bytes: UnsafeRawBufferPointer) -> CommandRun {
        state.pointee.activeMillis = shard.state.pointee.nowMillis
        state.pointee[.parsedAhead] = true
        return shard.batch.parse(
            bytes, of: state, max: Batch.commandsPerParse, on: shard.state)
    }

    /// Answers what was parsed ahead, and keeps what is left of it.
    func answerAhead(_ segment: BatchSegment, output: UnsafeMutablePointer<OutputBuffer>, unsent: Int) -> SessionStatus
    {
        state.pointee[.parsedAhead] = false
        var consumed = 0
        let status = shard.batch.answer(
            self, segment.bytes, segment.run, &consumed, output, outputMax: Limits.outputBytesHigh - unsent)
        if consumed < segment.bytes.count { keep(UnsafeRawBufferPointer(rebasing: segment.bytes[consumed...])) }
        return isBeforeLongCommand ? beginLongCommand(output, unsent) : status
    }

    /// Leaves all of what was parsed ahead for a later turn; the session is `ready`.
    func postpone(_ bytes: UnsafeRawBufferPointer) {
        state.pointee[.parsedAhead] = false
        restartParser()
        keep(bytes)
    }

    /// Takes bytes that arrived and runs what they complete, within one turn's budget. `unsent`: bytes of earlier
    /// replies the kernel has not taken yet.
    package func receive(
        _ bytes: UnsafeRawBufferPointer, output: UnsafeMutablePointer<OutputBuffer>, unsent: Int
    ) -> SessionStatus {
        let s = state
        s.pointee.activeMillis = shard.state.pointee.nowMillis
        if s.pointee.closing { return .closing }
        if s.pointee[[.continuation, .waiting, .blocked, .unsaved]] {
            let waitsForLogin = s.pointee[.continuation] && !isAuthenticated
            if waitsForLogin, pendingInput + bytes.count > Session.inputBeforeLoginMax {
                shard.close(self, .asksBeforeLogin)
                return .closing
            }
            let isKept = s.pointee[.continuation] ? late.tryAppend(bytes) : s.pointee.input.tryAppend(bytes)
            guard isKept else { return refuseForMemory() }
            noteInput()
            return s.pointee.isBlocked ? .blocked : isSuspended || s.pointee[.unsaved] ? .suspended : .ready
        }
        if s.pointee.inputStart == s.pointee.input.count, !s.pointee[.muted] {
            return answerInPlace(bytes, output, unsent)
        }
        guard s.pointee.input.tryAppend(bytes) else { return refuseForMemory() }
        if s.pointee.input.count - s.pointee.inputStart < s.pointee.parser.wanted {
            reserveInput()
            noteInput()
            return .idle
        }
        return takeTurn(output: output, unsent: unsent)
    }

    /// The usual case: nothing is left over, so commands are parsed where the kernel put them.
    private func answerInPlace(
        _ bytes: UnsafeRawBufferPointer, _ output: UnsafeMutablePointer<OutputBuffer>, _ unsent: Int
    ) -> SessionStatus {
        var consumed = 0
        let status = parseAndAnswer(bytes, &consumed, output, outputMax: Limits.outputBytesHigh - unsent)
        if consumed < bytes.count { keep(UnsafeRawBufferPointer(rebasing: bytes[consumed...])) }
        return isBeforeLongCommand ? beginLongCommand(output, unsent) : status
    }

    /// There is something it could do in a turn.
    var hasWork: Bool { pendingInput > 0 || continuation != nil && !isSuspended }

    /// Another turn: carries the command in progress on, or runs buffered input.
    package func takeTurn(output: UnsafeMutablePointer<OutputBuffer>, unsent: Int) -> SessionStatus {
        defer { noteInput() }
        let outputMax = Limits.outputBytesHigh - unsent
        unblock()
        state.pointee.activeMillis = shard.state.pointee.nowMillis
        if let continuation {
            var x = execution(ParsedCommand(firstArgument: 0, argumentCount: 0), of: shard.batch.commands, output)
            let before = output.pointee.count
            shard.note(continuation.turnWork)
            let began = ci_ticks()
            let isDone = continuation.step(&x, outputMax: outputMax)
            state.pointee.runningTicks &+= ci_ticks() &- began
            guard isDone else {
                if state.pointee[.muted] { output.pointee.count = before }
                return output.pointee.count > outputMax ? .blocked : continuation.isSuspended ? .suspended : .ready
            }
            endContinuation()
            endRunning()
            // What a pause held back has not been run yet.
            if state.pointee[.muted], !(continuation is PauseHold) { mute(output, from: before) }
        }
        if state.pointee.closing { return .closing }
        if state.pointee[.muted] { return answerMuted(output, unsent) }
        var consumed = 0
        let rest = UnsafeRawBufferPointer(rebasing: state.pointee.input.bytes[state.pointee.inputStart...])
        let status = parseAndAnswer(rest, &consumed, output, outputMax: outputMax)
        state.pointee.inputStart += consumed
        tidyInput()
        return isBeforeLongCommand ? beginLongCommand(output, unsent) : status
    }

    /// From here on there is room for all that was announced, as doubling would copy many megabytes in one turn. It is
    /// address space only: the memory is the kernel's until bytes arrive.
    private static let inputReservedBytes = 2 * 1024 * 1024
    /// From here on the rest is believed so far as to make memory ready for an eighth of what has come.
    private static let inputBelievedBytes = 16 * 1024 * 1024

    private func reserveInput() {
        let s = state
        guard s.pointee.input.count >= Session.inputReservedBytes else { return }
        let wanted = min(s.pointee.parser.wanted, Limits.commandBytesMax)
        let missing = wanted - (s.pointee.input.count - s.pointee.inputStart)
        if missing > 0, !s.pointee.input.tryReserve(missing) { return }
        guard s.pointee.input.count >= Session.inputBelievedBytes else { return }
        Loop.willFill(s.pointee.input.base + s.pointee.input.count, min(missing, s.pointee.input.count / 8))
    }

    /// A request for which there is no memory ends its client and not the server.
    private func refuseForMemory() -> SessionStatus {
        shard.close(self, .noMemory)
        return .closing
    }

    private func keep(_ bytes: UnsafeRawBufferPointer) {
        state.pointee.input.count = 0
        state.pointee.inputStart = 0
        state.pointee.input.append(bytes)
        noteInput()
    }

    /// Tells the shard how much input of this session waits.
    private func noteInput() {
        let now = pendingInput
        guard now != state.pointee.heldInput else { return }
        shard.state.pointee.heldInput &+= now &- state.pointee.heldInput
        state.pointee.heldInput = now
    }

    /// Forgets the input of a session that is to be closed, unless a command in progress reads it.
    func dropInput() {
        state.pointee.closing = true
        guard continuation == nil else { return }
        state.pointee.inputStart = 0
        state.pointee.input.count = 0
        state.pointee.input.shrink(to: 0)
        noteInput()
    }

    /// Bytes of a request have come, and not all of it.
    var isWithinRequest: Bool {
        !state.pointee[[.continuation, .waiting, .blocked, .closing, .unsaved]]
            && (pendingInput > 0 || state.pointee.parser.isInside)
    }

    func block() {
        guard !state.pointee.isBlocked else { return }
        state.pointee.isBlocked = true
        state.pointee.unsentBytesBefore = .max
        shard.blockedSessions += 1
    }

    private func unblock() {
        guard state.pointee.isBlocked else { return }
        state.pointee.isBlocked = false
        state.pointee.readsOn = false
        shard.blockedSessions -= 1
    }

    /// Moves the rest to the front when at least half is consumed, so that moving costs O(1) per byte received.
    func tidyInput() {
        let s = state
        if s.pointee.inputStart == s.pointee.input.count {
            s.pointee.inputStart = 0
            s.pointee.input.count = 0
            s.pointee.input.shrink(to: Session.inputKeptBytes)
        } else if s.pointee.inputStart * 2 > s.pointee.input.count {
            s.pointee.input.removeFirst(s.pointee.inputStart)
            s.pointee.inputStart = 0
        }
    }

    private func parseAndAnswer(
        _ bytes: UnsafeRawBufferPointer, _ consumed: inout Int, _ output: UnsafeMutablePointer<OutputBuffer>,
        outputMax: Int
    ) -> SessionStatus {
        let batch = shard.batch
        batch.reset()
        defer { batch.reset() }
        let most = state.pointee.commandsAhead
        state.pointee.commandsAhead = 0
        let run = batch.parse(
            bytes, of: state, max: most > 0 ? most : Batch.commandsPerParse, on: shard.state)
        return batch.answer(self, bytes, run, &consumed, output, outputMax: outputMax)
    }

    /// The parser is ahead of what was run: it begins anew with the next bytes.
    func restartParser() {
        state.pointee.parser.deallocate()
        state.pointee.parser = RESPParser(limits: isAuthenticated ? RESPLimits() : Session.limitsBeforeLogin)
        state.pointee.hasNewLimits = false
    }

    // Commands.

    /// A command that is neither GET nor SET: looks it up, checks its arity, runs its handler.
    func dispatch(_ command: ParsedCommand, of batch: CommandBatch, _ output: UnsafeMutablePointer<OutputBuffer>) {
        var x = execution(command, of: batch, output)
        let before = output.pointee.count
        let (began, beganTable) = (ci_ticks(), shard.state.pointee.ticksOfTable)
        var counted: (index: Int, isRejected: Bool)?
        defer {
            let ticks = ci_ticks() &- began
            // Those that EXEC runs are in its own.
            shard.state.pointee.ticksOfTable = beganTable &+ ticks
            // What begins anew in slices is counted there.
            if isBeforeLongCommand { counted = nil }
            shard.noteCommand(counted, output, from: before)
            if let counted, !counted.isRejected { noteTime(counted.index, ticks, x) }
        }
        if command.isOversized {
            transaction?.isSpoiled = true
            return command.hasTooManyArguments
                ? x.error("ERR too many arguments: the limit is 1048576")
                : x.error("ERR argument is too large: the limit is 67108864 bytes for a value, 65536 for a key")
        }
        guard let index = CommandTable.standard.find(x.argument(0)) else {
            transaction?.isSpoiled = true
            return x.unknownCommand()
        }
        CommandTable.standard.withRow(index) { row in
            noteCommand(row, x)
            guard row.accepts(x.count) else {
                counted = (index, true)
                transaction?.isSpoiled = true
                return x.wrongArity(row.nameText)
            }
            if state.pointee.isRestricted, isDenied(x, row: index) {
                counted = (index, true)
                transaction?.isSpoiled = true
                return
            }
            if shard.state.pointee.isReading, !row.flags.contains(.whileReading) || !row.keys.isNone {
                counted = (index, true)
                transaction?.isSpoiled = true
                return x.error(ShardState.readingError)
            }
            let isWrite = row.flags.contains(.write)
            if isWrite || row.flags.contains(.readonly),
                x.isRefused(isWrite: isWrite, grows: row.flags.contains(.grows))
            {
                transaction?.isSpoiled = true
                return
            }
            if shard.state.pointee.wantsEach, mustWait(x, row) { return }
            if let transaction, !row.flags.contains(.immediate) { return transaction.take(x, row) }
            counted = (index, false)
            if x.count > LongCommand.argumentsMin, !isGuest {
                guard row.flags.contains(.manyKeys) else {
                    return x.error("ERR too many arguments: the limit is 1024 but for MGET, MSET, DEL and EXISTS")
                }
                state.pointee[.beforeLongCommand] = true
                return
            }
            if !row.keys.isNone {
                let last = row.keys.last < 0 ? x.count + row.keys.last : row.keys.last
                x.storeKeys(first: row.keys.first, last: last, step: row.keys.step)
            }
            row.handler(&x)
        }
    }

    /// A command that somebody wants to see by itself: shown, or held back by a pause. True if it is held back.
    private func mustWait(_ x: Execution, _ row: borrowing CommandRow) -> Bool {
        if !isGuest, shard.isPaused(x, row, transaction) {
            state.pointee.isHeldByPause = true
            state.pointee[.beforeLongCommand] = true
            return true
        }
        let isQueued = transaction != nil && !row.flags.contains(.immediate)
        if shard.state.pointee.monitorsEverywhere > 0, !isQueued { shard.showMonitors(x, of: self, row) }
        return false
    }

    func execution(
        _ command: ParsedCommand, of batch: CommandBatch, _ output: UnsafeMutablePointer<OutputBuffer>
    ) -> Execution {
        Execution(
            session: self, shard: shard, store: shard.state.pointee.store, batch: batch,
            command: command, output: output)
    }

    // Commands in progress.

    /// The unconsumed input begins with a long command: parses it into a batch of its own and runs its first slice.
    func beginLongCommand(_ output: UnsafeMutablePointer<OutputBuffer>, _ unsent: Int) -> SessionStatus {
        state.pointee[.beforeLongCommand] = false
        if state.pointee.isHeldByPause {
            state.pointee.isHeldByPause = false
            continuation = PauseHold(shard.statistics)
            return .suspended
        }
        var batch = CommandBatch()
        var parser = RESPParser(limits: state.pointee.parser.limits)
        let rest = UnsafeRawBufferPointer(rebasing: state.pointee.input.bytes[state.pointee.inputStart...])
        _ = parser.parse(rest, into: &batch, maxCommands: 1)
        check(batch.count == 1)
        let name = batch.argument(0, of: batch[0]).lowercased
        let bytes = Int(batch[0].end)
        parser.deallocate()
        let x = execution(batch[0], of: batch, output)
        let row = name == "put" ? CommandTable.setRow : CommandTable.standard.find(x.argument(0))
        if let row { beginRunning(row, words: ShownWords.cut(x)) }
        if ["set", "put", "setex", "psetex"].contains(name) {
            continuation = LargeSet(batch: batch, inputBytes: bytes)
        } else {
            continuation = LongCommand(batch: batch, name: name, inputBytes: bytes)
        }
        shard.state.pointee.counters.commands &+= 1
        return output.pointee.count > Limits.outputBytesHigh - unsent ? .blocked : .ready
    }

    func endContinuation() {
        guard let continuation else { return }
        state.pointee.inputStart += continuation.heldInputBytes
        continuation.cancel()
        self.continuation = nil
        guard !isClosed, late.count > 0 else { return }
        state.pointee.input.append(late.bytes)
        late.count = 0
        late.shrink(to: Session.inputKeptBytes)
    }
}
