// Puts an RDB file together that Redis 7 reads: strings, with what they expire at. A value; bytes go where its owner
// wants them.

package import KVBase

/// Pairs of one database follow each other. Everything is in `output` until the owner takes it away with `taken`.
package struct RDBWriter {
    /// What Redis 5 to 7 read, and all that strings need.
    package static let version = 9

    package private(set) var output = OutputBuffer(capacity: 64 * 1024)
    private var crc = CRC64()
    private var database: Int?

    /// `nowMillis`: since 1970.
    package init(nowMillis: Int64) {
        output.append("REDIS000\(RDBWriter.version)")
        auxiliary("redis-bits", "64")
        auxiliary("ctime", "\(nowMillis / 1000)")
        auxiliary("kvd-ver", ProductVersion.text)
    }

    package func deallocate() { output.deallocate() }

    /// What is in `output` was written elsewhere.
    package mutating func taken() {
        crc.add(output.bytes)
        output.count = 0
    }

    package mutating func add(_ pair: FilePair) {
        if database != pair.database {
            database = pair.database
            output.append(254)
            length(pair.database)
        }
        if let deadline = pair.deadline {
            output.append(252)
            fixed64(UInt64(bitPattern: deadline))
        }
        output.append(0)
        string(pair.key)
        string(pair.value)
    }

    /// The end of the file. Nothing follows.
    package mutating func finish() {
        output.append(255)
        crc.add(output.bytes)
        fixed64(crc.value)
        crc = CRC64()
    }

    private mutating func fixed64(_ value: UInt64) { withUnsafeBytes(of: value.littleEndian) { output.append($0) } }

    private mutating func auxiliary(_ name: String, _ text: String) {
        output.append(250)
        string(Bytes(name))
        string(Bytes(text))
    }

    private mutating func string(_ bytes: Bytes) {
        length(bytes.count)
        bytes.withBytes { output.append($0) }
    }

    private mutating func length(_ count: Int) {
        switch count {
        case ..<64: output.append(UInt8(count))
        case ..<16_384:
            output.append(0x40 | UInt8(count >> 8))
            output.append(UInt8(count & 0xFF))
        default:
            output.append(0x80)
            for shift in [24, 16, 8, 0] { output.append(UInt8(truncatingIfNeeded: count >> shift)) }
        }
    }
}
