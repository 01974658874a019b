// A small model of a VT terminal: enough to see what the editor's bytes would look like. One test at a time.

import CMUDCore

/// Rows of cells with a cursor, deferred wrapping at the right edge and scrolling. A cell is a character or the right
/// half of a wide one.
struct ScreenModel {
    private(set) var width: Int
    let height: Int
    private(set) var cells: [[Character]]
    private(set) var row = 0
    private(set) var column = 0
    private var wrapIsPending = false
    private var escape: String?
    private(set) var scrolledRows: [String] = []
    private(set) var unknown: [String] = []

    init(width: Int, height: Int) {
        (self.width, self.height) = (width, height)
        cells = Array(repeating: Array(repeating: " ", count: width), count: height)
    }

    var rows: [String] {
        cells.map { row in
            var text = String(row.filter { $0 != "\u{0}" })
            while text.last == " " { text.removeLast() }
            return text
        }
    }

    /// Everything on the screen and above it, without trailing empty rows.
    var text: String {
        var all = scrolledRows + rows
        while all.last == "" { all.removeLast() }
        return all.joined(separator: "\n")
    }

    mutating func write(_ bytes: String) {
        // CR LF is one Character in Swift: work on scalars, joining marks to the cell before them.
        for scalar in bytes.unicodeScalars { feed(scalar) }
    }

    private mutating func feed(_ scalar: Unicode.Scalar) {
        if var sequence = escape {
            sequence.unicodeScalars.append(scalar)
            escape = sequence
            if sequence.count > 1 || scalar != "[", (0x40...0x7E).contains(scalar.value), sequence != "[" {
                escape = nil
                control(sequence)
            }
            return
        }
        switch scalar.value {
        case 0x1B: escape = ""
        case 0x0D: (column, wrapIsPending) = (0, false)
        case 0x0A: lineFeed()
        case 0x07: break
        default: put(scalar)
        }
    }

    private mutating func lineFeed() {
        wrapIsPending = false
        row += 1
        guard row == height else { return }
        scrolledRows.append(rows[0])
        cells.removeFirst()
        cells.append(Array(repeating: " ", count: width))
        row = height - 1
    }

    private mutating func put(_ scalar: Unicode.Scalar) {
        let columns = Columns.of(Character(scalar))
        var at = wrapIsPending ? column : max(0, column - 1)
        if cells[row][at] == "\u{0}", at > 0 { at -= 1 }
        // Marks join the cell before them, and so does an emoji after a joiner.
        let isJoined = cells[row][at].unicodeScalars.last == "\u{200D}" && scalar.properties.isEmoji
        if columns == 0 || isJoined {
            cells[row][at].unicodeScalars.append(scalar)
            return
        }
        if wrapIsPending || column + columns > width {
            (column, wrapIsPending) = (0, false)
            lineFeed()
        }
        cells[row][column] = Character(scalar)
        if columns == 2, column + 1 < width { cells[row][column + 1] = "\u{0}" }
        if column + columns >= width {
            column = width - 1
            wrapIsPending = true
        } else {
            column += columns
        }
    }

    private mutating func control(_ sequence: String) {
        guard sequence.first == "[", let final = sequence.last else { return unknown.append(sequence) }
        let argument = sequence.dropFirst().dropLast()
        let number = Int(argument) ?? 1
        wrapIsPending = false
        switch final {
        case "A": row = max(0, row - number)
        case "B": row = min(height - 1, row + number)
        case "C": column = min(width - 1, column + number)
        case "D": column = max(0, column - number)
        case "H": (row, column) = (0, 0)
        case "J":
            let from = argument == "2" ? 0 : row
            if argument != "2" { for index in column..<width { cells[row][index] = " " } }
            for index in (argument == "2" ? 0 : from + 1)..<max(height, from + 1) where index < height {
                cells[index] = Array(repeating: " ", count: width)
            }
        case "K": for index in column..<width { cells[row][index] = " " }
        case "m", "h", "l": break
        default: unknown.append(sequence)
        }
    }

    /// A resize as terminals do it that break rows anew: what no longer fits goes on in the next row, the cursor stays
    /// on its character, and rows that the program ended itself are never joined.
    mutating func resize(width newWidth: Int) {
        var broken: [[Character]] = []
        var (newRow, newColumn) = (0, 0)
        for (index, cells) in cells.enumerated() {
            let used = max((cells.lastIndex { $0 != " " } ?? -1) + 1, 1)
            let pieces = stride(from: 0, to: used, by: newWidth).map { Array(cells[$0..<min(used, $0 + newWidth)]) }
            if index == row {
                newRow = broken.count + min(column / newWidth, pieces.count)
                newColumn = column % newWidth
            }
            broken += pieces
            if index == row, newRow == broken.count { broken.append([]) }
        }
        while broken.count > height, broken.last == [" "], newRow < broken.count - 1 { broken.removeLast() }
        while broken.count > height {
            scrolledRows.append(String(broken.removeFirst()).trimmingTrailingBlanks)
            newRow -= 1
        }
        cells = broken.map { $0 + Array(repeating: " ", count: newWidth - $0.count) }
        while cells.count < height { cells.append(Array(repeating: " ", count: newWidth)) }
        (width, row, column, wrapIsPending) = (newWidth, newRow, newColumn, false)
    }
}

extension String {
    fileprivate var trimmingTrailingBlanks: String {
        var text = self
        while text.last == " " { text.removeLast() }
        return text
    }
}

extension Character {
    fileprivate var unicodeScalarsMutable: String.UnicodeScalarView { String(self).unicodeScalars }
    fileprivate var unicodeScalars: String.UnicodeScalarView {
        get { unicodeScalarsMutable }
        set { self = Character(String(newValue)) }
    }
}
