// SCAN: pages of the keys in byte order. Handler; loop thread.

import KVBase
import KVCore
import RESP

/// What one SCAN asked for, kept while it is carried on in slices.
struct ScanRequest {
    /// Keys one SCAN looks at, whatever COUNT says: COUNT is a hint, and a call must not hold the loop.
    static let keysMax = 1024

    var cursor: UInt64
    var count = 10
    /// Nil: every key.
    var glob: Glob?
    /// TYPE of something else than strings: nothing is found, and the scan goes its way.
    var isOtherType = false

    /// Only keys that begin so are looked at.
    var prefix: Bytes { glob?.prefix ?? Bytes([]) }

    func deallocate() { glob?.deallocate() }
}

extension Commands {
    /// SCAN cursor [MATCH pattern] [COUNT n] [TYPE t]. The keys are read in their order, which is the same on every
    /// actor and server, and a cursor stands for the last key of the page before (decision 0150). Deleted keys are not
    /// in the index that is read, so COUNT is not spent on them.
    @Sendable static func scan(_ x: inout Execution) {
        x.shard.note(.list)
        guard let request = scanRequest(&x) else { return }
        if request.cursor != 0, let mark = KeyMark(number: request.cursor) {
            guard let key = x.shard.context.scanMarks.key(mark) else {
                x.session.continuation = ScanSearch(request, mark)
                return
            }
            return answer(&x, request, after: key)
        }
        answer(&x, request, after: nil)
    }

    private static func answer(_ x: inout Execution, _ request: ScanRequest, after: Bytes?) {
        if request.glob?.isLong == true {
            x.session.continuation = ScanSearch(request, after: after)
        } else {
            defer { request.deallocate() }
            let (page, next) = scanPage(x, request, after: after)
            let session = x.session
            replyScan(&x, next: next, page) {
                !request.isOtherType && request.glob?.matches($0) ?? true && session.mayRead($0)
            }
        }
    }

    /// Nil when it was answered with an error.
    private static func scanRequest(_ x: inout Execution) -> ScanRequest? {
        guard let cursor = x.argument(1).integer, cursor >= 0 else {
            x.error("ERR invalid cursor")
            return nil
        }
        var request = ScanRequest(cursor: UInt64(cursor))
        var pattern: ByteView?
        var k = 2
        while k < x.count {
            guard k + 1 < x.count else {
                x.error("ERR syntax error")
                return nil
            }
            if x.argument(k, is: "MATCH") {
                pattern = x.argument(k + 1)
            } else if x.argument(k, is: "COUNT") {
                guard let n = x.integer(k + 1), n > 0 else {
                    x.error(
                        x.integer(k + 1) == nil ? "ERR value is not an integer or out of range" : "ERR syntax error")
                    return nil
                }
                request.count = min(n, ScanRequest.keysMax)
            } else if x.argument(k, is: "TYPE") {
                request.isOtherType = !x.argument(k + 1, is: "STRING")
            } else {
                x.error("ERR syntax error")
                return nil
            }
            k += 2
        }
        guard let pattern else { return request }
        request.glob = Glob(pattern.bytes)
        if request.glob == nil { x.error(Glob.lengthError) }
        return request.glob == nil ? nil : request
    }

    /// The keys behind `after`, fewer where they are so long that the reply would hold the loop, and the cursor to go
    /// on with; 0 where no key follows.
    static func scanPage(
        _ x: Execution, _ request: ScanRequest, after: Bytes?
    ) -> (page: RecordPage, next: UInt64) {
        var wanted = request.count
        var found = list(x, request.prefix, after, wanted)
        while wanted > 1, payloadBytes(found.records, .keys) > ShardState.pageBytesMax {
            wanted /= 2
            found = list(x, request.prefix, after, wanted)
        }
        let page = found.records
        x.shard.state.pointee.budget.spend(TurnBudget.units(entries: page.count))
        guard !found.isLast, let position = found.position else { return (page, 0) }
        let mark = position.withBytes { key in
            let mark = x.store.mark(key)
            x.shard.context.scanMarks.remember(mark, key)
            return mark
        }
        return (page, mark.number)
    }

    /// `prefix` as the client says it, `after` as it is stored.
    private static func list(
        _ x: Execution, _ prefix: Bytes, _ after: Bytes?, _ limit: Int
    ) -> KeyPage {
        let keyspace = x.keyspace
        return keyspace.page(prefix: prefix.withBytes { keyspace.stored($0) }, after: after, limit: limit)
    }

    private static func replyScan(
        _ x: inout Execution, next: UInt64, _ page: RecordPage, where matches: (UnsafeRawBufferPointer) -> Bool
    ) {
        x.output.pointee.arrayHeader(2)
        x.output.pointee.bulk(String(next))
        // Matched twice rather than remembered: the header comes first.
        var chosen = 0
        for i in 0..<page.count where matches(Keyspace.shown(page[i].key)) { chosen += 1 }
        x.output.pointee.arrayHeader(chosen)
        for i in 0..<page.count where matches(Keyspace.shown(page[i].key)) {
            x.output.pointee.bulk(Keyspace.shown(page[i].key))
        }
    }
}
