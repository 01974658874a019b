// Process-wide interning of actor UIDs, so that a record names its writer in 16 bits. Read without a lock by every
// actor's thread; the rare insert takes a spin lock.

import CIntrinsics
import Glibc
import KVBase

/// Stands for an actor UID inside this process; never leaves it.
@usableFromInline package typealias OriginIndex = UInt16

/// Grows only: a writer's UID stays as long as the process, because any record may still carry it. Every restart of a
/// server adds one UID per actor, so 65,535 are enough for thousands of restarts seen by one process.
package final class OriginTable: @unchecked Sendable {
    package static let capacity = 1 << 16 - 1
    /// Stands for writers that nobody here has heard of: nothing of theirs is taken.
    static let unknown = OriginIndex(capacity)
    /// Writers that only others tell of leave room for those that come themselves.
    static let toldMax = capacity / 2
    private static let slotCount = 1 << 17

    /// Written once, before its index is published through `slots`, then constant.
    private let uids: UnsafeMutablePointer<ActorUID>
    /// Open addressing; index + 1, 0 is empty. Published with release, read with acquire.
    private let slots: UnsafeMutablePointer<UInt32>
    /// [0] is the lock, [1] the count; both only touched through atomics.
    private let words: UnsafeMutablePointer<UInt32>

    package init() {
        uids = OriginTable.zeroed(OriginTable.capacity + 1)
        slots = OriginTable.zeroed(OriginTable.slotCount)
        words = OriginTable.zeroed(2)
    }

    deinit {
        free(uids)
        free(slots)
        free(words)
    }

    /// Fresh pages from the system, resident only once touched.
    private static func zeroed<T>(_ count: Int) -> UnsafeMutablePointer<T> {
        calloc(count, MemoryLayout<T>.stride)!.bindMemory(to: T.self, capacity: count)
    }

    package var count: Int { Int(ci_load32(words + 1)) }

    /// The UIDs by index, for as long as the table lives.
    var interned: UnsafePointer<ActorUID> { UnsafePointer(uids) }

    /// The UID behind an index that `intern` returned (to this thread, or to whoever handed the index over). O(1).
    @inline(__always)
    package func uid(_ index: OriginIndex) -> ActorUID { uids[Int(index)] }

    /// Orders two interned writers as their UIDs. O(1).
    @inline(__always)
    package func precedes(_ a: OriginIndex, _ b: OriginIndex) -> Bool { a != b && uids[Int(a)] < uids[Int(b)] }

    /// The index of a UID already interned, or nil. O(1), lock-free.
    package func index(of uid: ActorUID) -> OriginIndex? {
        var at = OriginTable.home(uid)
        while true {
            let entry = ci_load32(slots + at)
            if entry == 0 { return nil }
            if uids[Int(entry - 1)] == uid { return OriginIndex(entry - 1) }
            at = (at + 1) & (OriginTable.slotCount - 1)
        }
    }

    /// The index of a UID, made if need be; nil when 65,535 others came before. O(1); locks only to insert.
    package func intern(_ uid: ActorUID) -> OriginIndex? {
        if let known = index(of: uid) { return known }
        ci_lock(words)
        defer { ci_unlock(words) }
        if let known = index(of: uid) { return known }
        let next = Int(ci_load32(words + 1))
        guard next < OriginTable.capacity else { return nil }
        uids[next] = uid
        var at = OriginTable.home(uid)
        while ci_load32(slots + at) != 0 { at = (at + 1) & (OriginTable.slotCount - 1) }
        ci_publish32(slots + at, UInt32(next + 1))
        ci_publish32(words + 1, UInt32(next + 1))
        return OriginIndex(next)
    }

    private static func home(_ uid: ActorUID) -> Int {
        Int(
            mix64(uid.server ^ 0xA076_1D64_78BD_642F, UInt64(uid.index) ^ 0xE703_7ED1_A0B4_28DB) & UInt64(slotCount - 1)
        )
    }
}
