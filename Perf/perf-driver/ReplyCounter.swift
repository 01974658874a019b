// Counts replies of either protocol in a stream cut anywhere. One connection, its engine's thread.

import Foundation
import RESP

struct ReplyCounter {
    private var redis = RESPReplyCounter()
    private var memcached = MemcachedReplyCounter()
    private let wire: WireProtocol

    init(_ wire: WireProtocol) { self.wire = wire }

    @inline(__always)
    var replies: Int { wire == .redis ? redis.replies : memcached.replies }
    var errors: Int { wire == .redis ? redis.errors : memcached.errors }
    var misses: Int { wire == .redis ? redis.nulls : memcached.misses }

    /// False if what arrived is not this protocol.
    @inline(__always)
    mutating func count(_ bytes: UnsafeRawBufferPointer) -> Bool {
        wire == .redis ? redis.count(bytes) : memcached.count(bytes)
    }

    /// Counts from `at` to the end of the next reply, byte by byte; whether it is an error.
    mutating func countOne(_ bytes: UnsafeRawBufferPointer, _ at: inout Int) -> Bool {
        let (replies, errors) = (replies, errors)
        while at < bytes.count, self.replies == replies {
            guard count(UnsafeRawBufferPointer(rebasing: bytes[at..<at + 1])) else { break }
            at += 1
        }
        return self.errors != errors
    }
}

/// The text protocol's replies to get, set and delete (memcached's doc/protocol.txt): a get answers VALUE with its data
/// block and END, or END alone; everything else is one line.
struct MemcachedReplyCounter {
    private(set) var replies = 0
    private(set) var errors = 0
    private(set) var misses = 0
    private var line: [UInt8] = []
    private var dataLeft = 0
    private var sawValue = false

    private static let lineBytesMax = 2048

    mutating func count(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var at = 0
        while at < bytes.count {
            if dataLeft > 0 {
                let step = min(dataLeft, bytes.count - at)
                dataLeft -= step
                at += step
                continue
            }
            let rest = UnsafeRawBufferPointer(rebasing: bytes[at...])
            guard let newline = memchr(rest.baseAddress!, 10, rest.count) else {
                line.append(contentsOf: rest)
                return line.count <= Self.lineBytesMax
            }
            let length = UnsafeRawPointer(newline) - rest.baseAddress!
            if line.isEmpty {
                guard judge(UnsafeRawBufferPointer(rebasing: rest[..<length])) else { return false }
            } else {
                line.append(contentsOf: rest[..<length])
                let whole = line
                line.removeAll(keepingCapacity: true)
                guard whole.withUnsafeBytes({ judge($0) }) else { return false }
            }
            at += length + 1
        }
        return true
    }

    private mutating func judge(_ line: UnsafeRawBufferPointer) -> Bool {
        guard line.count > 1, line[line.count - 1] == 13 else { return false }
        switch line[0] {
        case UInt8(ascii: "V"):  // VALUE key flags bytes
            guard let space = line.lastIndex(of: 32) else { return false }
            var n = 0
            for byte in line[(space + 1)..<(line.count - 1)] {
                guard byte >= 48, byte <= 57, n < 1 << 40 else { return false }
                n = n * 10 + Int(byte - 48)
            }
            dataLeft = n + 2
            sawValue = true
        case UInt8(ascii: "E") where line.count >= 4 && line[1] == UInt8(ascii: "N"):  // END
            replies += 1
            if !sawValue { misses += 1 }
            sawValue = false
        case UInt8(ascii: "E"), UInt8(ascii: "C"):  // ERROR, CLIENT_ERROR
            replies += 1
            errors += 1
        case UInt8(ascii: "S") where line[1] == UInt8(ascii: "E"):  // SERVER_ERROR
            replies += 1
            errors += 1
        default: replies += 1  // STORED, DELETED, NOT_FOUND, …
        }
        return true
    }
}
