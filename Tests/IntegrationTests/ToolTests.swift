// The clients people have: redis-cli, redis-benchmark and redis-py, unmodified, against a real kvd.

import Foundation
import KVTestTraits
import Testing

@Suite(.blocking) struct ToolTests {
    /// A test of a tool that is not there says so and passes, except where KVD_REQUIRE_TOOLS is set, as the CI does.
    private func missing(_ name: String) {
        print("\(name) is not installed: its test is skipped")
        #expect(ProcessInfo.processInfo.environment["KVD_REQUIRE_TOOLS"] == nil, "\(name) is not installed")
    }

    private func tool(_ name: String) -> String? {
        if let path = Tool.path(name) { return path }
        missing(name)
        return nil
    }

    /// The first python3 on the path that has redis-py: the distribution's package serves the distribution's python3.
    private func pythonWithRedis() throws -> String? {
        for python in Tool.paths("python3") where try Tool.run(python, ["-c", "import redis"]).code == 0 {
            return python
        }
        missing("redis-py")
        return nil
    }

    @Test func redisCLIWorks() throws {
        guard let cli = tool("redis-cli") else { return }
        let server = try KVDProcess()
        let port = "\(server.clientPort)"
        func run(_ arguments: String...) throws -> String {
            let ended = try Tool.run(cli, ["-p", port] + arguments)
            #expect(ended.code == 0, "\(arguments): \(ended.errors)")
            return ended.output.trimmingCharacters(in: .newlines)
        }
        #expect(try run("SET", "greeting", "hello world") == "OK")
        #expect(try run("GET", "greeting") == "hello world")
        #expect(try run("-3", "LIST", "greet") == "greeting hello world")
        #expect(try run("--scan", "--pattern", "greet*") == "greeting")
        #expect(try run("INFO", "keyspace").contains("db0:keys=1"))
        #expect(try run("NOSUCH").hasPrefix("ERR unknown command 'NOSUCH'"))
        let session = try Tool.run(cli, ["-p", port], input: "SET a 1\nMGET a b\nHELLO 3\nLIST\nQUIT\n")
        #expect(session.output.contains("1") && session.output.contains("proto"))
        let pipe = try Tool.run(cli, ["-p", port, "--pipe"], input: (0..<1000).map { "SET p\($0) v\r\n" }.joined())
        #expect(pipe.output.contains("errors: 0, replies: 1000"), "\(pipe.output) \(pipe.errors)")
        #expect(try run("DBSIZE") == "1002")
    }

    /// Random commands to kvd and to a real Redis: every reply is compared. `make differential` runs more of them.
    @Test(arguments: [1, 3]) func repliesAreThoseOfRedis(_ actors: Int) throws {
        guard tool("redis-server") != nil, let python = Tool.path("python3") else { return }
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let script = tests.appendingPathComponent("Differential/differ.py").path
        let kvd = KVDProcess.directory.appendingPathComponent("kvd").path
        let ended = try Tool.run(
            python, [script, "--kvd", kvd, "--actors", "\(actors)", "--commands", "20000"])
        #expect(ended.code == 0, "\(ended.output)\(ended.errors)")
    }

    /// Every sequence of up to two options of each command, right and wrong ones; with `make differential` of three.
    @Test(arguments: [1, 3]) func optionsAreThoseOfRedis(_ actors: Int) throws {
        guard tool("redis-server") != nil, let python = Tool.path("python3") else { return }
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let script = tests.appendingPathComponent("Differential/differ.py").path
        let kvd = KVDProcess.directory.appendingPathComponent("kvd").path
        let ended = try Tool.run(python, [script, "--kvd", kvd, "--actors", "\(actors)", "--options", "2"])
        #expect(ended.code == 0, "\(ended.output)\(ended.errors)")
    }

    @Test func redisBenchmarkWorks() throws {
        guard let benchmark = tool("redis-benchmark") else { return }
        let server = try KVDProcess()
        for extra in [[], ["-P", "16"], ["--threads", "2"], ["-3"]] {
            let ended = try Tool.run(
                benchmark,
                ["-p", "\(server.clientPort)", "-n", "2000", "-c", "20", "-r", "100", "-q", "-t", "set,get,mset,ping"]
                    + extra)
            let report = ended.output.replacingOccurrences(of: "\r", with: "\n")
            #expect(ended.code == 0 && ended.errors.isEmpty, "\(extra): \(ended.errors)")
            for name in ["SET:", "GET:", "MSET (10 keys):", "PING_INLINE:", "PING_MBULK:"] {
                #expect(report.contains(name), "\(extra) \(name)")
            }
        }
    }

    @Test func redisPyWorks() throws {
        guard let python = try pythonWithRedis() else { return }
        let server = try KVDProcess()
        let program = """
            import redis
            # redis-py speaks RESP3 from version 5 on; Debian 12 has version 4.
            versions = ({"protocol": 2}, {"protocol": 3}) if int(redis.__version__.split(".")[0]) >= 5 else ({},)
            for version in versions:
                r = redis.Redis(port=\(server.clientPort), client_name="test", **version)
                r.delete(*[k for k in r.scan_iter(match="*")]) if r.dbsize() else None
                assert r.ping() and r.set("a", b"\\x00\\xff") and r.get("a") == b"\\x00\\xff" and r.get("none") is None
                assert r.mset({"k%d" % i: i for i in range(500)}) and r.mget("k1", "k2", "x") == [b"1", b"2", None]
                assert r.exists("a", "k1", "x") == 2 and r.strlen("a") == 2 and r.dbsize() == 501
                assert len(set(r.scan_iter(match="k*", count=7))) == 500 and len(r.keys("k4?")) == 10
                assert r.delete("a", "x") == 1 and r.unlink("k1") == 1 and r.echo("hi") == b"hi" and len(r.time()) == 2
                assert r.client_getname() in ("test", b"test") and r.client_id() > 0 and len(r.client_list()) >= 1
                assert r.info()["redis_version"].startswith("7.") and r.config_get("save") == {"save": ""}
                assert r.command_count() > 20 and "get" in r.command()
                assert r.execute_command("KVD", "PUT", "v", "1") > 0
                p = r.pipeline(transaction=False)
                for i in range(300): p.set("p%d" % i, "x" * i).get("p%d" % i)
                assert p.execute()[-1] == b"x" * 299
                try: r.execute_command("NOSUCH", "1"); assert False
                except redis.ResponseError as e: assert "unknown command 'NOSUCH'" in str(e)
                r.close()
            print("fine")
            """
        let ended = try Tool.run(python, ["-c", program])
        #expect(ended.output == "fine\n", "\(ended.errors)")
    }
}
