// Coins that others gave. A part of `GameSession`; on its thread.

import KVBase

/// What each slot of each giver was charged with and says it gave. It only grows.
struct GiftsReceived {
    private var amounts: [String: Int64] = [:]

    var sum: Int64 { amounts.values.saturatedSum }

    func amount(_ giver: String, _ slot: Int) -> Int64 { amounts["\(giver)-\(slot)"] ?? 0 }

    mutating func count(_ amount: Int64, from giver: String, _ slot: Int) {
        amounts["\(giver)-\(slot)"] = max(self.amount(giver, slot), amount)
    }

    func checkInvariants() { check(amounts.values.allSatisfy { 0...amountMax ~= $0 }) }
}
