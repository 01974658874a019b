// The line being typed, its history and completion, and what a key does to it. Pure: no terminal in here.

import KVClient

/// Edits by characters as people see them (grapheme clusters).
struct LineEditor {
    enum Key: Equatable {
        case character(Character)
        case enter, tab, backspace, delete
        case left, right, home, end, up, down, wordLeft, wordRight
        case killToEnd, killToStart, killWord, yank
        case interrupt, endOfInput, clearScreen, suspend
        case searchBack, endSearch
        case ignored
    }

    enum Action: Equatable {
        case none
        case redraw
        case submit(String)
        case cancel
        case endOfInput
        case clearScreen
        case suspend
        /// Several completions: show them, then the line again.
        case candidates([String])
        /// The word before the cursor is the beginning of a key: find such keys and ``offer(_:isAll:)`` them.
        case completeKey(String)
    }

    /// A look back through the history for a line that contains `query`.
    private struct Search {
        var query: [Character] = []
        var place: Int
        var hasFailed = false
        var before: [Character]
    }

    /// Lines remembered; older ones are dropped.
    static let historyLinesMax = 500
    /// Characters of one line; further ones are not taken.
    static let charactersMax = 1024 * 1024

    private(set) var text: [Character] = []
    private(set) var cursor = 0
    private(set) var history: [String] = []
    private var killed: [Character] = []
    /// Place in the history; `history.count`: the line being typed, kept in `draft` meanwhile.
    private var place = 0
    private var draft: [Character] = []
    private var search: Search?
    let completions: [String]

    init(completions: [String]) { self.completions = completions.sorted() }

    var line: String { String(text) }

    /// What stands before the line instead of the prompt while the history is searched.
    var searchPrompt: String? {
        search.map { "(\($0.hasFailed ? "no " : "")search '\(String($0.query.map(Self.shown).joined()))') " }
    }

    mutating func press(_ key: Key) -> Action {
        if search != nil, let action = searching(key) { return action }
        switch key {
        case .character(let character): return insert(character)
        case .enter: return submit()
        case .tab: return complete()
        case .backspace: return remove(cursor - 1..<cursor)
        case .delete: return remove(cursor..<cursor + 1)
        case .left: return move(to: cursor - 1)
        case .right: return move(to: cursor + 1)
        case .home: return move(to: 0)
        case .end: return move(to: text.count)
        case .wordLeft: return move(to: wordStart)
        case .wordRight: return move(to: wordEnd)
        case .up: return recall(place - 1)
        case .down: return recall(place + 1)
        case .killToEnd: return kill(cursor..<text.count)
        case .killToStart: return kill(0..<cursor)
        case .killWord: return kill(wordStart..<cursor)
        case .yank:
            text.insert(contentsOf: killed, at: cursor)
            cursor += killed.count
            return .redraw
        case .interrupt:
            reset()
            return .cancel
        case .endOfInput: return text.isEmpty ? .endOfInput : remove(cursor..<cursor + 1)
        case .clearScreen: return .clearScreen
        case .suspend: return .suspend
        case .searchBack:
            search = Search(place: history.count, before: text)
            return .redraw
        case .endSearch: return .none
        case .ignored: return .none
        }
    }

    private mutating func reset() {
        (text, cursor, draft) = ([], 0, [])
        place = history.count
    }

    private mutating func insert(_ character: Character) -> Action {
        guard text.count < Self.charactersMax else { return .none }
        // A combining character typed after its base joins it.
        if cursor > 0, let joined = Self.joined(text[cursor - 1], character) {
            text[cursor - 1] = joined
        } else {
            text.insert(character, at: cursor)
            cursor += 1
        }
        return .redraw
    }

    private static func joined(_ base: Character, _ next: Character) -> Character? {
        let both = String(base) + String(next)
        return both.count == 1 ? Character(both) : nil
    }

