// How servers find and name each other: addresses that they announce, names, what --join may be, and what each of these
// says when it is wrong. Real processes on loopback.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking, .serialized) struct MeetingTests {
    private func eventually(withinMillis: Int = 60_000, _ condition: () throws -> Bool) rethrows -> Bool {
        let deadline = Clock.millis() + withinMillis
        while Clock.millis() < deadline {
            if try condition() { return true }
            _ = poll(nil, 0, 5)
        }
        return false
    }

    private func address(_ server: KVDProcess) -> String { "127.0.0.1:\(server.port)" }

    /// Lists exactly this many others, all up.
    private func isUp(_ server: KVDProcess, others: Int = 1, host: UInt8 = 1) throws -> Bool {
        let peers = try server.peers(host: host)
        return peers.count == others && peers.allSatisfy { $0[2] == "up" }
    }

    private func id(_ server: KVDProcess) -> String {
        String(server.description.firstMatch(of: /"id":"([0-9a-f]{16})"/)!.1)
    }

    private func count(_ text: String, _ words: String) -> Int { text.components(separatedBy: words).count - 1 }

    // MARK: Addresses

    /// Two hosts, as loopback addresses of one machine, that announce a wildcard.
    @Test func twoHostsThatAnnounceAWildcardSync() throws {
        let port = FreePorts.take(2)
        let advertise = ["--advertise", "0.0.0.0:\(port)"]
        let first = try KVDProcess(arguments: ["--host", "127.0.0.2"] + advertise, port: port)
        let second = try KVDProcess(
            arguments: ["--host", "127.0.0.1"] + advertise + ["--join", "127.0.0.2:\(port)"], port: port)
        #expect(try first.connect(host: 2).command("SET", "a", "1") == "+OK\r\n")
        #expect(try second.connect().command("SET", "b", "2") == "+OK\r\n")
        #expect(try eventually { try second.connect().command("GET", "a") == "$1\r\n1\r\n" })
        #expect(try eventually { try first.connect(host: 2).command("GET", "b") == "$1\r\n2\r\n" })
        #expect(try eventually { try isUp(second) && isUp(first, host: 2) })
        #expect(try second.peers()[0][1] == "127.0.0.2:\(port)")
        #expect(try first.peers(host: 2)[0][1] == "127.0.0.1:\(port)")
        #expect(second.end().contains("--advertise 0.0.0.0:\(port) is no address that others reach"))
    }

    @Test func serversBoundToAllAddressesAnnounceWhatOthersSee() throws {
        let first = try KVDProcess(arguments: ["--host", "0.0.0.0", "--trust-the-network"])
        #expect(try first.info("address") == "?")
        let second = try KVDProcess(arguments: ["--host", "0.0.0.0", "--trust-the-network", "--join", address(first)])
        // Through the first one only.
        let third = try KVDProcess(arguments: ["--host", "0.0.0.0", "--trust-the-network", "--join", address(second)])
        for server in [first, second, third] {
            #expect(try eventually { try isUp(server, others: 2) })
            #expect(try server.info("address") == address(server))
            let expected = Set([first, second, third].filter { $0 !== server }.map(address))
            #expect(try eventually { Set(try server.peers().map { $0[1] }) == expected })
        }
        #expect(try third.connect().command("SET", "k", "v") == "+OK\r\n")
        #expect(try eventually { try first.connect().command("GET", "k") == "$1\r\nv\r\n" })
        let log = first.end()
        #expect(count(log, "other servers reach this one at \(address(first))") == 1 && !log.contains("lost "))
    }

    @Test func whoIsToldToJoinItselfSaysSoOnceAndStops() throws {
        let port = FreePorts.take(2)
        // The wildcard as well as the address.
        let server = try KVDProcess(
            arguments: [
                "--host", "0.0.0.0", "--trust-the-network", "--join", "127.0.0.1:\(port)", "--join", "0.0.0.0:\(port)",
            ], port: port)
        #expect(try server.connect().command("SET", "k", "v") == "+OK\r\n")
        let received = try server.info("remote_bytes_received")
        let until = Clock.millis() + 3000
        while Clock.millis() < until {
            #expect(try server.peers().isEmpty)
            _ = poll(nil, 0, 100)
        }
        #expect(try server.info("state") == "alone" && server.info("bad_frames") == "0")
        #expect(try server.info("remote_bytes_received") == received)
        let log = server.end()
        #expect(count(log, "leads back to this server itself; it is not dialled any more") == 1, "\(log)")
    }

    // MARK: Names

    @Test func theNameIsShownAndStaysOverARestart() throws {
        let first = try KVDProcess(arguments: ["--name", "first"])
        let second = try KVDProcess(arguments: ["--name", "second", "--join", address(first)])
        #expect(try eventually { try isUp(first) })
        #expect(try first.info("server_name") == "first" && second.info("name") == "second")
        #expect(try first.peers()[0][5] == "second" && second.peers()[0][5] == "first")
        #expect(try first.info("peer1")?.contains(",name=second") == true)
        let (port, before) = (second.port, id(second))
        _ = second.end()
        let again = try KVDProcess(arguments: ["--name", "second", "--join", address(first)], port: port)
        let now = id(again)
        // Never up beside the new one, which has its address and its name.
        var states: [[[String]]] = []
        let deadline = Clock.millis() + 40_000
        repeat {
            let peers = try first.peers()
            states.append(peers.map { [$0[0] == now ? "new" : $0[0] == before ? "old" : $0[0], $0[2], $0[5]] })
            _ = poll(nil, 0, 20)
        } while states.last != [["new", "up", "second"]] && Clock.millis() < deadline
        #expect(states.last == [["new", "up", "second"]], "\(states)")
        let both = states.filter { $0.contains { $0[0] == "new" } }.joined()
        #expect(both.allSatisfy { $0[2] == "second" && ($0[0] == "new" || $0[0] == "old" && $0[1] == "down") })
        let (told, seen) = (again.end(), first.end())
        #expect(!told.contains(": up"), "\(told)")
        // It was there and went: nobody tries an address in vain.
        #expect(seen.contains("lost 127.0.0.1:\(port)") && !seen.contains("no answer from"), "\(seen)")
    }

    @Test func aNameAtANewAddressIsTheSameMember() throws {
        let first = try KVDProcess(arguments: ["--name", "first"])
        let second = try KVDProcess(arguments: ["--name", "second", "--join", address(first)])
        #expect(try first.connect().command("SET", "k", "v") == "+OK\r\n")
        #expect(try eventually { try isUp(first) })
        let before = id(second)
        _ = second.end()
        let moved = try KVDProcess(arguments: ["--name", "second", "--join", address(first)])
        #expect(moved.port != second.port)
        #expect(try eventually { try first.peers().contains { $0[1] == address(moved) && $0[2] == "up" } })
        #expect(try first.peers().filter { $0[0] == before }.allSatisfy { $0[2] == "down" })
        #expect(try eventually { try moved.connect().command("GET", "k") == "$1\r\nv\r\n" })
        // No ghost, and nobody is looked for at the old address.
        #expect(try eventually { try isUp(first) && isUp(moved) })
        let log = first.end()
        #expect(!log.contains("no answer from \(address(second))"), "\(log)")
    }

    @Test func aNameThatALivingServerHasIsRefused() throws {
        let first = try KVDProcess(arguments: ["--name", "first"])
        let second = try KVDProcess(arguments: ["--name", "second", "--join", address(first)])
        #expect(try eventually { try isUp(first) })
        let taken = try KVDProcess(arguments: ["--name", "second", "--join", address(first)])
        let own = try KVDProcess(arguments: ["--name", "first", "--join", address(first)])
        let until = Clock.millis() + 3000
        while Clock.millis() < until {
            #expect(try isUp(first) && taken.peers().isEmpty && own.peers().isEmpty)
            _ = poll(nil, 0, 50)
        }
        #expect(try taken.info("state") == "alone")
        for (server, name, holder) in [(taken, "second", address(second)), (own, "first", address(first))] {
            let log = server.end()
            let line =
                "cannot join at \(address(first)): refused: the name \(name) belongs to the server at \(holder);"
                + " give this one another; trying again until somebody answers"
            #expect(count(log, line) == 1 && count(log, "refused") == 1, "\(log)")
        }
        let log = first.end()
        for (server, name, holder) in [(taken, "second", address(second)), (own, "first", address(first))] {
            let line =
                "link with \(address(server)) closed because of the name \(name), which belongs to the server at \(holder)"
            #expect(count(log, line) == 1, "\(log)")
        }
    }

    // MARK: Joining

    /// A name that is both kinds of address, with nobody at one of them.
    @Test(arguments: ["127.0.0.1", "::1"]) func localhostIsBothKindsOfAddress(host: String) throws {
        let first = try KVDProcess(arguments: ["--host", host])
        let second = try KVDProcess(arguments: ["--join", "localhost:\(first.port)"])
        #expect(try eventually { try isUp(second) })
        #expect(try second.peers()[0][1] == (host == "::1" ? "[::1]:\(first.port)" : address(first)))
        #expect(!second.end().contains("cannot join"))
    }

    @Test func whatIsWrongWithAJoinIsSaid() throws {
        let other = try KVDProcess()
        let server = try KVDProcess(arguments: [
            "--join", "no-such-host.invalid:6000", "--join", "127.0.0.1:1", "--join", "127.0.0.1:\(other.clientPort)",
        ])
        #expect(try server.connect().command("SET", "k", "v") == "+OK\r\n")
        #expect(try server.info("state") == "alone" && server.info("caught_up_percent") == "0")
        // The one that reads its greeting has nothing else to do.
        #expect(try eventually { try other.info("total_connections_received").flatMap(Int.init) ?? 0 >= 3 })
        let until = Clock.millis() + 1500
        while Clock.millis() < until { _ = poll(nil, 0, 50) }
        let log = server.end()
        for line in [
            "cannot join at no-such-host.invalid:6000: cannot resolve no-such-host.invalid: ",
            "cannot join at 127.0.0.1:1: no connection: Connection refused; trying again until somebody answers",
            "cannot join at 127.0.0.1:\(other.clientPort): an answer in the Redis protocol: it is a port for clients, not the"
                + " servers' port below those; trying again until somebody answers",
        ] {
            #expect(count(log, line) == 1, "\(log)")
        }
        #expect(!log.contains("Cannot assign requested address"))
    }

    @Test func theServersPortTellsClientsWhereToGo() throws {
        let server = try KVDProcess(actors: 2)
        let line =
            "this port is for other kvd servers; clients connect to ports \(server.port + 1) to \(server.port + 2)"
        let client = try Client(port: server.port)
        try client.send("*1\r\n$4\r\nPING\r\n")
        #expect(try client.rest() == "-ERR \(line)\r\n")
        let browser = try Client(port: server.port)
        try browser.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(try browser.rest().hasSuffix("\r\n\r\n\(line)\r\n"))
        let secure = try Client(port: server.port)
        try secure.send([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3])
        #expect(try secure.rest() == "-ERR \(line)\r\n")
        let kv = KVDProcess.directory.appendingPathComponent("kv").path
        for command in [["get", "k"], ["put", "k", "v"]] {
            let ended = try Tool.run(kv, ["--server", address(server)] + command)
            #expect(ended.code == 1 && ended.errors == "kv: the server refused: ERR \(line)\n", "\(ended.errors)")
        }
        #expect(count(server.end(), "a client that speaks the Redis protocol") == 1)
    }

    // MARK: What is answered meanwhile

    @Test func whoDoesNotServeWhileJoiningShowsNoHoles() throws {
        let first = try KVDProcess()
        let client = try first.connect()
        let keys = 60_000
        var requests: [UInt8] = []
        for i in 0..<keys { requests += Array("SET key:\(i) \(String(repeating: "v", count: 100))\r\n".utf8) }
        try client.send(requests)
        #expect(try client.bytes(keys * 5).count == keys * 5)
        let second = try KVDProcess(arguments: ["--join", address(first), "--serve-while-joining", "no"])
        let reader = try second.connect()
        let loading = "-LOADING this server is catching up with the others; try again later or use another server\r\n"
        var refused = 0
        let isLoaded = try eventually {
            for (command, answer) in [
                (["DBSIZE"], ":\(keys)\r\n"), (["EXISTS", "key:7", "key:59999"], ":2\r\n"),
                (["STRLEN", "key:31000"], ":100\r\n"), (["KVD", "VERSION", "none"], "*-1\r\n"),
            ] {
                let reply = String(decoding: try reader.call(command.map { Bytes($0) }), as: UTF8.self)
                #expect(reply == loading || reply == answer, "\(reply)")
                refused += reply == loading ? 1 : 0
            }
            #expect(try reader.command("PING") == "+PONG\r\n")
            return try reader.command("GET", "none") == "$-1\r\n"
        }
        #expect(isLoaded && refused > 0)
        #expect(try reader.command("SET", "k", "v") == "+OK\r\n")
        #expect(try second.info("state") == "up" && second.info("data_commands") == "served")
    }

    /// Alone it answers, as there is nobody to have it from.
    @Test func whoJoinsInVainServesAfterAWhile() throws {
        let server = try KVDProcess(arguments: ["--join", "127.0.0.1:1", "--serve-while-joining", "no"])
        let client = try server.connect()
        #expect(try client.command("GET", "k").hasPrefix("-LOADING "))
        #expect(try client.command("SET", "k", "v").hasPrefix("-LOADING "))
        #expect(try server.info("data_commands") == "loading")
        #expect(try eventually { try client.command("SET", "k", "v") == "+OK\r\n" })
        #expect(try client.command("GET", "k") == "$1\r\nv\r\n")
        #expect(try server.info("state") == "alone" && server.info("data_commands") == "served")
    }

    @Test func writesAreRefusedWhileOneWaitsTooLongForAServerThatIsUp() throws {
        let first = try KVDProcess(arguments: ["--max-lag", "1"])
        let second = try KVDProcess(arguments: ["--join", address(first)])
        #expect(try eventually { try isUp(first) })
        #expect(try first.info("max_lag_ms") == "1000" && second.info("max_lag_ms") == "off")
        let client = try first.connect()
        let lag =
            "-LAG a write has waited longer than --max-lag for another server that is up; write later or elsewhere\r\n"
        #expect(try client.command("SET", "k", "0") == "+OK\r\n")
        second.hang()
        defer { second.signal(SIGCONT) }
        // It counts as up for three seconds: after one of them writes are refused, and afterwards taken again.
        var answers: [String] = []
        var i = 0
        let isOver = try eventually {
            i += 1
            let reply = try client.command("SET", "k", "\(i)")
            if answers.last != reply { answers.append(reply) }
            #expect(try client.command("EXISTS", "k") == ":1\r\n")
            if reply == lag {
                // No lag once the other one counts as suspect, which the next look at the gate takes into account.
                let info = try first.connect().command("INFO", "replication")
                let lagMillis = info.firstMatch(of: /\r\nlag_ms:(\d+)/).flatMap { Int($0.1) } ?? 0
                let isHeld = info.contains("data_commands:read-only (max-lag)")
                #expect(
                    isHeld && (lagMillis > 900 || lagMillis == 0) || info.contains("data_commands:served"), "\(info)")
                #expect(
                    try client.command("KVD", "PUT", "k", "x") == lag || client.command("SET", "k", "x") == "+OK\r\n")
            }
            return answers.count >= 3
        }
        #expect(isOver && answers == ["+OK\r\n", lag, "+OK\r\n"], "\(answers)")
        second.signal(SIGCONT)
        #expect(try eventually { try isUp(first) })
        #expect(try eventually { try client.command("SET", "end", "1") == "+OK\r\n" })
        #expect(try eventually { try second.connect().command("GET", "end") == "$1\r\n1\r\n" })
    }
}
