// The commands the client sends, and how each is written. Values; encoded on the connection's event loop.

import NIOCore

enum Command: Sendable {
    case get(KVBytes)
    case put(KVBytes, KVBytes)
    case delete(KVBytes)
    case list(prefix: KVBytes, limit: Int?, after: KVBytes?)
    /// A command in the caller's own words; `true`: a read, which may be sent again.
    case custom([KVBytes], isRead: Bool)

    /// Whether sending it twice is the same as sending it once, also when others write in between.
    var isRead: Bool {
        switch self {
        case .get, .list: true
        case .put, .delete: false
        case .custom(_, let isRead): isRead
        }
    }

    var isPut: Bool {
        if case .put = self { true } else { false }
    }

    var isDelete: Bool {
        if case .delete = self { true } else { false }
    }

    /// Appends the command as a RESP array of bulk strings. A put carries `floor` when it is not zero. O(bytes).
    func encode(into buffer: inout ByteBuffer, floor: Int64) {
        switch self {
        case .get(let key):
            buffer.reserveCapacity(minimumWritableBytes: key.count + 48)
            buffer.writeStaticString("*2\r\n$3\r\nGET\r\n")
            buffer.writeArgument(key)
        case .delete(let key):
            buffer.writeStaticString("*2\r\n$3\r\nDEL\r\n")
            buffer.writeArgument(key)
        case .put(let key, let value):
            buffer.reserveCapacity(minimumWritableBytes: key.count + value.count + 160)
            if floor == 0 {
                buffer.writeStaticString("*4\r\n$3\r\nKVD\r\n$3\r\nPUT\r\n")
            } else {
                buffer.writeStaticString("*6\r\n$3\r\nKVD\r\n$3\r\nPUT\r\n")
            }
            buffer.writeArgument(key)
            buffer.writeArgument(value)
            if floor != 0 {
                buffer.writeStaticString("$5\r\nFLOOR\r\n")
                buffer.writeArgument(KVBytes(String(floor)))
            }
        case .list(let prefix, let limit, let after):
            var arguments: [KVBytes] = ["LIST", prefix]
            if let limit { arguments += ["LIMIT", KVBytes(String(limit))] }
            if let after { arguments += ["AFTER", after] }
            buffer.writeArguments(arguments)
        case .custom(let arguments, _):
            buffer.writeArguments(arguments)
        }
    }
}

extension ByteBuffer {
    fileprivate mutating func writeArguments(_ arguments: [KVBytes]) {
        writeString("*\(arguments.count)\r\n")
        for argument in arguments { writeArgument(argument) }
    }

    /// One bulk string, written with a single check for room: this runs once or twice per call.
    fileprivate mutating func writeArgument(_ argument: KVBytes) {
        let count = argument.count
        writeWithUnsafeMutableBytes(minimumWritableBytes: count + 24) { room in
            room[0] = UInt8(ascii: "$")
            var at = 1 + writeDecimal(count, room, 1)
            room[at] = 13
            room[at + 1] = 10
            at += 2
            argument.array.withUnsafeBytes { bytes in
                if let base = bytes.baseAddress { (room.baseAddress! + at).copyMemory(from: base, byteCount: count) }
            }
            at += count
            room[at] = 13
            room[at + 1] = 10
            return at + 2
        }
    }
}

/// Writes a number that is not negative; returns how many digits it has.
private func writeDecimal(_ value: Int, _ room: UnsafeMutableRawBufferPointer, _ start: Int) -> Int {
    var digits = 1
    var probe = value
    while probe >= 10 {
        probe /= 10
        digits += 1
    }
    var rest = value
    for at in stride(from: start + digits - 1, through: start, by: -1) {
        room[at] = 48 + UInt8(truncatingIfNeeded: rest % 10)
        rest /= 10
    }
    return digits
}
