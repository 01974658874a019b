// A command, or a transaction, that runs at the home of its first key, while its connection waits. Loop thread of the
// connection's shard.

import KVBase
import KVCore
import KVRuntime
import RESP

/// First the records of keys whose home is elsewhere are fetched from there; then all goes to the home of the first
/// key, or runs here if that is this actor. The answer brings back the records, which are merged before the reply is
/// seen.
final class HomeRun: Continuation {
    let ask: HomeAsk
    private let homes: Homes
    private let keys: [Bytes]
    private let queue: CommandQueue
    private let watched: [WatchedKey]?
    private let home: Int
    private var isRunning = false
    private var answer: HomeRequest?

    /// `keys` as they are stored; the command runs at `home`.
    init(_ x: Execution, _ homes: Homes, keys: [Bytes], home: Int, queue: CommandQueue, watched: [WatchedKey]? = nil) {
        ask = HomeAsk(x.session)
        (self.homes, self.keys, self.queue, self.home, self.watched) = (homes, keys, queue, home, watched)
        super.init()
        fetch(x)
        if ask.outstanding == 0, !ask.hasFailed { run(x.session) }
    }

    override var isSuspended: Bool { ask.outstanding > 0 }
    override var isElsewhere: Bool { isSuspended }
    /// Where it is slow, its home says so.
    override var isSlowable: Bool { false }

    /// From their homes, the records of keys that have theirs neither here nor where the command runs.
    private func fetch(_ x: Execution) {
        var byHome: [Int: [Bytes]] = [:]
        let (own, store) = (x.shard.index, x.store)
        for key in keys {
            let at = key.withBytes { homes.home(of: ByteView($0), store) }
            if at != home, at != own { byHome[at, default: []].append(key) }
        }
        for (at, keys) in byHome {
            ask.send(HomeRequest(ask, from: own, keys: keys, queue: nil), to: at, homes)
        }
    }

    private func run(_ session: Session) {
        isRunning = true
        ask.answers = []
        let request = HomeRequest(ask, from: session.shard.index, keys: keys, queue: queue)
        request.client = session.traits
        request.watched = watched
        guard home == session.shard.index else { return ask.send(request, to: home, homes) }
        session.shard.run(request)
        // It is in what this actor has measured.
        request.ticks = 0
        ask.answers.append(request)
    }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        if !isRunning, ask.outstanding == 0, !ask.hasFailed, !ask.isLate { run(x.session) }
        if ask.hasFailed {
            x.error(HomeAsk.failure)
            return true
        }
        if ask.isLate, ask.outstanding == 0 {
            x.error(HomeAsk.lateness)
            return true
        }
        if ask.outstanding > 0 { return false }
        if answer == nil, let first = ask.answers.first {
            answer = first
            x.output.pointee.append(first.output.bytes)
            x.session.finish(first)
            x.session.state.pointee.runningTicks &+= first.ticks
        }
        guard let rest = answer?.rest else { return true }
        return rest.step(&x, outputMax: outputMax)
    }

    override func cancel() {
        ask.close()
        answer = nil
    }
}

extension Session {
    /// What a command that ran at a home leaves behind here.
    func finish(_ answer: HomeRequest) {
        traits = answer.client
        noteWritten(answer)
        if answer.output.count > 0, answer.output.bytes[0] == UInt8(ascii: "-") {
            shard.noteCommand(nil, &answer.output, from: 0)
        }
    }
}

extension Session {
    /// What WAIT has to wait for.
    func noteWritten(_ answer: HomeRequest) {
        if let (actor, ownSeq) = answer.ranAt { written.note(actor, ownSeq) }
    }
}

extension Execution {
    /// Hands the command to the home of its first key, where that is another actor, or fetches the records of its other
    /// keys from theirs. True if so: then there is nothing more to do here. `keys`: places of arguments.
    func goesHome(_ keys: some Sequence<Int>) -> Bool {
        guard let homes = shard.homes, !session.isGuest else { return false }
        let places = keys.map { homes.home(of: argument($0), store) }
        guard let home = places.first, places.contains(where: { $0 != shard.index }) else { return false }
        let queue = CommandQueue()
        queue.append(self)
        session.continuation = HomeRun(
            self, homes, keys: keys.map { Bytes(argument($0).bytes) }, home: home, queue: queue)
        return true
    }

    /// The same of a command of one key: with those behind it that go to a home, too (`Batch.setOut`). Behind one that
    /// does, a command whose home is here goes along.
    func goesHome(_ key: Int) -> Bool {
        guard let homes = shard.homes, !session.isGuest else { return false }
        let home = homes.home(of: argument(key), store)
        guard home != shard.index || session.trip != nil else { return false }
        if session.trip == nil { session.trip = shard.newTrip(session) }
        session.trip.unsafelyUnwrapped.take(self, to: home)
        return true
    }
}
