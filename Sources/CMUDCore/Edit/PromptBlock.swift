// The last rows of the screen: bar, prompt and the line being typed. Turns them into bytes and back into nothing. A
// value owned by one front end.

/// Rows are broken here, never by the terminal's own wrapping, so the block knows how many there are whatever the
/// terminal does at its right edge.
package struct PromptBlock: Sendable {
    package var width: Int
    package var height: Int
    private var cursorRow = 0
    private var cursorColumn = 0
    /// Columns of each drawn row.
    private var rowColumns: [Int] = []
    private var rowCount: Int { rowColumns.count }
    package private(set) var isDrawn = false

    package init(width: Int = 80, height: Int = 24) { (self.width, self.height) = (max(2, width), max(2, height)) }

    struct Layout: Equatable {
        var rows: [String]
        var cursorRow: Int
        var cursorColumn: Int
    }

    /// Breaks prompt and text into rows and finds the cursor among them.
    static func layout(prompt: String, text: [Character], cursor: Int, width: Int) -> Layout {
        var rows = [""]
        var column = 0
        var (cursorRow, cursorColumn) = (0, 0)
        let cells = Array(prompt) + text
        let cursorCell = prompt.count + cursor
        for (index, character) in cells.enumerated() {
            let columns = Columns.of(character)
            if column + columns > width {
                rows.append("")
                column = 0
            }
            if index == cursorCell { (cursorRow, cursorColumn) = (rows.count - 1, column) }
            rows[rows.count - 1].append(character)
            column += columns
        }
        if cursorCell >= cells.count {
            if column >= width {
                rows.append("")
                column = 0
            }
            (cursorRow, cursorColumn) = (rows.count - 1, column)
        }
        return Layout(rows: rows, cursorRow: cursorRow, cursorColumn: cursorColumn)
    }

    /// Removes the block from the screen; the cursor is then where its first row began.
    package mutating func erase() -> String {
        guard isDrawn else { return "" }
        isDrawn = false
        let up = cursorRow > 0 ? "\u{1B}[\(cursorRow)A" : ""
        return up + "\r\u{1B}[J"
    }

    /// The window has another width. Terminals that narrow break rows that no longer fit, so the rows above the cursor
    /// are more than were drawn; terminals that widen leave rows that we ended as they are.
    package mutating func resize(width newWidth: Int, height newHeight: Int) {
        let newWidth = max(2, newWidth)
        if isDrawn, newWidth < width {
            let pieces = { (columns: Int) in max(1, (columns + newWidth - 1) / newWidth) }
            let above = rowColumns.prefix(cursorRow).map(pieces).reduce(0, +)
            cursorRow = above + cursorColumn / newWidth
        }
        (width, height) = (newWidth, max(2, newHeight))
    }

    /// Draws the block at the cursor. `mask` hides what is typed.
    package mutating func draw(
        bar view: ProgressView?, unicode: Bool = false, prompt: String, text: [Character], cursor: Int,
        mask: Bool = false
    )
        -> String
    {
        let shown = mask ? [] : text
        var layout = PromptBlock.layout(prompt: prompt, text: shown, cursor: mask ? 0 : cursor, width: width)
        if let bar = view.map({ PromptBlock.bar($0, unicode: unicode, width: width - 1) }) {
            layout.rows.insert(bar, at: 0)
            layout.cursorRow += 1
        }
        // A block higher than the screen cannot be erased again: show the rows around the cursor.
        let most = max(1, height - 1)
        if layout.rows.count > most {
            let first = min(max(0, layout.cursorRow - most + 1), layout.rows.count - most)
            layout.rows = Array(layout.rows[first..<(first + most)])
            layout.cursorRow -= first
        }
        rowColumns = layout.rows.map(Columns.of)
        (cursorRow, cursorColumn) = (layout.cursorRow, layout.cursorColumn)
        isDrawn = true
        var out = layout.rows.joined(separator: "\r\n")
        let below = rowCount - 1 - cursorRow
        if below > 0 { out += "\u{1B}[\(below)A" }
        out += "\r"
        if layout.cursorColumn > 0 { out += "\u{1B}[\(layout.cursorColumn)C" }
        return out
    }

    /// The block becomes ordinary lines: the cursor moves below it.
    package mutating func leave() -> String {
        guard isDrawn else { return "" }
        isDrawn = false
        let below = rowCount - 1 - cursorRow
        return (below > 0 ? "\u{1B}[\(below)B" : "") + "\r\n"
    }

    static func clip(_ text: String, _ width: Int) -> String {
        var (out, used) = ("", 0)
        for character in text {
            used += Columns.of(character)
            if used > width { break }
            out.append(character)
        }
        return out
    }

    static let pictureColumnsMax = 24
    static let pictureColumnsMin = 4

    /// `mining [#####.....] 52 %  3/10  2 s left`. The numbers come first: in a narrow window the picture shrinks, then
    /// goes, then the name of the action.
    package static func bar(_ view: ProgressView, unicode: Bool, width: Int) -> String {
        let count = view.total > 1 ? "  \(min(view.done + 1, view.total))/\(view.total)" : ""
        let numbers = "\(view.permille / 10) %\(count)  \(Show.duration(view.secondsLeft)) left"
        let name = view.activity.rawValue + " "
        let room = min(pictureColumnsMax, width - name.count - numbers.count - 3)
        guard room >= pictureColumnsMin else {
            return clip(name.count + numbers.count <= width ? name + numbers : numbers, width)
        }
        let filled = view.permille * room / 1_000
        let (full, empty) = unicode ? ("\u{2588}", "\u{2591}") : ("#", ".")
        let picture = String(repeating: full, count: filled) + String(repeating: empty, count: room - filled)
        return "\(name)[\(picture)] \(numbers)"
    }
}
