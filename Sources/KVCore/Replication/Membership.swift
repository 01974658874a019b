// The member table of one replica: rows merge, so it needs no coordinator. Owned by one actor.

import KVBase

struct Membership {
    private var table: [MemberRow] = []
    private var fingerprint: UInt64 = 0

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

    /// Merges a row; returns the new row if that changed anything.
    mutating func merge(_ row: MemberRow) -> MemberRow? {
        let at = lowerBound(row.server)
        if at < table.count, table[at].server == row.server {
            let merged = table[at].merged(with: row)
            guard merged != table[at] else { return nil }
            fingerprint &-= Membership.term(table[at])
            table[at] = merged
        } else {
            // Rows of retired servers are kept for ever: they are what tells a latecomer that the id is spent.
            guard table.count < FrameFormat.rowsMax else { return nil }
            table.insert(row, at: at)
        }
        fingerprint &+= Membership.term(table[at])
        return table[at]
    }

    func checkInvariants() {
        check(table.count <= FrameFormat.rowsMax)
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
