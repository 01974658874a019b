// Rows of words as columns under each other. Pure, any thread.

enum TextTable {
    /// The first row may be headings. A last column is as wide as its words.
    static func aligned(_ rows: [[String]], columns count: Int? = nil) -> String {
        let count = count ?? rows.map(\.count).max() ?? 0
        let widths = (0..<count).map { column in rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            let cells = row.prefix(count).enumerated().map { column, cell in
                column == count - 1 ? cell : cell + String(repeating: " ", count: widths[column] - cell.count)
            }
            var line = cells.joined(separator: "  ")[...]
            while line.last == " " { line.removeLast() }
            return line + "\n"
        }.joined()
    }
}
