// The frames between two systems: layout and building. Values; one thread at a time.

import KVBase

/// Little endian: body length (4), CRC32C of the body (4), then the body: version (1), type (1), number (2), CRC32C of
/// the length (4), contents by type. The number tells messages in parts apart; elsewhere it is 0. Lengths are checked
/// against a bound before anything is allocated, and memory grows with what has arrived only. A length has a check of
/// its own, as a wrong one is waited for (decision 0189); the version stands where it stands in all versions.
enum LinkFrame {
    static let version: UInt8 = 3
    /// Of what is said after the handshake. Two neighbouring ones shall understand each other.
    static let protocolVersion: UInt16 = 2
    /// A bit for each thing that only some builds can do; none yet.
    static let features: UInt64 = 0
    static let headerBytes = 8
    static let bodyHeaderBytes = 8
    /// Body header, length of the tail or 0 (4), receiver's counter (8), sender's counter (8).
    static let dataOverheadBytes = bodyHeaderBytes + 4 + 16
    static let bodyBytesMax = Limits.messageBytesMax + dataOverheadBytes
    /// A large message crosses in parts of at most this size: smaller on a thin link, so that small messages can go in
    /// between, and never so large that either side holds its loop for long.
    static let partBytes = 64 * 1024
    static let partBytesMin = 4 * 1024
    /// Before the handshake a stranger may make us hold this much.
    static let handshakeBytesMax = 2048

    enum Kind {
        /// Dialer to acceptor, first: see `Hello`. Frames may follow at once.
        static let hello: UInt8 = 1
        /// The answer: see `Welcome`.
        static let welcome: UInt8 = 2
        /// Or that: a code of `RejectCode`, and why not.
        static let reject: UInt8 = 3
        /// A message.
        static let data: UInt8 = 4
        static let ping: UInt8 = 5
        static let pong: UInt8 = 6
        /// As data, with the length of a tail where data has a 0. Parts of the same number bring the tail; other frames
        /// may come between them.
        static let dataWithTail: UInt8 = 7
        static let part: UInt8 = 8
        /// What was sent on the pair's other connection comes before what follows on this one.
        static let moved: UInt8 = 9
    }

    enum RejectCode {
        static let cluster: UInt8 = 1
        /// The dialer reached itself.
        static let itself: UInt8 = 2
        /// Links here are protected, and the dialler's are not.
        static let unprotected: UInt8 = 3
        /// Another system has its name.
        static let name: UInt8 = 4
        /// It speaks another version of the protocol.
        static let version: UInt8 = 5
        /// The dialler's state is of before a restore, or the acceptor's is.
        static let epoch: UInt8 = 6
        static let epochOfAcceptor: UInt8 = 7
        /// What it sent cannot be taken.
        static let message: UInt8 = 8
    }

    /// Appends one frame whose contents `body` writes.
    static func append(_ kind: UInt8, to buffer: inout OutputBuffer, _ body: (inout WireWriter) -> Void) {
        var writer = WireWriter(capacity: 128)
        defer { writer.deallocate() }
        begin(kind, in: &writer.buffer)
        body(&writer)
        seal(UnsafeMutableRawBufferPointer(mutating: writer.buffer.bytes))
        buffer.append(writer.buffer.bytes)
    }

    /// The header of a frame whose length and checksums `seal` fills in.
    private static func begin(_ kind: UInt8, _ number: UInt16 = 0, in buffer: inout OutputBuffer) {
        withUnsafeBytes(of: 0 as UInt64) { buffer.append($0) }
        buffer.append(version)
        buffer.append(kind)
        withUnsafeBytes(of: number.littleEndian) { buffer.append($0) }
        withUnsafeBytes(of: 0 as UInt32) { buffer.append($0) }
    }

    private static func seal(_ frame: UnsafeMutableRawBufferPointer) {
        let length = UInt32(frame.count - headerBytes)
        frame.storeBytes(of: length.littleEndian, as: UInt32.self)
        frame.storeBytes(of: check(ofLength: length).littleEndian, toByteOffset: lengthCheckAt, as: UInt32.self)
        let crc = crc32c(UnsafeRawBufferPointer(rebasing: frame[headerBytes...]))
        frame.storeBytes(of: crc.littleEndian, toByteOffset: 4, as: UInt32.self)
    }

