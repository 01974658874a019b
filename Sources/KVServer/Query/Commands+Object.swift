// TYPE, TOUCH, OBJECT and RANDOMKEY: what is asked about keys rather than of them. Handlers; loop thread.

import KVBase
import KVCore
import KVRuntime
import RESP

extension Commands {
    @Sendable static func type(_ x: inout Execution) {
        let key = x.argument(1)
        guard x.acceptsKey(key) else { return }
        x.output.pointee.simple(x.get(key) == nil ? "none" : "string")
    }

    /// Nothing is evicted, so being touched changes nothing: as EXISTS.
    @Sendable static func touch(_ x: inout Execution) { exists(&x) }

    // OBJECT

    /// What Redis says of strings; a key that is not there has no answer.
    @Sendable static func object(_ x: inout Execution) {
        let sub = x.argument(1)
        if sub.equals("HELP") { return x.help(objectHelp) }
        guard ["ENCODING", "FREQ", "IDLETIME", "REFCOUNT"].contains(where: { sub.equals($0) }) else {
            return x.unknownSubcommand(of: "OBJECT")
        }
        guard x.count == 3 else { return x.wrongArity("object|\(sub.lowercased)") }
        if x.isRefused(isWrite: false) { return }
        x.storeKeys(first: 2, last: 2, step: 1)
        let key = x.argument(2)
        guard x.acceptsKey(key) else { return }
        guard let record = x.get(key) else { return x.output.pointee.null(resp3: x.resp3) }
        if sub.equals("ENCODING") {
            x.output.pointee.bulk(encoding(ByteView(record.value)))
        } else if sub.equals("FREQ") {
            x.error(
                """
                ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                switching between policies at runtime LRU and LFU data will take some time to adjust.
                """)
        } else {
            // Reads leave no trace, and what refers to a value is of no use to a client.
            x.output.pointee.integer(sub.equals("IDLETIME") ? 0 : 1)
        }
    }

    /// Longest value that Redis keeps in one block with its header.
    private static let embeddedBytesMax = 44

    private static func encoding(_ value: ByteView) -> StaticString {
        if value.integer != nil { return "int" }
        return value.count <= embeddedBytesMax ? "embstr" : "raw"
    }

    private static let objectHelp = [
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>", "    Return how Redis would represent the value of <key>.",
        "FREQ <key>", "    An error: accesses are not counted.",
        "IDLETIME <key>", "    0: reads leave no trace.",
        "REFCOUNT <key>", "    1.",
        "HELP", "    Prints this help.",
    ]

    // RANDOMKEY

    /// Keys looked at for one that is returned.
    private static let randomPageKeys = 512
    private static let randomPagesMax = 16

    /// Any key of the database, each about as likely as any other: one of a page that begins at a random place of the
    /// index. With no more keys than a page has, all are equally likely. O(log n).
    @Sendable static func randomkey(_ x: inout Execution) {
        let keyspace = x.keyspace
        guard keyspace.count > 0 else { return x.output.pointee.null(resp3: x.resp3) }
        let prefix = keyspace.start
        var after: Bytes?
        if keyspace.count > randomPageKeys {
            // A database other than 0 lies between its own two bytes and the next.
            let low = keyspace.number == 0 ? 0 : prefix.withBytes { x.store.mark($0).share }
            let next = Bytes([Store.mark, keyspace.number + 1])
            let high =
                keyspace.number == 0 ? KeyMark.shares - 1 : next.withBytes { x.store.mark($0).share }
            after = x.store.bound(before: low + Int(Machine.random() % UInt64(high - low + 1)))
        }
        var found = keyspace.page(prefix: prefix, after: after, limit: randomPageKeys)
        if found.count == 0 { found = keyspace.page(prefix: prefix, after: nil, limit: randomPageKeys) }
        // What has expired is passed over.
        for _ in 0..<randomPagesMax where found.count == 0 && !found.isLast {
            found = keyspace.page(prefix: prefix, after: found.position, limit: randomPageKeys)
        }
        let page = found.records
        guard page.count > 0 else { return x.output.pointee.null(resp3: x.resp3) }
        let chosen = page[Int(Machine.random() % UInt64(page.count))]
        x.output.pointee.bulk(Keyspace.shown(chosen.key))
    }
}
