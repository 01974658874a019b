// One client: its unparsed input, its protocol, and the command it is in the middle of. Knows nothing of sockets: bytes
// come in, replies go to a buffer the caller names. Loop thread of its actor.

package import KVBase
import KVCore
import RESP

/// What a session wants after a turn.
package enum SessionStatus: Equatable, Sendable {
    /// More input.
    case idle
    /// Another turn: it holds complete commands, or a command in progress.
    case ready
    /// That its output drains first, then another turn.
    case blocked
    /// That its output is sent and the connection closed.
    case closing
}

package struct SessionState {
    package var id: Int
    package var resp3 = false
    package var closing = false
    package var isWaiting = false
    /// Index in the actor's list; -1 once removed.
    var place = -1
    var name = Bytes([])
    var libraryName = Bytes([])
    var libraryVersion = Bytes([])
    var peer = ""
    var local = ""
    var descriptor = -1
    var createdMillis: Millis
    /// When the session last made progress; a stalled reader of a long reply is closed after a while.
    var activeMillis: Millis
    var lastCommand: StaticString = "NULL"
}

/// Whoever has the session's output at hand.
package protocol SessionOwner: AnyObject {
    /// Time for another turn of a session that said `ready`.
    func sessionShouldRun()
    /// The client reads nothing of a long reply.
    func sessionStalled()
}

