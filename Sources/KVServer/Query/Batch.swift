// What the sockets of one turn received, from bytes to the table and back to bytes. Loop thread.
//
// The way of a GET or SET, from top to bottom:
//   1. `QueryReceiver.received` has `parse` put a connection's commands behind those of the connections before, so that
//      the cache misses of all of them overlap.
//   2. When there is enough of it, or no more to come, `answerSegments` goes through the connections in the order in
//      which they came; each receiver gives the output its replies belong to.
//   3. `answer` runs what one session sent, and parses and runs on if that was more than one parse.
//   4. `run` carries the commands out: `get` and `set` here, everything else by `Session.dispatch`.
// The replies leave this page as bytes in the connections' output buffers, which go to the kernel once per turn.

import CIntrinsics
import KVBase
import KVCore
import KVRuntime
import RESP

/// Commands recognised without a table.
enum CommandKind: UInt8 {
    case other, get, set
    /// SET with options: a `ShortSet`, or it goes the usual way.
    case setWith
    /// INCR.
    case increment
}

/// A run of the batch's commands, all of one session, and how its parser came out of them.
struct CommandRun {
    var first: Int
    var end: Int
    var status: ParseStatus

    var count: Int { end &- first }
}

/// What one connection received in this turn, parsed into the batch and waiting to be answered with the others.
struct BatchSegment {
    var receiver: Unmanaged<QueryReceiver>
    var bytes: UnsafeRawBufferPointer
    var run: CommandRun
}

/// The commands under way of one shard. One word, passed by value; the state is behind it. Freed by its shard.
struct Batch {
    /// Commands parsed at once from one connection.
    static let commandsPerParse = 64
    /// Commands of several connections that are run together: the batch never holds more than these and one parse.
    static let commandsTogether = 64
    static let commandsMax = commandsPerParse + commandsTogether
    /// Connections whose commands are run together.
    static let segmentsMax = 64
    /// Of a session that adds keys, between two looks at the clock.
    private static let commandsPerStep = 16

    private let state: UnsafeMutablePointer<BatchState>

    init() {
        state = .allocate(capacity: 1)
        state.initialize(to: BatchState())
    }

    func deallocate() {
        state.pointee.deallocate()
        state.deallocate()
    }

    /// What its commands point into is gone, or they are done.
    @inline(__always)
    func reset() {
        state.pointee.commands.reset()
        state.pointee.ahead.reset()
    }

    var commands: CommandBatch { state.pointee.commands }

    /// Nothing has been received since `answerSegments`.
    @inline(__always)
    var isEmpty: Bool { state.pointee.segmentCount == 0 }

    // MARK: From bytes to commands

    /// Parses up to `max` commands from `bytes` behind those already in the batch, recognises GET and SET, hashes the
    /// first argument of each and starts loading the table's buckets.
    @inline(__always)
    func parse(
        _ bytes: UnsafeRawBufferPointer, of client: UnsafeMutablePointer<SessionState>, max: Int,
        on shard: UnsafeMutablePointer<ShardState>
    ) -> CommandRun {
        let first = state.pointee.commands.count
        let status = client.pointee.parser.parse(bytes, into: &state.pointee.commands, maxCommands: max)
        let end = state.pointee.commands.count
        let takesWrites = !shard.pointee.headroom.isShort(for: bytes.count) && shard.pointee.writeRefusal == .none
        let argumentsMax = min(shard.pointee.recognisedArgumentsMax, client.pointee.recognisedArgumentsMax)
        let (commands, kinds, keys) = (state.pointee.commands, state.pointee.kinds, state.pointee.ahead.keys)
        for i in first..<end {
            kinds[i] = Batch.recognise(
                commands[i], of: commands, takesWrites, argumentsMax: argumentsMax, key: &keys[i].view)
        }
        shard.pointee.store.prepare(&state.pointee.ahead, to: end)
        return CommandRun(first: first, end: end, status: status)
    }

