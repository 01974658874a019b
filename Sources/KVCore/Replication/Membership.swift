// The member table of one replica: rows merge, so it needs no coordinator. Owned by one actor.

import KVBase

struct Membership {
    /// Sorted by server id, so that nothing depends on the order of arrival.
    private(set) var rows: [MemberRow] = []
    /// Order-independent fingerprint: equal tables, equal hash. Frames carry it, and the rows only while it differs.
    private(set) var hash: UInt64 = 0

    func row(_ server: UInt64) -> MemberRow? {
        place(server).flatMap { rows[$0] }
    }

    func isMember(_ server: UInt64) -> Bool { row(server)?.status.isMember ?? false }

    func place(_ server: UInt64) -> Int? {
        let at = lowerBound(server)
        return at < rows.count && rows[at].server == server ? at : nil
    }

    private func lowerBound(_ server: UInt64) -> Int {
        var low = 0
        var high = rows.count
        while low < high {
            let middle = (low + high) / 2
            if rows[middle].server < server { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Merges a row; returns the new row if that changed anything.
    mutating func merge(_ row: MemberRow) -> MemberRow? {
        let at = lowerBound(row.server)
        if at < rows.count, rows[at].server == row.server {
            let merged = rows[at].merged(with: row)
            guard merged != rows[at] else { return nil }
            hash &-= Membership.term(rows[at])
            rows[at] = merged
        } else {
            // Rows of retired servers are kept for ever: they are what tells a latecomer that the id is spent.
            guard rows.count < FrameFormat.rowsMax else { return nil }
            rows.insert(row, at: at)
        }
        hash &+= Membership.term(rows[at])
        return rows[at]
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
