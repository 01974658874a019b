// The member table of one replica: rows merge, so it needs no coordinator. Owned by one actor.

import KVBase

/// Whose word a row is.
enum RowSource: Equatable {
    /// The server's own, or that of its operator.
    case itself
    /// A sibling's; `isOwnWord`: it has it from the server itself.
    case sibling(isOwnWord: Bool)
    /// What another server tells of it.
    case hearsay
}

struct Membership {
    /// Servers that only others tell of: members, and rows in all. Whoever speaks here itself always finds a place.
    static let unheardMembersMax = 128
    static let unheardRowsMax = FrameFormat.rowsMax / 2

    static let refusedEveryMillis: Millis = 60_000

    private var table: [MemberRow] = []
    /// For each row the incarnation that the server itself has given; nil as long as only others tell of it.
    private var ownWords: [UInt32?] = []
    private var fingerprint: UInt64 = 0
    private var refusedSaidAt: Millis?

    /// Sorted by server id, so that nothing depends on the order of arrival.
    var rows: [MemberRow] { table }
    /// Order-independent fingerprint: equal tables, equal hash. Frames carry it, and the rows only while it differs.
    var hash: UInt64 { fingerprint }

    func row(_ server: UInt64) -> MemberRow? {
        place(server).flatMap { table[$0] }
    }

    func isMember(_ server: UInt64) -> Bool { row(server)?.status.isMember ?? false }

    func place(_ server: UInt64) -> Int? {
        let at = lowerBound(server)
        return at < table.count && table[at].server == server ? at : nil
    }

    private func lowerBound(_ server: UInt64) -> Int {
        var low = 0
        var high = table.count
        while low < high {
            let middle = (low + high) / 2
            if table[middle].server < server { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// The server itself has said where it is and what it is called.
    func hasOwnWord(_ server: UInt64) -> Bool { place(server).map { ownWords[$0] != nil } ?? false }

    /// Rows whose fields are the server's own word, in the order of `rows`.
    var areOwnWords: [Bool] { ownWords.map { $0 != nil } }

    /// Whether a server that only others tell of finds a place. O(rows).
    func hasRoom(forHearsay row: MemberRow) -> Bool {
        let unheard = table.indices.filter { ownWords[$0] == nil }
        guard unheard.count < Membership.unheardRowsMax else { return false }
        guard row.status.isMember else { return true }
        return unheard.count { table[$0].status.isMember } < Membership.unheardMembersMax
    }

    /// Merges a row; returns the new row if that changed anything. A server's own word about itself replaces what
    /// others told, also where they gave it a greater incarnation; nothing that others tell replaces its own word
    /// unless its incarnation is greater, which the caller allows. O(rows).
    mutating func merge(_ row: MemberRow, from source: RowSource = .itself) -> MemberRow? {
        let isOwnWord = source == .itself || source == .sibling(isOwnWord: true)
        let at = lowerBound(row.server)
        guard at < table.count, table[at].server == row.server else {
            // Rows of retired servers are kept for ever: they are what tells a latecomer that the id is spent.
            guard table.count < FrameFormat.rowsMax, source != .hearsay || hasRoom(forHearsay: row) else { return nil }
            table.insert(row, at: at)
            ownWords.insert(isOwnWord ? row.incarnation : nil, at: at)
            fingerprint &+= Membership.term(row)
            return row
        }
        let before = table[at]
        var merged = before.merged(with: row)
        if isOwnWord, ownWords[at].map({ row.incarnation >= $0 }) ?? true {
            merged = ownWords[at] == row.incarnation ? merged : row
            merged.status = max(before.status, row.status)
            ownWords[at] = row.incarnation
        } else if row.incarnation > before.incarnation {
            ownWords[at] = nil
        } else if ownWords[at] != nil {
            merged = before
            merged.status = max(before.status, row.status)
        }
        guard merged != before else { return nil }
        fingerprint &-= Membership.term(before)
        table[at] = merged
        fingerprint &+= Membership.term(merged)
        return merged
    }

    /// Whether it is time to say that rows find no place. It is said, then.
    mutating func maySayRefused(_ now: Millis) -> Bool {
        guard refusedSaidAt.map({ now - $0 >= Membership.refusedEveryMillis }) ?? true else { return false }
        refusedSaidAt = now
        return true
    }

    func checkInvariants() {
        check(table.count <= FrameFormat.rowsMax && ownWords.count == table.count)
        for i in table.indices.dropFirst() { check(table[i - 1].server < table[i].server) }
    }

    /// The same on every server, so seeded with a constant.
    private static func term(_ row: MemberRow) -> UInt64 {
        var text = row.address.array
        for shift in stride(from: 0, to: 64, by: 8) {
            text.append(UInt8(truncatingIfNeeded: row.server >> UInt64(shift)))
        }
        for shift in stride(from: 0, to: 32, by: 8) {
            text.append(UInt8(truncatingIfNeeded: row.incarnation >> UInt32(shift)))
        }
        text.append(contentsOf: row.name.array)
        text.append(row.isNamed ? 1 : 0)
        text.append(row.status.rawValue)
        text.append(UInt8(truncatingIfNeeded: row.actorCount))
        return text.withUnsafeBytes { hashBytes($0.baseAddress!, $0.count, seed: 0x6D65_6D62_6572_7321) }
    }
}