    private static let lengthCheckAt = headerBytes + 4

    private static func check(ofLength length: UInt32) -> UInt32 {
        withUnsafeBytes(of: length.littleEndian) { crc32c($0) }
    }

    /// The length of the body that follows these `headerBytes + bodyHeaderBytes` bytes or more.
    static func length(in frame: UnsafeRawBufferPointer, max: Int) throws(LinkError) -> Int {
        guard frame[headerBytes] == version else { throw .version(frame[headerBytes]) }
        let length = UInt32(littleEndian: frame.loadUnaligned(as: UInt32.self))
        let expected = UInt32(littleEndian: frame.loadUnaligned(fromByteOffset: lengthCheckAt, as: UInt32.self))
        guard check(ofLength: length) == expected else { throw .checksum }
        guard length >= bodyHeaderBytes, length <= max else { throw .length(Int(length)) }
        return Int(length)
    }

    /// Begins a data frame in an empty writer: the payload is appended behind, then `finishData` fills in length and
    /// checksum.
    static func beginData(_ writer: inout WireWriter, target: UInt64, sender: UInt64) {
        begin(Kind.data, in: &writer.buffer)
        writer.write(0 as UInt32)
        writer.write(target)
        writer.write(sender)
    }

    static func finishData(_ writer: inout WireWriter, tailBytes: Int? = nil) {
        let whole = UnsafeMutableRawBufferPointer(mutating: writer.buffer.bytes)
        if let tailBytes {
            whole[headerBytes + 1] = Kind.dataWithTail
            whole.storeBytes(
                of: UInt32(tailBytes).littleEndian, toByteOffset: headerBytes + bodyHeaderBytes, as: UInt32.self)
        }
        seal(whole)
    }
}

extension LinkFrame {
    /// Puts a message's number, which only the link knows, into a frame of type `dataWithTail`.
    static func setNumber(_ number: UInt16, in frame: inout [UInt8]) {
        frame.withUnsafeMutableBytes { whole in
            whole.storeBytes(of: number.littleEndian, toByteOffset: headerBytes + 2, as: UInt16.self)
            seal(whole)
        }
    }

    /// Appends up to `bytes` of a message's tail that begin at `from`; returns where the next part begins.
    static func appendPart(
        of tail: [UInt8], _ number: UInt16, from: Int, bytes: Int, to buffer: inout OutputBuffer
    ) -> Int {
        let end = min(tail.count, from + bytes)
        let start = buffer.count
        buffer.reserve(headerBytes + bodyHeaderBytes + end - from)
        begin(Kind.part, number, in: &buffer)
        tail.withUnsafeBytes { buffer.append(UnsafeRawBufferPointer(rebasing: $0[from..<end])) }
        seal(UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(mutating: buffer.bytes)[start...]))
        return end
    }
}

/// What the dialer says first.
struct Hello: Equatable {
    var cluster: String
    /// Where it says that it is reached; empty if it does not know.
    var address: String
    /// The address it dialled.
    var target: String
    var incarnation: UInt64
    var protocolVersion = LinkFrame.protocolVersion
    var features = LinkFrame.features
    /// The port it listens on, at the address that the acceptor sees; 0 if it does not.
    var port: UInt16
    var name: SystemName
    /// 0 if it has none, or does not say.
    var epoch: UInt64 = 0

    func encode(into writer: inout WireWriter) {
        writer.write(cluster)
        writer.write(address)
        writer.write(target)
        writer.write(incarnation)
        writer.write(protocolVersion)
        writer.write(features)
        writer.write(port)
        writer.write(name)
        writer.write(epoch)
    }

    init(
        cluster: String, address: String, target: String, incarnation: UInt64, port: UInt16 = 0,
        name: SystemName = .none
    ) {
        (self.cluster, self.address, self.target, self.incarnation) = (cluster, address, target, incarnation)
        (self.port, self.name) = (port, name)
    }

