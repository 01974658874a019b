// Zeros that counting began with before this actor knew what others hold (docs/replication.md 16.5). One thread.

import KVBase

/// Own writes, by seq, in the order in which they were made.
struct ProvisionalZeros {
    /// Of these; older ones stay as they are. Then a delete of the key that is still held somewhere beats them.
    static let countMax = 128 * 1024

    private(set) var seqs: [UInt64] = []

    mutating func note(_ seq: UInt64) {
        // Half of them at once, so that each costs O(1).
        if seqs.count == ProvisionalZeros.countMax { seqs.removeFirst(ProvisionalZeros.countMax / 2) }
        seqs.append(seq)
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

    var hasProvisionalZeros: Bool { state.pointee.zeros != nil }

    func isProvisionalZero(_ seq: UInt64) -> Bool { state.pointee.zeros?.contains(seq) ?? false }

    /// All that others held has arrived: zeros that nothing has beaten are written again above the floor, so that they
    /// win over deletes which others have collected. `visit` gets the old record and the new one. O(zeros).
    func settleZeros(_ visit: (Record, Record) -> Void) {
        let zeros = state.pointee.zeros
        state.pointee.zeros = nil
        for seq in zeros?.seqs ?? [] where seq >= journalFirstSeq { raise(own: seq, visit) }
    }
}
