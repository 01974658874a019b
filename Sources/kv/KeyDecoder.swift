// Turns a terminal's bytes into keys; escape sequences and UTF-8 may be cut anywhere. Pure.

struct KeyDecoder {
    /// Bytes of an unfinished sequence or character; longer ones are given up.
    static let pendingBytesMax = 32

    private var pending: [UInt8] = []

    /// Whether an escape character waits for what may follow it. After a pause call ``flush()``.
    var isWaiting: Bool { !pending.isEmpty }

    mutating func feed(_ bytes: [UInt8]) -> [LineEditor.Key] {
        var keys: [LineEditor.Key] = []
        for byte in bytes { take(byte, &keys) }
        return keys
    }

    /// Nothing more comes: what waits is no key, except that bytes of text are kept, whatever they are.
    mutating func flush() -> [LineEditor.Key] {
        defer { pending = [] }
        return pending.first == 27 ? [] : pending.map(Self.key)
    }

    private mutating func take(_ byte: UInt8, _ keys: inout [LineEditor.Key]) {
        // The beginning of a character that this byte does not carry on: no UTF-8, and text all the same.
        if let first = pending.first, first >= 0x80, byte & 0xC0 != 0x80 { keys += flush() }
        pending.append(byte)
        if let complete = complete() {
            keys += complete
            pending = []
        } else if pending.count >= Self.pendingBytesMax {
            pending = []
        }
    }

    /// A byte that is no part of valid UTF-8, as the command line carries it (`ProgramArguments`).
    private static func key(_ byte: UInt8) -> LineEditor.Key { .character(Character(ProgramArguments.text([byte]))) }

    /// The keys that `pending` is, usually one; nil while it may still become one.
    private func complete() -> [LineEditor.Key]? {
        let first = pending[0]
        if first == 27 { return escape().map { [$0] } }
        if first < 32 || first == 127 { return [control(first)] }
        let length =
            switch first {
            case 0xC2...0xDF: 2
            case 0xE0...0xEF: 3
            case 0xF0...0xF4: 4
            default: 1
            }
        guard pending.count >= length else { return nil }
        return ProgramArguments.text(pending).unicodeScalars.map { .character(Character($0)) }
    }

    private func control(_ byte: UInt8) -> LineEditor.Key {
        switch byte {
        case 1: .home
        case 2: .left
        case 3: .interrupt
        case 4: .endOfInput
        case 5: .end
        case 6: .right
        case 7: .endSearch
        case 8, 127: .backspace
        case 9: .tab
        case 10, 13: .enter
        case 11: .killToEnd
        case 12: .clearScreen
        case 14: .down
        case 16: .up
        case 18: .searchBack
        case 21: .killToStart
        case 23: .killWord
        case 25: .yank
        case 26: .suspend
        default: .ignored
        }
    }

    private func escape() -> LineEditor.Key? {
        guard pending.count >= 2 else { return nil }
        switch pending[1] {
        case UInt8(ascii: "["):
            guard pending.count >= 3, let last = pending.last, (64...126).contains(last) else { return nil }
            return sequence(last, String(decoding: pending[2..<pending.count - 1], as: UTF8.self))
        case UInt8(ascii: "O"):
            guard pending.count >= 3 else { return nil }
            return sequence(pending[2], "")
        case UInt8(ascii: "b"): return .wordLeft
        case UInt8(ascii: "f"): return .wordRight
        case 8, 127: return .killWord
        default: return .ignored
        }
    }

    private func sequence(_ last: UInt8, _ parameters: String) -> LineEditor.Key {
        let isWord = parameters.hasSuffix(";5") || parameters.hasSuffix(";3")
        switch last {
        case UInt8(ascii: "A"): return .up
        case UInt8(ascii: "B"): return .down
        case UInt8(ascii: "C"): return isWord ? .wordRight : .right
        case UInt8(ascii: "D"): return isWord ? .wordLeft : .left
        case UInt8(ascii: "H"): return .home
        case UInt8(ascii: "F"): return .end
        case UInt8(ascii: "~"):
            switch parameters {
            case "1", "7": return .home
            case "4", "8": return .end
            case "3": return .delete
            default: return .ignored
            }
        default: return .ignored
        }
    }
}
