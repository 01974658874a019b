// Values on their way to their keys. A part of `GameSession`; on its thread.

import KVBase

/// One Put of a key is under way at a time, and the newest value replaces a waiting one, so writes of one key never
/// overtake each other.
struct PutQueue {
    private struct Entry {
        var value: [UInt8]
        /// The number of the Put under way.
        var sending: UInt64?
        var isChangedSince = false
        var acknowledged: [() -> Void] = []
        /// How many of these wait for the value that is being sent; the others came later.
        var waiting = 0
    }

    private var entries: [String: Entry] = [:]
    private var count: UInt64 = 0

    var isEmpty: Bool { entries.isEmpty }
    /// Sorted, so that a session repeats itself in tests.
    var keys: [String] { entries.keys.sorted() }

    /// `acknowledged` runs when the store has this value or a later one.
    mutating func add(_ key: String, _ value: [UInt8], _ acknowledged: (() -> Void)? = nil) {
        var entry = entries[key] ?? Entry(value: value)
        entry.value = value
        entry.isChangedSince = entry.sending != nil
        if let acknowledged { entry.acknowledged.append(acknowledged) }
        entries[key] = entry
    }

    /// The value to send now and the number of this Put; nil when one is under way or nothing waits.
    mutating func begin(_ key: String) -> (value: [UInt8], number: UInt64)? {
        guard var entry = entries[key], entry.sending == nil else { return nil }
        count += 1
        entry.sending = count
        entry.isChangedSince = false
        entry.waiting = entry.acknowledged.count
        entries[key] = entry
        return (entry.value, count)
    }

    /// Put `number` failed: `begin` sends the newest value again. False when the key was given up meanwhile.
    mutating func failed(_ key: String, _ number: UInt64) -> Bool {
        guard var entry = entries[key], entry.sending == number else { return false }
        (entry.sending, entry.isChangedSince, entry.waiting) = (nil, false, 0)
        entries[key] = entry
        return true
    }

    /// The store has what Put `number` sent. Returns who is to be told, and whether a newer value waits; nil when the
    /// key was given up meanwhile.
    mutating func stored(_ key: String, _ number: UInt64) -> (told: [() -> Void], isChanged: Bool)? {
        guard var entry = entries[key], entry.sending == number else { return nil }
        entry.sending = nil
        let told = Array(entry.acknowledged.prefix(entry.waiting))
        entry.acknowledged.removeFirst(told.count)
        entry.waiting = 0
        let isChanged = entry.isChangedSince
        entry.isChangedSince = false
        entries[key] = isChanged ? entry : nil
        return (told, isChanged)
    }

    /// Gives a key up: whatever becomes of a Put under way, nobody is told. Returns who waited.
    mutating func abandon(_ key: String) -> [() -> Void] { entries.removeValue(forKey: key)?.acknowledged ?? [] }

    mutating func clear() { entries.removeAll() }

    func checkInvariants() {
        for entry in entries.values {
            check(entry.sending != nil || !entry.isChangedSince)
            check(entry.sending ?? 0 <= count)
            check(entry.waiting <= entry.acknowledged.count)
        }
    }
}
