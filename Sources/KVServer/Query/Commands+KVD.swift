// KVD PUT, VERSION, RESTAMP, DIGEST, PEERS and FORGET: what plain Redis commands cannot say. Handlers; loop thread.

import KVBase
import KVCore
import RESP

extension Commands {
    @Sendable static func kvd(_ x: inout Execution) {
        if x.shard.state.pointee.isReading, !isForWhoWaits(x.argument(1)) { return x.error(ShardState.readingError) }
        switch x.argument(1) {
        case let sub where sub.equals("PUT"): kvdPut(&x)
        case let sub where sub.equals("VERSION"): kvdVersion(&x)
        case let sub where sub.equals("RESTAMP"): kvdRestamp(&x)
        case let sub where sub.equals("DIGEST"): kvdDigest(&x)
        case let sub where sub.equals("PEERS"): kvdPeers(&x)
        case let sub where sub.equals("FORGET"): kvdForget(&x)
        case let sub where sub.equals("STATUS"): kvdStatus(&x)
        case let sub where sub.equals("DOCTOR"): kvdDoctor(&x)
        case let sub where sub.equals("BACKUP"): kvdBackup(&x)
        case let sub where sub.equals("HELP"): x.help(kvdHelp)
        default: x.unknownSubcommand(of: "KVD")
        }
    }

    /// Whether a server that still reads its directory answers it, as its row says.
    private static func isForWhoWaits(_ name: ByteView) -> Bool {
        ["STATUS", "DOCTOR", "HELP"].contains { name.equals($0) }
    }

    /// The version's timestamp is the reply; with FLOOR it is above the given one, whatever this server's clock says.
    private static func kvdPut(_ x: inout Execution) {
        guard x.count >= 4 else { return x.wrongArity("kvd|put") }
        var floor: Millis = 0
        if x.count > 4 {
            guard x.count == 6, x.argument(4, is: "FLOOR") else { return x.error("ERR syntax error") }
            guard let given = x.integer(5), given >= 0 else {
                return x.error("ERR value is not an integer or out of range")
            }
            // A floor far ahead of every clock would make the key unwritable for all others until then.
            guard given <= x.nowMillis + Limits.floorAheadMillis else {
                return x.error("ERR FLOOR is more than a day in the future")
            }
            floor = Millis(given)
        }
        if x.isRefused(isWrite: true) { return }
        x.storeKeys(first: 2, last: 2, step: 1)
        let key = x.argument(2)
        let value = x.argument(3)
        guard x.acceptsKey(key) else { return }
        guard let record = x.store.put(x.store.key(key), value: value, now: x.nowMillis, floor: floor) else {
            return x.error(ShardState.clockError)
        }
        x.output.pointee.integer(Int(Version.clockMillis(record.ms)))
    }

    private static func kvdVersion(_ x: inout Execution) {
        guard x.count == 3 else { return x.wrongArity("kvd|version") }
        if x.isRefused(isWrite: false) { return }
        x.storeKeys(first: 2, last: 2, step: 1)
        let key = x.argument(2)
        guard x.acceptsKey(key) else { return }
        guard let record = x.store.find(x.store.key(key)) else {
            return x.output.pointee.nullArray(resp3: x.resp3)
        }
        let register = x.store.deadlineVersion(of: x.store.key(key), now: x.nowMillis)
        let deadline: Millis? = if case .at(let millis) = register?.deadline { millis } else { nil }
        let parts = x.store.parts(of: x.store.key(key), now: x.nowMillis)
        let isDeleted = record.isTombstone && parts.isEmpty
        let isRestamped = record.ms >= Version.restamped
        let more = (deadline == nil ? 0 : 2) + (parts.isEmpty ? 0 : 1) + (isRestamped ? 1 : 0)
        x.output.pointee.arrayHeader(isDeleted || more > 0 ? 3 : 2)
        x.output.pointee.integer(Int(Version.clockMillis(record.ms)))
        x.output.pointee.bulk(x.shard.context.origins.uid(record.origin).description)
        if isDeleted { return x.output.pointee.bulk("tombstone") }
        if more == 0 { return }
        x.output.pointee.mapHeader(more, resp3: x.resp3)
        if isRestamped {
            x.output.pointee.bulk("restamped")
            x.output.pointee.integer(1)
        }
        if let deadline, let register {
            x.output.pointee.bulk("deadline")
            x.output.pointee.integer(Int(deadline))
            x.output.pointee.bulk("deadline_version")
            x.output.pointee.arrayHeader(2)
            x.output.pointee.integer(Int(Version.clockMillis(register.version.ms)))
            x.output.pointee.bulk(register.version.uid.description)
        }
        guard !parts.isEmpty else { return }
        x.output.pointee.bulk("parts")
        x.output.pointee.mapHeader(parts.count, resp3: x.resp3)
        for part in parts {
            x.output.pointee.bulk(part.uid.description)
            x.output.pointee.integer(Int(part.added))
        }
    }

