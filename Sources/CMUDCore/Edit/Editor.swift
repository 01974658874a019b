// The line being typed: keys change it, Enter hands it over. Knows no terminal. A value owned by one front end.

package enum EditorAction: Equatable, Sendable {
    case none
    case submit(String)
    /// A paste of several lines: commands to queue, and how many more were refused.
    case pasted([String], refused: Int)
    case complete
    case interrupt
    case endOfInput
    case suspend
    case clearScreen
    case bell
}

package struct Editor: Sendable {
    package static let charactersMax = 1_000
    package static let historyMax = 500
    package static let pastedLinesMax = 20

    package private(set) var text: [Character] = []
    package private(set) var cursor = 0
    package private(set) var history: [String] = []
    /// Lines that are not remembered: passwords and private words.
    package var isSecret = false
    private var historyIndex: Int?
    private var draft: [Character] = []
    private var killed: [Character] = []
    private var search: (wanted: String, index: Int)?

    package init() {}

    package var line: String { String(text) }
    /// What to show instead of the prompt while searching the history.
    package var searchPrompt: String? { search.map { "(search \"\($0.wanted)\") " } }

    // MARK: keys

    package mutating func handle(_ key: Key) -> EditorAction {
        if search != nil, let action = handleSearch(key) { return action }
        switch key {
        case .text(let text): insert(text)
        case .paste(let text): return paste(text)
        case .enter: return submit()
        case .tab: return .complete
        case .backspace, .control("h"): remove(cursor - 1, cursor)
        case .delete: remove(cursor, cursor + 1)
        case .left, .control("b"): cursor = max(0, cursor - 1)
        case .right, .control("f"): cursor = min(text.count, cursor + 1)
        case .home, .control("a"): cursor = 0
        case .end, .control("e"): cursor = text.count
        case .wordLeft, .alt("b"): cursor = wordStart
        case .wordRight, .alt("f"): cursor = wordEnd
        case .up, .control("p"): return recall(-1)
        case .down, .control("n"): return recall(1)
        case .alt("d"): kill(cursor, wordEnd)
        case .alt("\u{7F}"): kill(wordStart, cursor)
        case .control(let letter): return control(letter)
        case .alt, .escape: break
        }
        return .none
    }

    private mutating func control(_ letter: Character) -> EditorAction {
        switch letter {
        case "c": return .interrupt
        case "d":
            if text.isEmpty { return .endOfInput }
            remove(cursor, cursor + 1)
        case "k": kill(cursor, text.count)
        case "u": kill(0, cursor)
        case "w": kill(blankWordStart, cursor)
        case "y": insert(String(killed))
        case "t": transpose()
        case "l": return .clearScreen
        case "z": return .suspend
        case "r":
            if !isSecret { search = ("", history.count) }
        default: break
        }
        return .none
    }

    private mutating func submit() -> EditorAction {
        let line = self.line
        if !isSecret { remember(line) }
        clear()
        return .submit(line)
    }

    package mutating func clear() {
        text = []
        cursor = 0
        historyIndex = nil
        search = nil
    }

    // MARK: changes

    /// Inserts printable text at the cursor. A combining mark joins the character before it, so the count may not grow.
    package mutating func insert(_ added: String) {
        let printable = added.unicodeScalars.filter { $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value) }
        guard !printable.isEmpty, text.count + printable.count <= Editor.charactersMax else { return }
        let before = String(text[..<cursor]) + String(String.UnicodeScalarView(printable))
        let after = String(text[cursor...])
        cursor = before.count
        text = Array(before + after)
        // If the first character after the insertion merged into it, the cursor stays behind the merged one.
        cursor = min(cursor, text.count)
    }

    private mutating func remove(_ from: Int, _ to: Int) {
        guard from >= 0, to <= text.count, from < to else { return }
        text.removeSubrange(from..<to)
        cursor = from
    }

    private mutating func kill(_ from: Int, _ to: Int) {
        guard from < to else { return }
        killed = Array(text[from..<to])
        remove(from, to)
    }

    private mutating func transpose() {
        guard cursor > 0, text.count > 1 else { return }
        if cursor == text.count { cursor -= 1 }
        text.swapAt(cursor - 1, cursor)
        cursor += 1
    }

    private var wordStart: Int {
        var index = cursor
        while index > 0, !isWord(text[index - 1]) { index -= 1 }
        while index > 0, isWord(text[index - 1]) { index -= 1 }
        return index
    }

    private var wordEnd: Int {
        var index = cursor
        while index < text.count, !isWord(text[index]) { index += 1 }
        while index < text.count, isWord(text[index]) { index += 1 }
        return index
    }

    private var blankWordStart: Int {
        var index = cursor
        while index > 0, text[index - 1] == " " { index -= 1 }
        while index > 0, text[index - 1] != " " { index -= 1 }
        return index
    }

    private func isWord(_ character: Character) -> Bool { character.isLetter || character.isNumber || character == "_" }

    private mutating func paste(_ pasted: String) -> EditorAction {
        var lines: [String] = [""]
        for character in pasted {
            if character.isNewline { lines.append("") } else { lines[lines.count - 1].append(character) }
        }
        insert(lines[0])
        guard lines.count > 1, !isSecret else { return .none }
        let tail = String(text[cursor...])
        var commands = [String(text[..<cursor])] + lines[1..<(lines.count - 1)]
        text = Array(lines.last! + tail)
        if text.count > Editor.charactersMax { text = [] }
        cursor = min(text.count, lines.last!.count)
        historyIndex = nil
        let refused = max(0, commands.count - Editor.pastedLinesMax)
        commands = Array(commands.prefix(Editor.pastedLinesMax))
        for command in commands { remember(command) }
        return .pasted(commands, refused: refused)
    }

    // MARK: history

    private mutating func remember(_ line: String) {
        let word = line.split(separator: " ").first.map { $0.lowercased() } ?? ""
        let isPrivate = [GameCommand.tell, .reply].contains { $0.rawValue == word || $0.aliases.contains(word) }
        guard !word.isEmpty, !isPrivate, history.last != line else { return }
        history.append(line)
        if history.count > Editor.historyMax { history.removeFirst() }
    }

    private mutating func recall(_ step: Int) -> EditorAction {
        guard !isSecret else { return .bell }
        let index = (historyIndex ?? history.count) + step
        guard (0...history.count).contains(index) else { return .bell }
        if historyIndex == nil { draft = text }
        historyIndex = index == history.count ? nil : index
        text = index == history.count ? draft : Array(history[index])
        cursor = text.count
        return .none
    }

    /// Ctrl-R: letters narrow the search, Ctrl-R again goes further back, any other key takes what was found.
    private mutating func handleSearch(_ key: Key) -> EditorAction? {
        guard var current = search else { return nil }
        switch key {
        case .text(let added):
            current.wanted += added
            find(&current, from: history.count)
        case .backspace:
            if !current.wanted.isEmpty { current.wanted.removeLast() }
            find(&current, from: history.count)
        case .control("r"): find(&current, from: current.index)
        case .control("g"), .control("c"), .escape:
            search = nil
            return EditorAction.none
        default:
            search = nil
            return nil
        }
        search = current
        return EditorAction.none
    }

    private mutating func find(_ current: inout (wanted: String, index: Int), from start: Int) {
        guard !current.wanted.isEmpty else { return }
        for index in stride(from: start - 1, through: 0, by: -1) where history[index].contains(current.wanted) {
            current.index = index
            text = Array(history[index])
            cursor = text.count
            return
        }
    }

    // MARK: completion

    /// Replaces the word before the cursor by the longest common beginning of the candidates; a single one gets a
    /// blank. Returns what was completed to when there was exactly one.
    package mutating func complete(word: String, with candidates: [String]) -> String? {
        guard let first = candidates.first, line.prefix(cursor).hasSuffix(word) else { return nil }
        var common = first
        for candidate in candidates.dropFirst() {
            common = String(zip(common, candidate).prefix { $0.lowercased() == $1.lowercased() }.map(\.0))
        }
        guard common.count >= word.count else { return nil }
        remove(cursor - word.count, cursor)
        insert(common + (candidates.count == 1 ? " " : ""))
        return candidates.count == 1 ? first : nil
    }

    package var beforeCursor: String { String(text[..<cursor]) }
}

extension Collection where Element == Character {
    fileprivate func hasSuffix(_ other: String) -> Bool { suffix(other.count).elementsEqual(other) }
}
