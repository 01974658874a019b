// Strings that Redis has compressed. Pure, any thread.

/// LibLZF's format: runs of up to 32 literals, and references of up to 264 bytes that lie up to 8 KiB back.
package enum LZF {
    /// A reference of three bytes stands for at most so many.
    package static let expansionMax = 264

    /// Exactly `count` bytes, or nil if that is not what the input stands for. O(count).
    package static func expanded(_ input: [UInt8], count: Int) -> [UInt8]? {
        // No length is believed that the input cannot stand for.
        guard count >= 0, count <= input.count * expansionMax else { return nil }
        var output: [UInt8] = []
        output.reserveCapacity(count)
        var at = 0
        while at < input.count {
            let control = Int(input[at])
            at += 1
            if control < 32 {
                let end = at + control + 1
                guard end <= input.count, output.count + control + 1 <= count else { return nil }
                output.append(contentsOf: input[at..<end])
                at = end
                continue
            }
            var length = control >> 5
            if length == 7 {
                guard at < input.count else { return nil }
                length += Int(input[at])
                at += 1
            }
            guard at < input.count else { return nil }
            let from = output.count - ((control & 31) << 8 | Int(input[at])) - 1
            at += 1
            length += 2
            guard from >= 0, output.count + length <= count else { return nil }
            // It may reach into what it writes.
            for place in from..<(from + length) { output.append(output[place]) }
        }
        return output.count == count ? output : nil
    }
}
