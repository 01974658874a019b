// A command taken apart once, so that writing one is a copy, a few digits and a value. One engine's thread.

import Foundation
import KVBase

/// The bytes of the whole request, its keys' digits all zero, and where digits and values go.
struct CommandTemplate {
    enum Place: String, CaseIterable {
        case key = "__key__"
        case prefix = "__prefix__"
        case value = "__data__"
    }

    struct Patch {
        var place: Place
        /// Where a value begins, where digits end.
        var at: Int
        /// A word that names keys or prefixes has one number; this is its first place.
        var drawsNumber: Bool
    }

    let start: UnsafeMutableRawPointer
    let count: Int
    let patches: [Patch]
    /// Where the digits of the first patch end: all there is to patch in a command that has only a key.
    let keyEnd: Int

    /// Numbers follow the workload's key prefix, `prefixDigits` of them in a prefix; values have its greatest length.
    /// `arguments` is above the number of words when more are written behind the template.
    init(_ words: [String], _ workload: Workload, prefixDigits: Int = 0, arguments: Int? = nil) {
        var bytes = Array("*\(arguments ?? words.count)\r\n".utf8)
        var patches: [Patch] = []
        for word in words {
            var text: [UInt8] = []
            var inWord: [Patch] = []
            var rest = Substring(word)
            while let (place, range) = CommandTemplate.next(in: rest) {
                text += Array(rest[..<range.lowerBound].utf8)
                let (digits, value) = (workload.digits, workload.valueBytesMax)
                let length = place == .value ? value : place == .key ? digits : prefixDigits
                if place != .value { text += Array(workload.keyPrefix.utf8) }
                let draws = place != .value && !inWord.contains { $0.place != .value }
                let at = place == .value ? text.count : text.count + length
                inWord.append(Patch(place: place, at: at, drawsNumber: draws))
                text += [UInt8](repeating: 48, count: length)
                rest = rest[range.upperBound...]
            }
            text += Array(rest.utf8)
            bytes += Array("$\(text.count)\r\n".utf8)
            for var patch in inWord {
                patch.at += bytes.count
                patches.append(patch)
            }
            bytes += text + Array("\r\n".utf8)
        }
        count = bytes.count
        self.patches = patches
        keyEnd = patches.first?.at ?? 0
        start = .allocate(byteCount: count, alignment: 8)
        bytes.withUnsafeBytes { start.copyMemory(from: $0.baseAddress!, byteCount: bytes.count) }
    }

    private static func next(in text: Substring) -> (Place, Range<Substring.Index>)? {
        Place.allCases.compactMap { place in text.range(of: place.rawValue).map { (place, $0) } }
            .min { $0.1.lowerBound < $1.1.lowerBound }
    }
}
