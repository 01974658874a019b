// SHA-256 and random bytes, from the library that protects the links. Pure; any thread.

import CTLS

package enum SecureHash {
    package static let byteCount = 32

    /// SHA-256. O(bytes).
    package static func sha256(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: byteCount)
        let ended = cs_tls_sha256(bytes.baseAddress, bytes.count, &digest)
        precondition(ended == 0, "memory is short")
        return digest
    }

    /// Whether two digests are equal, in a time that tells nothing of them.
    package static func equal(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        a.count == b.count && cs_tls_equal(a, b, a.count) != 0
    }

    /// Fresh random bytes; nil if the system has none.
    package static func random(_ count: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        return cs_tls_random(&bytes, count) == 0 ? bytes : nil
    }

    package static func hexadecimal(_ bytes: some Collection<UInt8>) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// The bytes of lower case hexadecimal digits, or nil.
    package static func bytes(_ digits: some StringProtocol) -> [UInt8]? {
        let values = digits.utf8.compactMap { digit -> UInt8? in
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
            default: nil
            }
        }
        guard values.count == digits.utf8.count, values.count.isMultiple(of: 2) else { return nil }
        return stride(from: 0, to: values.count, by: 2).map { values[$0] << 4 | values[$0 + 1] }
    }
}
