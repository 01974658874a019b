// Bytes from a terminal become keys, however reads cut them. A value owned by one front end.

package enum Key: Equatable, Sendable {
    /// Printable text, usually one scalar.
    case text(String)
    case enter, tab, backspace, delete, escape
    case left, right, up, down, home, end, wordLeft, wordRight
    case control(Character)
    case alt(Character)
    /// Everything between the marks of a bracketed paste.
    case paste(String)
}

package struct KeyParser: Sendable {
    private enum State { case ground, escape, csi, ss3 }

    private var state = State.ground
    private var parameters: [UInt8] = []
    private var scalar: [UInt8] = []
    private var scalarLength = 0
    private var pasted: [UInt8]?
    static let parametersMax = 32
    static let pasteBytesMax = 64 * 1024
    private static let pasteEnd = Array("\u{1B}[201~".utf8)

    package init() {}

    /// True when an Escape is pending that may be the key itself: after `escapeTimeoutMillis` call `flush`.
    package var isUndecided: Bool { state != .ground && pasted == nil }
    package static let escapeTimeoutMillis: Int64 = 50

    package mutating func flush() -> [Key] {
        guard isUndecided else { return [] }
        let wasEscape = state == .escape
        state = .ground
        parameters = []
        return wasEscape ? [.escape] : []
    }

    package mutating func feed(_ bytes: some Sequence<UInt8>) -> [Key] {
        var keys: [Key] = []
        for byte in bytes { feed(byte, &keys) }
        return keys
    }

    private mutating func feed(_ byte: UInt8, _ keys: inout [Key]) {
        if pasted != nil { return feedPaste(byte, &keys) }
        switch state {
        case .ground: ground(byte, &keys)
        case .escape: escape(byte, &keys)
        case .ss3:
            state = .ground
            if let key = KeyParser.final(byte, modifier: 1) { keys.append(key) }
        case .csi:
            if (0x40...0x7E).contains(byte) {
                state = .ground
                csi(byte, &keys)
            } else if byte == 0x1B {
                state = .escape
            } else if parameters.count < KeyParser.parametersMax {
                parameters.append(byte)
            } else {
                state = .ground
            }
        }
    }

    private mutating func ground(_ byte: UInt8, _ keys: inout [Key]) {
        if scalarLength > 0 {
            if byte & 0xC0 == 0x80 {
                scalar.append(byte)
                if scalar.count == scalarLength { finishScalar(&keys) }
                return
            }
            finishScalar(&keys)
        }
        switch byte {
        case 0x1B:
            state = .escape
        case 0x0D, 0x0A: keys.append(.enter)
        case 0x09: keys.append(.tab)
        case 0x7F, 0x08: keys.append(.backspace)
        case 0..<0x20: keys.append(.control(Character(Unicode.Scalar(byte + 0x60))))
        case 0x20..<0x7F: keys.append(.text(String(Character(Unicode.Scalar(byte)))))
        case 0xC2...0xF4:
            scalar = [byte]
            scalarLength = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : 2
        default: break
        }
    }

    private mutating func finishScalar(_ keys: inout [Key]) {
        defer { (scalar, scalarLength) = ([], 0) }
        // An incomplete or overlong sequence is dropped, not shown as a replacement character.
        if let text = String(validating: scalar, as: UTF8.self) { keys.append(.text(text)) }
    }

    private mutating func escape(_ byte: UInt8, _ keys: inout [Key]) {
        state = .ground
        switch byte {
        case UInt8(ascii: "["):
            state = .csi
            parameters = []
        case UInt8(ascii: "O"): state = .ss3
        case 0x1B:
            keys.append(.escape)
            state = .escape
        case 0x7F, 0x08: keys.append(.alt("\u{7F}"))
        case 0x20..<0x7F: keys.append(.alt(Character(Unicode.Scalar(byte))))
        default: ground(byte, &keys)
        }
    }

    private mutating func csi(_ final: UInt8, _ keys: inout [Key]) {
        let numbers = parameters.split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false)
            .map { Int(String(decoding: $0, as: UTF8.self)) ?? 1 }
        parameters = []
        let modifier = numbers.count > 1 ? numbers[1] : 1
        guard final == UInt8(ascii: "~") else {
            if let key = KeyParser.final(final, modifier: modifier) { keys.append(key) }
            return
        }
        switch numbers.first ?? 0 {
        case 1, 7: keys.append(.home)
        case 4, 8: keys.append(.end)
        case 3: keys.append(.delete)
        case 200: pasted = []
        default: break
        }
    }

    private static func final(_ byte: UInt8, modifier: Int) -> Key? {
        switch byte {
        case UInt8(ascii: "A"): .up
        case UInt8(ascii: "B"): .down
        case UInt8(ascii: "C"): modifier >= 3 ? .wordRight : .right
        case UInt8(ascii: "D"): modifier >= 3 ? .wordLeft : .left
        case UInt8(ascii: "H"): .home
        case UInt8(ascii: "F"): .end
        case UInt8(ascii: "M"): .enter
        default: nil
        }
    }

    private mutating func feedPaste(_ byte: UInt8, _ keys: inout [Key]) {
        pasted!.append(byte)
        if byte == UInt8(ascii: "~"), pasted!.suffix(KeyParser.pasteEnd.count).elementsEqual(KeyParser.pasteEnd) {
            let text = String(decoding: pasted!.dropLast(KeyParser.pasteEnd.count), as: UTF8.self)
            pasted = nil
            keys.append(.paste(text))
        } else if pasted!.count > KeyParser.pasteBytesMax {
            // Keep looking for the end mark, forget what no command line can use.
            pasted!.removeSubrange(1024..<(pasted!.count - 64))
        }
    }
}
