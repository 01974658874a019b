// The pattern of KEYS, SCAN and CONFIG GET, compiled once and matched in time linear in the key. One thread at a time.

import Glibc
package import KVBase
import KVRuntime

/// Redis's glob: `?`, `*`, `[abc]`, `[^a-z]`, `\x`. Matching is the extended Shift-And automaton (Navarro and Raffinot,
/// "Flexible Pattern Matching in Strings", 2002, chapter 4): one bit per pattern position, a `*` is a self-loop, one
/// shift per byte of the key and per 64 positions of the pattern. No backtracking, so no pattern can hold the loop
/// (CVE-2022-36021). O(key x pattern / 64); freed by the owner with `deallocate`.
package struct Glob {
    /// Longest pattern accepted: a longest key with each of its bytes escaped. Longer ones get an error reply.
    package static let patternBytesMax = 2 * Limits.keyBytesMax
    static let lengthError: StaticString = "ERR pattern is longer than 131072 bytes"

    /// Bytes that every match starts with; LIST-like commands read only this range of keys.
    package private(set) var prefix: Bytes
    /// Pattern is its literal prefix followed by nothing but stars: everything in the range matches.
    package private(set) var matchesWholeRange: Bool
    /// Pattern has no special byte: only `prefix` itself matches.
    package private(set) var isLiteral: Bool

    private let words: Int
    private let positions: Int
    /// For each word of 64 positions: 256 masks, of the positions each byte may stand at.
    private let masks: UnsafeMutablePointer<UInt64>
    /// `words` of positions with a self-loop, `words` of those that take any byte, `words` that are live.
    private let loops: UnsafeMutablePointer<UInt64>
    private var wildcards: UnsafeMutablePointer<UInt64> { loops + words }
    private var live: UnsafeMutablePointer<UInt64> { loops + 2 * words }

    /// Nil when the pattern is longer than `patternBytesMax`. O(pattern x 256).
    package init?(_ pattern: UnsafeRawBufferPointer) {
        guard pattern.count <= Glob.patternBytesMax else { return nil }
        words = pattern.count / 64 + 1
        masks = .allocate(capacity: words * 256)
        masks.initialize(repeating: 0, count: words * 256)
        loops = .allocate(capacity: words * 3)
        loops.initialize(repeating: 0, count: words * 3)
        var compiler = GlobCompiler(pattern: pattern, masks: masks, loops: loops, wildcards: loops + words)
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
        loops.deallocate()
    }

    /// Matching a long key may take more than a slice: use `resume`.
    package var isLong: Bool { words > 1 && !matchesWholeRange }

    package func matches(_ key: UnsafeRawBufferPointer) -> Bool {
        if matchesWholeRange { return startsWithPrefix(key) }
        if words == 1 { return matchesOneWord(key) }
        var progress = GlobProgress()
        return resume(&progress, key, until: .max).unsafelyUnwrapped
    }

    private func matchesOneWord(_ key: UnsafeRawBufferPointer) -> Bool {
        let (loop, wildcard) = (loops[0], wildcards[0])
        var state: UInt64 = 1
        for byte in key {
            state = (state & (masks[Int(byte)] | wildcard)) << 1 | state & loop
            if state == 0 { return false }
        }
        return state >> UInt64(positions) & 1 == 1
    }

    private func startsWithPrefix(_ key: UnsafeRawBufferPointer) -> Bool {
        key.count >= prefix.count
            && prefix.withBytes { $0.isEmpty || memcmp($0.baseAddress!, key.baseAddress!, $0.count) == 0 }
    }

    /// Words looked at between two looks at the clock: some 50 us.
    private static let wordsPerPiece = 32 * 1024

    /// Goes on with matching `key` until the deadline; nil when it is not finished by then. One key at a time.
    func resume(_ progress: inout GlobProgress, _ key: UnsafeRawBufferPointer, until deadline: Nanos) -> Bool? {
        if matchesWholeRange { return startsWithPrefix(key) }
        // Each position takes one byte.
        guard key.count >= positions else { return false }
        if progress.at == 0 {
            live.update(repeating: 0, count: words)
            live[0] = 1
        }
        while progress.at < key.count {
            let piece = min(key.count - progress.at, max(1, Glob.wordsPerPiece / words))
            for byte in key[progress.at..<progress.at + piece] {
                take(byte, &progress)
                if progress.first > progress.last { return false }
            }
            progress.at += piece
            if progress.at < key.count, deadline != .max, Machine.monotonicNanos > deadline { return nil }
        }
        return live[positions / 64] >> UInt64(positions % 64) & 1 == 1
    }

    /// Moves the live positions on by one byte of the key. Only the words from the first to the last with any are
    /// looked at; words before the first are 0.
    private func take(_ byte: UInt8, _ progress: inout GlobProgress) {
        var carry: UInt64 = 0
        let last = min(progress.last + 1, words - 1)
        var (firstLive, lastLive) = (Int.max, -1)
        for w in progress.first...last {
            let stepped = live[w] & (masks[w * 256 + Int(byte)] | wildcards[w])
            let next = stepped << 1 | carry | live[w] & loops[w]
            carry = stepped >> 63
            live[w] = next
            if next != 0 { (firstLive, lastLive) = (min(firstLive, w), w) }
        }
        (progress.first, progress.last) = (firstLive, lastLive)
    }
}

/// How far matching one key has come.
struct GlobProgress {
    /// Bytes of the key taken.
    var at = 0
    /// Words of the pattern with live positions.
    var first = 0
    var last = 0
}

/// Turns the pattern's text into position masks; follows util.c `stringmatchlen` of Redis 7 where a pattern is odd
/// (an unclosed `[` ends with the pattern, a trailing `\` stands for itself).
private struct GlobCompiler {
    let pattern: UnsafeRawBufferPointer
    let masks: UnsafeMutablePointer<UInt64>
    let loops: UnsafeMutablePointer<UInt64>
    let wildcards: UnsafeMutablePointer<UInt64>
    var position = 0
    var stars = 0
    var prefix: [UInt8] = []
    private var prefixOpen = true

    init(
        pattern: UnsafeRawBufferPointer, masks: UnsafeMutablePointer<UInt64>, loops: UnsafeMutablePointer<UInt64>,
        wildcards: UnsafeMutablePointer<UInt64>
    ) {
        (self.pattern, self.masks, self.loops, self.wildcards) = (pattern, masks, loops, wildcards)
    }

    mutating func run() {
        var i = 0
        while i < pattern.count {
            switch pattern[i] {
            case UInt8(ascii: "*"):
                stars += 1
                prefixOpen = false
                loops[position / 64] |= 1 << UInt64(position % 64)
                i += 1
            case UInt8(ascii: "?"):
                prefixOpen = false
                wildcards[position / 64] |= 1 << UInt64(position % 64)
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

    private func allow(_ byte: UInt8) { masks[position / 64 * 256 + Int(byte)] |= 1 << UInt64(position % 64) }

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