package final class Session {
    /// Commands parsed at once: two groups of prefetches.
    private static let batchCommands = 64
    /// Unparsed input kept when nothing is pending; more is given back.
    private static let inputKeptBytes = 16 * 1024

    package let actor: QueryActor
    package let state: UnsafeMutablePointer<SessionState>
    /// The command being carried on in slices.
    var continuation: Continuation?
    package weak var owner: (any SessionOwner)?

    private var parser: RESPParser
    /// Bytes `inputStart ..< input.count` are not consumed yet.
    private var input = OutputBuffer()
    private var inputStart = 0
    /// Bytes that arrived while a long command reads its arguments from `input`.
    private var late = OutputBuffer()
    private(set) var isBeforeLongCommand = false

    package init(actor: QueryActor, peer: String = "", local: String = "", descriptor: Int = -1) {
        self.actor = actor
        let now = actor.state.pointee.nowMillis
        parser = RESPParser(limits: RESPLimits())
        state = .allocate(capacity: 1)
        state.initialize(
            to: SessionState(
                id: actor.context.nextClientID(), peer: peer, local: local, descriptor: descriptor, createdMillis: now,
                activeMillis: now))
        actor.add(self)
    }

    private var isClosed = false

    /// Leaves the actor and frees what it holds, except `state`, which lives as long as the object.
    package func close() {
        guard !isClosed else { return }
        isClosed = true
        actor.remove(self)
        endContinuation()
        parser.deallocate()
        input.deallocate()
        late.deallocate()
    }

    deinit {
        precondition(isClosed, "a session is closed before it goes away")
        state.deinitialize(count: 1)
        state.deallocate()
    }

    var mustStop: Bool { state.pointee.closing || continuation != nil || isBeforeLongCommand }

    /// Bytes received and not consumed.
    package var pendingInput: Int { input.count - inputStart + late.count }

    // Input.

    /// Takes bytes that arrived and runs what they complete, within one turn's budget. `unsent`: bytes of earlier
    /// replies the kernel has not taken yet.
    package func receive(
        _ bytes: UnsafeRawBufferPointer, output: UnsafeMutablePointer<OutputBuffer>, unsent: Int
    ) -> SessionStatus {
        state.pointee.activeMillis = actor.state.pointee.nowMillis
        if continuation != nil {
            late.append(bytes)
            return .ready
        }
        if state.pointee.closing { return .closing }
        if state.pointee.isWaiting {
            input.append(bytes)
            return .ready
        }
        if inputStart == input.count {
            return runDirectly(bytes, output, unsent)
        }
        input.append(bytes)
        if input.count - inputStart < parser.wanted { return .idle }
        return run(output: output, unsent: unsent)
    }

    /// The usual case: nothing is left over, so commands are parsed where the kernel put them.
    private func runDirectly(
        _ bytes: UnsafeRawBufferPointer, _ output: UnsafeMutablePointer<OutputBuffer>, _ unsent: Int
    ) -> SessionStatus {
        var consumed = 0
        let status = execute(bytes, &consumed, output, Limits.outputBytesHigh - unsent)
        if consumed < bytes.count { keep(UnsafeRawBufferPointer(rebasing: bytes[consumed...])) }
        return isBeforeLongCommand ? beginLongCommand(output, unsent) : status
    }

    /// Another turn: carries the command in progress on, or runs buffered input.
    package func run(output: UnsafeMutablePointer<OutputBuffer>, unsent: Int) -> SessionStatus {
        let outputMax = Limits.outputBytesHigh - unsent
        if let continuation {
            state.pointee.activeMillis = actor.state.pointee.nowMillis
            var x = execution(Command(firstArgument: 0, argumentCount: 0), output)
            guard continuation.step(&x, outputMax: outputMax) else {
                return output.pointee.count > outputMax ? .blocked : .ready
            }
            endContinuation()
        }
        if state.pointee.closing { return .closing }
        var consumed = 0
        let rest = UnsafeRawBufferPointer(rebasing: input.bytes[inputStart...])
        let status = execute(rest, &consumed, output, outputMax)
        inputStart += consumed
        tidyInput()
        return isBeforeLongCommand ? beginLongCommand(output, unsent) : status
    }

    private func keep(_ bytes: UnsafeRawBufferPointer) {
        input.count = 0
        inputStart = 0
        input.append(bytes)
    }

    /// Moves the rest to the front when at least half is consumed, so that moving costs O(1) per byte received.
    private func tidyInput() {
        if inputStart == input.count {
            inputStart = 0
            input.count = 0
            input.shrink(to: Session.inputKeptBytes)
        } else if inputStart * 2 > input.count {
            input.removeFirst(inputStart)
            inputStart = 0
        }
    }

    // Execution.

    private func execute(
        _ bytes: UnsafeRawBufferPointer, _ consumed: inout Int, _ output: UnsafeMutablePointer<OutputBuffer>,
        _ outputMax: Int
    ) -> SessionStatus {
        let query = actor.state
        var budget = Limits.commandsPerTurnMax
        while true {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[consumed...])
            query.pointee.batch.reset()
            let parsed = parser.parse(rest, into: &query.pointee.batch, maxCommands: min(Session.batchCommands, budget))
            let count = query.pointee.batch.count
            if count > 0 {
                let executed = query.pointee.execute(self, output, outputMax: outputMax)
                if executed < count || mustStop || output.pointee.count > outputMax {
                    // The parser is ahead of what was run: it starts afresh behind the last command run.
                    if executed > 0 { consumed += Int(query.pointee.batch[executed - 1].end) }
                    parser.deallocate()
                    parser = RESPParser(limits: parser.limits)
                    if state.pointee.closing { return .closing }
                    return output.pointee.count > outputMax ? .blocked : .ready
                }
                budget -= count
            }
            consumed += parser.consumed
            switch parsed {
            case .drained: return .idle
            case .batchFull: if budget <= 0 { return .ready }
            case .failed:
                parser.appendError(to: &output.pointee)
                state.pointee.closing = true
                return .closing
            }
        }
    }

    /// A command that is neither GET nor SET: looks it up, checks its arity, runs its handler.
    func dispatch(_ command: Command, _ output: UnsafeMutablePointer<OutputBuffer>) {
        var x = execution(command, output)
        if command.isOversized {
            return x.error("ERR argument is too large: the limit is 67108864 bytes for a value, 65536 for a key")
        }
        guard let index = CommandTable.standard.find(x.argument(0)) else { return x.unknownCommand() }
        CommandTable.standard.withRow(index) { row in
            state.pointee.lastCommand = row.name
            guard row.accepts(x.count) else { return x.wrongArity(row.nameText) }
            if row.flags.contains(.manyKeys), x.count > LongCommand.argumentsMin {
                isBeforeLongCommand = true
                return
            }
            row.handler(&x)
        }
    }

    private func execution(_ command: Command, _ output: UnsafeMutablePointer<OutputBuffer>) -> Execution {
        Execution(
            session: self, actor: actor, store: actor.state.pointee.store, batch: actor.state.pointee.batch,
            command: command, output: output)
    }

    // Commands in progress.

    /// The unconsumed input begins with a long command: parses it into a batch of its own and runs its first slice.
    private func beginLongCommand(_ output: UnsafeMutablePointer<OutputBuffer>, _ unsent: Int) -> SessionStatus {
        isBeforeLongCommand = false
        var batch = CommandBatch()
        var parser = RESPParser(limits: self.parser.limits)
        _ = parser.parse(
            UnsafeRawBufferPointer(rebasing: input.bytes[inputStart...]), into: &batch, maxCommands: 1)
        check(batch.count == 1)
        let name = batch.argument(0, of: batch[0]).lowercased
        let bytes = Int(batch[0].end)
        parser.deallocate()
        continuation = LongCommand(batch: batch, name: name, inputBytes: bytes)
        actor.state.pointee.commands &+= 1
        return output.pointee.count > Limits.outputBytesHigh - unsent ? .blocked : .ready
    }

    private func endContinuation() {
        guard let continuation else { return }
        inputStart += continuation.heldInputBytes
        continuation.cancel()
        self.continuation = nil
        guard !isClosed, late.count > 0 else { return }
        input.append(late.bytes)
        late.count = 0
        late.shrink(to: Session.inputKeptBytes)
    }

    /// One line of CLIENT LIST.
    func describe(into text: inout OutputBuffer) {
        let now = actor.state.pointee.nowMillis
        let s = state
        text.append("id=")
        text.appendDecimal(s.pointee.id)
        text.append(" addr=\(s.pointee.peer) laddr=\(s.pointee.local) fd=\(s.pointee.descriptor) name=")
        s.pointee.name.withBytes { text.append($0) }
        text.append(
            " age=\((now - s.pointee.createdMillis) / 1000) idle=\(max(0, now - s.pointee.activeMillis) / 1000)")
        text.append(" flags=N db=0 sub=0 psub=0 multi=-1 qbuf=\(pendingInput) events=r cmd=")
        text.append(s.pointee.lastCommand)
        text.append(" user=default redir=-1 resp=\(s.pointee.resp3 ? 3 : 2) lib-name=")
        s.pointee.libraryName.withBytes { text.append($0) }
        text.append(" lib-ver=")
        s.pointee.libraryVersion.withBytes { text.append($0) }
        text.append("\n")
    }
}