    /// `key`: the first key of nearly every command. Its memory is asked for whatever the command is.
    @inline(__always)
    private static func recognise(
        _ command: ParsedCommand, of commands: CommandBatch, _ takesWrites: Bool, argumentsMax: Int32,
        key: inout ByteView
    ) -> CommandKind {
        key.count = -1
        guard command.argumentCount >= 2 else { return .other }
        let first = commands.argument(1, of: command)
        // Too long, or empty: that is rare, and goes with the same comparison.
        guard UInt(bitPattern: first.count &- 1) < UInt(Limits.keyBytesMax) else { return .other }
        key = first
        guard command.argumentCount <= argumentsMax, first.start.load(as: UInt8.self) != Store.mark else {
            return isSetWith(command, of: commands, takesWrites, argumentsMax, first) ? .setWith : .other
        }
        let name = commands.argument(0, of: command)
        guard name.count == 3 else {
            return isIncrement(name, command.argumentCount) && takesWrites ? .increment : .other
        }
        let word = upperCaseWord(name.start)
        if command.argumentCount == 2 { return word == getWord ? .get : .other }
        return (word == setWord || word == putWord) && takesWrites ? .set : .other
    }

    @inline(__always)
    private static func isIncrement(_ name: ByteView, _ argumentCount: Int32) -> Bool {
        guard argumentCount == 2, name.count == 4 else { return false }
        return name.start.loadUnaligned(as: UInt32.self).littleEndian & 0xDFDF_DFDF == 0x5243_4E49
    }

    @inline(never)
    private static func isSetWith(
        _ command: ParsedCommand, of commands: CommandBatch, _ takesWrites: Bool, _ argumentsMax: Int32, _ key: ByteView
    ) -> Bool {
        guard takesWrites, argumentsMax == 3, command.argumentCount > 3,
            command.argumentCount <= ShortSet.argumentsMax, key.start.load(as: UInt8.self) != Store.mark
        else { return false }
        let name = commands.argument(0, of: command)
        return name.count == 3 && upperCaseWord(name.start) == setWord
    }

    /// Three letters in upper case; a byte that is no letter may change too, but never into one of the names.
    @inline(__always)
    private static func upperCaseWord(_ p: UnsafeRawPointer) -> UInt32 {
        let low = UInt32(p.loadUnaligned(as: UInt16.self).littleEndian)
        let high = UInt32(p.load(fromByteOffset: 2, as: UInt8.self))
        return (low | high &<< 16) & 0x00DF_DFDF
    }

    private static let getWord: UInt32 = 0x54_4547
    private static let setWord: UInt32 = 0x54_4553
    private static let putWord: UInt32 = 0x54_5550

    /// Notes what a connection received, parsed as `run`. True if there is room for another one.
    @inline(__always)
    func append(_ receiver: QueryReceiver, _ bytes: UnsafeRawBufferPointer, _ run: CommandRun) -> Bool {
        state.pointee.segments[state.pointee.segmentCount] = BatchSegment(
            receiver: Unmanaged.passUnretained(receiver), bytes: bytes, run: run)
        state.pointee.segmentCount &+= 1
        guard case .drained = run.status else { return false }
        return state.pointee.commands.count < Batch.commandsTogether && state.pointee.segmentCount < Batch.segmentsMax
    }

    // MARK: From commands to replies

    /// Answers what the connections sent, in order of arrival; returns how many keys that added.
    func answerSegments(on shard: UnsafeMutablePointer<ShardState>) -> Int {
        let count = state.pointee.segmentCount
        // At once: a command run from here that leads back here finds nothing to do.
        state.pointee.segmentCount = 0
        let keysBefore = shard.pointee.store.count
        var keys = keysBefore
        for i in 0..<count {
            let segment = state.pointee.segments[i]
            segment.receiver._withUnsafeGuaranteedRef { $0.answer(segment, keys: &keys) }
        }
        return keys &- keysBefore
    }

