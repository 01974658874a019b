// What an actor asks of a key's home, and what it gets back. Belongs to one thread at a time: who was sent it last.

import KVBase
import KVCore
import KVRuntime
import Synchronization

/// A record on its way from one actor of the process to another: retained.
struct SharedRecord {
    let record: Record
    let hash: UInt64

    init(_ record: Record, hash: UInt64) { (self.record, self.hash) = (record.retained(), hash) }
}

/// Records on their way, without an array's checks. Belongs to one thread at a time; freed by hand.
struct SharedRecordList {
    private var base: UnsafeMutablePointer<SharedRecord>?
    private(set) var count = 0
    private var capacity = 0

    @inline(__always) subscript(_ index: Int) -> SharedRecord { base.unsafelyUnwrapped[index] }

    @inline(__always)
    mutating func append(_ shared: SharedRecord) {
        if count == capacity { grow() }
        (base.unsafelyUnwrapped + count).initialize(to: shared)
        count &+= 1
    }

    @inline(never)
    private mutating func grow() {
        let larger = UnsafeMutablePointer<SharedRecord>.allocate(capacity: max(4, capacity * 2))
        if let base {
            larger.update(from: base, count: count)
            base.deallocate()
        }
        (base, capacity) = (larger, max(4, capacity * 2))
    }

    /// Gives the references back.
    mutating func releaseAll() {
        for i in 0..<count { self[i].record.release() }
        count = 0
    }

    mutating func deallocate() {
        releaseAll()
        base?.deallocate()
    }
}

/// Carries commands, the records of their keys as the asking actor has them, and back the reply and the records as they
/// are then. Without commands only the records are wanted.
final class HomeRequest: @unchecked Sendable {
    let ask: HomeAsk
    /// The asking actor, from 1.
    let from: Int
    let keys: [Bytes]
    let queue: CommandQueue?
    var client = ClientTraits()
    /// Of a transaction.
    var watched: [WatchedKey]?
    /// What the asking actor has.
    var given: [SharedRecord] = []
    /// The asking actor's clock: what has expired there has expired at the home, too, whose turn may have begun before.
    var now: Millis = 0

    // The answer.
    var output = OutputBuffer()
    /// What the home has.
    var shown: [SharedRecord] = []
    /// How long a command that is no transaction ran at the home.
    var ticks: UInt64 = 0
    /// The reply goes on with it.
    var rest: LargeReply?
    /// The actor that ran the commands, and its own writes then.
    var ranAt: (actor: Int, ownSeq: UInt64)?

    private enum Phase {
        static let waiting: UInt8 = 0
        static let begun: UInt8 = 1
        static let givenUp: UInt8 = 2
    }

    /// Who moves it first decides. Nothing else is told by it: the request itself went by message.
    private let phase = Atomic<UInt8>(Phase.waiting)

    /// The home is about to run it; false if it is not wanted any more. The home's thread.
    func begin() -> Bool {
        phase.compareExchange(expected: Phase.waiting, desired: Phase.begun, ordering: .relaxed).exchanged
    }

    /// It will not be run; false if it is being run, or was. The asking thread.
    func giveUp() -> Bool {
        phase.compareExchange(expected: Phase.waiting, desired: Phase.givenUp, ordering: .relaxed).exchanged
    }

    init(_ ask: HomeAsk, from: Int, keys: [Bytes], queue: CommandQueue?) {
        (self.ask, self.from, self.keys, self.queue) = (ask, from, keys, queue)
    }

    deinit {
        for shared in given { shared.record.release() }
        for shared in shown { shared.record.release() }
        rest?.cancel()
        output.deallocate()
    }

    /// Merges what came, and forgets it.
    static func merge(_ records: inout [SharedRecord], into shard: Shard) {
        for shared in records {
            shard.merge(shared)
            shared.record.release()
        }
        records = []
    }