    private mutating func submit() -> Action {
        let line = line
        let isBlank = text.allSatisfy(\.isWhitespace)
        if !isBlank, history.last != line {
            history.append(line)
            if history.count > Self.historyLinesMax { history.removeFirst() }
        }
        reset()
        return .submit(line)
    }

    private mutating func remove(_ range: Range<Int>) -> Action {
        let range = range.clamped(to: 0..<text.count)
        guard !range.isEmpty else { return .none }
        text.removeSubrange(range)
        cursor = range.lowerBound
        return .redraw
    }

    private mutating func kill(_ range: Range<Int>) -> Action {
        if !range.isEmpty { killed = Array(text[range]) }
        return remove(range)
    }

    private mutating func move(to target: Int) -> Action {
        cursor = max(0, min(text.count, target))
        return .redraw
    }

    private var wordStart: Int {
        var at = cursor
        while at > 0, text[at - 1].isWhitespace { at -= 1 }
        while at > 0, !text[at - 1].isWhitespace { at -= 1 }
        return at
    }

    private var wordEnd: Int {
        var at = cursor
        while at < text.count, text[at].isWhitespace { at += 1 }
        while at < text.count, !text[at].isWhitespace { at += 1 }
        return at
    }

    private mutating func recall(_ target: Int) -> Action {
        guard target >= 0, target <= history.count, target != place else { return .none }
        if place == history.count { draft = text }
        place = target
        text = target == history.count ? draft : Array(history[target])
        cursor = text.count
        return .redraw
    }

    /// Completes the command, which is the first word of the line, or asks for keys.
    private mutating func complete() -> Action {
        let start = String(text[..<cursor])
        guard !start.contains(where: \.isWhitespace) else { return keyStart.map { .completeKey($0) } ?? .none }
        let matches = completions.filter { $0.hasPrefix(start.lowercased()) }
        guard let first = matches.first else { return .none }
        let common = matches.dropFirst().reduce(first) { common, other in
            String(zip(common, other).prefix { $0 == $1 }.map(\.0))
        }
        if common.count > start.count || matches.count == 1 {
            let completed = Array(common) + (matches.count == 1 ? [" "] : [])
            text.replaceSubrange(..<cursor, with: completed)
            cursor = completed.count
            return .redraw
        }
        return .candidates(matches)
    }

    // MARK: Searching

    /// What a key does to the search under way; nil if it ends the search, with the line found, and is a key of that.
    private mutating func searching(_ key: Key) -> Action? {
        guard var current = search else { return nil }
        switch key {
        case .character(let character):
            guard current.query.count < Self.queryCharactersMax else { return Action.none }
            current.query.append(character)
            find(&current, from: current.place)
        case .backspace:
            if !current.query.isEmpty { current.query.removeLast() }
            find(&current, from: history.count - 1)
        case .searchBack: find(&current, from: current.place - 1)
        case .endSearch:
            (text, cursor, search) = (current.before, current.before.count, nil)
            return .redraw
        default:
            search = nil
            return nil
        }
        search = current
        return .redraw
    }

    /// Characters of a search.
    private static let queryCharactersMax = 200

    /// Shows the latest line at `start` or before that contains the query; the line stays if there is none.
    private mutating func find(_ search: inout Search, from start: Int) {
        let query = String(search.query)
        let found = history.indices.last { $0 <= start && (query.isEmpty || history[$0].contains(query)) }
        search.hasFailed = found == nil
        guard let found else { return }
        search.place = found
        text = Array(history[found])
        cursor = text.count
    }

    // MARK: Keys of the store

    /// Of these commands the words after the name are keys; of `put` only the first.
    private static let keyCommands: Set<String> = ["get", "put", "set", "list", "ls", "delete", "del"]
    /// Candidates shown.
    static let candidatesMax = 100

