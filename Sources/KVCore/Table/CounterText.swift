// Integers as values hold them: decimal digits of 64 bits, as Redis reads and writes them. Pure, any thread.

package import KVBase

package enum CounterText {
    /// "-9223372036854775808".
    static let bytesMax = 20

    /// The integer that a value holds; nil unless it is written as `with` writes it.
    package static func parse(_ text: UnsafeRawBufferPointer) -> Int64? {
        guard text.count > 0, text.count <= bytesMax else { return nil }
        let isNegative = text[0] == UInt8(ascii: "-")
        let digits = isNegative ? text.dropFirst() : text[...]
        guard let first = digits.first else { return nil }
        // No leading zero, no "-0".
        if first == UInt8(ascii: "0"), digits.count > 1 || isNegative { return nil }
        var sum: Int64 = 0
        for digit in digits {
            guard digit >= 48, digit <= 57 else { return nil }
            let (ten, isTooMuch) = sum.multipliedReportingOverflow(by: 10)
            let one = Int64(digit - 48)
            let (next, isOver) = isNegative ? ten.subtractingReportingOverflow(one) : ten.addingReportingOverflow(one)
            if isTooMuch || isOver { return nil }
            sum = next
        }
        return sum
    }

    /// The integer as text, valid while `body` runs.
    package static func with<R>(_ value: Int64, _ body: (ByteView) -> R) -> R {
        withUnsafeTemporaryAllocation(byteCount: bytesMax, alignment: 1) { buffer in
            var at = bytesMax
            var rest = value.magnitude
            repeat {
                at -= 1
                buffer[at] = UInt8(48 + rest % 10)
                rest /= 10
            } while rest > 0
            if value < 0 {
                at -= 1
                buffer[at] = UInt8(ascii: "-")
            }
            return body(ByteView(buffer.baseAddress.unsafelyUnwrapped + at, bytesMax - at))
        }
    }
}
