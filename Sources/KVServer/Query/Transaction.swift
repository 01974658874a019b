// MULTI, EXEC, DISCARD, WATCH and UNWATCH. Handlers and what a session keeps for them; loop thread.

import KVBase
import KVCore
import RESP

/// The commands between MULTI and EXEC.
final class Transaction {
    /// Commands of one transaction, and bytes that they may hold.
    static let commandsMax = 1024 * 1024
    static let bytesMax = Limits.commandBytesMax

    let queue = CommandQueue()
    /// A command of it writes.
    private(set) var hasWrites = false
    /// A command was refused: EXEC will be too.
    var isSpoiled = false

    /// The command waits for EXEC.
    func take(_ x: Execution, _ row: borrowing CommandRow) {
        guard hasSubcommand(x, row) else {
            isSpoiled = true
            return
        }
        guard queue.count < Transaction.commandsMax, queue.byteCount + x.size.arguments <= Transaction.bytesMax else {
            isSpoiled = true
            return x.error("ERR the transaction is too large: the limits are 1048576 commands and 134217728 bytes")
        }
        queue.append(x)
        if row.flags.contains(.write) { hasWrites = true }
        x.output.pointee.simple("QUEUED")
    }

    /// A subcommand is looked up before it is queued, and its arguments are counted; false when it was answered with an
    /// error.
    private func hasSubcommand(_ x: Execution, _ row: borrowing CommandRow) -> Bool {
        guard row.flags.contains(.subcommands), x.count > 1 else { return true }
        let name = row.nameText + "|" + x.argument(1).lowercased
        guard let sub = CommandTable.subcommandRows.first(where: { $0.nameText == name }) else {
            x.unknownSubcommand(of: row.nameText.uppercased())
            return false
        }
        if sub.accepts(x.count) { return true }
        x.wrongArity(name)
        return false
    }
}

/// A key as WATCH found it.
struct WatchedKey {
    /// As it is stored.
    let key: Bytes
    private let stamp: Stamp?
    /// Of the deadline, where the key is shown.
    private let deadline: Version?
    private let isShown: Bool
    /// Of what was added to a counter.
    private let countMark: UInt64
    private let watchedAt: Millis

    private struct Stamp: Equatable {
        let ms: Millis
        let origin: OriginIndex
        let seq: UInt64

        init(_ record: Record) { (ms, origin, seq) = (record.ms, record.origin, record.seq) }
    }

    init(_ key: Bytes, _ state: UnsafeMutablePointer<ShardState>) {
        self.key = key
        watchedAt = state.pointee.nowMillis
        (stamp, deadline, isShown, countMark) = WatchedKey.look(key, state)
    }

    /// Whether this actor shows anything newer. A tombstone of before may have been collected at one actor and not yet
    /// at another: that is no change.
    func hasChanged(_ state: UnsafeMutablePointer<ShardState>) -> Bool {
        let (now, deadlineNow, isShownNow, countMarkNow) = WatchedKey.look(key, state)
        if isShownNow != isShown || deadlineNow != deadline || countMarkNow != countMark { return true }
        guard let now, now != stamp else { return false }
        return isShown || stamp != nil || now.ms >= watchedAt
    }

    private static func look(_ key: Bytes, _ state: UnsafeMutablePointer<ShardState>) -> (
        Stamp?, deadline: Version?, isShown: Bool, countMark: UInt64
    ) {
        key.withBytes { bytes in
            let (store, now) = (state.pointee.store, state.pointee.nowMillis)
            let key = store.key(bytes)
            let deadline = store.deadlineVersion(of: key, now: now)?.version
            let countMark = store.countMark(of: key, now: now)
            return (store.find(key).map { Stamp($0) }, deadline, deadline != nil, countMark)
        }
    }
}

extension Session {
    /// Keys that one connection may watch.
    static let watchedKeysMax = 64 * 1024

    /// Forgets MULTI and WATCH.
    func discardTransaction() {
        transaction = nil
        watched = []
    }
}

extension Commands {
    @Sendable static func multi(_ x: inout Execution) {
        guard x.session.transaction == nil else { return x.error("ERR MULTI calls can not be nested") }
        x.session.transaction = Transaction()
        x.output.pointee.ok()
    }