    /// The beginning of a key before the cursor, if what stands there is one and is not in quotes.
    private var keyStart: String? {
        let start = text[..<cursor]
        let words = String(start).split(omittingEmptySubsequences: false, whereSeparator: \.isWhitespace)
        let last = words.last ?? ""
        guard words.count >= 2, let name = words.first?.lowercased(), Self.keyCommands.contains(name),
            !start.contains(where: { "'\"\\".contains($0) }),
            words.count == 2 || (name != "put" && name != "set")
        else { return nil }
        return String(last)
    }

    /// Completes the word before the cursor to the one of `keys`, or to what all have in common; they are all that
    /// begin with it if `isAll`.
    mutating func offer(_ keys: [String], isAll: Bool) -> Action {
        guard let word = keyStart.map(Array.init) else { return .none }
        let matches = keys.map(Array.init).filter { $0.starts(with: word) }
        guard let first = matches.first else { return .none }
        if isAll, matches.count == 1 { return replace(word, with: Array(Self.quoted(String(first))) + [" "]) }
        let common = matches.dropFirst().reduce(first[...]) { common, other in
            common.prefix(zip(common, other).prefix { $0 == $1 }.count)
        }
        let isPlain = Self.quoted(String(common)) == String(common)
        if isAll, isPlain, common.count > word.count { return replace(word, with: Array(common)) }
        let shown = matches.prefix(Self.candidatesMax).map { Text.escaped(ProgramArguments.bytes(String($0))) }
        return .candidates(shown + (isAll && matches.count <= Self.candidatesMax ? [] : ["…"]))
    }

    private mutating func replace(_ word: [Character], with new: [Character]) -> Action {
        text.replaceSubrange(cursor - word.count..<cursor, with: new)
        cursor += new.count - word.count
        return .redraw
    }

    /// A key as it must be typed.
    private static func quoted(_ key: String) -> String {
        let special: (Unicode.Scalar) -> Bool = {
            $0.value < 33 || $0.value == 127 || "'\"\\".unicodeScalars.contains($0)
        }
        guard key.isEmpty || key.unicodeScalars.contains(where: special) else { return key }
        var text = "\""
        for scalar in key.unicodeScalars {
            switch scalar {
            case "\"", "\\": text += "\\" + String(scalar)
            case " ": text += " "
            case _ where scalar.value < 32 || scalar.value == 127:
                let digits = String(scalar.value, radix: 16, uppercase: true)
                text += "\\x" + (digits.count < 2 ? "0" : "") + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text + "\""
    }

    // MARK: Showing

    /// The part of the line that fits into `columns` around the cursor, and the cursor's column in it.
    func window(columns: Int) -> (text: String, cursor: Int) {
        let room = max(1, columns)
        let text = text.map(Self.shown)
        let widths = text.map { $0.reduce(0) { $0 + Self.columns($1) } }
        var start = cursor
        var before = 0
        // As much as fits before the cursor, in two thirds of the room once the line is longer than that.
        let isWhole = widths.reduce(0, +) < room
        while start > 0, before + widths[start - 1] < (isWhole ? room : max(1, room * 2 / 3)) {
            start -= 1
            before += widths[start]
        }
        var end = cursor
        var used = before
        while end < text.count, used + widths[end] < room {
            used += widths[end]
            end += 1
        }
        return (text[start..<end].joined(), before)
    }

    /// What a terminal shows of a character: of a byte that is no text, `\\xE9`.
    private static func shown(_ character: Character) -> String {
        let bytes = ProgramArguments.bytes(String(character))
        return bytes.text == nil ? Text.escaped(bytes) : String(character)
    }

    /// Columns a character takes on a terminal: 2 for East Asian wide characters and emoji, 0 for lone combining marks.
    static func columns(_ character: Character) -> Int {
        guard let scalar = character.unicodeScalars.first else { return 0 }
        switch scalar.value {
        case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F,
            0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1F64F, 0x1F680...0x1F6FF, 0x1F900...0x1F9FF,
            0x20000...0x3FFFD:
            return 2
        case 0x0300...0x036F, 0x200B...0x200F, 0xFE00...0xFE0F: return 0
        default: return 1
        }
    }
}