    /// Runs the commands parsed from the beginning of `bytes`, then parses and runs the rest in further batches until
    /// the session's share of the turn is spent. Only the last session of the batch may have such a rest. `consumed`:
    /// bytes behind which the session goes on.
    func answer(
        _ session: Session, _ bytes: UnsafeRawBufferPointer, _ first: CommandRun, _ consumed: inout Int,
        _ output: UnsafeMutablePointer<OutputBuffer>, outputMax: Int
    ) -> SessionStatus {
        let client = session.state
        var run = first
        // Between two batches of a session that adds keys the shard looks at the clock.
        var commandsLeft = client.pointee.isAdding ? Batch.commandsPerParse : Limits.commandsPerTurnMax
        while true {
            if run.count > 0 {
                let done =
                    client.pointee.isAdding
                    ? runInSteps(run, of: session, output, outputMax: outputMax)
                    : self.run(run, of: session, output, outputMax: outputMax)
                if done < run.count || session.mustStop || client.pointee.hasNewLimits
                    || output.pointee.count > outputMax
                {
                    // The parser is ahead of what was run: it starts afresh behind the last command run.
                    if done > 0 { consumed += Int(state.pointee.commands[run.first + done - 1].end) }
                    session.restartParser()
                    if client.pointee.closing { return .closing }
                    if output.pointee.count > outputMax { return .blocked }
                    return session.isSuspended ? .suspended : .ready
                }
                commandsLeft -= run.count
            }
            consumed += client.pointee.parser.consumed
            switch run.status {
            case .drained: return .idle
            case .batchFull: if commandsLeft <= 0 { return .ready }
            case .failed:
                client.pointee.parser.appendError(to: &output.pointee)
                client.pointee.closing = true
                return .closing
            }
            let rest = UnsafeRawBufferPointer(rebasing: bytes[consumed...])
            reset()
            run = parse(
                rest, of: client, max: min(Batch.commandsPerParse, commandsLeft),
                on: session.shard.state)
        }
    }

    /// Runs the commands a step at a time, one at least, until the turn has done enough; returns how many were run.
    private func runInSteps(
        _ run: CommandRun, of session: Session, _ output: UnsafeMutablePointer<OutputBuffer>, outputMax: Int
    ) -> Int {
        var step = run
        let recognised = session.state.pointee.recognisedArgumentsMax
        repeat {
            step.end = min(step.first + Batch.commandsPerStep, run.end)
            step.first += self.run(step, of: session, output, outputMax: outputMax)
            if step.first < step.end || session.mustStop || output.pointee.count > outputMax { break }
            if session.state.pointee.recognisedArgumentsMax != recognised { break }
            session.shard.noteTime(isAdding: true)
        } while step.first < run.end && !session.shard.state.pointee.budget.isSpent
        return step.first - run.first
    }

    /// Runs the commands in order; returns how many were run: fewer than all when the session has to wait (output
    /// above `outputMax`, a long command in progress, QUIT, enough work for one turn).
    func run(
        _ run: CommandRun, of session: Session, _ output: UnsafeMutablePointer<OutputBuffer>, outputMax: Int
    ) -> Int {
        var count = Others()
        let (shard, began) = (session.shard.state, ci_ticks())
        let beganTable = shard.pointee.ticksOfTable
        let done = runCommands(run, of: session, output, outputMax: outputMax, &count)
        let ticks = ci_ticks() &- began &- (shard.pointee.ticksOfTable &- beganTable)
        shard.pointee.counters.commands &+= done
        let gets = done &- count.sets &- count.others
        guard gets &+ count.sets > 0 else { return done }
        shard.pointee.counters.hotSets &+= count.sets
        shard.pointee.counters.hotGets &+= gets
        shard.pointee.times.note(gets: gets, sets: count.sets, ticks: ticks)
        if ticks >= shard.pointee.times.noticed { noteSlow(run, of: session, gets &+ count.sets, ticks) }
        return done
    }

    @inline(never)
    private func noteSlow(_ run: CommandRun, of session: Session, _ count: Int, _ ticks: UInt64) {
        guard let first = (run.first..<run.end).first(where: { state.pointee.kinds[$0] != .other }) else { return }
        session.noteSlow(commands[first], of: commands, and: count - 1, ticks)
    }

