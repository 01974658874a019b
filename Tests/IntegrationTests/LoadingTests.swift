// A server that still reads its directory: what it answers, and that it goes on from there. Real processes; the
// snapshot is a pipe, so the test says when it has been read.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct LoadingTests {
    private static let refusal = "-LOADING kvd is loading the dataset from disk\r\n"

    /// A directory whose snapshot cannot be read before `release`, and a server that starts with it.
    private final class Start: @unchecked Sendable {
        let directory = TestDirectory()
        let port = FreePorts.take(4)
        private let name: String
        private let snapshot: Data
        private let done = DispatchSemaphore(value: 0)
        private var result: Result<KVDProcess, any Error>?

        var metricsPort: Int { port + 3 }

        init(_ backend: String, _ arguments: [String] = []) throws {
            let first = try KVDProcess(arguments: ["--dir", directory.path("data")], actors: 2)
            let client = try first.connect()
            for i in 0..<200 { #expect(try client.command("SET", "k\(i)", "value \(i)") == "+OK\r\n") }
            #expect(try client.command("SAVE") == "+OK\r\n")
            #expect(try client.command("SET", "behind", "in the log") == "+OK\r\n")
            _ = first.end()
            name = directory.path("data/" + (try #require(directory.dataFiles.first { $0.hasPrefix("snapshot-") })))
            snapshot = try #require(FileManager.default.contents(atPath: name))
            try FileManager.default.removeItem(atPath: name)
            try #require(mkfifo(name, 0o600) == 0)
            let arguments =
                ["--dir", directory.path("data"), "--metrics-address", "127.0.0.1:\(metricsPort)"] + arguments
            DispatchQueue.global().async { [self] in
                result = Result { try KVDProcess(arguments: arguments, actors: 2, backend: backend, port: port) }
                done.signal()
            }
        }

        /// To an actor of the server, as soon as it listens.
        func connect(_ actor: Int = 1) throws -> Client {
            let deadline = Clock.millis() + 20_000
            while true {
                do { return try Client(port: port + actor) } catch {
                    if Clock.millis() > deadline { throw error }
                    _ = poll(nil, 0, 5)
                }
            }
        }

        /// The snapshot is there from now on, or what `change` makes of it. The server, when it is ready.
        func release(_ change: (inout Data) -> Void = { _ in }) throws -> KVDProcess {
            var bytes = snapshot
            change(&bytes)
            let pipe = try FileHandle(forWritingTo: URL(fileURLWithPath: name))
            try pipe.write(contentsOf: bytes)
            try pipe.close()
            done.wait()
            return try result!.get()
        }

        /// A test that has failed does not leave a server behind that waits for ever.
        func letGo() { close(open(name, O_WRONLY | O_NONBLOCK)) }

        /// Status line and body.
        func page(_ path: String) throws -> String {
            let client = try Client(port: metricsPort)
            try client.send("GET \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            let lines = try client.rest().components(separatedBy: "\r\n")
            return lines[0] + " " + lines.last!
        }
    }

    private func info(_ client: Client, _ field: String) throws -> String? {
        let lines = try client.command("INFO", "persistence").split(separator: "\r\n")
        return lines.first { $0.hasPrefix(field + ":") }.map { String($0.dropFirst(field.count + 1)) }
    }

    @Test(arguments: backends) func theConnectionIsServedBeforeAndAfterTheDirectoryIsRead(_ backend: String) throws {
        let start = try Start(backend)
        defer { start.letGo() }
        let clients = [try start.connect(1), try start.connect(2)]
        for client in clients {
            #expect(try client.command("PING") == "+PONG\r\n")
            #expect(try client.command("ECHO", "x") == "$1\r\nx\r\n")
            #expect(try client.command("SELECT", "0") == "+OK\r\n")
            #expect(try client.command("CLIENT", "SETNAME", "early") == "+OK\r\n")
            #expect(try client.command("CONFIG", "GET", "appendonly") == "*2\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n")
            #expect(try client.command("COMMAND", "COUNT").hasPrefix(":"))
            #expect(try client.command("HELLO", "2").contains("proto"))
            #expect(try client.command("AUTH", "x").hasPrefix("-ERR AUTH"))
            let refused = [
                ["GET", "k1"], ["SET", "k1", "early"], ["DBSIZE"], ["DEL", "k1"], ["MGET", "k1", "k2"], ["SCAN", "0"],
                ["WATCH", "k1"], ["FLUSHALL"], ["SAVE"], ["BGSAVE"], ["WAIT", "0", "0"], ["WAITAOF", "0", "0", "0"],
                ["KVD", "PUT", "k1", "early"], ["KVD", "BACKUP", "BEGIN"], ["MEMORY", "USAGE", "k1"],
                ["MSET"] + (0..<600).flatMap { ["m\($0)", "v"] },
                ["SET", "large", String(repeating: "x", count: 300_000)],
            ]
            for words in refused {
                let reply = String(decoding: try client.call(words.map { Bytes($0) }), as: UTF8.self)
                #expect(reply == LoadingTests.refusal, "\(words.prefix(3)): \(reply)")
            }
            #expect(try client.command("MULTI") == "+OK\r\n")
            #expect(try client.command("GET", "k1") == LoadingTests.refusal)
            #expect(try client.command("EXEC").hasPrefix("-EXECABORT"))
            #expect(try info(client, "loading") == "1")
            #expect(Int(try #require(try info(client, "loading_total_bytes"))) ?? 0 > 4096)
            #expect(try info(client, "loading_loaded_bytes") == "0" && info(client, "loading_loaded_perc") == "0.00")
            #expect(Int(try #require(try info(client, "loading_eta_seconds"))) ?? 0 >= 1)
            #expect(Int(try #require(try info(client, "loading_start_time"))) ?? 0 > 1_700_000_000)
            #expect(try info(client, "aof_enabled") == "1")
            #expect(try client.command("KVD", "STATUS").contains("\"state\":\"loading\",\"ready\":false"))
            #expect(try client.command("KVD", "DOCTOR").contains("Not ready: loading: 0 % of the directory"))
            for words in [["PEERS"], ["DIGEST"], ["VERSION", "k1"], ["RESTAMP", "k1"], ["NOSUCH"]] {
                let reply = String(decoding: try client.call((["KVD"] + words).map { Bytes($0) }), as: UTF8.self)
                #expect(reply == LoadingTests.refusal, "\(words)")
            }
        }
        let status = try Tool.run(
            KVDProcess.directory.appendingPathComponent("kv").path,
            ["--server", "127.0.0.1:\(start.port + 1)", "status"])
        #expect(status.code == 0 && status.output.contains(" loading "), "\(status)")
        #expect(try start.page("/healthz") == "HTTP/1.1 200 OK ok\n")
        let ready = try start.page("/readyz")
        #expect(ready.hasSuffix(" loading: 0 % of the directory has been read\n"), "\(ready)")
        let server = try start.release()
        for client in clients {
            #expect(try client.command("GET", "k199") == "$9\r\nvalue 199\r\n")
            #expect(try client.command("GET", "behind") == "$10\r\nin the log\r\n")
            #expect(try client.command("DBSIZE") == ":201\r\n")
            #expect(try info(client, "loading") == "0" && info(client, "loading_total_bytes") == nil)
        }
        #expect(try clients[1].command("CLIENT", "GETNAME") == "$5\r\nearly\r\n")
        #expect(try clients[0].command("SET", "late", "v") == "+OK\r\n")
        #expect(try clients[0].command("INCR", "n") == ":1\r\n")
        #expect(try clients[0].command("WAITAOF", "1", "0", "20000") == "*2\r\n:1\r\n:0\r\n")
        #expect(try start.page("/readyz") == "HTTP/1.1 200 OK ready\n")
        server.signal(SIGTERM)
        #expect(server.exitCode(withinMillis: 10_000) == 0)
    }

    @Test func whatIsDamagedIsStillRefusedInOneLineAndNothingIsServed() throws {
        let start = try Start("auto")
        defer { start.letGo() }
        let client = try start.connect()
        #expect(try client.command("GET", "k1") == LoadingTests.refusal)
        let before = start.directory.dataFiles
        do {
            _ = try start.release { $0[$0.count - 40] ^= 1 }
            Issue.record("it started")
        } catch {
            let text = "\(error)"
            #expect(text.contains("snapshot-1: it is damaged at offset"), "\(text)")
            // Warnings of what stands in the environment are none of it.
            let refusal = text.replacing(/\S+ warning kvd: .*/, with: "")
            #expect(refusal.components(separatedBy: "kvd: ").count == 2, "\(text)")
        }
        #expect(try client.rest() == "")
        #expect(start.directory.dataFiles == before)
    }
}
