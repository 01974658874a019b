// The telnet side: parsing under any split, option negotiation without loops, what clients are told.

@testable import CMUDCore
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct TelnetTests {
    private let iac = TelnetCode.iac

    @Test func linesEndInEveryUsualWay() {
        var parser = TelnetParser()
        let events = parser.feed(Array("a\r\nb\r\u{0}c\nd\re\n".utf8))
        #expect(events == ["a", "b", "c", "d", "e"].map { .line(Array($0.utf8)) })
    }

    @Test func optionPayloadNeverLeaksIntoTheInput() {
        var parser = TelnetParser()
        let bytes: [UInt8] =
            [iac, TelnetCode.sb, TelnetOption.terminalType, 0] + Array("Mudlet".utf8) + [iac, TelnetCode.se]
            + Array("look\r\n".utf8)
        #expect(
            parser.feed(bytes) == [
                .subnegotiation(option: 24, bytes: [0] + Array("Mudlet".utf8)), .line(Array("look".utf8)),
            ])
    }

    @Test func anySplitGivesTheSameEvents() {
        let stream: [UInt8] =
            Array("say gr\u{FC}\u{DF}e".utf8) + [
                iac, iac, 0x0D, 0x0A, iac, TelnetCode.do, 25, iac, TelnetCode.sb, 31, 0, 80, 0, iac, iac,
            ]
            + [iac, TelnetCode.se, iac, TelnetCode.nop] + Array("who\r\u{0}x\u{8}y\n".utf8)
        var whole = TelnetParser()
        let expected = whole.feed(stream)
        #expect(expected.count == 5)
        for seed in UInt64(0)..<100 {
            var random = PRNG(seed: seed)
            var parser = TelnetParser()
            var found: [TelnetEvent] = []
            var rest = stream[...]
            while !rest.isEmpty {
                let count = 1 + random.below(4)
                found += parser.feed(rest.prefix(count))
                rest = rest.dropFirst(count)
            }
            #expect(found == expected, "seed \(seed)")
        }
    }

    @Test func longLinesAndLongSubnegotiationsAreBounded() {
        var parser = TelnetParser()
        let events = parser.feed(Array(repeating: UInt8(ascii: "x"), count: 5_000) + [0x0A] + Array("ok\n".utf8))
        #expect(events == [.lineTooLong, .line(Array("ok".utf8))])
        let sub = parser.feed([iac, TelnetCode.sb, 24] + Array(repeating: 65, count: 100_000) + [iac, TelnetCode.se])
        guard case .subnegotiation(24, let bytes)? = sub.first else { return #expect(Bool(false)) }
        #expect(bytes.count < TelnetParser.subnegotiationBytesMax)
    }

    @Test func arbitraryBytesNeverCrashThePeerNorMakeItEchoThem() {
        var random = PRNG(seed: 23)
        for _ in 0..<300 {
            var peer = TelnetPeer()
            peer.start()
            _ = peer.takeOutput()
            for _ in 0..<20 {
                var bytes = (0..<random.below(40)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                if random.chance(0.5) {
                    bytes +=
                        [iac, TelnetCode.sb, [24, 31, 42, 70, 201][random.below(5)]] + bytes + [iac, TelnetCode.se]
                }
                for line in peer.receive(bytes) {
                    #expect(line?.unicodeScalars.contains { $0.value < 0x20 } != true)
                }
                // Whatever the client sends, the answers are telnet commands of known shape.
                let out = peer.takeOutput()
                #expect(out.count < 16_384)
            }
        }
    }

    @Test func unknownOptionsAreRefusedOnceAndNothingLoops() {
        var peer = TelnetPeer()
        peer.start()
        _ = peer.takeOutput()
        _ = peer.receive([iac, TelnetCode.do, 99, iac, TelnetCode.will, 98])
        #expect(peer.takeOutput() == [iac, TelnetCode.wont, 99, iac, TelnetCode.dont, 98])
        // Two peers that answer each other fall silent.
        var a = TelnetPeer()
        var b = TelnetPeer()
        a.start()
        b.start()
        var rounds = 0
        var fromA = a.takeOutput()
        var fromB = b.takeOutput()
        while !(fromA.isEmpty && fromB.isEmpty), rounds < 20 {
            _ = b.receive(fromA)
            _ = a.receive(fromB)
            (fromA, fromB) = (a.takeOutput(), b.takeOutput())
            rounds += 1
        }
        #expect(rounds < 10)
    }

    /// Three bytes in and ninety-six out, before anybody has logged in, would make the gateway a weapon.
    @Test(arguments: [TelnetOption.mssp, TelnetOption.charset, TelnetOption.terminalType, TelnetOption.gmcp, 99])
    func whoRepeatsARequestIsNotAnsweredAgain(option: UInt8) {
        var peer = TelnetPeer()
        peer.status = [("NAME", "CMUD"), ("PLAYERS", "3"), ("CODEBASE", "cmud"), ("UPTIME", "1767225600")]
        peer.start()
        _ = peer.takeOutput()
        let isTheirs = option == TelnetOption.terminalType
        let yes: [UInt8] = [iac, isTheirs ? TelnetCode.will : TelnetCode.do, option]
        let no: [UInt8] = [iac, isTheirs ? TelnetCode.wont : TelnetCode.dont, option]
        _ = peer.receive(yes)
        let first = peer.takeOutput().count
        for _ in 0..<1_000 { _ = peer.receive(yes) }
        #expect(peer.takeOutput().count <= 3 * TelnetPeer.answersMax, "an unknown option is refused a bounded time")
        if option != 99 {
            for _ in 0..<1_000 { _ = peer.receive(yes) }
            #expect(peer.takeOutput().isEmpty && first <= 200)
        }
        // Off and on again for ever: a few explanations, then short answers, then silence.
        for _ in 0..<10_000 { _ = peer.receive(no + yes) }
        #expect(peer.takeOutput().count <= 3 * TelnetPeer.answersMax + 2 * 200)
        for _ in 0..<100 { _ = peer.receive(no + yes) }
        #expect(peer.takeOutput().isEmpty)
    }

    @Test func passwordsAreHiddenByEcho() {
        var peer = TelnetPeer()
        peer.setSecret(true)
        #expect(peer.takeOutput() == [iac, TelnetCode.will, TelnetOption.echo])
        _ = peer.receive([iac, TelnetCode.do, TelnetOption.echo])
        peer.setSecret(false)
        #expect(peer.takeOutput() == [iac, TelnetCode.wont, TelnetOption.echo])
    }

    @Test func theClientIsAskedWhatItIsUntilItRepeatsOrTellsItsBits() {
        var peer = TelnetPeer()
        peer.start()
        _ = peer.receive([iac, TelnetCode.will, 24])
        for name in ["Mudlet", "XTERM", "MTTS 69"] {
            #expect(!peer.isSettled)
            _ = peer.receive([iac, TelnetCode.sb, 24, 0] + Array(name.utf8) + [iac, TelnetCode.se])
        }
        #expect(peer.isSettled && peer.isReader && peer.isUTF8 && peer.hasColor)
        var plain = TelnetPeer()
        plain.start()
        _ = plain.receive([iac, TelnetCode.wont, 24])
        #expect(plain.isSettled && !plain.hasColor)
        _ = plain.receive([iac, TelnetCode.sb, 31, 0, 5, 0, 24, iac, TelnetCode.se])
        #expect(plain.width == 20)
    }

    @Test func promptsEndInARecordOrAGoAhead() {
        var peer = TelnetPeer()
        peer.start()
        _ = peer.takeOutput()
        peer.sendPromptEnd()
        #expect(peer.takeOutput() == [iac, TelnetCode.goAhead])
        _ = peer.receive([iac, TelnetCode.do, 25])
        _ = peer.takeOutput()
        peer.sendPromptEnd()
        #expect(peer.takeOutput() == [iac, TelnetCode.endOfRecord])
        peer.send("a\u{FF}\n")
        #expect(peer.takeOutput() == Array("a\u{FF}\r\n".utf8), "UTF-8 never holds 0xFF; line ends are CR LF")
    }

    @Test func statusAndDataChannelsAnswer() {
        var peer = TelnetPeer()
        peer.status = [("NAME", "CMUD"), ("PLAYERS", "3")]
        peer.start()
        _ = peer.takeOutput()
        _ = peer.receive([iac, TelnetCode.do, 70])
        let mssp = peer.takeOutput()
        #expect(mssp.starts(with: [iac, TelnetCode.sb, 70, 1] + Array("NAME".utf8) + [2] + Array("CMUD".utf8)))
        // Nothing is kept for who has not agreed to be told.
        let ping = [iac, TelnetCode.sb, 201] + Array("Core.Ping".utf8) + [iac, TelnetCode.se]
        _ = peer.receive(ping)
        _ = peer.receive([iac, TelnetCode.do, 201])
        _ = peer.receive(ping)
        _ = peer.receive(
            [iac, TelnetCode.sb, 201] + Array(#"Core.Supports.Set ["Char 1","Room 1","Comm.Channel 1"]"#.utf8) + [
                iac, TelnetCode.se,
            ])
        let world = SimWorld(seed: 5)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.command(ada, "say \"quoted\" text")
        var gmcp = peer.gmcp
        let messages = gmcp.messages(ada.session, ada.events)
        #expect(messages.filter { $0 == "Core.Ping" }.count == 1)
        #expect(messages.contains(#"Char.Name {"name":"ada","fullname":"ada"}"#))
        #expect(messages.contains { $0.hasPrefix(#"Room.Info {"num":7,"name":"Gates Center, floor 5""#) })
        #expect(messages.contains(#"Comm.Channel.Text {"channel":"say","talker":"ada","text":"\"quoted\" text"}"#))
        #expect(gmcp.messages(ada.session, []).isEmpty, "only what changed")
    }
}
