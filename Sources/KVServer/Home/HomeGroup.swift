// Commands of one pipeline that each run at the home of their key: each home is asked once, for all of its own. Loop
// thread of the connection's shard.

import KVBase
import KVCore
import KVRuntime
import RESP

/// Commands that follow each other and name one key each. Those whose home is this actor run at once, the others at
/// their homes, in their order there, so all commands on one key keep theirs. The replies come in the order of the
/// commands, when all homes have answered.
final class HomeGroup: Continuation {
    /// Commands of one group, and bytes of one command's arguments, at most.
    static let commandsMax = 64
    private static let argumentBytesMax = 16 * 1024

    /// Where the next reply is.
    private enum Slot {
        /// Among those of this actor, up to there.
        case here(end: Int)
        /// Behind them: a large value of this actor.
        case large(LargeReply)
        /// In the answer to a request, and the how many-th.
        case there(request: Int, number: Int)
    }

    let ask: HomeAsk
    private var homes: [Int] = []
    private var requests: [HomeRequest] = []
    private var slots: [Slot] = []
    /// Replies of this actor behind the first command that went elsewhere.
    let own: UnsafeMutablePointer<OutputBuffer>
    private var ownDone = 0
    private var next = 0
    private var hasHeard = false

    init(_ session: Session) {
        ask = HomeAsk(session)
        own = .allocate(capacity: 1)
        own.initialize(to: OutputBuffer())
    }

    deinit {
        own.pointee.deallocate()
        own.deallocate()
    }

    override var isSuspended: Bool { ask.outstanding > 0 }
    override var isSlowable: Bool { false }

    /// Something of it runs elsewhere.
    var isUnderWay: Bool { !slots.isEmpty }
    var slotCount: Int { slots.count }

    // MARK: Which commands

    /// Whether a command names one key and runs at that key's home, unless it is answered with an error.
    static func takes(_ commands: CommandBatch, _ command: ParsedCommand) -> Bool {
        let count = Int(command.argumentCount)
        guard count > 1 else { return false }
        var bytes = 0
        for k in 0..<min(count, 16) { bytes &+= commands.argument(k, of: command).count }
        guard bytes <= argumentBytesMax, count <= 16 else { return false }
        let name = commands.argument(0, of: command)
        switch name.count {
        case 3: return name.equals("SET") && isConditional(commands, command)
        case 4: return name.equals("INCR") || name.equals("DECR")
        case 5: return name.equals("SETNX")
        case 6:
            return name.equals("INCRBY") || name.equals("DECRBY") || name.equals("GETSET") || name.equals("GETDEL")
        case 7: return name.equals("PERSIST") || name.equals("DELIFEQ")
        default: return false
        }
    }

    /// A SET with such a word reads first, or is wrong.
    private static func isConditional(_ commands: CommandBatch, _ command: ParsedCommand) -> Bool {
        for k in 3..<max(3, Int(command.argumentCount)) {
            let word = commands.argument(k, of: command)
            if word.equals("NX") || word.equals("XX") || word.equals("GET") || word.equals("IFEQ")
                || word.equals("IFNE")
            {
                return true
            }
        }
        return false
    }

    // MARK: Gathering

    /// The command under way runs at another actor.
    func append(_ x: Execution, home: Int) {
        let request: Int
        if let known = homes.firstIndex(of: home) {
            request = known
        } else {
            request = homes.count
            homes.append(home)
            requests.append(HomeRequest(ask, from: x.shard.index, keys: [], queue: CommandQueue()))
        }
        slots.append(.there(request: request, number: requests[request].keys.count))
        requests[request].append(x, key: 1)
    }

    /// A command has run here. Its reply is behind the others in `own`; the rest of it, if the value is large, is what
    /// the session would go on with.
    func noteReply(of session: Session) {
        slots.append(.here(end: own.pointee.count))
        guard let large = session.continuation as? LargeReply else { return }
        session.continuation = nil
        slots.append(.large(large))
    }

    /// Nothing more is added.
    func send(_ session: Session, _ homes: Homes) {
        for (home, request) in zip(self.homes, requests) {
            request.client = session.traits
            ask.send(request, to: home, homes)
        }
    }

    // MARK: Answering

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        guard ask.outstanding == 0 else { return false }
        if !hasHeard {
            hasHeard = true
            for answer in ask.answers { x.session.noteWritten(answer) }
        }
        while next < slots.count {
            switch slots[next] {
            case .here(let end):
                x.output.pointee.append(UnsafeRawBufferPointer(rebasing: own.pointee.bytes[ownDone..<end]))
                ownDone = end
            case .large(let reply): guard reply.step(&x, outputMax: outputMax) else { return false }
            case .there(let request, let number):
                guard reply(requests[request], number, &x, outputMax: outputMax) else { return false }
            }
            next += 1
            if x.output.pointee.count > outputMax, next < slots.count { return false }
        }
        return true
    }

    /// The reply to one command of a request; false if it is large and goes on.
    private func reply(_ request: HomeRequest, _ number: Int, _ x: inout Execution, outputMax: Int) -> Bool {
        guard number < request.ends.count else {
            x.error(ask.hasFailed ? HomeAsk.failure : HomeAsk.lateness)
            return true
        }
        if let rest = request.rests[number] { return rest.step(&x, outputMax: outputMax) }
        let (start, before) = (number == 0 ? 0 : request.ends[number - 1], x.output.pointee.count)
        x.output.pointee.append(
            UnsafeRawBufferPointer(rebasing: request.output.bytes[start..<request.ends[number]]))
        x.shard.noteCommand(nil, x.output, from: before)
        return true
    }

    override func cancel() {
        ask.close()
        for case .large(let reply) in slots[min(next, slots.count)...] { reply.cancel() }
        (slots, requests) = ([], [])
    }
}

extension Session {
    /// Runs as many of the commands from `first` on as make a group; 0 if that is not worth it: then none has run.
    func runGroup(_ first: Int, _ end: Int, _ commands: CommandBatch, _ output: UnsafeMutablePointer<OutputBuffer>)
        -> Int
    {
        // Where there is a log, replies wait for what the command has written, here or there.
        guard let homes = shard.homes, shard.log == nil, transaction == nil, !isGuest,
            !shard.state.pointee.wantsEach, state.pointee.replies == .on
        else { return 0 }
        var last = first
        while last < end, last &- first < HomeGroup.commandsMax, HomeGroup.takes(commands, commands[last]) {
            last &+= 1
        }
        guard last &- first > 1 else { return 0 }
        let group = HomeGroup(self)
        self.group = group
        var i = first
        while i < last {
            shard.state.pointee.budget.spend(Int(commands[i].argumentCount))
            let isUnderWay = group.isUnderWay
            let before = group.slotCount
            dispatch(commands[i], of: commands, isUnderWay ? group.own : output)
            if isUnderWay, group.slotCount == before { group.noteReply(of: self) }
            i &+= 1
            // A large value of this actor comes first.
            if !isUnderWay, continuation != nil { break }
            if shard.state.pointee.budget.isSpent { break }
        }
        self.group = nil
        if group.isUnderWay {
            group.send(self, homes)
            continuation = group
        }
        return i &- first
    }
}