    /// The records of its keys, as `store` has them.
    func records(in store: Store) -> [SharedRecord] {
        var records: [SharedRecord] = []
        records.reserveCapacity(keys.count)
        for key in keys {
            key.withBytes { bytes in
                store.eachRecord(of: store.key(bytes)) { records.append(SharedRecord($0, hash: $1)) }
            }
        }
        return records
    }
}

/// What a session waits for: answers to one or more requests. The session's thread.
final class HomeAsk: @unchecked Sendable {
    weak var session: Session?
    private(set) var outstanding = 0
    /// An actor could not be told: the server stops.
    private(set) var hasFailed = false
    /// A home did not come to it in time: what was asked of that one was not done.
    private(set) var isLate = false
    var answers: [HomeRequest] = []
    private var sent: [HomeRequest] = []
    private var timer: LoopTimer?

    /// A home has this long to begin with a request. One actor never holds another one up longer: what takes it more
    /// than a moment it does in slices, but for a transaction.
    static let waitMillisMax: Int64 = 1_000

    init(_ session: Session) { self.session = session }

    func send(_ request: HomeRequest, to home: Int, _ homes: Homes) {
        request.given = request.records(in: session!.shard.state.pointee.store)
        request.now = session!.shard.state.pointee.nowMillis
        outstanding += 1
        sent.append(request)
        if timer == nil {
            timer = session?.shard.loop?.schedule(afterMillis: HomeAsk.waitMillisMax) { [weak self] in self?.giveUp() }
        }
        if !homes.tell(home, { $0.take(request) }) {
            outstanding -= 1
            hasFailed = true
        }
    }

    /// The records have been merged.
    func take(_ answer: HomeRequest) {
        outstanding -= 1
        guard session != nil else { return }
        answers.append(answer)
        if outstanding == 0 { finish() }
    }

    /// The time is up. What a home has begun with is waited for.
    func giveUp() {
        for request in sent where request.giveUp() {
            outstanding -= 1
            isLate = true
        }
        if isLate, outstanding == 0 { finish() }
    }

    /// Nobody waits any more, or nobody needs the answers again. They lead back here: so they are let go.
    func close() {
        session = nil
        answers = []
        timer?.cancel()
        (timer, sent) = (nil, [])
    }

    private func finish() {
        timer?.cancel()
        (timer, sent) = (nil, [])
        session?.owner?.sessionShouldRun()
    }

    deinit { timer?.cancel() }

    static let lateness: StaticString = "BUSY the actor that runs this command is busy; it was not run, try again"
    static let failure: StaticString = "ERR the actor that runs this command has stopped; use another server"
}

/// What commands see of the client they run for, at whichever actor.
struct ClientTraits {
    var id = 0
    var resp3 = false
    var database: UInt8 = 0
    var name = Bytes([])
    var libraryName = Bytes([])
    var libraryVersion = Bytes([])
    var peer = ""
    var local = ""
    var descriptor = -1
    /// Who it is now: what a transaction does is looked at again with it.
    var login: Login?
}

extension Session {
    /// Given to who stands for clients: it becomes this one. Given back, the client stays who it is.
    var traits: ClientTraits {
        get {
            var traits = state.pointee.traits
            traits.login = login
            return traits
        }
        set {
            state.pointee.traits = newValue
            if isGuest, let login = newValue.login { enter(login, isAuthenticated: true) }
        }
    }
}

extension SessionState {
    fileprivate var traits: ClientTraits {
        get {
            ClientTraits(
                id: id, resp3: resp3, database: database, name: name, libraryName: libraryName,
                libraryVersion: libraryVersion, peer: peer, local: local, descriptor: descriptor)
        }
        set {
            (id, resp3, database, name) = (newValue.id, newValue.resp3, newValue.database, newValue.name)
            (libraryName, libraryVersion) = (newValue.libraryName, newValue.libraryVersion)
            (peer, local, descriptor) = (newValue.peer, newValue.local, newValue.descriptor)
        }
    }
}
