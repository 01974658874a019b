// The first words of somebody who connects to a protected port, until there are enough of them. A value; one thread at
// a time.

import KVBase

/// A handshake in progress holds some 60 KiB. That is spent on who has said its first record of TLS, which is what a
/// server says at once; silence and half a record cost what they are long.
struct FirstRecord {
    /// A longer one is for the cipher to judge, with what has come of it.
    static let bytesMax = 4096
    private static let headBytes = 5

    private(set) var bytes: [UInt8] = []

    /// What came cannot be the beginning of a handshake of TLS.
    var isNone: Bool {
        zip(bytes, FirstRecord.beginning).contains { $0 != $1 }
    }
    /// Of every handshake: its type, and TLS's version as it is written since TLS 1.0. A frame of a server that does
    /// not protect its links has a 0 there, as its length is short.
    private static let beginning: [UInt8] = [0x16, 3]

    /// Takes what came. True once the record is whole, or it is none.
    mutating func append(_ more: UnsafeRawBufferPointer) -> Bool {
        bytes += more
        if isNone { return true }
        guard bytes.count >= FirstRecord.headBytes else { return false }
        let length = Int(bytes[3]) << 8 + Int(bytes[4])
        return length > FirstRecord.bytesMax || bytes.count >= FirstRecord.headBytes + length
    }
}
