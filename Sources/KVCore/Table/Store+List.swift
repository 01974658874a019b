// Listing what is shown, in byte order of keys. One thread.

package import KVBase

extension Store {
    /// Records looked at for one page beyond those it may hold: expired ones and companions are passed over.
    static let passedOverMax = 1024

    /// Records shown at `now` in byte order of keys: those that start with `prefix` and come after `after`, at most
    /// `limit`. Fewer, or none, do not mean that it is the last page: see `RecordPage.isLast`.
    ///
    /// To go on, pass the page's `position` as `after`: resuming by key survives any change in between. O(log n +
    /// results + what is passed over, of which there is a bound).
    package func list(
        prefix: UnsafeRawBufferPointer, after: UnsafeRawBufferPointer? = nil, limit: Int, now: Millis
    ) -> RecordPage {
        flushIndex()
        state.pointee.page.clear()
        state.pointee.shownNumbers.clearPage()
        if state.pointee.figures.isSimple {
            listRaw(prefix, after, limit)
            let last = state.pointee.page.count
            return state.pointee.page.page(
                isLast: last < limit, position: last > 0 ? state.pointee.page.base[last - 1].key : nil)
        }
        return listShown(prefix, after, limit, now)
    }

    private func listRaw(_ prefix: UnsafeRawBufferPointer, _ after: UnsafeRawBufferPointer?, _ limit: Int) {
        state.pointee.index.list(
            prefix: prefix, after: after, limit: limit, state.pointee.table, state.pointee.hasher,
            into: &state.pointee.page)
    }

    private func listShown(
        _ prefix: UnsafeRawBufferPointer, _ after: UnsafeRawBufferPointer?, _ limit: Int, _ now: Millis
    ) -> RecordPage {
        var position = after
        var looked = 0
        var isLast = limit == 0
        while state.pointee.page.count < limit, looked < limit &+ Store.passedOverMax {
            let start = state.pointee.page.count
            listRaw(prefix, position, limit)
            let end = state.pointee.page.count
            looked &+= end &- start
            isLast = end < limit
            if end > start {
                let last = state.pointee.page.base[end - 1]
                // Companions come behind every other key but those of other databases: all are passed over at once.
                position = last.isCompanion ? Companion.keysEnd : last.key
                isLast = isLast && !last.isCompanion
                state.pointee.page.keep(from: start) { shown($0, now) }
            }
            if isLast { break }
        }
        return state.pointee.page.page(isLast: isLast, position: position)
    }

    /// A record that the index has, as it is shown; nil if it is not.
    private func shown(_ record: Record, _ now: Millis) -> Record? {
        if record.isExtended {
            if record.isCompanion { return nil }
        } else if state.pointee.table.markedCount == 0 {
            return record
        }
        let place = state.pointee.hasher.place(of: record)
        guard let slot = state.pointee.table.findMarked(record.keyView, place) else {
            return !record.isExtended || record.inlineDeadline == 0 || now < record.inlineDeadline ? record : nil
        }
        return shownRecord(slot, now, isListed: true)
    }
}
