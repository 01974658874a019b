// What query actors tell each other: delta frames between servers, batches by reference between siblings,
// introductions. Values; any thread.

import KVBase
package import KVCore
package import KVRuntime

package enum SyncMessage: WireMessage {
    /// From an actor of another server; checked by the replica itself.
    case frame([UInt8])
    /// From a sibling, by reference: siblings share memory, so this never goes over the network.
    case batch(LocalBatch)
    case introduction(Introduction)
    /// Bytes that are none of these, and why. (A batch as bytes is none either: only a checking build's own test of the
    /// wire form makes one.)
    case refused(String)

    private enum Tag {
        static let frame: UInt8 = 1
        static let batch: UInt8 = 2
        static let introduction: UInt8 = 3
    }

    package static var travelsByReference: Bool { true }

    package var accountedByteCount: Int {
        if case .batch(let batch) = self { batch.wireBytes } else { 0 }
    }

    package func encode(into writer: inout WireWriter) {
        switch self {
        case .frame(let bytes):
            writer.write(Tag.frame)
            writer.write(tail: bytes)
        case .batch, .refused: writer.write(Tag.batch)
        case .introduction(let introduction):
            writer.write(Tag.introduction)
            introduction.encode(into: &writer)
        }
    }

    package init(from reader: inout WireReader) throws {
        do {
            switch try reader.read(UInt8.self) {
            case Tag.frame: self = .frame(reader.readTail())
            case Tag.batch: self = .refused("a batch for siblings")
            case Tag.introduction:
                let introduction = try Introduction(from: &reader)
                self = reader.remaining == 0 ? .introduction(introduction) : .refused("a malformed introduction")
            case let tag: self = .refused("a message of unknown type \(tag)")
            }
        } catch { self = .refused("a malformed message") }
        // Refused is refused as a whole: the link is closed, whatever follows.
        _ = reader.readTail()
    }
}

/// Who a server is and whom it knows: how two servers that only know an address learn each other's ids.
package struct Introduction: Sendable {
    package static let rowsMax = 4096
    private static let addressBytesMax = 300

    /// The address the exchange was begun with, sent back in the answer.
    package var target: String
    package var isAnswer: Bool
    package var rows: [MemberRow]

    func encode(into writer: inout WireWriter) {
        writer.write(target)
        writer.write(isAnswer)
        writer.write(UInt16(min(rows.count, Introduction.rowsMax)))
        for row in rows.prefix(Introduction.rowsMax) {
            writer.write(row.server)
            writer.write(row.incarnation)
            writer.write(row.status.rawValue)
            writer.write(UInt16(row.actorCount))
            row.address.withBytes { writer.write(bytes: $0) }
        }
    }

    init(target: String, isAnswer: Bool, rows: [MemberRow]) {
        (self.target, self.isAnswer, self.rows) = (target, isAnswer, rows)
    }

    init(from reader: inout WireReader) throws {
        target = try reader.readString()
        isAnswer = try reader.readBool()
        let count = Int(try reader.read(UInt16.self))
        guard count <= Introduction.rowsMax else { throw WireError.invalid("too many members") }
        rows = []
        for _ in 0..<count {
            let server = try reader.read(UInt64.self)
            let incarnation = try reader.read(UInt32.self)
            guard let status = MemberStatus(rawValue: try reader.read(UInt8.self)) else {
                throw WireError.invalid("unknown member status")
            }
            let actorCount = Int(try reader.read(UInt16.self))
            let address = try reader.readLengthPrefixedBytes()
            guard server != 0, (1...Limits.actorsMax).contains(actorCount),
                address.count <= Introduction.addressBytesMax,
                Endpoint(String(decoding: address, as: UTF8.self)) != nil
            else { throw WireError.invalid("a member that cannot be") }
            rows.append(
                MemberRow(
                    server: server, incarnation: incarnation, status: status, actorCount: actorCount,
                    address: Bytes(address)))
        }
    }
}
