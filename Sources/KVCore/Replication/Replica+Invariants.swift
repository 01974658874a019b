// What must hold of every part of a replica at the end of each of its turns. Part of `Replica`; on its actor's thread.

extension Replica {
    /// Traps where a part contradicts itself or another one. Called at the end of `tick` and `step`; does nothing in a
    /// build without `KV_CHECKS`. O(origins + peers + islands).
    func checkInvariants() {
        #if KV_CHECKS
            seen.checkInvariants()
            inbox.checkInvariants()
            discards.checkInvariants()
            recent.checkInvariants()
        #endif
    }
}
