// Filling a store that is empty, as at a start: what would be done for each key is done at once. One thread.

import Glibc
import KVBase

extension Store {
    /// From now on only merges come, and nobody looks at the order of keys, until `endLoading`. `count`: how many keys
    /// there will be, if that is known. The store is empty.
    package func beginLoading(_ count: Int = 0) {
        precondition(state.pointee.table.count == 0, "a store is loaded once, when it is empty")
        state.pointee.isLoading = true
        if count > 0 { state.pointee.table.reserve(count) }
    }

    /// All is there: the ordered index is made. 40 bytes a key for as long as it takes. O(keys).
    package func endLoading() {
        guard state.pointee.isLoading else { return }
        state.pointee.isLoading = false
        state.pointee.pendingCount = 0
        let most = state.pointee.table.count
        let records = UnsafeMutableBufferPointer<Record>.allocate(capacity: most)
        defer { records.deallocate() }
        var count = 0
        state.pointee.table.forEachSlot { slot in
            guard slot.isListed else { return }
            records.initializeElement(at: count, to: slot.record)
            count &+= 1
        }
        let listed = UnsafeMutableBufferPointer(rebasing: records[..<count])
        KeyOrder.sort(listed)
        state.pointee.index.build(listed, state.pointee.hasher)
    }
}
