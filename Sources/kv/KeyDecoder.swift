// Turns a terminal's bytes into keys; escape sequences and UTF-8 may be cut anywhere. Pure.

struct KeyDecoder {
    /// Bytes of an unfinished sequence or character; longer ones are given up.
    static let pendingBytesMax = 32

    private var pending: [UInt8] = []

    /// Whether an escape character waits for what may follow it. After a pause call ``flush()``.
    var isWaiting: Bool { !pending.isEmpty }

    mutating func feed(_ bytes: [UInt8]) -> [LineEditor.Key] {
        var keys: [LineEditor.Key] = []
        for byte in bytes {
            pending.append(byte)
            if let key = complete() {
                keys.append(key)
                pending = []
            } else if pending.count >= Self.pendingBytesMax {
                pending = []
            }
        }
        return keys
    }

    /// Nothing more comes: what waits is no key.
    mutating func flush() { pending = [] }

    /// The key that `pending` is, nil while it may still become one.
    private func complete() -> LineEditor.Key? {
        let first = pending[0]
        if first == 27 { return escape() }
        if first < 32 || first == 127 { return control(first) }
        let length = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 1
        guard pending.count >= length else { return nil }
        guard let text = String(validating: pending, as: UTF8.self), let character = text.first else { return .ignored }
        return .character(character)
    }

    private func control(_ byte: UInt8) -> LineEditor.Key {
        switch byte {
        case 1: .home
        case 2: .left
        case 3: .interrupt
        case 4: .endOfInput
        case 5: .end
        case 6: .right
        case 8, 127: .backspace
        case 9: .tab
        case 10, 13: .enter
        case 11: .killToEnd
        case 12: .clearScreen
        case 14: .down
        case 16: .up
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
