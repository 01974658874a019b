// The glob automaton against a plain backtracking matcher, and against time.

import KVBase
import KVTestTraits
import Testing

@testable import KVServer

/// Follows Redis's stringmatchlen line by line; exponential, so only for short inputs.
private func reference(_ p: ArraySlice<UInt8>, _ s: ArraySlice<UInt8>) -> Bool {
    var (p, s) = (p, s)
    while let c = p.first {
        switch c {
        case UInt8(ascii: "*"):
            while p.first == UInt8(ascii: "*") { p = p.dropFirst() }
            if p.isEmpty { return true }
            for k in 0...s.count where reference(p, s.dropFirst(k)) { return true }
            return false
        case UInt8(ascii: "?"):
            guard !s.isEmpty else { return false }
            s = s.dropFirst()
            p = p.dropFirst()
        case UInt8(ascii: "["):
            guard let byte = s.first else { return false }
            p = p.dropFirst()
            let not = p.first == UInt8(ascii: "^")
            if not { p = p.dropFirst() }
            var match = false
            while let d = p.first {
                if d == UInt8(ascii: "\\"), p.count >= 2 {
                    p = p.dropFirst()
                    if p.first == byte { match = true }
                } else if d == UInt8(ascii: "]") {
                    break
                } else if p.count >= 3, p[p.startIndex + 1] == UInt8(ascii: "-") {
                    let (a, b) = (d, p[p.startIndex + 2])
                    if (min(a, b)...max(a, b)).contains(byte) { match = true }
                    p = p.dropFirst(2)
                } else if d == byte {
                    match = true
                }
                p = p.dropFirst()
            }
            if match == not { return false }
            s = s.dropFirst()
            if p.isEmpty { return s.isEmpty }
            p = p.dropFirst()
        default:
            var literal = c
            if c == UInt8(ascii: "\\"), p.count >= 2 {
                p = p.dropFirst()
                literal = p.first!
            }
            guard s.first == literal else { return false }
            s = s.dropFirst()
            p = p.dropFirst()
        }
    }
    return s.isEmpty
}

@Suite(.blocking) struct GlobTests {
    private func matches(_ pattern: [UInt8], _ key: [UInt8]) -> Bool {
        guard let glob = pattern.withUnsafeBytes({ Glob($0) }) else { return false }
        defer { glob.deallocate() }
        return key.withUnsafeBytes { glob.matches($0) }
    }

    private func matches(_ pattern: String, _ key: String) -> Bool { matches(Array(pattern.utf8), Array(key.utf8)) }

    @Test func matchesAsRedisDocumentsIt() {
        #expect(matches("h?llo", "hello") && matches("h?llo", "hallo") && !matches("h?llo", "hllo"))
        #expect(matches("h*llo", "hllo") && matches("h*llo", "heeeello"))
        #expect(matches("h[ae]llo", "hello") && !matches("h[ae]llo", "hillo"))
        #expect(matches("h[^e]llo", "hallo") && !matches("h[^e]llo", "hello"))
        #expect(matches("h[a-b]llo", "hallo") && matches("h[b-a]llo", "hbllo") && !matches("h[a-b]llo", "hcllo"))
        #expect(matches("a\\*b", "a*b") && !matches("a\\*b", "axb"))
        #expect(matches("", "") && !matches("", "a") && matches("*", "") && !matches("?", ""))
    }

    @Test func agreesWithBacktrackingOnRandomPatterns() {
        for seed in 0..<4000 {
            var random = PRNG(seed: UInt64(seed))
            let alphabet = Array("ab*?[]^-\\".utf8)
            let pattern = (0..<random.below(9)).map { _ in alphabet[random.below(alphabet.count)] }
            for _ in 0..<8 {
                let key = (0..<random.below(7)).map { _ in alphabet[random.below(3)] }
                let expected = reference(pattern[...], key[...])
                #expect(
                    matches(pattern, key) == expected,
                    "seed \(seed): pattern \(Bytes(pattern)) key \(Bytes(key)), Redis says \(expected)")
            }
        }
    }

    @Test func agreesAcrossWordBoundaries() {
        for seed in 0..<200 {
            var random = PRNG(seed: UInt64(seed))
            // Literal runs of more than 64 positions with a star or two: the automaton needs several words.
            var pattern: [UInt8] = []
            for _ in 0..<3 {
                pattern += (0..<random.below(60)).map { _ in UInt8(ascii: "a") + UInt8(random.below(2)) }
                if random.chance(0.7) { pattern.append(UInt8(ascii: random.chance(0.5) ? "*" : "?")) }
            }
            var key = pattern.map { $0 == UInt8(ascii: "*") || $0 == UInt8(ascii: "?") ? UInt8(ascii: "b") : $0 }
            if random.chance(0.5), !key.isEmpty { key[random.below(key.count)] = UInt8(ascii: "c") }
            #expect(matches(pattern, key) == reference(pattern[...], key[...]), "seed \(seed)")
        }
    }

    @Test func findsTheLiteralPrefix() {
        for (pattern, prefix, whole, literal) in [
            ("user:*", "user:", true, false), ("user:1", "user:1", false, true), ("a\\*b*", "a*b", true, false),
            ("a?b", "a", false, false), ("*", "", true, false), ("x*y", "x", false, false), ("[a]b", "", false, false),
            ("a**", "a", true, false),
        ] {
            let glob = Glob(pattern)!
            defer { glob.deallocate() }
            #expect(glob.prefix == Bytes(prefix), "\(pattern)")
            #expect(glob.matchesWholeRange == whole && glob.isLiteral == literal, "\(pattern)")
        }
    }

    @Test func hostilePatternsTakeLinearTime() {
        // Exponential for a backtracking matcher: 200 stars, then a byte that never comes.
        let pattern = String(repeating: "a*", count: 200) + "b"
        let key = [UInt8](repeating: UInt8(ascii: "a"), count: 64 * 1024)
        let glob = Glob(pattern)!
        defer { glob.deallocate() }
        #expect(!key.withUnsafeBytes { glob.matches($0) })
        #expect(Glob(String(repeating: "a", count: Glob.patternBytesMax + 1)) == nil)
    }
}
