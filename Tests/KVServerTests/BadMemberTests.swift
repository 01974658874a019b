// What a member with the key may tell of others, in a real server: members that nobody ever met, and addresses of
// machines that have nothing to do with it. Real sockets.

import KVBase
import KVTestTraits
import Logging
import Testing

@testable import KVCore
@testable import KVRuntime
@testable import KVServer

@Suite(.blocking) struct BadMemberTests {
    private static let address = "127.0.0.1:9"

    private func row(_ server: UInt64, _ address: String) -> MemberRow {
        MemberRow(server: server, status: .up, actorCount: 1, address: Bytes(address))
    }

    private var ownRow: MemberRow { row(BadFrameTests.stranger.server, Self.address) }

    private func tell(_ served: Served, _ link: TestSocket, _ rows: [MemberRow]) throws {
        try link.send(Served.message([1] + BadFrameTests().delta(served, rows: [ownRow] + rows)))
    }

    private func info(_ client: TestSocket, _ field: String) throws -> String? {
        try client.send("INFO replication\r\n")
        let head = try client.receiveLine()
        let text = String(decoding: try client.receive(Int(head.dropFirst())! + 2), as: UTF8.self)
        return text.split(separator: "\r\n").first { $0.hasPrefix(field + ":") }.map {
            String($0.dropFirst(field.count + 1))
        }
    }

    private func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
        let deadline = Machine.monotonicNanos + 20_000_000_000
        while try !condition() {
            if Machine.monotonicNanos > deadline { return false }
        }
        return true
    }

    @Test func sixHundredInventedMembersFindNoRoom() throws {
        let served = try Served()
        defer { served.server.stop() }
        let client = try served.client()
        let link = try served.link(from: Self.address)
        // Nobody is at the discard port.
        for batch in 0..<6 {
            try tell(served, link, (0..<100).map { row(UInt64(10_000 + 100 * batch + $0), Self.address) })
        }
        let most = Membership.unheardMembersOfOneMax
        #expect(try eventually { try info(client, "rows_refused_total") == "\(600 - most)" })
        #expect(try info(client, "servers") == "\(2 + most)")
        #expect(served.lines.count("0000000000005757 at 127.0.0.1:9 tells of more servers than there is room for") == 1)
        #expect(served.badFrames == 0)
        try client.send("SET k v\r\n")
        #expect(try client.receiveText(5) == "+OK\r\n")
        // Who comes itself finds a place.
        var config = Config()
        (config.actors, config.pinLoops, config.port) = (1, false, FreePorts.take(2))
        config.join = [Endpoint(host: "127.0.0.1", port: Int(served.port))]
        let other = Server(config: config, log: Logger(label: "other") { _ in SwiftLogNoOpLogHandler() })
        _ = try other.start()
        defer { other.stop() }
        let there = try TestSocket(port: UInt16(config.port) + 1)
        #expect(
            try eventually {
                try there.send("GET k\r\n")
                let head = try there.receiveLine()
                return try head == "$1" && there.receive(3) == Array("v\r\n".utf8)
            })
    }

    /// A server that is down keeps deletes from being collected, an invented one for ever.
    @Test func anInventedMemberIsForgottenAtAnOperatorsWord() throws {
        let served = try Served()
        defer { served.server.stop() }
        let client = try served.client()
        func forget(_ id: String) throws -> String {
            try client.send("KVD FORGET \(id)\r\n")
            return String(decoding: try client.receiveSome(), as: UTF8.self)
        }
        let link = try served.link(from: Self.address)
        try tell(served, link, [row(0xB57A, Self.address)])
        #expect(try eventually { try info(client, "servers") == "3" })
        // Who can be heard is not: neither this server nor the one that tells.
        #expect(try forget("0000000000005757") == "-ERR that server is not down: stop it first\r\n")
        #expect(try forget(hex16(served.server.context.serverID)) == ":0\r\n")
        #expect(
            try eventually {
                try tell(served, link, [row(0xB57A, Self.address)])
                return try forget("000000000000b57a") == ":1\r\n"
            })
        #expect(try forget("000000000000b57a") == ":0\r\n")
        try tell(served, link, [row(0xB57A, Self.address), row(0xB57B, Self.address)])
        #expect(try eventually { try info(client, "servers") == "3" })
        #expect(served.lines.count("is forgotten, as a client asked") == 1)
    }

    /// A machine of somebody else gets a connection now and then, and no word of what the cluster holds.
    @Test func anAddressInSomebodyElsesNetworkIsLeftAlone() throws {
        let served = try Served()
        defer { served.server.stop() }
        let client = try served.client()
        try client.send("SET secret value\r\n")
        #expect(try client.receiveText(5) == "+OK\r\n")
        let bystander = try HeldPort()
        try bystander.listen()
        let link = try served.link(from: Self.address)
        try tell(served, link, [row(0xB57A, "127.0.0.1:\(bystander.port)")])
        var attempts = 0
        let until = Machine.monotonicNanos + 5_000_000_000
        while Machine.monotonicNanos < until {
            guard bystander.isConnected(withinMillis: 100) else { continue }
            attempts += 1
            let caller = try bystander.accept(saying: Array("HTTP/1.1 400 Bad Request\r\n\r\n".utf8))
            let words = String(decoding: caller.receiveAll(withinMillis: 1000), as: UTF8.self)
            #expect(words.utf8.count <= LinkFrame.handshakeBytesMax && !words.contains("secret"))
            caller.close()
        }
        #expect((1...3).contains(attempts), "\(attempts)")
        #expect(served.lines.count("127.0.0.1:\(bystander.port)") >= 1)
        #expect(served.lines.count("no answer from 127.0.0.1:\(bystander.port): an answer in HTTP") <= 1)
        #expect(served.badFrames == attempts)
        try client.send("GET secret\r\n")
        #expect(try client.receiveText(11) == "$5\r\nvalue\r\n")
    }
}

extension TestSocket {
    /// A line of a reply, without its end.
    fileprivate func receiveLine() throws -> String {
        var line: [UInt8] = []
        while !line.ends(with: [13, 10]) { line += try receive(1) }
        return String(decoding: line.dropLast(2), as: UTF8.self)
    }
}

extension [UInt8] {
    fileprivate func ends(with end: [UInt8]) -> Bool { count >= end.count && Array(suffix(end.count)) == end }
}