    /// A function of its own, so that what measures it takes no registers from the loop.
    @inline(never)
    private func runCommands(
        _ run: CommandRun, of session: Session, _ output: UnsafeMutablePointer<OutputBuffer>, outputMax: Int,
        _ count: inout Others
    ) -> Int {
        let (shard, commands) = (session.shard.state, state.pointee.commands)
        let recognisedByShard = shard.pointee.recognisedArgumentsMax
        let (kinds, keys) = (state.pointee.kinds, state.pointee.ahead.keys)
        let resp3 = session.state.pointee.resp3
        let recognised = session.state.pointee.recognisedArgumentsMax
        for i in run.first..<run.end {
            if state.pointee.ahead.isDue(i) { shard.pointee.store.look(&state.pointee.ahead) }
            let command = commands[i]
            let done = i &- run.first &+ 1
            switch kinds[i] {
            case .get:
                if let large = Batch.get(keys[i], on: shard, output, resp3: resp3) {
                    beginReply(large, to: command, of: session, output)
                    count.others &+= 1
                    return done
                }
            case .set:
                let value = commands.argument(2, of: command)
                if value.count >= LargeSet.valueBytesMin {
                    session.state.pointee[.beforeLongCommand] = true
                    return done &- 1
                }
                Batch.set(keys[i], value, on: shard, output)
                count.sets &+= 1
                if value.count >= 1024 {
                    shard.pointee.budget.spend(TurnBudget.units(bytes: value.count))
                    if shard.pointee.budget.isSpent { return done }
                }
            case .setWith, .increment, .other:
                if kinds[i] != .other, runShort(i, of: session, output, resp3: resp3, &count) { break }
                if session.trip == nil {
                    // An argument is one unit.
                    shard.pointee.budget.spend(Int(command.argumentCount))
                    session.dispatch(command, of: commands, output)
                    if session.isBeforeLongCommand { return done &- 1 }
                }
                count.others &+= 1
                if session.trip != nil {
                    let more = setOut(behind: i, run, of: session)
                    count.others &+= more
                    return done &+ more
                }
                // HELLO may have changed the protocol for the commands behind it, SELECT the database.
                if session.mustStop || session.state.pointee.resp3 != resp3 || shard.pointee.budget.isSpent
                    || session.state.pointee.recognisedArgumentsMax != recognised
                    || shard.pointee.recognisedArgumentsMax != recognisedByShard
                    || session.state.pointee.hasNewLimits
                {
                    return done
                }
            }
            if output.pointee.count > outputMax { return done }
        }
        return run.count
    }

    /// Runs an INCR, or a SET with options where it is one of the usual ones; one for another home becomes a trip.
    /// False if neither.
    @inline(never)
    private func runShort(
        _ i: Int, of session: Session, _ output: UnsafeMutablePointer<OutputBuffer>, resp3: Bool, _ count: inout Others
    ) -> Bool {
        let (shard, command, key) = (session.shard, commands[i], state.pointee.ahead.keys[i])
        let isIncrement = state.pointee.kinds[i] == .increment
        let short = isIncrement ? nil : ShortSet(command, of: commands)
        guard isIncrement || short != nil else { return false }
        if short?.isConditional ?? true, let homes = shard.homes {
            let home = homes.home(of: key, shard.state.pointee.store)
            if home != shard.index {
                session.trip = shard.newTrip(session)
                session.embark(
                    command, of: commands, isIncrement ? CommandTable.incrRow : CommandTable.setRow, to: home)
                return false
            }
        }
        if let short {
            short.run(key, commands.argument(2, of: command), on: shard.state, output, resp3: resp3)
            count.sets &+= 1
        } else {
            let ticks = shard.increment(key, output)
            if ticks >= shard.state.pointee.times.noticed { session.noteSlow(command, of: commands, ticks) }
            count.others &+= 1
        }
        return true
    }

