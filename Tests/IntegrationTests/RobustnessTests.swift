// Bad input, bad readers, too many of them, and the server's start and end. Real processes.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct RobustnessTests {
    @Test(arguments: backends) func requestsCutAnywhereAreAnsweredTheSame(_ backend: String) throws {
        let server = try KVDProcess(backend: backend)
        let input =
            Client.encode(["SET", "k", "value"]) + Client.encode(["GET", "k"]) + Array("PING\r\nGET \"k\"\r\n".utf8)
        let expected = "+OK\r\n$5\r\nvalue\r\n+PONG\r\n$5\r\nvalue\r\n"
        for cut in 1..<input.count {
            let client = try server.connect()
            try client.send(Array(input[..<cut]))
            // A reply to something behind the cut would need its bytes: the pause only makes two receives likely.
            _ = poll(nil, 0, 1)
            try client.send(Array(input[cut...]))
            #expect(String(decoding: try client.bytes(expected.utf8.count), as: UTF8.self) == expected, "cut at \(cut)")
        }
    }

    @Test(arguments: backends) func malformedRequestsCloseTheirConnectionOnly(_ backend: String) throws {
        let server = try KVDProcess(backend: backend)
        let bystander = try server.connect()
        for (input, reply) in [
            ("*1\r\n$x\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
            ("*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
            ("*99999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
            ("*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
            ("*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
            ("*1\r\nPING\r\n", "-ERR Protocol error: expected '$', got 'P'\r\n"),
            ("\"PING\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
            (String(repeating: "a", count: 70_000), "-ERR Protocol error: too big inline request\r\n"),
            ("PING\r\n*1\r\n$x\r\nPING\r\n", "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n"),
        ] {
            let client = try server.connect()
            try client.send(input)
            #expect(try client.rest() == reply, "\(input.prefix(40))")
            #expect(try bystander.command("PING") == "+PONG\r\n")
        }
        let browser = try server.connect()
        try browser.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        #expect(!(try browser.rest()).contains("+OK"))
    }

    /// What the client has written is read although it reads nothing yet; each send gives up after 20 s.
    @Test(arguments: backends) func aPipelineWrittenWholeIsAnsweredWhole(_ backend: String) throws {
        let server = try KVDProcess(backend: backend)
        let client = try server.connect()
        let key = Bytes([UInt8](repeating: 107, count: 100))
        let value = [UInt8](repeating: 118, count: 1000)
        _ = try client.call(["SET", key, Bytes(value)])
        let count = 60_000
        let get = Client.encode(["GET", key])
        try client.send([[UInt8]](repeating: get, count: count).flatMap { $0 })
        let reply = Array("$1000\r\n".utf8) + value + [13, 10]
        for _ in 0..<count / 100 {
            let hundred = try client.bytes(reply.count * 100)
            guard hundred == [[UInt8]](repeating: reply, count: 100).flatMap({ $0 }) else {
                Issue.record("a reply differs")
                return
            }
        }
        let sets = 400_000
        let set = Client.encode(["SET", "k", "v"])
        try client.send([[UInt8]](repeating: set, count: sets).flatMap { $0 })
        var left = sets * 5
        while left > 0 { left -= try client.bytes(min(left, 1 << 16)).count }
        #expect(try client.command("PING") == "+PONG\r\n")
    }

    /// 50 clients announce 64 MiB each and send 1.1.
    @Test func memoryIsNotTakenForWhatWasOnlyAnnounced() throws {
        let server = try KVDProcess()
        let watcher = try server.connect()
        func resident() throws -> Int {
            let info = try watcher.command("INFO", "memory").split(separator: "\r\n")
            return info.first { $0.hasPrefix("used_memory_rss:") }.flatMap { Int($0.dropFirst(16)) } ?? 0
        }
        let before = try resident()
        let input = Array("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108864\r\n".utf8) + [UInt8](repeating: 7, count: 1_100_000)
        var clients: [Client] = []
        for _ in 0..<50 {
            clients.append(try server.connect())
            try clients.last!.send(input)
        }
        let deadline = Date(timeIntervalSinceNow: 20)
        func held() throws -> Int {
            let info = try watcher.command("INFO", "stats").split(separator: "\r\n")
            return info.first { $0.hasPrefix("unfinished_request_bytes:") }.flatMap { Int($0.dropFirst(25)) } ?? 0
        }
        while try held() < 50 * input.count, Date() < deadline { _ = poll(nil, 0, 10) }
        #expect(try held() == 50 * input.count)
        let taken = try resident() - before
        #expect(taken < 50 * 4 << 20, "\(taken >> 20) MiB for \(50 * input.count >> 20) MiB")
    }

    /// Standard error is a full pipe that nobody reads: the server starts, serves and ends all the same.
    @Test func aLogThatNobodyReadsHoldsNothingUp() throws {
        let server = try KVDProcess(isErrorPipeFull: true)
        for _ in 0..<50 { server.signal(SIGHUP) }
        #expect(try server.connect().command("PING") == "+PONG\r\n")
        server.signal(SIGTERM)
        #expect(server.exitCode(withinMillis: 60_000) == 0)
    }

    @Test func signalsThatMeanNothingAreIgnored() throws {
        let server = try KVDProcess()
        let client = try server.connect()
        let numbers = [
            SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGXFSZ, SIGPOLL, SIGSTKFLT, SIGPIPE, SIGHUP, 34, 50, 64,
        ]
        for number in numbers {
            server.signal(number)
            #expect(try client.command("SET", "k", "v") == "+OK\r\n", "signal \(number)")
        }
        server.signal(SIGTERM)
        #expect(server.exitCode(withinMillis: 60_000) == 0)
        let lines = server.errorText.split(separator: "\n")
        #expect(lines.count(where: { $0.contains("SIGHUP") }) == 1, "\(lines)")
        #expect(lines.last?.contains("stopped") == true, "\(lines)")
    }

    @Test(arguments: [SIGTERM, SIGINT, SIGQUIT, SIGXCPU, SIGPWR]) func otherSignalsEndItInOrder(_ number: Int32) throws
    {
        let server = try KVDProcess()
        server.signal(number)
        #expect(server.exitCode(withinMillis: 60_000) == 0)
        #expect(server.errorText.contains("stopped"))
    }

    @Test(arguments: backends) func oversizedRequestsAreRefusedAndTheConnectionKept(_ backend: String) throws {
        let server = try KVDProcess(backend: backend)
        let client = try server.connect()
        let long = Bytes([UInt8](repeating: 65, count: 65_537))
        #expect(String(decoding: try client.call(["SET", long, "v"]), as: UTF8.self).hasPrefix("-ERR key is too long"))
        try client.send("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108865\r\n")
        let chunk = [UInt8](repeating: 66, count: 1 << 20)
        for _ in 0..<64 { try client.send(chunk) }
        try client.send([66] + Array("\r\n".utf8))
        #expect(String(decoding: try client.reply(), as: UTF8.self).hasPrefix("-ERR argument is too large"))
        #expect(try client.command("EXISTS", "k") == ":0\r\n")
    }

    @Test(arguments: backends) func aReaderThatDoesNotReadCostsBoundedMemoryAndNobodyElse(_ backend: String) throws {
        let server = try KVDProcess(backend: backend)
        let client = try server.connect()
        _ = try client.call(["SET", "k", Bytes([UInt8](repeating: 67, count: 100_000))])
        let before = try memory(client)
        let slow = try Client(port: server.clientPort, receiveBufferBytes: 4096)
        let requests = 2000
        // 200 MB of replies asked for and not read.
        try slow.send(Array((0..<requests).map { _ in Client.encode(["GET", "k"]) }.joined()))
        var other = 0
        let deadline = Clock.millis() + 300
        while Clock.millis() < deadline {
            #expect(try client.command("PING") == "+PONG\r\n")
            other += 1
        }
        #expect(other > 20)
        #expect(try memory(client) - before < 24 << 20, "replies pile up")
        var received = 0
        for _ in 0..<requests { received += try slow.reply().count }
        #expect(received == requests * 100_011)
    }

    private func memory(_ client: Client) throws -> Int {
        let text = try client.command("INFO", "memory")
        return Int(text.firstMatch(of: /used_memory:(\d+)/)!.1)!
    }

    @Test(arguments: backends) func tooManyConnectionsAreToldAndClosed(_ backend: String) throws {
        let server = try KVDProcess(arguments: ["--maxclients", "5"], backend: backend)
        var clients = try (0..<5).map { _ in try server.connect() }
        for client in clients { #expect(try client.command("PING") == "+PONG\r\n") }
        let sixth = try server.connect()
        #expect(try sixth.rest() == "-ERR max number of clients reached\r\n")
        #expect(try clients[0].command("INFO", "stats").contains("rejected_connections:1"))
        clients.removeLast()
        #expect(
            eventually { try? server.connect().command("PING") } == "+PONG\r\n",
            "a place that got free is given away")
    }

    @Test(arguments: backends) func runningOutOfDescriptorsDoesNotEndTheServer(_ backend: String) throws {
        let server = try KVDProcess(backend: backend, before: "ulimit -n 80")
        var clients: [Client] = []
        for _ in 0..<120 { if let client = try? server.connect() { clients.append(client) } }
        #expect(try clients[0].command("PING") == "+PONG\r\n")
        clients.removeAll()
        #expect(eventually { try? server.connect().command("PING") } == "+PONG\r\n")
    }

    /// Those that are refused do not take the descriptors that files and links need.
    @Test(arguments: backends) func aStormOfRefusedClientsLeavesTheDiskItsDescriptors(_ backend: String) throws {
        let directory = TestDirectory()
        let arguments = ["--dir", directory.path("data")]
        let server = try KVDProcess(arguments: arguments, backend: backend, before: "ulimit -n 128")
        let clients = try (0..<64).map { _ in try server.connect() }
        #expect(try clients[63].command("PING") == "+PONG\r\n")
        var (refused, answer) = ([Client](), "")
        // On a busy machine the kernel may have taken many at once that the loop has not seen yet.
        for _ in 0..<4 where answer != "+OK\r\n" {
            for _ in 0..<100 { refused.append(try server.connect()) }
            answer = try clients[0].command("SAVE")
        }
        #expect(answer == "+OK\r\n")
        for client in refused { #expect(try client.reply() == Array("-ERR max number of clients reached\r\n".utf8)) }
    }

    /// Each actor has a loop, ports and a log.
    @Test func asManyClientsAsAreAllowedLeaveManyActorsTheirDescriptors() throws {
        let directory = TestDirectory()
        let server = try KVDProcess(
            arguments: ["--dir", directory.path("data"), "--shared-port", "\(FreePorts.take(1))"], actors: 16,
            before: "ulimit -n 256")
        let first = try server.connect()
        let allowed = try first.command("CONFIG", "GET", "maxclients").split(separator: "\r\n").last.flatMap { Int($0) }
        var clients = [first]
        for place in 1..<(try #require(allowed)) { clients.append(try server.connect(1 + place % 16)) }
        for client in clients { #expect(try client.command("PING") == "+PONG\r\n") }
        #expect(try first.command("SAVE") == "+OK\r\n")
        #expect(try server.connect().rest() == "-ERR max number of clients reached\r\n")
    }

    private func eventually(_ attempt: () -> String?) -> String? {
        let deadline = Clock.millis() + 30_000
        while Clock.millis() < deadline {
            if let result = attempt(), result.hasPrefix("+") { return result }
            _ = poll(nil, 0, 5)
        }
        return nil
    }

    // Start and end.

    @Test func aTakenPortIsAClearError() throws {
        let server = try KVDProcess()
        for arguments in [
            ["--port", "\(server.port)"], ["--port", "\(server.clientPort)"], ["--port", "\(server.port - 1)"],
            ["--port", "\(FreePorts.take(2))", "--shared-port", "\(server.clientPort)"],
        ] {
            let ended = try KVDProcess.run(arguments)
            #expect(ended.code == 1 && ended.output.isEmpty, "\(arguments)")
            let lines = ended.errors.split(separator: "\n").filter { $0.hasPrefix("kvd: ") }
            #expect(lines.count == 1 && lines[0].contains("Address already in use"), "\(ended.errors)")
        }
    }

    @Test func badUsageIsOneLineAndExitCode64() throws {
        for arguments in [
            ["--nonsense"], ["--port"], ["--port", "x"], ["--actors", "0"], ["--io", "kqueue"], ["--join", "nowhere"],
            ["extra"],
            ["--config", "/nonexistent"],
        ] {
            let ended = try KVDProcess.run(arguments)
            #expect(ended.code == 64 && ended.output.isEmpty, "\(arguments)")
            #expect(
                ended.errors.split(separator: "\n").count == 1 && ended.errors.hasPrefix("kvd: "), "\(ended.errors)")
        }
        let fromEnvironment = try KVDProcess.run([], environment: ["KVD_PORT": "x"])
        #expect(fromEnvironment.code == 64 && fromEnvironment.errors.contains("KVD_PORT"))
    }

    @Test func helpAndVersionExitWithZero() throws {
        let help = try KVDProcess.run(["--help"])
        #expect(help.code == 0)
        for flag in [
            "--port", "--actors", "--shared-port", "--host", "--advertise", "--join", "--io", "--log-level", "--config",
        ] {
            #expect(help.output.contains(flag))
        }
        #expect(try KVDProcess.run(["--version"]).output.hasPrefix("kvd "))
    }

    @Test(arguments: backends) func aSignalEndsItInGoodOrder(_ backend: String) throws {
        for number in [SIGTERM, SIGINT] {
            let server = try KVDProcess(actors: 2, backend: backend)
            let client = try server.connect()
            #expect(try client.command("SET", "a", "1") == "+OK\r\n")
            try client.send(Client.encode(["GET", "a"]))
            #expect(try client.reply() == Array("$1\r\n1\r\n".utf8))
            server.signal(number)
            #expect(try client.rest() == "", "clients see an orderly end")
            #expect(server.exitCode(withinMillis: 60_000) == 0)
            #expect(throws: (any Error).self) { try server.connect() }
        }
    }

    @Test func aSecondSignalEndsItAtOnce() throws {
        let server = try KVDProcess()
        // A client that never closes its side keeps the drain waiting.
        let client = try server.connect()
        #expect(try client.command("PING") == "+PONG\r\n")
        let started = Clock.millis()
        server.signal(SIGTERM)
        _ = try client.rest()
        server.signal(SIGTERM)
        let code = try #require(server.exitCode(withinMillis: 60_000))
        #expect(code == 1 || code == 0)
        #expect(Clock.millis() - started < 4000, "not the sum of all that an orderly end may wait for")
    }

    @Test func settingsFromFileAndEnvironmentReachTheServer() throws {
        let path = NSTemporaryDirectory() + "kvd-\(UUID().uuidString).conf"
        try "maxclients 77\nlog-level error\n".write(toFile: path, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let server = try KVDProcess(arguments: ["--config", path])
        #expect(try server.connect().command("CONFIG", "GET", "maxclients").contains("$2\r\n77\r\n"))
    }
}
