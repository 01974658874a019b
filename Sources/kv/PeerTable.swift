// KVD PEERS as a person reads it: headings above columns. Pure, any thread.

import KVClient

enum PeerTable {
    /// In the order of the server's words.
    static let headings = [
        "ID", "ADDRESS", "STATE", "PENDING", "HEARD MS", "NAME", "ENCRYPTION", "RTT MS", "CLOCK MS", "CAUGHT UP",
    ]

    /// Whether a command's answer is such a table.
    static func isAsked(_ command: [KVBytes]) -> Bool {
        command.map { $0.description.lowercased() } == ["kvd", "peers"]
    }

    /// nil for what has no rows. Words of a later server that have no heading stand without one.
    static func text(_ reply: KVReply) -> String? {
        guard let elements = reply.elements, !elements.isEmpty else { return nil }
        var rows: [[String]] = [headings]
        for element in elements {
            guard let line = element.bytes else { return nil }
            rows.append(line.description.split(separator: " ").map { Text.escaped(KVBytes(String($0))) })
        }
        let count = rows[1...].map(\.count).max() ?? 0
        return TextTable.aligned(rows, columns: count)
    }
}
