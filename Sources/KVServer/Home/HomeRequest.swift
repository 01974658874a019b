// What an actor asks of a key's home, and what it gets back. Belongs to one thread at a time: who was sent it last.

import KVBase
import KVCore

/// A record on its way from one actor of the process to another: retained.
struct SharedRecord {
    let record: Record
    let hash: UInt64

    init(_ record: Record, hash: UInt64) { (self.record, self.hash) = (record.retained(), hash) }
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
    func merge(_ records: WritableKeyPath<HomeRequest, [SharedRecord]>, into shard: Shard) {
        for shared in self[keyPath: records] {
            shard.merge(shared)
            shared.record.release()
        }
        var this = self
        this[keyPath: records] = []
    }

    /// Takes the records of its keys along, as `store` has them.
    func take(_ records: WritableKeyPath<HomeRequest, [SharedRecord]>, from store: Store) {
        var this = self
        for key in keys {
            key.withBytes { bytes in
                store.eachRecord(of: store.key(bytes)) { record, hash in
                    this[keyPath: records].append(SharedRecord(record, hash: hash))
                }
            }
        }
    }
}

/// What a session waits for: answers to one or more requests. The session's thread.
final class HomeAsk: @unchecked Sendable {
    weak var session: Session?
    private(set) var outstanding = 0
    /// An actor could not be told: the server stops.
    private(set) var hasFailed = false
    var answers: [HomeRequest] = []

    init(_ session: Session) { self.session = session }

    func send(_ request: HomeRequest, to home: Int, _ homes: Homes) {
        request.take(\.given, from: session!.shard.state.pointee.store)
        outstanding += 1
        if !homes.tell(home, { $0.take(request) }) {
            outstanding -= 1
            hasFailed = true
        }
    }

    /// The records have been merged.
    func take(_ answer: HomeRequest) {
        outstanding -= 1
        answers.append(answer)
        if outstanding == 0 { session?.owner?.sessionShouldRun() }
    }

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
