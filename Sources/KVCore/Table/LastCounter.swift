// The counter that was added to last: a hot one is added to again and again, and nothing else about it changes. Part of
// `Store`; one thread.

import KVBase

/// What adding to a counter comes to while nothing but this actor's part of it changes: valid as long as
/// `StoreState.unusualChanges` is what it was, because the records are not replaced without that.
struct LastCounter {
    fileprivate var changes: UInt64
    /// Of the key.
    fileprivate let hash: UInt64
    fileprivate let main: Record
    /// When the value expires; 0 is never.
    fileprivate let deadline: Millis
    /// What the record has taken of additions until then, all of it.
    fileprivate let before: Millis
    /// This actor's.
    fileprivate var part: Record
    fileprivate let partHash: UInt64
    /// What the key counts as.
    fileprivate var sum: Int128
}

extension Store {
    /// Adds to the counter that was added to last. Nil if that is another one, or something of it changed: then nothing
    /// was done.
    @inline(__always)
    func addAgain(_ key: HashedKey, _ step: Int64, _ now: Millis) -> IncrementOutcome? {
        guard let last = state.pointee.lastCounter, last.changes == state.pointee.unusualChanges, last.hash == key.hash,
            last.deadline == 0 || now < last.deadline, last.main.hasKey(key.view)
        else { return nil }
        return add(to: last, key, step, now)
    }

    private func add(to last: LastCounter, _ key: HashedKey, _ step: Int64, _ now: Millis) -> IncrementOutcome? {
        guard let next = Int64(exactly: last.sum + Int128(step)) else { return .overflow }
        guard var part = CounterPart(last.part), let ms = stamp(over: last.part, now: now, floor: 0) else { return nil }
        state.pointee.clock = max(state.pointee.clock, now)
        let (origin, seq) = (state.pointee.ownOrigin, nextSeq(last.partHash))
        part.add(step, now: now, expired: last.before, seq: seq)
        let term = digestTerm(last.part)
        let addition = RecordExtension(deadline: 0)
        part.with { value in
            if last.part.canOverwriteExtended(contentCount: addition.byteCount &+ value.count) {
                last.part.overwrite(addition, value: value, ms: ms, origin: origin, seq: seq)
            } else {
                // Siblings have it, too: once for each time that they were told.
                let (name, old) = (last.part.keyView, last.part)
                guard let slot = state.pointee.table.find(name, place(last.partHash)) else {
                    preconditionFailure("a part that was just written is not there")
                }
                let record = Record.create(key: name, addition, value: value, ms: ms, origin: origin, seq: seq)
                slot.store(record)
                old.release()
                state.pointee.lastCounter!.part = record
            }
        }
        state.pointee.volatileDigest &+= digestTerm(state.pointee.lastCounter!.part) &- term
        state.pointee.lastCounter!.sum = Int128(next)
        #if KV_CHECKS
            if let slot = state.pointee.table.find(key.view, place(key.hash)) {
                check(count(slot, now).sum == Int128(next))
            }
        #endif
        return .value(next)
    }

    /// Remembers a counter that was added to, as it counts now.
    func noteLast(_ key: HashedKey, _ now: Millis) {
        state.pointee.lastCounter = nil
        guard let slot = state.pointee.table.find(key.view, place(key.hash)),
            slot.marks & HashTable.companionsMark != 0
        else { return }
        let main = slot.record
        let deadline = main.isTombstone ? 0 : deadline(of: slot)
        let count = count(slot, now)
        guard deadline == 0 || now < deadline, !count.isText else { return }
        Companion.withKey(Companion.partKind, of: key.view, uid: own) { name in
            let hash = hash(name)
            guard let part = state.pointee.table.find(name, place(hash)) else { return }
            state.pointee.lastCounter = LastCounter(
                changes: state.pointee.unusualChanges, hash: key.hash, main: main, deadline: deadline,
                before: main.taken?.before ?? 0, part: part.record, partHash: hash, sum: count.sum)
        }
    }
}
