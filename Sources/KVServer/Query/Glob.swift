// The pattern of KEYS, SCAN and CONFIG GET, compiled once and matched in time linear in the key. One thread at a time.

import Glibc
package import KVBase

/// Redis's glob: `?`, `*`, `[abc]`, `[^a-z]`, `\x`. Matching is the extended Shift-And automaton (Navarro and Raffinot,
/// "Flexible Pattern Matching in Strings", 2002, chapter 4): one bit per pattern position, a `*` is a self-loop, one
/// shift per byte of the key and per 64 positions of the pattern. No backtracking, so no pattern can hold the loop
/// (CVE-2022-36021). O(key x pattern / 64); freed by the owner with `deallocate`.
package struct Glob {
    /// Longest pattern accepted; longer ones get an error reply.
    package static let patternBytesMax = 1024

    /// Bytes that every match starts with; LIST-like commands read only this range of keys.
    package private(set) var prefix: Bytes
    /// Pattern is its literal prefix followed by nothing but stars: everything in the range matches.
    package private(set) var matchesWholeRange: Bool
    /// Pattern has no special byte: only `prefix` itself matches.
    package private(set) var isLiteral: Bool

    private let words: Int
    private let positions: Int
    /// For each byte value `words` words: the positions it may stand at; then `words` words of self-loops.
    private let masks: UnsafeMutablePointer<UInt64>
    private let live: UnsafeMutablePointer<UInt64>

    /// Nil when the pattern is longer than `patternBytesMax`. O(pattern x 256).
    package init?(_ pattern: UnsafeRawBufferPointer) {
        guard pattern.count <= Glob.patternBytesMax else { return nil }
        words = pattern.count / 64 + 1
        masks = .allocate(capacity: words * 257)
        masks.initialize(repeating: 0, count: words * 257)
        live = .allocate(capacity: words)
        var compiler = GlobCompiler(pattern: pattern, masks: masks, words: words)
        compiler.run()
        positions = compiler.position
        prefix = Bytes(compiler.prefix)
        let literal = compiler.prefix.count == compiler.position
        isLiteral = literal && compiler.stars == 0
        matchesWholeRange = literal && compiler.stars > 0
    }

    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard let glob = bytes.withUnsafeBytes({ Glob($0) }) else { return nil }
        self = glob
    }

    package func deallocate() {
        masks.deallocate()
        live.deallocate()
    }

    package func matches(_ key: UnsafeRawBufferPointer) -> Bool {
        if matchesWholeRange { return startsWithPrefix(key) }
        if words == 1 { return matchesOneWord(key) }
        let loops = masks + 256 * words
        for w in 0..<words { live[w] = w == 0 ? 1 : 0 }
        for byte in key {
            let allowed = masks + Int(byte) * words
            var carry: UInt64 = 0
            var any: UInt64 = 0
            for w in 0..<words {
                let stepped = live[w] & allowed[w]
                let next = stepped << 1 | carry | live[w] & loops[w]
                carry = stepped >> 63
                live[w] = next
                any |= next
            }
            if any == 0 { return false }
        }
        return live[positions / 64] >> UInt64(positions % 64) & 1 == 1
    }

    private func matchesOneWord(_ key: UnsafeRawBufferPointer) -> Bool {
        let loops = masks[256]
        var state: UInt64 = 1
        for byte in key {
            state = (state & masks[Int(byte)]) << 1 | state & loops
            if state == 0 { return false }
        }
        return state >> UInt64(positions) & 1 == 1
    }

    private func startsWithPrefix(_ key: UnsafeRawBufferPointer) -> Bool {
        key.count >= prefix.count
            && prefix.withBytes { $0.isEmpty || memcmp($0.baseAddress!, key.baseAddress!, $0.count) == 0 }
    }
}

/// Turns the pattern's text into position masks; follows util.c `stringmatchlen` of Redis 7 where a pattern is odd
/// (an unclosed `[` ends with the pattern, a trailing `\` stands for itself).
private struct GlobCompiler {
    let pattern: UnsafeRawBufferPointer
    let masks: UnsafeMutablePointer<UInt64>
    let words: Int
    var position = 0
    var stars = 0
    var prefix: [UInt8] = []
    private var prefixOpen = true

    init(pattern: UnsafeRawBufferPointer, masks: UnsafeMutablePointer<UInt64>, words: Int) {
        (self.pattern, self.masks, self.words) = (pattern, masks, words)
    }

    mutating func run() {
        var i = 0
        while i < pattern.count {
            switch pattern[i] {
            case UInt8(ascii: "*"):
                stars += 1
                prefixOpen = false
                masks[256 * words + position / 64] |= 1 << UInt64(position % 64)
                i += 1
            case UInt8(ascii: "?"):
                prefixOpen = false
                for byte in 0..<256 { allow(UInt8(byte)) }
                position += 1
                i += 1
            case UInt8(ascii: "["):
                prefixOpen = false
                i = characterClass(from: i + 1)
                position += 1
            case UInt8(ascii: "\\") where i + 1 < pattern.count:
                literal(pattern[i + 1])
                i += 2
            default:
                literal(pattern[i])
                i += 1
            }
        }
    }

    private mutating func literal(_ byte: UInt8) {
        allow(byte)
        if prefixOpen { prefix.append(byte) }
        position += 1
    }

    private func allow(_ byte: UInt8) { masks[Int(byte) * words + position / 64] |= 1 << UInt64(position % 64) }

    private func characterClass(from start: Int) -> Int {
        var i = start
        let negated = i < pattern.count && pattern[i] == UInt8(ascii: "^")
        if negated { i += 1 }
        var chosen = [Bool](repeating: false, count: 256)
        while i < pattern.count {
            if pattern[i] == UInt8(ascii: "\\"), i + 1 < pattern.count {
                chosen[Int(pattern[i + 1])] = true
                i += 2
            } else if pattern[i] == UInt8(ascii: "]") {
                i += 1
                break
            } else if i + 2 < pattern.count, pattern[i + 1] == UInt8(ascii: "-") {
                let (low, high) = (min(pattern[i], pattern[i + 2]), max(pattern[i], pattern[i + 2]))
                for byte in low...high { chosen[Int(byte)] = true }
                i += 3
            } else {
                chosen[Int(pattern[i])] = true
                i += 1
            }
        }
        for byte in 0..<256 where chosen[byte] != negated { allow(UInt8(byte)) }
        return i
    }
}
