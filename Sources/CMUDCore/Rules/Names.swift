// The grammar of player names and identifiers. Pure, any thread.

package import KVBase

package enum Names {
    package static let lengthMin = 2
    package static let lengthMax = 16

    /// Words nobody may be called: they would read as a command, a rank, a place or a group of people.
    static let reserved: Set<String> = {
        var words: Set<String> = [
            "all", "me", "everyone", "nobody", "someone", "system", "you", "cmud", "admin", "root",
        ]
        words.formUnion(GameCommand.allCases.flatMap { [$0.rawValue] + $0.aliases })
        words.formUnion(Rank.allCases.map(\.key))
        words.formUnion(Place.allCases.map(\.key))
        return words
    }()

    /// What is wrong with a wished-for name, nil when it is fine.
    package static func fault(_ name: String) -> String? {
        let bytes = Array(name.utf8)
        if bytes.count < lengthMin { return "A name has at least \(lengthMin) characters" }
        if bytes.count > lengthMax { return "A name has at most \(lengthMax) characters" }
        guard isLetter(bytes[0]) else { return "A name begins with a letter from A to Z" }
        guard bytes.allSatisfy({ isLetter($0) || isDigit($0) || $0 == UInt8(ascii: "-") }) else {
            return "A name is made of letters from A to Z, digits and hyphens"
        }
        if reserved.contains(name.lowercased()) { return "\"\(name)\" means something else here" }
        return nil
    }

    /// The form that names are compared in and that keys carry.
    package static func canonical(_ name: String) -> String { name.lowercased() }

    private static func isLetter(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) && byte < 0x80
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

    /// Thirteen characters of base 32 for 64 random bits: the identity of a character or of a session.
    package static func identifier(_ bits: UInt64) -> String {
        let digits = Array("abcdefghijklmnopqrstuvwxyz234567".utf8)
        var rest = bits
        let bytes = (0..<13).map { _ in
            defer { rest >>= 5 }
            return digits[Int(rest & 31)]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    package static func isIdentifier(_ text: some StringProtocol) -> Bool {
        text.utf8.count == 13
            && text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x32...0x37).contains($0) }
    }
}

/// At most `burst` events at once and one more every `refillMillis`: what a player may say, shout or walk.
package struct TokenBucket: Sendable {
    private let burst: Double
    private let refillMillis: Double
    private var tokens: Double
    private var updated: Millis = 0

    package init(burst: Int, refillMillis: Int) {
        (self.burst, self.refillMillis) = (Double(burst), Double(refillMillis))
        tokens = Double(burst)
    }

    /// Nil when the event may happen now, else the milliseconds to wait.
    package mutating func take(now: Millis) -> Millis? {
        if updated == 0 { updated = now }
        tokens = min(burst, tokens + Double(max(0, now - updated)) / refillMillis)
        updated = max(now, updated)
        guard tokens < 1 else {
            tokens -= 1
            return nil
        }
        return max(1, Millis(((1 - tokens) * refillMillis).rounded(.up)))
    }
}
