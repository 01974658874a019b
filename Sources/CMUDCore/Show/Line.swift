// Lines of styled text, and how they become bytes for a terminal. Pure, any thread.

/// What a piece of text means. A renderer may give it one of the eight basic colours; the words say the same without.
package enum Tone: Sendable {
    case plain, title, name, coins, good, bad, hint, dim, talk, story

    var code: String {
        switch self {
        case .plain: ""
        case .title: "1;36"
        case .name: "36"
        case .coins: "33"
        case .good: "32"
        case .bad: "31"
        case .hint: "32"
        case .dim: "2"
        case .talk: "1"
        case .story: "35"
        }
    }
}

package struct Span: Equatable, Sendable {
    package var text: String
    package var tone: Tone
}

/// One line, as spans. Literals and `+` make the renderer readable.
package struct Line: Equatable, Sendable, ExpressibleByStringInterpolation {
    package var spans: [Span]
    /// Columns by which rows after the first are indented when the line is wrapped.
    package var hang = 2

    package init(_ text: String, _ tone: Tone = .plain) { spans = [Span(text: text, tone: tone)] }
    package init(stringLiteral text: String) { self.init(text) }
    init(spans: [Span]) { self.spans = spans }

    package static func + (a: Line, b: Line) -> Line { Line(spans: a.spans + b.spans) }

    package var text: String { spans.map(\.text).joined() }

    /// Breaks the line at blanks so that no row is wider than `width` columns; rows after the first are indented.
    package func wrapped(_ width: Int) -> [Line] {
        guard width >= 20, Columns.of(text) > width else { return [self] }
        let indent = min(hang, width / 2)
        var cells: [(character: Character, tone: Tone)] = []
        for span in spans { cells += span.text.map { ($0, span.tone) } }
        let breaks = Line.breaks(cells.map(\.character))
        var rows: [Line] = []
        var start = 0
        while start < cells.count {
            let room = rows.isEmpty ? width : width - indent
            var (used, index, lastBlank) = (0, start, -1)
            while index < cells.count, used + Columns.of(cells[index].character) <= room {
                used += Columns.of(cells[index].character)
                if breaks[index] { lastBlank = index }
                index += 1
            }
            var end = index
            if index < cells.count, !breaks[index], lastBlank > start { end = lastBlank }
            var row = Line(spans: rows.isEmpty ? [] : [Span(text: String(repeating: " ", count: indent), tone: .plain)])
            for cell in cells[start..<end] {
                if row.spans.last?.tone == cell.tone {
                    row.spans[row.spans.count - 1].text.append(cell.character)
                } else {
                    row.spans.append(Span(text: String(cell.character), tone: cell.tone))
                }
            }
            rows.append(row)
            start = end
            while start < cells.count, cells[start].character == " " { start += 1 }
        }
        return rows
    }

    /// Where a row may end: at blanks, though not inside of a command between backquotes, which is read as one word.
    private static func breaks(_ text: [Character]) -> [Bool] {
        var breaks = text.map { $0 == " " }
        var opened: Int?
        for (index, character) in text.enumerated() where character == "`" {
            guard let open = opened, index - open <= Line.commandMax else {
                opened = index
                continue
            }
            for inside in open..<index { breaks[inside] = false }
            opened = nil
        }
        return breaks
    }

    /// Longer than any command that is shown; a backquote in what somebody says binds no more than this.
    private static let commandMax = 18

    /// One question mark for each character that ASCII lacks, however many scalars make it up.
    private static func folded(_ text: String) -> String {
        String(text.map { $0.unicodeScalars.allSatisfy { $0.value < 0x7F } ? $0 : "?" })
    }

    /// The line as terminal text. The last gate before a terminal: whatever the spans hold, no control character of
    /// theirs gets through, only the colour codes written here.
    package func encoded(color: Bool, ascii: Bool = false) -> String {
        var out = ""
        for span in spans where !span.text.isEmpty {
            let isColored = color && span.tone != .plain
            if isColored { out += "\u{1B}[\(span.tone.code)m" }
            let text = ascii ? Line.folded(span.text) : span.text
            for scalar in text.unicodeScalars {
                if scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value) { continue }
                out.unicodeScalars.append(scalar)
            }
            if isColored { out += "\u{1B}[0m" }
        }
        return out
    }
}
