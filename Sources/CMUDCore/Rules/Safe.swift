// The only door by which bytes that somebody else chose become text on a screen. Pure, any thread.

import Foundation

/// Text that went through `Safe.text`: no control, no format character, bounded width. Events carry foreign text only
/// as this type, so a renderer cannot be handed anything else.
package struct SafeText: Hashable, Sendable, CustomStringConvertible {
    package let string: String
    fileprivate init(cleaned: String) { string = cleaned }
    package var description: String { string }
    package var isEmpty: Bool { string.isEmpty }
}

package enum Safe {
    /// The widest line anybody may say, in terminal columns.
    package static let columnsMax = 240
    static let marksPerBaseMax = 3
    /// Joiners within one emoji: the largest families and couples have three.
    static let joinsPerEmojiMax = 3
    /// Input looked at; the rest cannot fit into `columnsMax` columns anyway.
    static let bytesMax = 16 * 1024

    /// Decodes strictly (bad bytes become U+FFFD), drops what could steer a terminal, hide or reorder text, collapses
    /// blanks and cuts at `columns`. Applied before a value is put and again after it is read. O(bytes).
    package static func text(_ bytes: some Collection<UInt8>, columns: Int = columnsMax) -> SafeText {
        text(String(decoding: bytes.prefix(bytesMax), as: UTF8.self), columns: columns)
    }

    package static func text(_ raw: String, columns: Int = columnsMax) -> SafeText {
        if let quick = quickASCII(raw, columns: columns) { return quick }
        var kept = String.UnicodeScalarView()
        var marks = 0
        var lastWasBlank = true
        var joins = EmojiJoins()
        for scalar in raw.unicodeScalars.prefix(bytesMax) {
            switch treatment(scalar) {
            case .drop:
                joins.dropped(scalar)
                continue
            case .blank:
                if !lastWasBlank { kept.append(" ") }
                lastWasBlank = true
                marks = 0
                joins = EmojiJoins()
            case .mark:
                // A mark needs a base: at the start or after a blank it would sit on our own text.
                guard !lastWasBlank, marks < marksPerBaseMax else { continue }
                marks += 1
                kept.append(scalar)
            case .keep:
                if joins.joins(scalar) { kept.append(EmojiJoins.joiner) }
                kept.append(scalar)
                lastWasBlank = false
                marks = 0
            }
        }
        let composed = String(kept).precomposedStringWithCanonicalMapping
        return SafeText(cleaned: cut(composed, columns: columns))
    }

    /// A zero-width joiner hides text from the eye, except between two emoji, of which it makes one picture.
    private struct EmojiJoins {
        static let joiner: Unicode.Scalar = "\u{200D}"
        private var lastIsEmoji = false
        private var isJoining = false
        private var count = 0

        mutating func dropped(_ scalar: Unicode.Scalar) {
            if scalar == EmojiJoins.joiner { isJoining = lastIsEmoji }
        }

        /// Whether the joiner before `scalar`, if there was one, stays.
        mutating func joins(_ scalar: Unicode.Scalar) -> Bool {
            let isEmoji = scalar.value > 0xFF && scalar.properties.isEmoji
            let isJoined = isJoining && isEmoji && count < joinsPerEmojiMax
            if isJoined { count += 1 } else if !scalar.properties.isEmojiModifier { count = 0 }
            (lastIsEmoji, isJoining) = (isEmoji, false)
            return isJoined
        }
    }

    /// Most lines are plain ASCII without double blanks; they need no tables.
    private static func quickASCII(_ raw: String, columns: Int) -> SafeText? {
        var previous = UInt8(ascii: " ")
        var count = 0
        for byte in raw.utf8 {
            guard (0x20..<0x7F).contains(byte), !(byte == 0x20 && previous == 0x20) else { return nil }
            previous = byte
            count += 1
            if count > columns { return nil }
        }
        guard count == 0 || previous != 0x20 else { return nil }
        return SafeText(cleaned: raw)
    }

    private enum Treatment { case keep, drop, blank, mark }

    private static func treatment(_ scalar: Unicode.Scalar) -> Treatment {
        if scalar.value == 0x20 || scalar.value == 0x09 || scalar.value == 0x0A { return .blank }
        if (0x21..<0x7F).contains(scalar.value) { return .keep }
        let properties = scalar.properties
        switch properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: return .drop
        case .spaceSeparator: return .blank
        case .nonspacingMark, .enclosingMark, .spacingMark:
            return properties.isDefaultIgnorableCodePoint ? .drop : .mark
        default: return properties.isDefaultIgnorableCodePoint || properties.isNoncharacterCodePoint ? .drop : .keep
        }
    }

    private static func cut(_ text: String, columns: Int) -> String {
        var result = ""
        var used = 0
        for character in text {
            let width = Columns.of(character)
            if used + width > columns { break }
            used += width
            result.append(character)
        }
        while result.last == " " { result.removeLast() }
        return result
    }
}

/// How many terminal columns text takes. Own tables instead of `wcwidth`, which depends on the locale of the process
/// while a gateway serves many terminals at once.
package enum Columns {
    package static func of(_ text: String) -> Int { text.reduce(0) { $0 + of($1) } }

    package static func of(_ character: Character) -> Int {
        if let ascii = character.asciiValue { return ascii < 0x20 || ascii == 0x7F ? 0 : 1 }
        return min(2, character.unicodeScalars.reduce(0) { $0 + of($1) })
    }

    static func of(_ scalar: Unicode.Scalar) -> Int {
        let value = scalar.value
        if value < 0x300 { return value < 0x20 || (0x7F..<0xA0).contains(value) ? 0 : 1 }
        switch scalar.properties.generalCategory {
        case .nonspacingMark, .enclosingMark, .format, .control: return 0
        default: break
        }
        if (0x1160...0x11FF).contains(value) { return 0 }  // Hangul vowels and finals join the syllable before them
        if (0x1F1E6...0x1F1FF).contains(value) { return 1 }  // regional indicators: two make one flag
        for range in wide where range.contains(value) { return 2 }
        return scalar.properties.isEmojiPresentation ? 2 : 1
    }

    private static let wide: [ClosedRange<UInt32>] = [
        0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x33FF, 0x3400...0x4DBF, 0x4E00...0x9FFF, 0xA000...0xA4CF,
        0xA960...0xA97F, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60, 0xFFE0...0xFFE6,
        0x1F300...0x1F64F, 0x1F680...0x1F6FF, 0x1F900...0x1F9FF, 0x20000...0x3FFFD,
    ]
}
