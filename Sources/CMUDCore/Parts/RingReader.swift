// What was heard of others: the last line of each ring that was shown. A part of `GameSession`; on its thread.

import KVBase

/// The ring of somebody, as it was read.
struct RingSource {
    var pid: String
    var sid: String
    var lines: [RingLine]
}

/// A line, and how often its writer said the same in a row.
struct HeardLine: Equatable {
    var pid: String
    var line: RingLine
    var count = 1
}

struct RingReader {
    enum Board: String { case room, building }

    /// Lines older than this are history when they turn up late, not news.
    static let newsMillis: Millis = 120_000
    static let marksMax = 2 * PresenceBoard.entriesMax

    private var marks: [String: (sid: String, seq: Int64)] = [:]
    private var place: Place?
    private var hasHeardBuilding = false

    /// Whether this room was not listened to before: what is said there already is history.
    func isNew(_ place: Place) -> Bool { self.place != place }
    var isBuildingNew: Bool { !hasHeardBuilding }

    mutating func listened(in place: Place) { self.place = place }
    mutating func listenedToBuilding() { hasHeardBuilding = true }

    func hasNews(_ source: RingSource, _ board: Board) -> Bool {
        let mark = marks[board.rawValue + source.pid]
        return mark?.sid != source.sid || (source.lines.last?.seq ?? 0) > (mark?.seq ?? 0)
    }

    /// The lines that are newer than what was read of each sender before, and how many of a sender are gone already.
    /// O(lines). `isKnown` tells whose marks must stay when there are too many.
    mutating func read(
        _ sources: [RingSource], _ board: Board, corrected: Millis, isKnown: (String) -> Bool
    ) -> (lines: [HeardLine], missed: [(pid: String, count: Int64)]) {
        if marks.count > RingReader.marksMax { marks = marks.filter { isKnown(String($0.key.suffix(13))) } }
        var fresh: [HeardLine] = []
        var missed: [(pid: String, count: Int64)] = []
        for source in sources where hasNews(source, board) {
            let mark = marks[board.rawValue + source.pid]
            let seen = mark?.sid == source.sid ? mark?.seq ?? 0 : 0
            marks[board.rawValue + source.pid] = (source.sid, source.lines.last?.seq ?? 0)
            let lines = source.lines.filter { $0.seq > seen && corrected - $0.time < RingReader.newsMillis }
            if seen > 0, source.lines.count == RingLine.ringMax, let first = lines.first, first.seq > seen + 1 {
                missed.append((source.pid, first.seq - seen - 1))
            }
            fresh += lines.map { HeardLine(pid: source.pid, line: $0) }
        }
        return (fresh, missed)
    }

    /// Oldest first, with what one person says again and again counted.
    static func inOrder(_ lines: [HeardLine]) -> [HeardLine] {
        let sorted = lines.sorted { ($0.line.time, $0.pid, $0.line.seq) < ($1.line.time, $1.pid, $1.line.seq) }
        return sorted.reduce(into: []) { groups, next in
            guard let last = groups.last, last.pid == next.pid, last.line.kind == next.line.kind,
                last.line.text == next.line.text
            else { return groups.append(next) }
            groups[groups.count - 1].count += 1
        }
    }

    func checkInvariants() { check(marks.values.allSatisfy { $0.seq >= 0 }) }
}
