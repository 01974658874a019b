// LIST, KEYS, SCAN and DBSIZE. Handlers; loop thread.

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
        guard let glob = Glob(x.argument(1).bytes) else { return x.error("ERR pattern is longer than 1024 bytes") }
        if glob.isLiteral {
            defer { glob.deallocate() }
            return glob.prefix.withBytes { key in
                var empty: UInt8 = 0
                let start = key.baseAddress ?? withUnsafePointer(to: &empty) { UnsafeRawPointer($0) }
                let isPresent = x.store.get(start, key.count, x.store.hash(start, key.count)) != nil
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
        let query = x.actor.state
        x.actor.note(.list)
        if glob == nil, query.pointee.work < QueryState.workMax {
            let page = x.store.list(prefix: prefix, after: after, limit: min(limit, QueryState.pageEntries))
            query.pointee.work &+= QueryState.workToList(entries: page.count)
            let isComplete = page.count < QueryState.pageEntries || page.count == limit
            if isComplete {
                let bytes = payloadBytes(page, form)
                if bytes <= QueryState.pageBytesMax {
                    query.pointee.work &+= bytes &>> 10
                    return reply(&x, form, page, bytes)
                }
            }
        }
        x.session.continuation = Listing(
            actor: x.actor, form: form, prefix: Bytes(prefix), after: after.map { Bytes($0) }, limit: limit, glob: glob)
    }

    private static func payloadBytes(_ page: RecordPage, _ form: Listing.Form) -> Int {
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
                    let (record, value) = (page[i], page[i].value)
                    writer.bulk(record.keyPointer, record.keyCount)
                    writer.bulk(value.baseAddress.unsafelyUnwrapped, value.count)
                }
            }
        case .keys:
            output.pointee.arrayHeader(page.count)
            output.pointee.bulks(page.count, bytes: bytes) { writer in
                for i in 0..<page.count { writer.bulk(page[i].keyPointer, page[i].keyCount) }
            }
        }
    }

    /// Entries one SCAN looks at, whatever COUNT says: COUNT is a hint, and a call must not hold the loop.
    private static let scanEntriesMax = 2000
    /// The same with a literal prefix, where entries are looked up one by one.
    private static let scanRangeEntriesMax = 256

    /// SCAN cursor [MATCH pattern] [COUNT n] [TYPE t]. Without a literal prefix the cursor is a position in the hash
    /// table; with one, only the range of the prefix is read (`scanRange`). Both are stateless and good on any
    /// connection to this actor.
    @Sendable static func scan(_ x: inout Execution) {
        x.actor.note(.list)
        guard let cursor = x.argument(1).integer, cursor >= 0 else { return x.error("ERR invalid cursor") }
        var pattern: Argument?
        var count = 10
        var isOtherType = false
        var k = 2
        while k < x.count {
            guard k + 1 < x.count else { return x.error("ERR syntax error") }
            if x.argument(k, is: "MATCH") {
                pattern = x.argument(k + 1)
            } else if x.argument(k, is: "COUNT") {
                guard let n = x.integer(k + 1) else { return x.error("ERR value is not an integer or out of range") }
                guard n > 0 else { return x.error("ERR syntax error") }
                count = min(n, scanEntriesMax)
            } else if x.argument(k, is: "TYPE") {
                isOtherType = !x.argument(k + 1, is: "STRING")
            } else {
                return x.error("ERR syntax error")
            }
            k += 2
        }
        guard !isOtherType else { return replyScan(&x, next: 0, nil) { _ in false } }
        guard let pattern else {
            let (page, next) = scanWhole(x, UInt64(cursor), count)
            return replyScan(&x, next: next, page) { _ in true }
        }
        guard let glob = Glob(pattern.bytes) else { return x.error("ERR pattern is longer than 1024 bytes") }
        defer { glob.deallocate() }
        if glob.prefix.count == 0 {
            let (page, next) = scanWhole(x, UInt64(cursor), count)
            return replyScan(&x, next: next, page) { glob.matches($0) }
        }
        scanRange(&x, UInt64(cursor), glob, min(count, scanRangeEntriesMax))
    }

    /// A page of the whole table, with fewer entries where keys are so long that the reply would hold the loop.
    private static func scanWhole(_ x: Execution, _ cursor: UInt64, _ count: Int) -> (page: RecordPage, next: UInt64) {
        var found = x.store.scan(cursor, count: count)
        var wanted = count
        while wanted > 1, payloadBytes(found.page, .keys) > QueryState.pageBytesMax {
            wanted /= 2
            found = x.store.scan(cursor, count: wanted)
        }
        x.actor.state.pointee.work &+= found.page.count / QueryState.entriesWalkedPerWork
        return found
    }

    /// The cursor is the number of the last key of the previous page (Store.number). When that key is gone for good
    /// the scan of the range begins again: a key may be returned twice, as SCAN allows, but none is missed.
    private static func scanRange(_ x: inout Execution, _ cursor: UInt64, _ glob: Glob, _ count: Int) {
        var after: Bytes?
        if cursor != 0 {
            let found = glob.prefix.withBytes { prefix in
                x.store.record(numbered: cursor) {
                    $0.count >= prefix.count && prefix.elementsEqual($0.prefix(prefix.count))
                }
            }
            after = found.map { Bytes($0.key) }
        }
        func page(_ after: UnsafeRawBufferPointer?, _ count: Int) -> RecordPage {
            glob.prefix.withBytes { x.store.list(prefix: $0, after: after, limit: count) }
        }
        var count = count
        var found = after?.withBytes { page($0, count) } ?? page(nil, count)
        while count > 1, payloadBytes(found, .keys) > QueryState.pageBytesMax {
            count /= 2
            found = after?.withBytes { page($0, count) } ?? page(nil, count)
        }
        x.actor.state.pointee.work &+= QueryState.workToList(entries: found.count)
        let next = found.count == count ? found.last.map { x.store.number($0) } ?? 0 : 0
        replyScan(&x, next: next, found) { glob.matches($0) }
    }

    private static func replyScan(
        _ x: inout Execution, next: UInt64, _ page: RecordPage?, where matches: (UnsafeRawBufferPointer) -> Bool
    ) {
        x.output.pointee.arrayHeader(2)
        x.output.pointee.bulk(String(next))
        guard let page else { return x.output.pointee.arrayHeader(0) }
        // Matched twice rather than remembered: the header comes first.
        var chosen = 0
        for i in 0..<page.count where matches(page[i].key) { chosen += 1 }
        x.output.pointee.arrayHeader(chosen)
        for i in 0..<page.count where matches(page[i].key) { x.output.pointee.bulk(page[i].key) }
    }

    @Sendable static func dbsize(_ x: inout Execution) { x.output.pointee.integer(x.store.count) }
}
