// LIST, KEYS and DBSIZE. Handlers; loop thread.

import KVBase
import KVCore
import RESP

extension Commands {
    /// LIST [prefix] [LIMIT n] [AFTER key]. A prefix that reads LIMIT or AFTER must be given with options following
    /// it in pairs: the first argument is the prefix exactly when the number of arguments after the name is odd.
    @Sendable static func list(_ x: inout Execution) {
        var prefix = UnsafeRawBufferPointer(start: nil, count: 0)
        var after: UnsafeRawBufferPointer?
        var limit = Int.max
        var k = 1
        if x.count % 2 == 0 {
            prefix = x.argument(1).bytes
            k = 2
        }
        while k < x.count {
            if x.argument(k, is: "LIMIT") {
                guard let n = x.integer(k + 1), n >= 0 else {
                    return x.error("ERR value is not an integer or out of range")
                }
                limit = n
            } else if x.argument(k, is: "AFTER") {
                after = x.argument(k + 1).bytes
            } else {
                return x.error("ERR syntax error")
            }
            k += 2
        }
        listOrContinue(&x, .pairs, prefix: prefix, after: after, limit: limit, glob: nil)
    }

    @Sendable static func keys(_ x: inout Execution) {
        guard let glob = Glob(x.argument(1).bytes) else { return x.error(Glob.lengthError) }
        if glob.isLiteral {
            defer { glob.deallocate() }
            return glob.prefix.withBytes { key in
                let isThere = x.keyspace.stored(key).withBytes { x.get(ByteView($0)) != nil }
                let isPresent = isThere && x.session.mayRead(key)
                x.output.pointee.arrayHeader(isPresent ? 1 : 0)
                if isPresent { x.output.pointee.bulk(key) }
            }
        }
        let prefix = glob.prefix
        let matchesAll = glob.matchesWholeRange
        if matchesAll { glob.deallocate() }
        prefix.withBytes {
            listOrContinue(&x, .keys, prefix: $0, after: nil, limit: Int.max, glob: matchesAll ? nil : glob)
        }
    }

    /// Answers at once when the result is small; otherwise hands over to a Listing, which the session steps turn by
    /// turn.
    private static func listOrContinue(
        _ x: inout Execution, _ form: Listing.Form, prefix: UnsafeRawBufferPointer, after: UnsafeRawBufferPointer?,
        limit: Int, glob: Glob?
    ) {
        let shard = x.shard.state
        x.shard.note(.list)
        if glob == nil, x.session.readsEverything, !shard.pointee.budget.isSpent {
            let keyspace = x.keyspace
            let found = keyspace.page(
                prefix: keyspace.stored(prefix), after: after.map { keyspace.stored($0) },
                limit: min(limit, ShardState.pageEntries))
            let page = found.records
            shard.pointee.budget.spend(TurnBudget.units(entries: page.count))
            if found.isLast || page.count == limit {
                let bytes = payloadBytes(page, form)
                if bytes <= ShardState.pageBytesMax {
                    shard.pointee.budget.spend(TurnBudget.units(bytes: bytes))
                    return reply(&x, form, page, bytes)
                }
            }
        }
        x.session.continuation = Listing(
            shard: x.shard, form: form, prefix: x.keyspace.stored(prefix), after: after.map { x.keyspace.stored($0) },
            limit: limit, glob: glob)
    }

    static func payloadBytes(_ page: RecordPage, _ form: Listing.Form) -> Int {
        var bytes = 0
        for i in 0..<page.count { bytes &+= page[i].keyCount &+ (form == .pairs ? page[i].valueCount : 0) }
        return bytes
    }

    /// `bytes`: what `payloadBytes` says.
    private static func reply(_ x: inout Execution, _ form: Listing.Form, _ page: RecordPage, _ bytes: Int) {
        let output = x.output
        switch form {
        case .pairs:
            output.pointee.mapHeader(page.count, resp3: x.resp3)
            output.pointee.bulks(page.count &* 2, bytes: bytes) { writer in
                for i in 0..<page.count {
                    let (key, value) = (Keyspace.shown(page[i].key), page[i].value)
                    writer.bulk(key.baseAddress.unsafelyUnwrapped, key.count)
                    writer.bulk(value.baseAddress.unsafelyUnwrapped, value.count)
                }
            }
        case .keys:
            output.pointee.arrayHeader(page.count)
            output.pointee.bulks(page.count, bytes: bytes) { writer in
                for i in 0..<page.count {
                    let key = Keyspace.shown(page[i].key)
                    writer.bulk(key.baseAddress.unsafelyUnwrapped, key.count)
                }
            }
        }
    }

    @Sendable static func dbsize(_ x: inout Execution) { x.output.pointee.integer(x.keyspace.count) }
}
