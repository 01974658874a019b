// A SCAN that takes more than one turn: its cursor's key must be looked for, or its pattern is long. Loop thread.

import KVBase
import KVCore
import KVRuntime
import RESP

/// Looks for the key of a cursor that this server does not remember, which is one of another server's or of long ago:
/// near where the cursor says at first, then in rounds four times as wide, until all keys have been seen. A key that is
/// not there makes the scan begin again: it may return a key twice, as SCAN may, but misses none.
final class ScanSearch: Continuation {
    /// Keys looked at between two looks at the clock.
    private static let pageKeys = 64

    private let request: ScanRequest
    /// Nil once the key to go on after is known.
    private var mark: KeyMark?
    private var after: Bytes?

    // The round of the search: from behind `position` to `end`; nil: from the first, to the last.
    private var radius = 1
    private var position: Bytes?
    private var end: Bytes?
    private var hasRound = false

    /// The page being matched, which holds a reference to each record.
    private var records: [Record] = []
    private var verdicts: [Bool] = []
    private var next: UInt64?
    private var progress = GlobProgress()

    /// Takes over the request's pattern, as does the other.
    init(_ request: ScanRequest, _ mark: KeyMark) { (self.request, self.mark) = (request, mark) }

    init(_ request: ScanRequest, after: Bytes?) { (self.request, self.after) = (request, after) }

    override var turnWork: TurnWork { .list }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        let deadline = x.sliceDeadline
        while let mark {
            guard Machine.monotonicNanos < deadline else { return false }
            search(x, mark)
        }
        if next == nil { takePage(x) }
        while verdicts.count < records.count {
            guard let verdict = matches(Keyspace.shown(records[verdicts.count].key), until: deadline) else {
                return false
            }
            let isShown = x.session.mayRead(Keyspace.shown(records[verdicts.count].key))
            verdicts.append(verdict && isShown && !request.isOtherType)
            progress = GlobProgress()
        }
        reply(&x)
        return true
    }

    /// One page of the search; ends it by setting `after` and forgetting the mark.
    private func search(_ x: Execution, _ mark: KeyMark) {
        if !hasRound {
            position = x.store.bound(before: mark.share - radius)
            end = x.store.bound(behind: mark.share + radius)
            hasRound = true
        }
        let isWhole = end == nil && radius >= KeyMark.shares
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        let page =
            position?.withBytes {
                x.store.list(prefix: nothing, after: $0, limit: ScanSearch.pageKeys, now: x.nowMillis)
            }
            ?? x.store.list(prefix: nothing, after: nil, limit: ScanSearch.pageKeys, now: x.nowMillis)
        for i in 0..<page.count where mark.isOf(page[i].key) {
            after = Bytes(page[i].key)
            self.mark = nil
            return
        }
        if !page.isLast, let last = page.position {
            position = Bytes(last)
            guard let end, end < position.unsafelyUnwrapped else { return }
        }
        // This round is over.
        if isWhole { self.mark = nil }
        radius *= 4
        hasRound = false
    }

    /// Nil when it needs another slice.
    private func matches(_ key: UnsafeRawBufferPointer, until deadline: Nanos) -> Bool? {
        guard let glob = request.glob else { return true }
        return glob.resume(&progress, key, until: deadline)
    }

    private func takePage(_ x: Execution) {
        let (page, next) = Commands.scanPage(x, request, after: after)
        self.next = next
        for i in 0..<page.count { records.append(page[i].retained()) }
    }

    private func reply(_ x: inout Execution) {
        x.output.pointee.arrayHeader(2)
        x.output.pointee.bulk(String(next ?? 0))
        x.output.pointee.arrayHeader(verdicts.count(where: { $0 }))
        for (record, isChosen) in zip(records, verdicts) where isChosen {
            x.output.pointee.bulk(Keyspace.shown(record.key))
        }
    }

    override func cancel() {
        for record in records { record.release() }
        records = []
        request.deallocate()
    }
}