    /// 1 if the key was ahead of the clock and is no more; 0 if it was not.
    private static func kvdRestamp(_ x: inout Execution) {
        guard x.count == 3 else { return x.wrongArity("kvd|restamp") }
        if x.isRefused(isWrite: true) { return }
        x.storeKeys(first: 2, last: 2, step: 1)
        let key = x.argument(2)
        guard x.acceptsKey(key) else { return }
        switch x.store.restamp(x.store.key(key), now: x.nowMillis) {
        case .done: x.output.pointee.integer(1)
        case .notAhead: x.output.pointee.integer(0)
        case .again: x.error("ERR the key was restamped before, and is ahead of the clock again")
        case .refused: x.error(ShardState.clockError)
        }
    }

    private static func kvdDigest(_ x: inout Execution) {
        x.shard.note(.digest)
        switch x.count {
        case 2: x.output.pointee.bulk(hex16(x.store.digest))
        case 3 where x.argument(2, is: "ALL"): x.output.pointee.bulk(hex16(x.store.digestAll))
        case 3: x.error("ERR syntax error")
        default: x.wrongArity("kvd|digest")
        }
    }

    private static func kvdPeers(_ x: inout Execution) {
        guard x.count == 2 else { return x.wrongArity("kvd|peers") }
        let peers = x.shard.peers()
        x.output.pointee.arrayHeader(peers.count)
        for peer in peers { x.output.pointee.bulk(peer.line) }
    }

    /// 1 if a server that is down is removed for good, 0 if there is none of that id.
    private static func kvdForget(_ x: inout Execution) {
        guard x.count == 3 else { return x.wrongArity("kvd|forget") }
        guard let id = UInt64(x.text(2), radix: 16) else {
            return x.error("ERR an id is 16 hex digits, as KVD PEERS shows it")
        }
        switch x.shard.replicator?.forget(id) {
        case true?: x.output.pointee.integer(1)
        case false?: x.error("ERR that server is not down: stop it first")
        case nil: x.output.pointee.integer(0)
        }
    }

    private static let kvdHelp = [
        "KVD <subcommand> [<arg> ...]. Subcommands are:",
        "PUT <key> <value> [FLOOR <ms>]", "    As SET; replies the version's timestamp, above FLOOR when given.",
        "VERSION <key>", "    Timestamp and UID of the actor that took the write; 'tombstone' when deleted.",
        "RESTAMP <key>", "    Brings a key back under the clock that was stamped ahead of it.",
        "DIGEST [ALL]", "    Digest of all live pairs and versions; ALL adds tombstones.",
        "PEERS", "    One line per known server.",
        "FORGET <id>", "    Removes a server that is down and never comes back: what only it held is lost.",
        "STATUS [TABLE]", "    This server and the others, as JSON or as lines of words parted by tabs.",
        "DOCTOR", "    What looks wrong, and what to do.",
        "BACKUP BEGIN", "    Makes a snapshot and holds it: its number, its bytes, the cluster.",
        "BACKUP READ <number> <offset>", "    A piece of it.",
        "BACKUP END <number>", "    It is not held any more.",
        "HELP", "    Prints this help.",
    ]
}

/// 16 hex digits.
func hex16(_ value: UInt64) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: 16 - text.count) + text
}
