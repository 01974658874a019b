// Requests to the store, and who waits for each reply. A part of `GameSession`; on its thread.

import KVBase

struct StoreCalls {
    private var unsent: [StoreRequest] = []
    private var waiting: [UInt64: (StoreReply) -> Void] = [:]
    private var count: UInt64 = 0

    mutating func add(_ operation: StoreOperation, _ continuation: @escaping (StoreReply) -> Void) {
        count += 1
        waiting[count] = continuation
        unsent.append(StoreRequest(id: count, operation: operation))
    }

    /// What the front end is to carry out now, in order.
    mutating func takeUnsent() -> [StoreRequest] {
        defer { unsent.removeAll() }
        return unsent
    }

    /// Who waits for the reply to `id`; nil when it was given already, or when nobody waits any more.
    mutating func take(_ id: UInt64) -> ((StoreReply) -> Void)? { waiting.removeValue(forKey: id) }

    /// Replies interest nobody from now on. What was asked for is still carried out.
    mutating func forget() { waiting.removeAll() }

    func checkInvariants() {
        check(waiting.keys.allSatisfy { 1...count ~= $0 })
        check(unsent.allSatisfy { $0.id <= count })
    }
}
