// The member table of one replica: rows merge, so it needs no coordinator. Owned by one actor.

import KVBase

/// Whose word a row is.
enum RowSource: Equatable {
    /// The server's own, or that of its operator.
    case itself
    /// A sibling's, which has it from that server; 0: from the server itself.
    case sibling(teller: UInt64)
    /// What another server tells of it.
    case hearsay(by: UInt64)

    /// The server that told it; 0: it is the server's own word.
    var teller: UInt64 {
        switch self {
        case .itself: 0
        case .sibling(let teller), .hearsay(let teller): teller
        }
    }
}

struct Membership {
    /// Who told a row.
    private struct Telling {
        /// 0: the server itself.
        var teller: UInt64
        /// Since when the row says where its server is, on that word.
        var since: Millis
        /// Others say otherwise.
        var isContested = false
    }

    /// Where several tell differently where a server is that was not heard here, each is believed for so long in turn:
    /// at one of these places it may be found.
    static let turnMillis: Millis = 5_000

    /// Servers that only others tell of: members, and rows in all. Whoever speaks here itself always finds a place.
    static let unheardMembersMax = 1024
    static let unheardRowsMax = FrameFormat.rowsMax / 2
    /// Of these told by one server: who invents some leaves room for what others tell.
    static let unheardMembersOfOneMax = 128
    static let unheardRowsOfOneMax = unheardRowsMax / 2

    static let refusedEveryMillis: Millis = 60_000

    private var table: [MemberRow] = []
    /// For each row the incarnation that the server itself has given; nil as long as only others tell of it.
    private var ownWords: [UInt32?] = []
    /// For each row.
    private var tellings: [Telling] = []
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

    /// For each of `rows` the server that told it; 0: the server itself.
    var tellers: [UInt64] { tellings.map(\.teller) }

    /// Whether a server that only others tell of, now `teller`, finds a place. O(rows).
    func hasRoom(forHearsay row: MemberRow, by teller: UInt64) -> Bool {
        let unheard = table.indices.filter { tellings[$0].teller != 0 }
        let told = unheard.filter { tellings[$0].teller == teller }
        guard unheard.count < Membership.unheardRowsMax, told.count < Membership.unheardRowsOfOneMax else {
            return false
        }
        guard row.status.isMember else { return true }
        let isMember = { table[$0].status.isMember }
        return unheard.count(where: isMember) < Membership.unheardMembersMax
            && told.count(where: isMember) < Membership.unheardMembersOfOneMax
    }

    /// Merges a row; returns the new row if that changed anything. A server's own word about itself replaces what
    /// others told, also where they gave it a greater incarnation; nothing that others tell replaces its own word
    /// unless its incarnation is greater, which the caller allows. O(rows).
    mutating func merge(_ row: MemberRow, from source: RowSource = .itself, _ now: Millis) -> MemberRow? {
        let teller = source.teller
        let isOwnWord = teller == 0
        let at = lowerBound(row.server)
        guard at < table.count, table[at].server == row.server else {
            // Rows of retired servers are kept for ever: they are what tells a latecomer that the id is spent.
            guard table.count < FrameFormat.rowsMax else { return nil }
            if case .hearsay = source, !hasRoom(forHearsay: row, by: teller) { return nil }
            table.insert(row, at: at)
            ownWords.insert(isOwnWord ? row.incarnation : nil, at: at)
            tellings.insert(Telling(teller: teller, since: now), at: at)
            fingerprint &+= Membership.term(row)
            return row
        }
        let before = table[at]
        var merged = before.merged(with: row)
        if isOwnWord, ownWords[at].map({ row.incarnation >= $0 }) ?? true {
            merged = ownWords[at] == row.incarnation ? merged : row
            merged.status = max(before.status, row.status)
            ownWords[at] = row.incarnation
            tellings[at] = Telling(teller: 0, since: now)
        } else if ownWords[at] == nil, teller != tellings[at].teller {
            merged = takesTurn(row, by: teller, at, now) ? row : before
            merged.status = max(before.status, row.status)
        } else if row.incarnation > before.incarnation {
            if ownWords[at] != nil { tellings[at] = Telling(teller: teller, since: now) }
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

    /// Somebody else than before tells of a server that was not heard here. The greater incarnation is believed at
    /// once, until there is another story: then each has its turn.
    private mutating func takesTurn(_ row: MemberRow, by teller: UInt64, _ at: Int, _ now: Millis) -> Bool {
        let isNewer = row.incarnation > table[at].incarnation
        guard row.address != table[at].address else { return isNewer }
        let isContested = tellings[at].isContested || !isNewer
        guard !isContested || now >= tellings[at].since + Membership.turnMillis else { return false }
        tellings[at] = Telling(teller: teller, since: now, isContested: isContested)
        return true
    }

    /// Whether it is time to say that rows find no place. It is said, then.
    mutating func maySayRefused(_ now: Millis) -> Bool {
        guard refusedSaidAt.map({ now - $0 >= Membership.refusedEveryMillis }) ?? true else { return false }
        refusedSaidAt = now
        return true
    }

    func checkInvariants() {
        check(table.count <= FrameFormat.rowsMax && ownWords.count == table.count && tellings.count == table.count)
        for i in table.indices { check((ownWords[i] != nil) == (tellings[i].teller == 0)) }
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
