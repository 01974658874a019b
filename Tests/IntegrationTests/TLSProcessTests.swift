// TLS of a real server: the clients people have, files that change or are wrong, certificates as users. Processes.

import Foundation
import KVTestTraits
import Testing

@Suite(.blocking) struct TLSProcessTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("kvd-tls-\(UUID().uuidString)")

    init() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try makeCertificates(folder.path)
    }

    /// `ca`, `server`, `alice` and `bob`, by the program's own command.
    private func makeCertificates(_ folder: String) throws {
        for words in [["ca"], ["server", "server"], ["client", "alice"], ["client", "bob"]] {
            let ended = try KVDProcess.run(["cert"] + words + ["--dir", folder])
            #expect(ended.code == 0, "\(ended.errors)")
        }
    }

    private func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

    private func write(_ name: String, _ text: String) throws -> String {
        try text.write(toFile: path(name), atomically: true, encoding: .utf8)
        chmod(path(name), 0o600)
        return path(name)
    }

    private var certificate: [String] { ["--tls-cert-file", path("server.pem"), "--tls-key-file", path("server.key")] }

    private func tool(_ name: String) -> String? {
        if let found = Tool.path(name) { return found }
        print("\(name) is not installed: its test is skipped")
        #expect(ProcessInfo.processInfo.environment["KVD_REQUIRE_TOOLS"] == nil, "\(name) is not installed")
        return nil
    }

    /// redis-cli with TLS, which believes the authority.
    private func secure(
        _ server: KVDProcess, _ cli: String, _ arguments: [String], as client: String? = nil, actor: Int = 1,
        password: String? = nil
    ) throws -> String {
        let shown = client.map { ["--cert", path("\($0).pem"), "--key", path("\($0).key")] } ?? []
        let ended = try Tool.run(
            cli, ["-p", "\(server.port + actor)", "--tls", "--cacert", path("ca.pem")] + shown + arguments,
            environment: password.map { ["REDISCLI_AUTH": $0] } ?? [:])
        return (ended.output + ended.errors).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
        let deadline = Clock.millis() + 30_000
        while Clock.millis() < deadline {
            if try condition() { return true }
            _ = poll(nil, 0, 50)
        }
        return false
    }

    @Test(arguments: ["io_uring", "epoll"]) func redisCLISpeaksTLSOnEveryActor(backend: String) throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        guard let cli = tool("redis-cli") else { return }
        let users = try write("users", "user default off\nuser carol on >a-long-password ~app:* +@all -flushall\n")
        let server = try KVDProcess(arguments: certificate + ["--aclfile", users], actors: 2, backend: backend)
        let carol = ["--user", "carol"]
        for actor in 1...2 {
            func run(_ arguments: String...) throws -> String {
                try secure(server, cli, carol + arguments, actor: actor, password: "a-long-password")
            }
            #expect(try run("SET", "app:\(actor)", "v") == "OK")
            #expect(try run("GET", "app:\(actor)") == "v")
            #expect(try run("ACL", "WHOAMI") == "carol")
            #expect(try run("FLUSHALL").hasPrefix("NOPERM"))
            #expect(try run("GET", "other").hasPrefix("NOPERM"))
            // Larger than what one record holds, and than what a turn encrypts.
            let value = String(repeating: "0123456789", count: 40_000)
            #expect(try run("EVAL", "1").hasPrefix("ERR"))
            let long = try Tool.run(
                cli,
                ["-p", "\(server.port + actor)", "--tls", "--cacert", path("ca.pem"), "-x"] + carol + [
                    "SET", "app:long",
                ],
                environment: ["REDISCLI_AUTH": "a-long-password"], input: value)
            #expect(long.output == "OK\n", "\(long)")
            #expect(try run("GET", "app:long") == value)
        }
        #expect(try secure(server, cli, ["GET", "app:1"]).hasPrefix("NOAUTH"))
        // Certificates of somebody else are not believed by the client, and no TLS is not by the server. A client that
        // closes at once may take its own alert with it: then another one says it.
        let deadline = Clock.millis() + 10_000
        repeat {
            let wrong = try Tool.run(
                cli, ["-p", "\(server.clientPort)", "--tls", "--cacert", path("alice.pem"), "PING"])
            #expect(wrong.code != 0 && !wrong.output.contains("PONG"))
        } while try secure(server, cli, carol + ["INFO", "stats"], password: "a-long-password")
            .contains("tls_failures:0") && Clock.millis() < deadline
        let plain = try server.connect()
        try plain.send("PING\r\n")
        #expect(try plain.rest() == "-ERR this port takes connections with TLS only\r\n")
        let text = server.end(SIGTERM)
        #expect(text.contains("TLS with ") && text.contains("unknown ca"), "the failed handshake is said: \(text)")
    }

    @Test func redisPySpeaksTLSAndUsers() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        guard
            let python = try Tool.paths("python3").first(where: { try Tool.run($0, ["-c", "import redis"]).code == 0 })
        else { return print("redis-py is not installed: its test is skipped") }
        let users = try write("users", "user default off\nuser carol on >pw ~* +@all\n")
        let server = try KVDProcess(arguments: certificate + ["--aclfile", users])
        let program = """
            import redis
            r = redis.Redis(port=\(server.clientPort), ssl=True, ssl_ca_certs="\(path("ca.pem"))",
                            username="carol", password="pw", socket_timeout=20)
            assert r.set("k", "v" * 100_000) and len(r.get("k")) == 100_000
            with r.pipeline(transaction=False) as p:
                for i in range(1000): p.set(f"p{i}", i)
                assert all(p.execute())
            assert r.acl_whoami() in (b"carol", "carol")
            try:
                redis.Redis(port=\(server.clientPort), ssl=True, ssl_ca_certs="\(path("ca.pem"))",
                            username="carol", password="wrong", socket_timeout=20).ping()
                raise SystemExit("let in")
            except redis.exceptions.RedisError as e:
                assert "invalid username-password pair" in str(e), e
            """
        let ended = try Tool.run(python, ["-c", program])
        #expect(ended.code == 0, "\(ended.output)\(ended.errors)")
    }

    /// The game keeps its world in a store that demands TLS and a user, and says why it cannot.
    @Test func theGameSpeaksTLSAndUsers() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let users = try write("users", "user default off\nuser alice on ~* +@all\nuser carol on >pw ~* +@all\n")
        let settings = ["--tls-ca-file", path("ca.pem"), "--tls-auth-clients-user", "CN", "--aclfile", users]
        let server = try KVDProcess(arguments: certificate + settings)
        let game = KVDProcess.directory.appendingPathComponent("cmud").path
        let character = try write("character", "a password of the character\n")
        func play(_ name: String, _ words: [String], password: String? = nil) throws -> (
            code: Int32, output: String, errors: String
        ) {
            try Tool.run(
                game, ["127.0.0.1:\(server.clientPort)", "--name", name, "--password-file", character] + words,
                environment: password.map { ["KV_PASSWORD": $0] } ?? [:])
        }
        let trusting = ["--cacert", path("ca.pem")]
        let shown = trusting + ["--cert", path("alice.pem"), "--key", path("alice.key")]
        let first = try play("ada", shown + ["-e", "look"])
        #expect(first.code == 0 && first.output.contains("Welcome ada"), "\(first)")
        let second = try play("ada", trusting + ["--user", "carol", "-e", "look"], password: "pw")
        #expect(second.code == 0 && second.output.contains("Gates Center"), "\(second)")
        let missing = try play("ada", ["--cacert", path("none.pem"), "-e", "look"])
        let why = "cmud: TLS cannot use \(path("none.pem")): No such file or directory\n"
        #expect(missing.code == 64 && missing.errors == why, "\(missing)")
        let foreign = try play("ada", ["--cacert", path("alice.pem"), "-e", "look"])
        #expect(foreign.code == 3 && foreign.errors.contains("TLS failed: the server's certificate"), "\(foreign)")
    }

    @Test func theLoadGeneratorSpeaksTLSAndUsers() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let password = try write("password", "a long password of everybody\n")
        let server = try KVDProcess(arguments: certificate + ["--requirepass-file", password])
        let driver = KVDProcess.directory.appendingPathComponent("perf-driver").path
        let load = ["--keys", "2000", "--value-size", "3000", "-c", "3", "-P", "50", "--requests", "3000", "--quiet"]
        let words = ["--load", "--ops", "get:50,set:50"] + load
        let target = "127.0.0.1:\(server.clientPort)"
        let known = ["KV_PASSWORD": "a long password of everybody"]
        for access in [["--server", "rediss://\(target)"], ["--server", target, "--tls", "--cacert", path("ca.pem")]] {
            let ended = try Tool.run(driver, access + words, environment: known)
            #expect(ended.code == 0, "\(access): \(ended.errors)")
        }
        let wrong = try Tool.run(
            driver, ["--server", "rediss://\(target)"] + words, environment: ["KV_PASSWORD": "another"])
        #expect(wrong.code == 1 && wrong.errors.contains("does not accept user default"), "\(wrong.errors)")
        let foreign = try Tool.run(
            driver, ["--server", target, "--tls", "--cacert", path("alice.pem")] + words, environment: known)
        #expect(foreign.code == 1 && foreign.errors.contains("the handshake failed"), "\(foreign.errors)")
    }

    @Test func anOptionalPortTakesBoth() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        guard let cli = tool("redis-cli") else { return }
        let server = try KVDProcess(arguments: certificate + ["--tls", "optional"])
        #expect(try server.connect().command("SET", "k", "v") == "+OK\r\n")
        #expect(try secure(server, cli, ["GET", "k"]) == "v")
        #expect(try secure(server, cli, ["CONFIG", "GET", "tls"]) == "tls\noptional")
        let info = try secure(server, cli, ["INFO", "stats"])
        #expect(info.contains("tls_handshakes:3\r") && info.contains("tls_connections:1\r"), "\(info)")
        #expect(info.contains("tls_plain_refused:0\r"))
    }

    /// The certificate is who the client is; who has none, or one that no user is named by, says it as ever.
    @Test(arguments: ["CN", "URI"]) func aCertificateNamesItsUser(field: String) throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        guard let cli = tool("redis-cli") else { return }
        let name = field == "CN" ? "alice" : "kvd://kvd/alice"
        let users = try write(
            "users", "user default on >secret-of-all ~* +@all\nuser \(name) on ~* +@read +acl|whoami\n")
        let settings = ["--tls-ca-file", path("ca.pem"), "--tls-auth-clients-user", field, "--aclfile", users]
        let server = try KVDProcess(arguments: certificate + settings)
        #expect(try secure(server, cli, ["ACL", "WHOAMI"], as: "alice") == name)
        #expect(try secure(server, cli, ["SET", "k", "v"], as: "alice").hasPrefix("NOPERM"))
        #expect(try secure(server, cli, ["GET", "k"], as: "bob").hasPrefix("NOAUTH"))
        #expect(try secure(server, cli, ["GET", "k"]).hasPrefix("NOAUTH"))
        let admin = { try secure(server, cli, $0, password: "secret-of-all") }
        #expect(try admin(["SET", "k", "v"]).hasSuffix("OK"))
        #expect(try admin(["ACL", "LOG"]).contains("certificate"))
        #expect(try admin(["ACL", "SETUSER", name, "off"]).hasSuffix("OK"))
        #expect(try secure(server, cli, ["GET", "k"], as: "alice").hasPrefix("NOAUTH"))
    }

    /// At SIGHUP, and without being told.
    @Test func certificatesChangeWhileItRuns() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        guard let cli = tool("redis-cli") else { return }
        let server = try KVDProcess(arguments: certificate)
        #expect(try secure(server, cli, ["SET", "k", "v"]) == "OK")
        // A bad file changes nothing.
        let good = try String(contentsOfFile: path("server.pem"), encoding: .utf8)
        _ = try write("server.pem", "no certificate")
        server.signal(SIGHUP)
        #expect(try eventually { try secure(server, cli, ["INFO", "stats"]).contains("tls_reload_failures:1\r") })
        #expect(try secure(server, cli, ["GET", "k"]) == "v")
        // Nor does a key of another certificate.
        let key = try String(contentsOfFile: path("server.key"), encoding: .utf8)
        _ = try write("server.key", String(contentsOfFile: path("alice.key"), encoding: .utf8))
        _ = try write("server.pem", good)
        server.signal(SIGHUP)
        #expect(try eventually { try secure(server, cli, ["INFO", "stats"]).contains("tls_reload_failures:2\r") })
        #expect(try secure(server, cli, ["GET", "k"]) == "v")
        _ = try write("server.key", key)
        server.signal(SIGHUP)
        #expect(try eventually { try secure(server, cli, ["INFO", "stats"]).contains("tls_reloads:1\r") })
        // Others of another authority: whoever believes only that one gets in when they are read.
        let other = path("other")
        try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: true)
        try makeCertificates(other)
        for name in ["server.key", "server.pem", "ca.pem"] {
            _ = try write(name, String(contentsOfFile: "\(other)/\(name)", encoding: .utf8))
        }
        #expect(try eventually { try secure(server, cli, ["GET", "k"]) == "v" })
        let text = server.end(SIGTERM)
        #expect(
            text.contains("the certificate stays as it was: --tls-cert-file \(path("server.pem")): is no certificate"))
        #expect(text.contains("--tls-key-file \(path("server.key")): is not the key of the certificate"))
        #expect(text.contains("the files of --tls-cert-file are read again"))
    }

    /// Whatever is logged.
    @Test(arguments: ["error", "notice"]) func filesAreReadAgainAtEveryLevelOfTheLog(level: String) throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        guard let cli = tool("redis-cli") else { return }
        let server = try KVDProcess(arguments: certificate + ["--log-level", level])
        server.signal(SIGHUP)
        #expect(try eventually { try secure(server, cli, ["INFO", "stats"]).contains("tls_reloads:1\r") })
    }

    @Test func aKeyThatEverybodyMayReadIsNamedInTheLog() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        chmod(path("server.key"), 0o644)
        let text = try KVDProcess(arguments: certificate).end()
        #expect(text.contains("\(path("server.key")) can be read by everyone on this machine"), "\(text)")
    }

    /// Made by openssl; nil where that is not installed.
    private func certificateOfRSA(bits: Int) throws -> (certificate: String, key: String)? {
        guard let openssl = Tool.path("openssl") else { return nil }
        let files = (certificate: path("rsa\(bits).pem"), key: path("rsa\(bits).key"))
        let made = try Tool.run(
            openssl,
            [
                "req", "-x509", "-newkey", "rsa:\(bits)", "-nodes", "-subj", "/CN=localhost", "-days", "2", "-addext",
                "subjectAltName=IP:127.0.0.1", "-out", files.certificate, "-keyout", files.key,
            ])
        #expect(made.code == 0, "\(made.errors)")
        return files
    }

    @Test func aKeyOfRSAWithTheUsualLengthServes() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        guard let cli = tool("redis-cli"), let files = try certificateOfRSA(bits: 2048) else { return }
        let server = try KVDProcess(arguments: ["--tls-cert-file", files.certificate, "--tls-key-file", files.key])
        let words = ["-p", "\(server.clientPort)", "--tls", "--cacert", files.certificate, "PING"]
        #expect(try Tool.run(cli, words).output == "PONG\n")
    }

    @Test func whatIsWrongIsNoStart() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let (server, key) = (path("server.pem"), path("server.key"))
        let encrypted = path("encrypted.key")
        if let openssl = Tool.path("openssl") {
            let ended = try Tool.run(
                openssl, ["pkcs8", "-topk8", "-in", key, "-out", encrypted, "-passout", "pass:secret"])
            #expect(ended.code == 0, "\(ended.errors)")
        }
        let long = try certificateOfRSA(bits: 3072)
        for (arguments, why, code) in [
            (["--tls-cert-file", server], "needs --tls-cert-file and --tls-key-file, both", 64),
            (["--tls", "required"], "needs --tls-cert-file and --tls-key-file, both", 64),
            (["--tls", "always"], "'always' is not one of off, optional, required", 64),
            (certificate + ["--tls-auth-clients", "yes"], "needs --tls-ca-file", 64),
            (certificate + ["--tls-auth-clients-user", "CN"], "needs --tls-auth-clients optional or yes", 64),
            (["--tls-cert-file", path("none"), "--tls-key-file", key], "\(path("none")): No such file", 1),
            (["--tls-cert-file", folder.path, "--tls-key-file", key], "\(folder.path): Is a directory", 1),
            (["--tls-cert-file", server, "--tls-key-file", folder.path], "\(folder.path): Is a directory", 1),
            (["--tls-cert-file", key, "--tls-key-file", key], "--tls-cert-file \(key): is no certificate", 1),
            (
                ["--tls-cert-file", server, "--tls-key-file", path("alice.key")],
                "--tls-key-file \(path("alice.key")): is not the key of the certificate", 1
            ),
            (
                ["--tls-cert-file", server, "--tls-key-file", encrypted],
                "--tls-key-file \(encrypted): \(Tool.path("openssl") == nil ? "No such" : "is no key, or one that")", 1
            ),
            (
                certificate + ["--tls-ca-file", key, "--tls-auth-clients", "yes"],
                "--tls-ca-file \(key): has no certificate", 1
            ),
            (
                certificate + ["--tls-ca-file", path("ca.pem"), "--tls-auth-clients", "optional"],
                "and the user default needs no password", 1
            ),
            (
                ["--tls-cert-file", long?.certificate ?? path("none"), "--tls-key-file", long?.key ?? key],
                long.map { "--tls-key-file \($0.key): RSA with 3072 bits would hold a loop" } ?? "No such file", 1
            ),
        ] as [([String], String, Int32)] {
            let ended = try KVDProcess.run(arguments + ["--port", "\(FreePorts.take(2))", "--actors", "1"])
            let lines = ended.errors.split(separator: "\n").filter { $0.hasPrefix("kvd: ") }
            #expect(ended.code == code && lines.count == 1 && lines[0].contains(why), "\(arguments): \(ended)")
        }
    }
}
