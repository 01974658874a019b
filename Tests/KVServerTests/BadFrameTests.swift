// What a server does with each kind of bad message from another one: closes the link, counts, logs once. Real sockets.

import Glibc
import KVBase
import KVTestTraits
import Logging
import Synchronization
import Testing

@testable import KVCore
@testable import KVRuntime
@testable import KVServer

/// A server in this process, and what it logs.
final class Served {
    let server: Server
    let lines = Lines()
    let port: UInt16

    final class Lines: Sendable {
        private let all = Mutex<[String]>([])
        func append(_ line: String) { all.withLock { $0.append(line) } }
        func count(_ word: String) -> Int { all.withLock { $0.count { $0.contains(word) } } }
    }

    private struct Handler: LogHandler {
        let lines: Lines
        var metadata = Logger.Metadata()
        var logLevel = Logger.Level.info
        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }
        func log(event: LogEvent) { lines.append("\(event.message)") }
    }

    init() throws {
        var config = Config()
        (config.actors, config.pinLoops, config.port) = (1, false, FreePorts.take(2))
        let lines = lines
        server = Server(config: config, log: Logger(label: "test") { _ in Handler(lines: lines) })
        port = UInt16(config.port)
        _ = try server.start()
    }

    var badFrames: Int { server.context.messageCounters().badFrames }

    func client() throws -> TestSocket { try TestSocket(port: port + 1) }

    /// A link over which the handshake is done.
    func link(from address: String = "127.0.0.1:9") throws -> TestSocket {
        let link = try TestSocket(port: port)
        try link.send(
            Self.frame(LinkFrame.Kind.hello) {
                Hello(
                    cluster: server.config.cluster, address: address, target: "127.0.0.1:\(port)",
                    incarnation: BadFrameTests.stranger.server,
                    port: 9
                ).encode(into: &$0)
            })
        let header = try link.receive(LinkFrame.headerBytes)
        let length = header.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
        _ = try link.receive(Int(length))
        return link
    }

    static func frame(_ kind: UInt8, _ body: (inout WireWriter) -> Void) -> [UInt8] {
        var buffer = OutputBuffer()
        defer { buffer.deallocate() }
        LinkFrame.append(kind, to: &buffer, body)
        return Array(buffer.bytes)
    }

    /// A message for the first query actor.
    static func message(_ bytes: [UInt8]) -> [UInt8] {
        frame(LinkFrame.Kind.data) { writer in
            writer.write(0 as UInt32)
            writer.write(1 as UInt64)
            writer.write(0 as UInt64)
            bytes.withUnsafeBytes { writer.write(raw: $0) }
        }
    }
}

@Suite(.blocking) struct BadFrameTests {
    static let stranger = ActorUID(server: 0x5757, index: 0)

    /// A delta frame that only lacks faults.
    func delta(
        _ served: Served, from sender: ActorUID = stranger, to server: UInt64? = nil, cluster: String? = nil,
        rows: [MemberRow] = [], block: (millisMax: Millis, bytes: [UInt8])? = nil
    ) -> [UInt8] {
        let table = OriginTable()
        var head = FrameHead()
        head.sender = sender
        head.toServer = server ?? served.server.context.serverID
        head.steady = 1
        head.wall = Millis(time(nil)) * 1000
        head.rows = rows
        if block != nil { head.vector.set(table.intern(sender)!, 1) }
        var writer = FrameWriter(buffer: OutputBuffer(), table: table)
        writer.head(head, cluster: Server.clusterID(cluster ?? served.server.config.cluster))
        let (bytes, buffer) = (block?.bytes ?? []).withUnsafeBytes { entries in
            if let block {
                let kind = BlockKind.section(origin: table.intern(sender)!, from: 0, to: 1)
                writer.block(Block(kind: kind, count: 1, millisMax: block.millisMax), entries: entries)
            }
            return writer.finish()
        }
        buffer.deallocate()
        return bytes
    }

    /// Changed in one place, with a checksum that holds.
    private func sealed(_ bytes: [UInt8], _ change: (inout [UInt8]) -> Void) -> [UInt8] {
        var bytes = bytes
        change(&bytes)
        let crc = bytes[9...].withUnsafeBytes { crc32c($0) }
        withUnsafeBytes(of: crc.littleEndian) { bytes.replaceSubrange(5..<9, with: $0) }
        return bytes
    }

    private func changed(_ bytes: [UInt8], _ at: Int) -> [UInt8] {
        var bytes = bytes
        bytes[at] ^= 0x40
        return bytes
    }

    @Test func everyKindOfBadMessageClosesTheLinkAndLeavesTheDataAlone() throws {
        let served = try Served()
        defer { served.server.stop() }
        let client = try served.client()
        try client.send("SET k v\r\n")
        #expect(try client.receiveText(5) == "+OK\r\n")
        try client.send("KVD DIGEST\r\n")
        let digest = try client.receiveSome()

        let good = delta(served)
        let beyond = SkewGuard.stampMax + 1
        let cases: [(String, [UInt8])] = [
            ("magic", [1] + changed(good, 0)),
            ("version", [1] + changed(good, 4)),
            ("checksum", [1] + changed(good, good.count - 1)),
            ("length", [1] + good[..<12]),
            ("cluster", [1] + delta(served, cluster: "other")),
            ("malformed", [1] + sealed(good) { $0.removeLast(9) }),
            ("malformed at the end", [1] + sealed(good) { $0.append(7) }),
            ("clock", [1] + delta(served, block: (beyond, [0, 0, 0, 0]))),
            ("own server", [1] + delta(served, from: ActorUID(server: served.server.context.serverID, index: 0))),
            ("nothing", []),
            ("unknown type", [9, 1, 2, 3]),
            ("a batch", [2]),
            ("a kind of message that there is no more", [3, 1]),
        ]
        for (number, (name, bytes)) in cases.enumerated() {
            let link = try served.link()
            try link.send(Served.message(bytes))
            let told = String(decoding: try link.receiveAll(), as: UTF8.self)
            #expect(name != "clock" || told.contains("one of the two clocks is wrong"), "\(name): \(told)")
            #expect(served.badFrames == number + 1, "\(name) is not counted")
        }
        #expect(served.lines.count("closed because of") == 1)

        // A frame for the id this address had before a restart is no fault of its sender's.
        let link = try served.link()
        try link.send(Served.message([1] + delta(served, to: 99)))
        try link.send(Served.message([1] + good) + Served.frame(LinkFrame.Kind.ping) { _ in })
        #expect(try link.receive(LinkFrame.headerBytes).count == LinkFrame.headerBytes)
        #expect(served.badFrames == cases.count)
        try client.send("KVD DIGEST\r\n")
        #expect(try client.receiveSome() == digest)
    }

    /// Entries are merged later than the frame is received, so this fault is found when the sender is long done.
    @Test func malformedEntriesOfAMemberCloseItsLink() throws {
        let served = try Served()
        defer { served.server.stop() }
        let address = "127.0.0.1:9"
        let row = MemberRow(server: Self.stranger.server, status: .up, actorCount: 1, address: Bytes(address))
        let link = try served.link(from: address)
        try link.send(Served.message([1] + delta(served, rows: [row])))
        let bad = delta(served, block: (Millis(time(nil)) * 1000, [0xF0, 0xFF, 0xFF, 0xFF]))
        try link.send(Served.message([1] + bad))
        // What the server tells its new member, and then the end.
        _ = try link.receiveAll()
        #expect(served.badFrames == 1)
        #expect(served.lines.count("link with \(address) closed because of a malformed delta") == 1)
    }
}
