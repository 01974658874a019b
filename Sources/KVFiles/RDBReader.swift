// Reads the databases of Redis and its kin, item by item. Nothing in a file is believed. One thread.

package import KVBase

/// What a file of pairs holds, in its order.
package enum FileItem: Equatable, Sendable {
    case pair(FilePair)
    /// A key of another type, which was passed over.
    case other(type: String)
    case command([Bytes])
}

package struct FilePair: Equatable, Sendable {
    package var database: Int
    package var key: Bytes
    package var value: Bytes
    /// In milliseconds since 1970; nil: never.
    package var deadline: Int64?

    package init(database: Int, key: Bytes, value: Bytes, deadline: Int64? = nil) {
        (self.database, self.key, self.value, self.deadline) = (database, key, value, deadline)
    }
}

package struct RDBReader {
    package static let versions = 2...12
    package static let magic = Array("REDIS".utf8)
    /// Longest string of Redis.
    static let stringBytesMax = 512 * 1024 * 1024
    /// Checksums are since this version.
    private static let versionWithChecksum = 5

    private enum Opcode {
        /// Of Redis Enterprise: when a key was used.
        static let used: UInt8 = 107
        static let slotImport: UInt8 = 243
        static let slotInfo: UInt8 = 244
        static let function: UInt8 = 245
        static let functionEarly: UInt8 = 246
        static let moduleAux: UInt8 = 247
        static let idle: UInt8 = 248
        static let frequency: UInt8 = 249
        static let auxiliary: UInt8 = 250
        static let sizes: UInt8 = 251
        static let expiresMillis: UInt8 = 252
        static let expiresSeconds: UInt8 = 253
        static let database: UInt8 = 254
        static let end: UInt8 = 255
    }

    let file: InputFile
    package private(set) var version = 0
    private var database = 0
    private var deadline: Int64?
    package private(set) var isDone = false
    private let checksOnly: Bool

    /// Reads the first nine bytes. `checksOnly`: values are passed over, not kept.
    package init(_ file: InputFile, checksOnly: Bool = false) throws(FileFault) {
        (self.file, self.checksOnly) = (file, checksOnly)
        file.crc = CRC64()
        guard try file.bytes(5) == RDBReader.magic else { throw file.fault("it is no RDB file", at: 0) }
        let digits = String(decoding: try file.bytes(4), as: UTF8.self)
        guard digits.allSatisfy({ $0.isASCII && $0.isNumber }), let version = Int(digits) else {
            throw file.fault("'\(digits)' is no version of RDB", at: 5)
        }
        guard RDBReader.versions.contains(version) else {
            let known = "\(RDBReader.versions.lowerBound) to \(RDBReader.versions.upperBound)"
            throw file.fault("version \(version) of RDB; this release reads \(known)", at: 5)
        }
        self.version = version
    }

    /// The next item; nil at the end, when the checksum is right.
    package mutating func next() throws(FileFault) -> FileItem? {
        while !isDone {
            let at = file.offset
            let opcode = try file.byte()
            switch opcode {
            case Opcode.expiresSeconds:
                deadline = Int64(Int32(bitPattern: UInt32(try file.number(bytes: 4)))) * 1000
            case Opcode.expiresMillis: deadline = Int64(bitPattern: try file.number(bytes: 8))
            case Opcode.database: database = try count("a database's number", max: Int(Int32.max))
            case Opcode.sizes: for _ in 0..<2 { _ = try length() }
            case Opcode.slotInfo: for _ in 0..<3 { _ = try length() }
            case Opcode.auxiliary: for _ in 0..<2 { try skipString() }
            case Opcode.function:
                try skipString()
                return .other(type: "function")
            case Opcode.idle, Opcode.used: _ = try length()
            case Opcode.frequency: _ = try file.byte()
            case Opcode.moduleAux:
                _ = try length()
                try skipModule()
            case Opcode.functionEarly, Opcode.slotImport:
                throw file.fault("opcode \(opcode), which this release does not read", at: at)
            case Opcode.end:
                try end()
                return nil
            default:
                defer { deadline = nil }
                return try item(type: opcode, at: at)
            }
        }
        return nil
    }

    private mutating func end() throws(FileFault) {
        isDone = true
        guard version >= RDBReader.versionWithChecksum else { return }
        file.takeIntoCRC()
        let computed = file.crc!.value
        file.crc = nil
        let at = file.offset
        let found = try file.number(bytes: 8)
        // 0: its writer was told to leave it out.
        guard found == 0 || found == computed else {
            throw file.fault("the checksum is wrong: the file is damaged", at: at)
        }
    }

    // MARK: Lengths and strings

    private enum Length {
        case plain(UInt64)
        case integer(bytes: Int)
        case compressed
    }

    private func lengthOrKind() throws(FileFault) -> Length {
        let at = file.offset
        let first = try file.byte()
        switch first >> 6 {
        case 0: return .plain(UInt64(first & 0x3F))
        case 1: return .plain(UInt64(first & 0x3F) << 8 | UInt64(try file.byte()))
        case 2:
            guard first == 0x80 || first == 0x81 else { throw file.fault("a length of an unknown form", at: at) }
            return .plain(first == 0x80 ? try bigEndian(4) : try bigEndian(8))
        default:
            switch first & 0x3F {
            case 0: return .integer(bytes: 1)
            case 1: return .integer(bytes: 2)
            case 2: return .integer(bytes: 4)
            case 3: return .compressed
            default: throw file.fault("a string of an unknown form", at: at)
            }
        }
    }

    private func bigEndian(_ count: Int) throws(FileFault) -> UInt64 {
        var value: UInt64 = 0
        for _ in 0..<count { value = value << 8 | UInt64(try file.byte()) }
        return value
    }

    func length() throws(FileFault) -> UInt64 {
        let at = file.offset
        guard case .plain(let value) = try lengthOrKind() else {
            throw file.fault("no length where one must be", at: at)
        }
        return value
    }

    /// A number of things that follow.
    func count(_ what: String, max: Int) throws(FileFault) -> Int {
        let at = file.offset
        let value = try length()
        guard value <= UInt64(max) else { throw file.fault("\(what) of \(value)", at: at) }
        return Int(value)
    }

    private func compressedLengths() throws(FileFault) -> (from: Int, to: Int) {
        let at = file.offset
        let from = try count("a compressed length", max: RDBReader.stringBytesMax)
        let to = try count("a length", max: RDBReader.stringBytesMax)
        guard to <= from * LZF.expansionMax else { throw file.fault("\(to) bytes out of \(from)", at: at) }
        return (from, to)
    }

    func string() throws(FileFault) -> Bytes {
        let at = file.offset
        switch try lengthOrKind() {
        case .plain(let length):
            guard length <= UInt64(RDBReader.stringBytesMax) else {
                throw file.fault("a string of \(length) bytes", at: at)
            }
            return Bytes(try file.bytes(Int(length)))
        case .integer(let bytes):
            let raw = try file.number(bytes: bytes)
            let shift = UInt64(64 - 8 * bytes)
            return Bytes(String(Int64(bitPattern: raw << shift) >> Int64(shift)))
        case .compressed:
            let (from, to) = try compressedLengths()
            guard let bytes = LZF.expanded(try file.bytes(from), count: to) else {
                throw file.fault("a compressed string is damaged", at: at)
            }
            return Bytes(bytes)
        }
    }

    func skipString() throws(FileFault) {
        let at = file.offset
        switch try lengthOrKind() {
        case .plain(let length):
            guard length <= UInt64(RDBReader.stringBytesMax) else {
                throw file.fault("a string of \(length) bytes", at: at)
            }
            try file.skip(Int(length))
        case .integer(let bytes): try file.skip(bytes)
        case .compressed: try file.skip(try compressedLengths().from)
        }
    }

    // MARK: Keys

    private func item(type: UInt8, at: Int) throws(FileFault) -> FileItem {
        guard let kind = RDBType(rawValue: type) else {
            throw file.fault("type \(type), which this release does not know; what follows cannot be read", at: at)
        }
        guard kind == .string else {
            try skipString()
            try skip(kind)
            return .other(type: kind.name)
        }
        let key = try string()
        // A compressed value is looked at in any case: the server is asked for nothing before all was.
        let value = try string()
        return .pair(
            FilePair(database: database, key: key, value: checksOnly ? "" : value, deadline: deadline))
    }
}