    /// Of another version only what all versions have is read.
    init(from contents: UnsafeRawBufferPointer) throws {
        var reader = WireReader(contents)
        (cluster, address, target) = (try reader.readString(), try reader.readString(), try reader.readString())
        (incarnation, protocolVersion, features) = (try reader.read(), try reader.read(), try reader.read())
        (port, name) = (0, .none)
        guard protocolVersion == LinkFrame.protocolVersion else { return }
        (port, name) = (try reader.read(), try SystemName(from: &reader))
        if reader.remaining > 0 { epoch = try reader.read() }
    }
}

/// The acceptor's answer.
struct Welcome: Equatable {
    var address: String
    var incarnation: UInt64
    var protocolVersion = LinkFrame.protocolVersion
    var features = LinkFrame.features
    /// Where the connection comes from, with the port that the dialer listens on; empty if it listens on none.
    var seen: String
    var name: SystemName
    var epoch: UInt64 = 0

    func encode(into writer: inout WireWriter) {
        writer.write(address)
        writer.write(incarnation)
        writer.write(protocolVersion)
        writer.write(features)
        writer.write(seen)
        writer.write(name)
        writer.write(epoch)
    }

    init(address: String, incarnation: UInt64, seen: String = "", name: SystemName = .none) {
        (self.address, self.incarnation, self.seen, self.name) = (address, incarnation, seen, name)
    }

    init(from contents: UnsafeRawBufferPointer) throws {
        var reader = WireReader(contents)
        address = try reader.readString()
        (incarnation, protocolVersion, features) = (try reader.read(), try reader.read(), try reader.read())
        (seen, name) = ("", .none)
        guard protocolVersion == LinkFrame.protocolVersion else { return }
        (seen, name) = (try reader.readString(), try SystemName(from: &reader))
        if reader.remaining > 0 { epoch = try reader.read() }
    }
}

extension WireWriter {
    fileprivate mutating func write(_ name: SystemName) {
        write(name.text)
        write(name.isGiven)
    }
}

extension SystemName {
    fileprivate init(from reader: inout WireReader) throws {
        self.init(try reader.readString(), isGiven: try reader.readBool())
        guard text.isEmpty || SystemName.isUsable(text) else { throw WireError.invalid("no name") }
    }
}

/// Why a link was closed for what arrived on it.
enum LinkError: Error, Equatable, CustomStringConvertible {
    case length(Int)
    case checksum
    case version(UInt8)
    case unexpected(UInt8)
    case malformed
    case cluster(String)
    case rejected(String)
    case itself
    /// It has proved another identity than it gives.
    case borrowed
    case name(String)
    /// One of the two has state of before a restore.
    case epoch(String)
    case protocolVersion(UInt16)
    case stranger(String)
    case tooMany(Int)
    case message(String)
    /// A handshake that did not end.
    case silent(seconds: Int)
    /// A link that was in the way of others.
    case idle
    /// Its first message was said before, or is none.
    case recording
    /// A handshake that was in the way of others.
    case handshakes
    /// The name it gives, and that of its certificate.
    case certified(String, String)

    var description: String {
        switch self {
        case .length(let n): "a frame of \(n) bytes"
        case .checksum: "a wrong checksum"
        case .version(let v): "frame version \(v), not \(LinkFrame.version)"
        case .unexpected(let kind): "a frame of type \(kind) out of place"
        case .malformed: "a malformed frame"
        case .cluster(let name): "the cluster name '\(name)', not ours"
        case .rejected(let why): "refused: \(why)"
        case .itself: "its address, which leads back to this system itself"
        case .borrowed: "a name that is not the one it has proved"
        case .name(let why), .epoch(let why): why
        case .protocolVersion(let v): "version \(v) of the protocol, not \(LinkFrame.protocolVersion)"
        case .stranger(let who): who
        case .tooMany(let n): "more than \(n) messages begun at once"
        case .message(let why): why
        case .silent(let seconds): "silence: it did not prove and say who it is within \(seconds) s"
        case .idle: "its silence: all links are taken, and nothing came by this one"
        case .recording: "its first message, which was said before or is no server's"
        case .handshakes: "its handshakes: more are under way than there is room for, and most of them are its own"
        case .certified(let given, let name): "the name \(given), where its certificate is for \(name)"
        }
    }
}
