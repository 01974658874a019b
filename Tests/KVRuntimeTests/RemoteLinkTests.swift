// The pure half of remote links: frames cut anywhere, and the state machine in virtual time.

import KVBase
import Testing

@testable import KVRuntime

@Suite struct LinkFrameTests {
    static func stream(_ sizes: [Int]) -> [UInt8] {
        var bytes: [UInt8] = []
        for (i, size) in sizes.enumerated() {
            var writer = WireWriter()
            defer { writer.deallocate() }
            LinkFrame.beginData(&writer, target: UInt64(i), sender: 3)
            for k in 0..<size { writer.write(UInt8(truncatingIfNeeded: k &* 7)) }
            LinkFrame.finishData(&writer)
            bytes += Array(writer.buffer.bytes)
        }
        return bytes
    }

    static func parse(_ pieces: [ArraySlice<UInt8>]) throws -> [Int] {
        var parser = LinkParser()
        defer { parser.deallocate() }
        var sizes: [Int] = []
        for piece in pieces {
            try Array(piece).withUnsafeBytes { bytes in
                try parser.feed(bytes) { kind, _, contents in
                    #expect(kind == LinkFrame.Kind.data)
                    var reader = WireReader(contents)
                    _ = try reader.read(UInt32.self)
                    #expect(try reader.read(UInt64.self) == UInt64(sizes.count))
                    #expect(try reader.read(UInt64.self) == 3)
                    let payload = reader.readRest()
                    for k in 0..<payload.count { #expect(payload[k] == UInt8(truncatingIfNeeded: k &* 7)) }
                    sizes.append(payload.count)
                }
            }
        }
        return sizes
    }

    @Test func everyCutGivesTheSameFrames() throws {
        let sizes = [0, 1, 40, 7]
        let bytes = Self.stream(sizes)
        for cut in 0...bytes.count { #expect(try Self.parse([bytes[..<cut], bytes[cut...]]) == sizes) }
        #expect(try Self.parse(bytes.indices.map { bytes[$0...$0] }) == sizes)
    }

    @Test func everyFlippedBitIsNoticed() {
        let bytes = Self.stream([30])
        for bit in 0..<8 * bytes.count {
            var bad = bytes
            bad[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: LinkError.self, "bit \(bit)") { try Self.parse([bad[...]]) }
        }
    }

    /// A wrong length is not waited for: the rest of the stream would be taken for its contents.
    @Test func aSpoiltLengthIsNoticedAtOnce() {
        let header = Array(Self.stream([30])[..<(LinkFrame.headerBytes + LinkFrame.bodyHeaderBytes)])
        #expect(throws: Never.self) { try Self.parse([header[...]]) }
        for bit in 0..<32 {
            var bad = header
            bad[bit / 8] ^= 1 << (bit % 8)
            #expect(throws: LinkError.checksum, "bit \(bit)") { try Self.parse([bad[...]]) }
        }
    }

    @Test func announcedLengthsAreNotBelieved() {
        for length: UInt32 in [0, 7, UInt32(LinkFrame.handshakeBytesMax) + 1, .max] {
            #expect(throws: LinkError.length(Int(length))) { try Self.parse([Self.header(announcing: length)[...]]) }
        }
    }

    /// Of a frame whose contents never come.
    static func header(announcing length: UInt32) -> [UInt8] {
        func little(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
        let check = little(length).withUnsafeBytes { crc32c($0) }
        return little(length) + little(0) + [LinkFrame.version, LinkFrame.Kind.data, 0, 0] + little(check)
    }

    /// Of a system built before it is the version that is told of, whatever its length means.
    @Test func anotherVersionIsNamed() {
        let header: [UInt8] = [200, 0, 0, 0, 1, 2, 3, 4, 2, LinkFrame.Kind.hello, 0, 0, 0, 0, 0, 0]
        #expect(throws: LinkError.version(2)) { try Self.parse([header[...]]) }
    }
}

@Suite struct RemoteLinkTests {
    static let second: Nanos = 1_000_000_000

    @Test func connectsOnDemandSendsItsQueueAndStaysUp() {
        var link = RemoteLink(seed: 1)
        #expect(link.tick(now: 0) == [])
        #expect(link.admit(bytes: 100, unsent: 0, now: 0) == .queue)
        #expect(link.wanted(now: 0) == .connect)
        #expect(link.wanted(now: 0) == [])
        #expect(link.admit(bytes: 100, unsent: 0, now: 1) == .queue)
        #expect(link.connected(now: 2) == .sendHello)
        #expect(link.welcomed(now: 3) == [.reportUp, .sendQueue])
        #expect(link.state == .up)
        #expect(link.queuedBytes == 0)
        #expect(link.admit(bytes: 100, unsent: 0, now: 4) == .send)
        #expect(link.tick(now: Self.second + 3) == .sendPing)
        #expect(link.tick(now: Self.second + 4) == [])
    }

    @Test func silenceClosesAndTheLinkComesBack() {
        var link = RemoteLink(seed: 1)
        link.isKept = true
        #expect(link.tick(now: 0) == .connect)
        _ = link.connected(now: 0)
        _ = link.welcomed(now: 0)
        link.heard(now: 2 * Self.second)
        let end = 2 * Self.second + RemoteLink.silenceNanosMax
        #expect(!link.tick(now: end).contains(.close))
        #expect(link.tick(now: end + 1) == .close)
        #expect(link.closed(now: end + 2) == .reportDown)
        #expect(link.tick(now: end + 3) == [])
        #expect(link.tick(now: end + Self.second) == .connect)
    }

    @Test func failuresBackOffAndNeverStop() {
        var link = RemoteLink(seed: 9)
        link.isKept = true
        var now: Nanos = 0
        var waits: [Nanos] = []
        _ = link.tick(now: now)
        for attempt in 0..<20 {
            // Whoever wants it hears of the first attempt in vain.
            #expect(link.closed(now: now) == (attempt == 0 ? .reportDown : []))
            let began = now
            while link.tick(now: now) != .connect { now += 1_000_000 }
            waits.append(now - began)
        }
        #expect(waits[0] >= RemoteLink.backoffNanosMin && waits[0] <= RemoteLink.backoffNanosMin * 5 / 4 + 1_000_000)
        #expect(waits[1] > waits[0])
        #expect(waits.allSatisfy { $0 <= RemoteLink.backoffNanosMax * 5 / 4 + 1_000_000 })
        #expect(waits.last! >= RemoteLink.backoffNanosMax)
    }

    /// Nothing but a change by hand helps one who was refused.
    @Test func whoWasRefusedComesAgainSlowly() {
        var link = RemoteLink(seed: 9)
        link.isKept = true
        var now: Nanos = 0
        var waits: [Nanos] = []
        _ = link.tick(now: now)
        for _ in 0..<8 {
            _ = link.closed(now: now, isRefused: true)
            let began = now
            while link.tick(now: now) != .connect { now += 10_000_000 }
            waits.append(now - began)
        }
        #expect(waits[0] >= 2 * Self.second && waits[0] <= 5 * Self.second / 2 + 10_000_000)
        #expect(waits[1] > waits[0])
        #expect(waits.last! >= 30 * Self.second && waits.last! <= 75 * Self.second / 2 + 10_000_000)
        // An attempt that nobody refused begins anew.
        _ = link.closed(now: now)
        let began = now
        while link.tick(now: now) != .connect { now += 10_000_000 }
        #expect(now - began < 2 * Self.second)
    }

    /// Two servers that meet, refuse what the other one sends and meet again do it seldom, though each link was up.
    @Test func whoIsRefusedAtOnceEachTimeComesAgainSlowly() {
        var link = RemoteLink(seed: 9)
        link.isKept = true
        var now: Nanos = 0
        _ = link.tick(now: now)
        func wait(afterUp up: Nanos, isRefused: Bool) -> Nanos {
            _ = link.connected(now: now)
            _ = link.welcomed(now: now)
            now += up
            _ = link.closed(now: now, isRefused: isRefused)
            let began = now
            while link.tick(now: now) != .connect { now += 10_000_000 }
            return now - began
        }
        let refused = (0..<8).map { _ in wait(afterUp: 50_000_000, isRefused: true) }
        #expect(refused[0] >= 2 * Self.second && refused[1] > refused[0] && refused.last! >= 30 * Self.second)
        // One that was of use for a while begins anew.
        #expect(wait(afterUp: RemoteLink.toleratedNanosMin, isRefused: true) < 3 * Self.second)
        // Who is closed at once without a word waits as one who finds nobody.
        let cut = (0..<8).map { _ in wait(afterUp: 50_000_000, isRefused: false) }
        #expect(cut.last! >= RemoteLink.backoffNanosMax && cut.last! < 2 * Self.second)
        #expect(wait(afterUp: RemoteLink.triedNanosMin, isRefused: false) <= RemoteLink.backoffNanosMin + 30_000_000)
    }

    @Test func stuckConnectsAndHandshakesTimeOut() {
        var link = RemoteLink(seed: 1)
        _ = link.wanted(now: 0)
        #expect(link.tick(now: RemoteLink.connectNanosMax) == [])
        #expect(link.tick(now: RemoteLink.connectNanosMax + 1) == .close)
        _ = link.connected(now: 5)
        #expect(link.tick(now: RemoteLink.connectNanosMax + 6) == .close)
    }

    @Test func theQueueIsBoundedExpiresAndThenTheLinkRests() {
        var link = RemoteLink(seed: 1)
        _ = link.wanted(now: 0)
        #expect(link.admit(bytes: Limits.linkBytesMax, unsent: 0, now: 0) == .queue)
        #expect(link.admit(bytes: 1, unsent: 0, now: 0) == .drop)
        #expect(link.closed(now: 1) == [])
        #expect(link.tick(now: RemoteLink.queueNanosMax) == .connect)
        #expect(link.closed(now: RemoteLink.queueNanosMax + 1) == .dropQueue)
        #expect(link.dropped == 2)
        #expect(link.state == .idle)
        #expect(link.admit(bytes: 1, unsent: 0, now: 0) == .queue)
    }

    @Test func aSlowPeerCostsDropsNotMemory() {
        var link = RemoteLink(seed: 1)
        _ = link.wanted(now: 0)
        _ = link.connected(now: 0)
        _ = link.welcomed(now: 0)
        #expect(link.admit(bytes: 10, unsent: Limits.linkBytesMax - 10, now: 1) == .send)
        #expect(link.admit(bytes: 11, unsent: Limits.linkBytesMax - 10, now: 1) == .drop)
        #expect(link.dropped == 1)
    }

    @Test func eventsOutOfPlaceClose() {
        var link = RemoteLink(seed: 1)
        #expect(link.connected(now: 0) == .close)
        #expect(link.welcomed(now: 0) == .close)
    }
}
