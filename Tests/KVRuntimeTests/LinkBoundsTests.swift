// What somebody who reaches the port of systems may hold: time before it has said who it is, bytes of messages that
// never end.

import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

@Suite(.blocking) struct LinkBoundsTests {
    /// Silent, half of a greeting, or a byte now and then: the time is absolute.
    @Test func whoDoesNotSayWhoItIsIsClosedCountedAndSaidOnce() throws {
        let node = try Node(backends[0])
        defer { node.close() }
        let clients = try (0..<3).map { _ in try TestSocket(port: node.port) }
        let hello = RemoteTests.hello(cluster: "test")
        try clients[1].send(Array(hello[..<20]))
        try clients[2].send(Array(hello[..<9]))
        var sent = 9
        let isDone = eventually(seconds: 15) {
            if sent < hello.count - 1 {
                try? clients[2].send([hello[sent]])
                sent += 1
            }
            return node.system.statistics.badFrames == 3
        }
        #expect(isDone)
        let lines = node.problems.withLock { $0 }
        #expect(lines.count == 1 && lines[0].contains("did not prove and say who it is within 5 s"), "\(lines)")
    }

    @Test func aHandshakeBeginsWithAWholeFirstRecord() {
        func isWhole(_ pieces: [UInt8]...) -> Bool {
            var record = FirstRecord()
            return pieces.map { $0.withUnsafeBytes { record.append($0) } }.last!
        }
        let hello: [UInt8] = [0x16, 3, 1, 0, 4, 1, 2, 3, 4]
        for count in 0..<hello.count {
            #expect(!isWhole(Array(hello[..<count])))
            #expect(isWhole(Array(hello[..<count]), Array(hello[count...])))
        }
        #expect(isWhole(hello + [9]))
        // For the cipher to judge: more than a server ever says first.
        #expect(isWhole([0x16, 3, 1, 0x20, 0]))
    }

    /// Not even a frame whose length looks like the type of a handshake.
    @Test func whatIsNoTLSCostsNoHandshake() {
        func isNone(_ bytes: [UInt8]) -> Bool {
            var record = FirstRecord()
            let isDecided = bytes.withUnsafeBytes { record.append($0) }
            #expect(isDecided || !record.isNone)
            return record.isNone
        }
        #expect(isNone([0x2A]) && isNone([0x16, 1]) && isNone([0x16, 1, 0, 0, 9]))
        #expect(!isNone([]) && !isNone([0x16]) && !isNone([0x16, 3]) && !isNone([0x16, 3, 1, 0, 4]))
    }

    @Test func whatHasArrivedOfAMessageIsCounted() throws {
        var arriving = ArrivingMessages()
        let empty = UnsafeRawBufferPointer(start: nil, count: 0)
        for number in 1...2 {
            try arriving.begin(
                UInt16(number), ArrivingMessage(target: 1, sender: 1, head: empty, tailBytes: 1000 * number))
        }
        #expect(arriving.heldBytes == 0)
        let part = [UInt8](repeating: 7, count: 400)
        for number in 1...2 { _ = try part.withUnsafeBytes { try arriving.append(UInt16(number), $0) } }
        #expect(arriving.heldBytes == 800)
        let rest = [UInt8](repeating: 7, count: 600)
        let whole = try rest.withUnsafeBytes { try arriving.append(1, $0) }
        #expect(whole != nil && arriving.heldBytes == 400)
    }
}
