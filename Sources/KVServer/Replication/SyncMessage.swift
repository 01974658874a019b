// What query actors tell each other: delta frames between servers, batches by reference between siblings. Values; any
// thread.

package import KVCore
package import KVRuntime

package enum SyncMessage: WireMessage {
    /// From an actor of another server; checked by the replica itself.
    case frame([UInt8])
    /// From a sibling, by reference: siblings share memory, so this never goes over the network.
    case batch(LocalBatch)
    /// Bytes that are none of these, and why. (A batch as bytes is none either: only a checking build's own test of the
    /// wire form makes one.)
    case refused(String)

    private enum Tag {
        static let frame: UInt8 = 1
        static let batch: UInt8 = 2
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
        }
    }

    package init(from reader: inout WireReader) throws {
        do {
            switch try reader.read(UInt8.self) {
            case Tag.frame: self = .frame(reader.readTail())
            case Tag.batch: self = .refused("a batch for siblings")
            case let tag: self = .refused("a message of unknown type \(tag)")
            }
        } catch { self = .refused("a malformed message") }
        // Refused is refused as a whole: the link is closed, whatever follows.
        _ = reader.readTail()
    }
}