    @Sendable static func discard(_ x: inout Execution) {
        guard x.session.transaction != nil else { return x.error("ERR DISCARD without MULTI") }
        x.session.discardTransaction()
        x.output.pointee.ok()
    }

    @Sendable static func watch(_ x: inout Execution) {
        guard x.session.transaction == nil else { return x.error("ERR WATCH inside MULTI is not allowed") }
        guard acceptsKeys(x, step: 1) else { return }
        for k in 1..<x.count {
            let key = Bytes(x.argument(k).bytes)
            if x.session.watched.contains(where: { $0.key == key }) { continue }
            guard x.session.watched.count < Session.watchedKeysMax else {
                return x.error("ERR too many watched keys: the limit is 65536")
            }
            x.session.watched.append(WatchedKey(key, x.shard.state))
        }
        x.output.pointee.ok()
    }

    @Sendable static func unwatch(_ x: inout Execution) {
        x.session.watched = []
        x.output.pointee.ok()
    }

    /// Runs what MULTI collected, in one turn of the home of its first key.
    @Sendable static func exec(_ x: inout Execution) {
        guard let transaction = x.session.transaction else { return x.error("ERR EXEC without MULTI") }
        let watched = x.session.watched
        x.session.discardTransaction()
        if transaction.isSpoiled {
            return x.error("EXECABORT Transaction discarded because of previous errors.")
        }
        if watched.contains(where: { $0.hasChanged(x.shard.state) }) {
            return x.output.pointee.nullArray(resp3: x.resp3)
        }
        var keys = TransactionKeys(transaction.queue, x.session.state.pointee.database)
        for key in watched { keys.add(key.key) }
        let own = x.shard.index
        let places = keys.all.map { key in
            key.withBytes { x.shard.homes?.home(of: ByteView($0), x.store) ?? own }
        }
        // What empties a database is seen at the client's own actor.
        let home = keys.areAllMeant ? own : places.first ?? own
        if let homes = x.shard.homes, home != own || places.contains(where: { $0 != own }) {
            x.session.continuation = HomeRun(
                x, homes, keys: keys.all, home: home, queue: transaction.queue, watched: watched)
            return
        }
        let request = HomeRequest(HomeAsk(x.session), from: own, keys: keys.all, queue: transaction.queue)
        request.client = x.session.traits
        request.watched = watched
        x.shard.run(request)
        x.output.pointee.append(request.output.bytes)
        x.session.finish(request)
    }
}

/// The keys that queued commands name, each once, in order, as they are stored.
struct TransactionKeys {
    private(set) var all: [Bytes] = []
    private var seen: Set<Bytes> = []
    /// A command empties a database.
    private(set) var areAllMeant = false

    init(_ queue: CommandQueue, _ database: UInt8) {
        var (batch, number) = (CommandBatch(), database)
        queue.fill(&batch)
        for i in 0..<batch.count { add(batch, batch[i], &number) }
        batch.deallocate()
    }

    mutating func add(_ key: Bytes) { if seen.insert(key).inserted { all.append(key) } }

    private mutating func add(_ batch: CommandBatch, _ command: ParsedCommand, _ number: inout UInt8) {
        let count = Int(command.argumentCount)
        func word(_ k: Int) -> ByteView { batch.argument(k, of: command) }
        guard let index = CommandTable.standard.find(word(0)) else { return }
        let row = CommandTable.standard.rows[index]
        if word(0).equals("SELECT"), let chosen = word(1).integer, (0..<Keyspace.count).contains(chosen) {
            number = UInt8(chosen)
        }
        if word(0).equals("FLUSHDB") || word(0).equals("FLUSHALL") { areAllMeant = true }
        var positions = row.keys
        if row.flags.contains(.subcommands), count > 1 {
            let name = row.nameText + "|" + word(1).lowercased
            positions = CommandTable.subcommandRows.first { $0.nameText == name }?.keys ?? positions
        }
        if positions.isNone { return }
        for k in positions.range(count) where k < count && word(k).count <= Limits.keyBytesMax {
            add(Keyspace.stored(word(k).bytes, number))
        }
        guard word(0).equals("COPY") else { return }
        for k in 3..<max(3, count - 1) where word(k).equals("DB") {
            guard let other = word(k + 1).integer, (0..<Keyspace.count).contains(other) else { continue }
            add(Keyspace.stored(word(2).bytes, UInt8(other)))
        }
    }
}
