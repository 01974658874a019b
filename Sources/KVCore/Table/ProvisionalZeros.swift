// Zeros that counting began with before this actor knew what others hold (docs/replication.md 16.5). One thread.

import KVBase

/// Own writes, by seq, in the order in which they were made.
struct ProvisionalZeros {
    /// Of these; older ones stay as they are. Then a delete of the key that is still held somewhere beats them.
    static let countMax = 128 * 1024

    private(set) var seqs: [UInt64] = []
    /// Others may hold what is not here: zeros are stamped without regard to the floor. If not, they are remembered for
    /// a floor that is taken over later.
    private(set) var isOpen = true

    mutating func note(_ seq: UInt64) {
        // Half of them at once, so that each costs O(1).
        if seqs.count == ProvisionalZeros.countMax { seqs.removeFirst(ProvisionalZeros.countMax / 2) }
        seqs.append(seq)
    }

    mutating func close() { isOpen = false }

    /// O(n).
    mutating func reopen(from first: UInt64) {
        isOpen = true
        seqs.removeAll { $0 < first }
    }

    /// O(log n).
    func contains(_ seq: UInt64) -> Bool {
        var (low, high) = (0, seqs.count)
        while low < high {
            let middle = (low + high) / 2
            if seqs[middle] < seq { low = middle + 1 } else { high = middle }
        }
        return low < seqs.count && seqs[low] == seq
    }
}

extension Store {
    /// From now on a zero is stamped without regard to the floor, which may be above what has not arrived here yet.
    func beginProvisionalZeros() { state.pointee.zeros = ProvisionalZeros() }

    package var hasProvisionalZeros: Bool { state.pointee.zeros?.isOpen ?? false }

    func isProvisionalZero(_ seq: UInt64) -> Bool { state.pointee.zeros?.contains(seq) ?? false }

    /// A floor was taken over that may be above what has not arrived: the same again, if zeros are remembered. Those
    /// before `first` stay as they are: whoever has that floor has them.
    func reopenProvisionalZeros(from first: UInt64) { state.pointee.zeros?.reopen(from: first) }

    /// All that others held has arrived: zeros that nothing has beaten are written again above the floor, so that they
    /// win over deletes which others have collected. Where such a delete came from who had not, and beat the zero,
    /// another one is written. `isLast`: no zero need be remembered any more. `visit` gets the old record and the new
    /// one. O(zeros).
    func settleZeros(isLast: Bool, _ visit: (Record, Record) -> Void) {
        let seqs = state.pointee.zeros?.seqs ?? []
        if isLast { state.pointee.zeros = nil } else { state.pointee.zeros?.close() }
        for seq in seqs where seq >= journalFirstSeq {
            raise(own: seq) { old, new in
                state.pointee.zeros?.note(new.seq)
                visit(old, new)
            }
            countAgain(own: seq, visit)
        }
    }

    /// Begins to count above the floor where a delete stands over what own write `seq` began. Those who have collected
    /// the delete pass over it, and would show nothing of this actor's part.
    private func countAgain(own seq: UInt64, _ visit: (Record, Record) -> Void) {
        let hash = journalHash(seq)
        var found: Record?
        records(hash) { record in
            guard record.isTombstone, !record.isCompanion, record.ms <= gcFloor,
                let part = partRecord(HashedKey(record, hash: hash), own), added(own, part, record, before: 0) != nil
            else { return }
            found = record.retained()
        }
        guard let found else { return }
        defer { found.release() }
        let key = HashedKey(found, hash: hash)
        if let zero = establish(key, state.pointee.clock, isAboveFloor: true) { visit(found, zero) }
    }
}
