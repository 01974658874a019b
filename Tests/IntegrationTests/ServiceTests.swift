// kvd as a service: what it tells systemd, its log for machines, its settings' file, kv status and doctor. Processes.

import Foundation
import KVTestTraits
import Testing

@Suite(.blocking) struct ServiceTests {
    /// Where a manager listens.
    private final class Manager {
        let path = "/tmp/kvd-notify-\(UUID().uuidString.prefix(8))"
        private let fd: Int32

        init() throws {
            fd = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            try #require(bound == 0)
        }

        deinit {
            close(fd)
            unlink(path)
        }

        /// The next message within the time.
        func next(withinMillis: Int32 = 20_000) -> String? {
            var ready = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
            guard poll(&ready, 1, withinMillis) > 0 else { return nil }
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = recv(fd, &bytes, bytes.count, 0)
            return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
        }
    }

    @Test func theManagerIsToldOfReadinessLifeAndTheEnd() throws {
        let manager = try Manager()
        let server = try KVDProcess(
            actors: 3, before: "export NOTIFY_SOCKET=\(manager.path) WATCHDOG_USEC=300000")
        let first = try #require(manager.next())
        #expect(first.hasPrefix("READY=1\nSTATUS=serving 3 actors from port \(server.clientPort)\n"), "\(first)")
        for _ in 0..<3 { #expect(manager.next() == "WATCHDOG=1\n") }
        server.signal(SIGTERM)
        var last: String?
        while let text = manager.next(), last == nil { if text.hasPrefix("STOPPING=1\n") { last = text } }
        #expect(last != nil)
        #expect(server.exitCode(withinMillis: 10_000) == 0)
    }

    /// A server that is to serve nobody before it has the data is not ready before.
    @Test func readinessWaitsForTheDataWhereClientsDo() throws {
        let manager = try Manager()
        let held = try HeldPort()
        let server = try KVDProcess(
            arguments: ["--serve-while-joining", "no", "--join", "127.0.0.1:\(held.port)"],
            before: "export NOTIFY_SOCKET=\(manager.path)")
        #expect(try server.connect().command("GET", "k").hasPrefix("-LOADING"))
        #expect(manager.next(withinMillis: 500) == nil)
        // Nobody answers for so long that there is nobody.
        #expect(manager.next()?.hasPrefix("READY=1\n") == true)
        #expect(try server.connect().command("GET", "k") == "$-1\r\n")
    }

    @Test(arguments: ["json", "logfmt"]) func theLogIsForMachinesToo(_ format: String) throws {
        let server = try KVDProcess(arguments: ["--log-format", format])
        let text = server.end(SIGTERM)
        let lines = text.split(separator: "\n")
        #expect(lines.count >= 3)
        for line in lines {
            if format == "json" {
                let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
                #expect(object?["ts"] != nil && object?["level"] != nil && object?["msg"] != nil, "\(line)")
            } else {
                #expect(line.hasPrefix("ts=20") && line.contains(" level=") && line.contains(" msg="), "\(line)")
            }
        }
        #expect(text.contains("serving"))
    }

    @Test func whatChangedGoesIntoTheFile() throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("kvd-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        try "# mine\nmaxclients 50\n".write(toFile: path, atomically: true, encoding: .utf8)
        let server = try KVDProcess(arguments: ["--config", path])
        let client = try server.connect()
        #expect(try client.command("CONFIG", "SET", "maxclients", "60", "max-lag", "7") == "+OK\r\n")
        #expect(try client.command("CONFIG", "REWRITE") == "+OK\r\n")
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "# mine\nmaxclients 60\nmax-lag 7\n")
        let checked = try KVDProcess.run(["check-config", "--config", path, "--port", "7001"])
        #expect(checked.code == 0)
        #expect(checked.output == "port 7001  # --port\nmaxclients 60  # \(path) line 2\nmax-lag 7  # \(path) line 3\n")
        let other = try KVDProcess()
        #expect(
            try other.connect().command("CONFIG", "REWRITE") == "-ERR The server is running without a config file\r\n")
    }

    @Test func settingsAndHelpAreOfOneTable() throws {
        for form in ["markdown", "conf", "man", "bash", "zsh"] {
            let page = try KVDProcess.run(["settings", form])
            #expect(page.code == 0 && page.output.contains("metrics-address") || form == "man", "\(form)")
            #expect(!page.output.isEmpty && page.errors.isEmpty)
        }
        let wrong = try KVDProcess.run(["settings", "html"])
        #expect(wrong.code == 64 && wrong.errors == "kvd: 'html' is not one of markdown, conf, man, bash, zsh\n")
        let misspelt = try KVDProcess.run(["--prot", "1"])
        #expect(misspelt.code == 64)
        #expect(misspelt.errors == "kvd: --prot: unknown setting; did you mean port?; see kvd --help\n")
        if let bash = Tool.path("bash") {
            let page = try KVDProcess.run(["settings", "bash"]).output
            let script =
                page + "\nCOMP_WORDS=(kvd --log-l) COMP_CWORD=1; _kvd; echo \"${COMPREPLY[@]}\"\n"
                + "COMP_WORDS=(kvd --io e) COMP_CWORD=2; _kvd; echo \"${COMPREPLY[@]}\"\n"
            #expect(try Tool.run(bash, ["-c", script]).output == "--log-level\nepoll\n")
        }
    }

    /// The text for three hosts as it stands, in namespaces.
    @Test(.waitingLimit) func theTextForThreeHostsIsRight() throws {
        guard let python = Tool.path("python3"), Tool.path("nsenter") != nil, Tool.path("ip") != nil else {
            return print("python3, nsenter or ip is not installed: the text for three hosts is not run")
        }
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let script = tests.appendingPathComponent("Hosts/three.py").path
        let ended = try Tool.run("/usr/bin/timeout", ["240", python, script, "--bin", KVDProcess.directory.path])
        if ended.code == 77 { return print("namespaces are not allowed here: the text for three hosts is not run") }
        #expect(ended.code == 0 && ended.output.contains("converged"), "\(ended.output)\(ended.errors)")
    }

    /// Nobody but root may set what has the same number at another level.
    @Test func kvWorksForWhoMayNothing() throws {
        let server = try KVDProcess()
        let kv = KVDProcess.directory.appendingPathComponent("kv").path
        guard getuid() == 0, let setpriv = Tool.path("setpriv") else {
            let ended = try Tool.run(kv, ["ping", "--server", "127.0.0.1:\(server.clientPort)"])
            return #expect(ended.code == 0, "\(ended)")
        }
        let nobody = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", kv]
        // Who may not even read the folder of the build cannot try.
        guard try Tool.run("/usr/bin/env", nobody + ["--version"]).code == 0 else {
            return print("nobody may not run \(kv): not looked at")
        }
        let ended = try Tool.run("/usr/bin/env", nobody + ["ping", "--server", "127.0.0.1:\(server.clientPort)"])
        #expect(ended.code == 0 && ended.output.hasPrefix("PONG"), "\(ended)")
    }

    @Test func kvTellsOfTheCluster() throws {
        let first = try KVDProcess(arguments: ["--name", "one"], actors: 2)
        let second = try KVDProcess(arguments: ["--name", "two", "--join", "127.0.0.1:\(first.port)"])
        #expect(try first.connect().command("SET", "k", "v") == "+OK\r\n")
        let kv = KVDProcess.directory.appendingPathComponent("kv").path
        func run(_ words: String...) throws -> (code: Int32, output: String, errors: String) {
            try Tool.run(kv, words + ["--server", "127.0.0.1:\(first.clientPort)"])
        }
        let deadline = Clock.millis() + 20_000
        var status = try run("status")
        while !status.output.contains("two"), Clock.millis() < deadline { status = try run("status") }
        let lines = status.output.split(separator: "\n").map { $0.split(separator: " ") }
        #expect(status.code == 0 && lines.count == 3, "\(status)")
        #expect(lines[0].first == "SERVER" && lines[1].prefix(2) == ["one", "127.0.0.1:\(first.port)"])
        #expect(lines[2].prefix(2) == ["two", "127.0.0.1:\(second.port)"])
        let json = try run("status", "--json")
        let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
        #expect(object?["name"] as? String == "one" && (object?["peers"] as? [Any])?.count == 1, "\(json)")
        var doctor = try run("doctor")
        while doctor.output != "Nothing is wrong.\n", Clock.millis() < deadline { doctor = try run("doctor") }
        #expect(doctor.output == "Nothing is wrong.\n" && doctor.code == 0)
        second.signal(SIGKILL)
        while doctor.code == 0, Clock.millis() < deadline + 20_000 { doctor = try run("doctor") }
        #expect(doctor.code == 1 && doctor.output.contains("critical: two is down"), "\(doctor)")
        #expect(doctor.output.contains("Start it, or mend the way to 127.0.0.1:\(second.port)."))
    }
}