    /// A command is about to leave for its home: those behind it that run at homes go along. Returns how many do.
    @inline(never)
    private func setOut(behind i: Int, _ run: CommandRun, of session: Session) -> Int {
        guard let trip = session.trip, let homes = session.shard.homes else { return 0 }
        let (shard, keys, kinds) = (session.shard, state.pointee.ahead.keys, state.pointee.kinds)
        var next = i &+ 1
        let (incrRow, setRow) = (CommandTable.incrRow, CommandTable.setRow)
        let statistics = shard.statistics.byCommand
        let isAlone = session.state.pointee[.muted] || shard.state.pointee.wantsEach
        while !isAlone, next < run.end, trip.hasRoom, keys[next].view.count > 0, session.state.pointee.holds.isEmpty {
            let command = commands[next]
            let isIncrement = kinds[next] == .increment
            if isIncrement || kinds[next] == .setWith && ShortSet(command, of: commands)?.isConditional ?? false {
                let home = homes.home(of: keys[next], shard.state.pointee.store)
                let row = isIncrement ? incrRow : setRow
                trip.take(command, of: commands, to: home, row)
                statistics.note(row, isRejected: false, isFailed: false)
            } else {
                guard HomeBound.isBound(command, of: commands) else { break }
                session.dispatch(command, of: commands, trip.tail)
                if session.isBeforeLongCommand {
                    session.state.pointee[.beforeLongCommand] = false
                    break
                }
            }
            next &+= 1
            // It was answered here, with an error: behind all that comes back.
            if trip.tail.pointee.count > 0 { break }
        }
        session.trip = nil
        session.continuation = trip
        trip.leave(shard)
        return next &- i &- 1
    }

    @inline(never)
    private func beginReply(
        _ large: Record, to command: ParsedCommand, of session: Session, _ output: UnsafeMutablePointer<OutputBuffer>
    ) {
        session.continuation = LargeReply([large.retained()])
        let words = ShownWords.cut(session.execution(command, of: commands, output))
        session.beginRunning(CommandTable.getRow, words: words)
    }

    /// Commands of a run that are no GETs.
    private struct Others {
        var sets = 0
        var others = 0
    }

    /// Answers a GET, except that a record is returned whose value is too large to be copied in one go.
    @inline(__always)
    static func get(
        _ key: HashedKey, on shard: UnsafeMutablePointer<ShardState>, _ output: UnsafeMutablePointer<OutputBuffer>,
        resp3: Bool
    ) -> Record? {
        if let record = shard.pointee.store.get(key, now: shard.pointee.nowMillis) {
            shard.pointee.counters.hits &+= 1
            let value = record.value
            if value.count >= LargeSet.valueBytesMin { return record }
            output.pointee.bulk(value.baseAddress.unsafelyUnwrapped, value.count)
        } else {
            shard.pointee.counters.misses &+= 1
            output.pointee.null(resp3: resp3)
        }
        return nil
    }

    /// Carries a SET out, and answers it.
    @inline(__always)
    static func set(
        _ key: HashedKey, _ value: ByteView, on shard: UnsafeMutablePointer<ShardState>,
        _ output: UnsafeMutablePointer<OutputBuffer>
    ) {
        let record = shard.pointee.store.put(key, value: value, now: shard.pointee.nowMillis, floor: 0)
        record == nil ? output.pointee.error(ShardState.clockError) : output.pointee.ok()
    }
}

/// What a batch owns.
private struct BatchState {
    var commands = CommandBatch()
    /// By place in the batch.
    let kinds = UnsafeMutablePointer<CommandKind>.allocate(capacity: Batch.commandsMax)
    /// The first key of each, and how far its memory is on its way.
    var ahead = LookAhead(capacity: Batch.commandsMax)
    let segments = UnsafeMutablePointer<BatchSegment>.allocate(capacity: Batch.segmentsMax)
    var segmentCount = 0

    func deallocate() {
        commands.deallocate()
        kinds.deallocate()
        ahead.deallocate()
        segments.deallocate()
    }
}
