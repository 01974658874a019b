// The words of the command line byte for byte, whether or not they are text. Pure but for `given`; any thread.

import KVClient

/// The argument parser takes text, and text cannot hold every byte: a byte that is no part of valid UTF-8 is carried as
/// one of 256 characters at the end of the last private plane, and so is each byte of those characters themselves.
enum ProgramArguments {
    private static let first: UInt32 = 0x10FE00

    /// What the program was started with, without its name.
    static var given: [String] {
        (1..<max(1, Int(CommandLine.argc))).compactMap { i in CommandLine.unsafeArgv[i].map { text(bytes(of: $0)) } }
    }

    private static func bytes(of word: UnsafePointer<CChar>) -> [UInt8] {
        var bytes: [UInt8] = []
        while word[bytes.count] != 0 { bytes.append(UInt8(bitPattern: word[bytes.count])) }
        return bytes
    }

    static func text(_ bytes: [UInt8]) -> String {
        var text = ""
        var rest = bytes[...]
        while !rest.isEmpty {
            var decoder = UTF8()
            var iterator = rest.makeIterator()
            if case .scalarValue(let scalar) = decoder.decode(&iterator), scalar.value & ~0xFF != first {
                text.unicodeScalars.append(scalar)
                rest.removeFirst(UTF8.width(scalar))
            } else {
                text.unicodeScalars.append(Unicode.Scalar(first + UInt32(rest.removeFirst()))!)
            }
        }
        return text
    }

    /// The bytes that `text` made this of.
    static func bytes(_ text: String) -> KVBytes {
        var bytes: [UInt8] = []
        for scalar in text.unicodeScalars {
            if scalar.value & ~0xFF == first {
                bytes.append(UInt8(truncatingIfNeeded: scalar.value))
            } else {
                bytes += Array(String(scalar).utf8)
            }
        }
        return KVBytes(bytes)
    }
}
