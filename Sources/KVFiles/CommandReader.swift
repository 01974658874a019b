// Reads commands as Redis's protocol has them, from an append-only file or what redis-cli --pipe takes. One thread.

package import KVBase

package struct CommandReader {
    private static let argumentsMax = Limits.argumentsMax
    private static let argumentBytesMax = Limits.bulkBytesMax
    private static let digitsMax = 10

    private let file: InputFile

    package init(_ file: InputFile) { self.file = file }

    /// The next command; nil at the end. Throws `.short` where the file ends within one.
    package func next() throws(CommandFault) -> [Bytes]? {
        do throws(FileFault) { return try read() } catch {
            // Whoever wrote it was interrupted.
            throw file.isShort ? .short(error) : .bad(error)
        }
    }

    private func read() throws(FileFault) -> [Bytes]? {
        while let first = try file.peek() {
            switch first {
            case UInt8(ascii: "*"): return try command()
            // A note, such as the time: #TS:…
            case UInt8(ascii: "#"): while try file.byte() != 10 {}
            case 13, 10: _ = try file.byte()
            default: throw file.fault("byte \(first), where a command must begin with *")
            }
        }
        return nil
    }

    private func command() throws(FileFault) -> [Bytes] {
        let at = file.offset
        let count = try header(UInt8(ascii: "*"))
        guard (1...CommandReader.argumentsMax).contains(count) else {
            throw file.fault("a command of \(count) arguments", at: at)
        }
        var arguments: [Bytes] = []
        for _ in 0..<count {
            let at = file.offset
            let length = try header(UInt8(ascii: "$"))
            guard (0...CommandReader.argumentBytesMax).contains(length) else {
                throw file.fault("an argument of \(length) bytes", at: at)
            }
            arguments.append(Bytes(try file.bytes(length)))
            try endOfLine()
        }
        return arguments
    }

    private func header(_ sign: UInt8) throws(FileFault) -> Int {
        let at = file.offset
        guard try file.byte() == sign else { throw file.fault("no \(Character(UnicodeScalar(sign)))", at: at) }
        var (value, digits) = (0, 0)
        while let byte = try file.peek(), (48...57).contains(byte) {
            _ = try file.byte()
            value = 10 * value + Int(byte - 48)
            digits += 1
            guard digits <= CommandReader.digitsMax else { throw file.fault("too large a number", at: at) }
        }
        // At the end of the file it is not wrong, but short.
        if digits == 0, try file.peek() == nil { _ = try file.byte() }
        guard digits > 0 else { throw file.fault("no number", at: file.offset) }
        try endOfLine()
        return value
    }

    private func endOfLine() throws(FileFault) {
        let at = file.offset
        guard try file.byte() == 13, try file.byte() == 10 else { throw file.fault("no end of a line", at: at) }
    }
}

package enum CommandFault: Error, Equatable {
    /// The file ends in the middle of a command; those before it are whole.
    case short(FileFault)
    case bad(FileFault)
}
