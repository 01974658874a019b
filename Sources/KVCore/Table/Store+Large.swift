// Storing a value in pieces, so that a large one does not hold its thread: copying into fresh memory and hashing cost a
// millisecond for every few megabytes. One thread.

package import KVBase

/// A value being stored: its record, which nobody else knows yet, and the hash of its content as far as that is done.
/// Ends with `Store.finish` or `Store.abandon`.
package struct LargeWrite {
    let record: Record
    let hash: UInt64
    var content: ContentHash

    package var filled: Int { content.done }
    /// Where the next bytes go, in the record.
    package var place: UnsafeRawPointer { record.value.baseAddress! + filled }

    /// Everything is copied and hashed.
    package var isReady: Bool { content.isComplete }
}

extension Store {
    /// Begins to store a value of `m` bytes (1,024 or more), none of which is looked at yet. One allocation. What
    /// `deadline` says of the value before it is decided now.
    package func beginLarge(
        _ key: HashedKey, valueCount m: Int, deadline: DeadlineChoice = .none, now: Millis = 0
    ) -> LargeWrite {
        var addition: RecordExtension? =
            switch deadline {
            case .none: nil
            case .at(let millis): RecordExtension(deadline: millis)
            case .keep: extensionKept(key, now)
            }
        let slot = state.pointee.table.find(key.view, place(key.hash))
        if let taken = taken(key, slot, now) {
            addition = RecordExtension(
                deadline: addition?.deadline ?? 0, version: addition?.version, taken: taken)
        }
        return LargeWrite(
            record: Record.createUnfilled(key: key.view, addition, valueCount: m), hash: key.hash,
            content: ContentHash(count: m))
    }

    /// Copies and hashes about `bytes` more, at least 64. `value` is the beginning of the whole value.
    package func advance(_ write: inout LargeWrite, from value: UnsafeRawPointer, bytes: Int) {
        write.record.fill(from: value, to: write.content.done + max(64, bytes), &write.content)
    }

    /// Gives the value its version and makes it the key's; returns the record (borrowed). Nil, and nothing written, if
    /// no storable version is left. As `put`, only that the value is a new record always.
    package func finish(_ write: LargeWrite, now: Millis) -> Record? {
        check(write.isReady)
        let record = write.record
        let key = HashedKey(record, hash: write.hash)
        let slot = state.pointee.table.find(key.view, place(write.hash))
        let current = slot?.record
        guard let ms = stampApart(over: newest(key, slot), slot, now: now, floor: 0) else {
            abandon(write)
            return nil
        }
        record.stamp(
            ms: ms, origin: state.pointee.ownOrigin, seq: nextSeq(write.hash), valueHash: write.content.value)
        if let slot, let current {
            replace(slot, current, with: record, write.hash)
        } else {
            insert(record, write.hash)
        }
        return record
    }

    /// Forgets a write that was begun.
    package func abandon(_ write: LargeWrite) { write.record.release() }
}
