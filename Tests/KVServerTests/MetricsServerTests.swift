// The metrics port over real sockets: requests in pieces, by thousands, wrong ones, a loop that does not turn.

import Glibc
import KVBase
import KVTestTraits
import Logging
import Synchronization
import Testing

@testable import KVRuntime
@testable import KVServer

@Suite(.blocking, .serialized) struct MetricsServerTests {
    /// One actor without clients, and the metrics port beside it.
    private final class Bench {
        let port: UInt16
        let actor: LoopThread
        let metrics: MetricsServer
        private let shard: Shard

        init() throws {
            var config = Config()
            config.actors = 1
            let context = ServerContext(
                config: config, serverID: 1, hashSeed: 1, digestKey: 1, inputOutput: "epoll")
            port = UInt16(FreePorts.take(1))
            let loop = try Loop(backend: .epoll)
            shard = Shard(index: 1, context: context)
            shard.attach(to: loop)
            actor = LoopThread(loop: loop)
            let address = try HostPort(host: "127.0.0.1", port: port).resolve()[0]
            metrics = try MetricsServer(
                context, address: address, backend: .epoll, actors: [(loop, UncheckedBox(shard))])
            actor.start()
            metrics.start()
        }

        func end() throws {
            try metrics.stop()
            try actor.stopAndJoin()
            shard.close()
        }

        func get(_ path: String) throws -> (status: Int, body: String) { try ask("GET \(path) HTTP/1.0\r\n\r\n") }

        func ask(_ text: String) throws -> (status: Int, body: String) {
            let socket = try TestSocket(port: port)
            try socket.send(text)
            return Bench.parts(try socket.receiveAll())
        }

        static func parts(_ bytes: [UInt8]) -> (status: Int, body: String) {
            let text = String(decoding: bytes, as: UTF8.self)
            let status = Int(text.dropFirst(9).prefix(3)) ?? 0
            guard let end = text.firstRange(of: "\r\n\r\n") else { return (status, "") }
            return (status, String(text[end.upperBound...]))
        }
    }

    private func withBench(_ body: (Bench) throws -> Void) throws {
        let bench = try Bench()
        do { try body(bench) } catch {
            try bench.end()
            throw error
        }
        try bench.end()
    }

    @Test func everyPageIsThere() throws {
        try withBench { bench in
            #expect(try bench.get("/healthz") == (200, "ok\n"))
            #expect(try bench.get("/readyz") == (200, "ready\n"))
            let metrics = try bench.get("/metrics")
            #expect(metrics.status == 200 && metrics.body.contains("\nkvd_actors_answering 1\n"))
            let json = try bench.get("/status.json?x=y")
            #expect(json.status == 200 && json.body.hasPrefix("{\"id\":\"0000000000000001\","))
            let page = try bench.get("/")
            #expect(page.status == 200 && page.body.hasPrefix("<!doctype html>"))
            #expect(page.body.utf8.count < StatusPage.bytesMax)
            let nowhere = try bench.get("/nosuch")
            #expect(nowhere.status == 404 && nowhere.body.contains("/metrics"))
            for path in ["/../etc/passwd", "//metrics", "/metrics/", "/METRICS", "/%6detrics"] {
                #expect(try bench.get(path).status == 404, "\(path)")
            }
            bench.metrics.noteLeaving()
            #expect(try bench.get("/readyz").status == 503)
            #expect(try bench.get("/healthz").status == 200)
        }
    }

    @Test func otherMethodsAndWrongRequestsAreRefused() throws {
        try withBench { bench in
            for method in ["POST", "PUT", "DELETE", "OPTIONS", "get", "X"] {
                #expect(try bench.ask("\(method) /metrics HTTP/1.0\r\n\r\n").status == 405, "\(method)")
            }
            let head = try bench.ask("HEAD /metrics HTTP/1.0\r\n\r\n")
            #expect(head.status == 200 && head.body.isEmpty)
            #expect(try bench.ask("GET /metrics\r\n\r\n").status == 400)
            #expect(try bench.ask("*1\r\n$4\r\nPING\r\n\r\n").status == 400)
            #expect(try bench.ask("GET / HTTP/2.0\r\n\r\n").status == 505)
            #expect(try bench.ask("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").status == 413)
            let long = "GET / HTTP/1.1\r\n" + String(repeating: "a: b\r\n", count: 2000)
            #expect(try bench.ask(long).status == 431)
        }
    }

    @Test func aRequestMayComeInPieces() throws {
        try withBench { bench in
            let socket = try TestSocket(port: bench.port)
            for byte in Array("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".utf8) { try socket.send([byte]) }
            for byte in Array("GET /healthz HTTP/1.0\r\n\r\n".utf8) { try socket.send([byte]) }
            let text = String(decoding: try socket.receiveAll(), as: UTF8.self)
            #expect(text.matches(of: /200 OK/).count == 2 && text.hasSuffix("ok\n"))
        }
    }

    @Test func requestsOfOneConnectionAreAnsweredInOrder() throws {
        try withBench { bench in
            let socket = try TestSocket(port: bench.port)
            let paths = ["/healthz", "/nosuch", "/readyz"]
            try socket.send(paths.map { "GET \($0) HTTP/1.1\r\n\r\n" }.joined() + "GET /healthz HTTP/1.0\r\n\r\n")
            let text = String(decoding: try socket.receiveAll(), as: UTF8.self)
            let codes = text.matches(of: /HTTP\/1\.1 (\d+)/).map { String($0.output.1) }
            #expect(codes == ["200", "404", "200", "200"])
        }
    }

    @Test func tenThousandRequestsAreAnsweredOrRefused() throws {
        try withBench { bench in
            // As many pieces of requests that never end as there may be connections: more are told to come back.
            var open: [TestSocket] = []
            for _ in 0..<MetricsDesk.connectionsMax {
                let socket = try TestSocket(port: bench.port)
                try socket.send("GET /met")
                open.append(socket)
            }
            var refused = false
            let deadline = time(nil) + 10
            while !refused, time(nil) < deadline { refused = try bench.get("/healthz").status == 503 }
            #expect(refused)
            // Each is closed a few seconds after it began.
            for socket in open { #expect(Bench.parts(try socket.receiveAll()).status == 408) }
            open = []
            while try bench.get("/healthz").status == 503, time(nil) < deadline + 20 {}
            let socket = try TestSocket(port: bench.port)
            let request = "GET /healthz HTTP/1.1\r\n\r\n"
            var answers = 0
            for _ in 0..<100 {
                try socket.send(String(repeating: request, count: 100))
                var text = ""
                while text.matches(of: /ok\n/).count < 100 {
                    let more = try socket.receiveSome()
                    if more.isEmpty { break }
                    text += String(decoding: more, as: UTF8.self)
                }
                answers += text.matches(of: /ok\n/).count
            }
            #expect(answers == 10_000)
        }
    }

    @Test func aLoopThatDoesNotTurnIsSaidAndNotWaitedFor() throws {
        try withBench { bench in
            let isOver = Atomic<Bool>(false)
            withUnsafePointer(to: isOver) { place in
                let place = UncheckedBox(place)
                bench.actor.loop.perform {
                    while !place.value.pointee.load(ordering: .acquiring) { usleep(1000) /* poll */ }
                }
                #expect(throws: Never.self) {
                    let health = try bench.get("/healthz")
                    #expect(health.status == 503 && health.body.contains("1 of 1 actors"))
                    #expect(try bench.get("/readyz").body.hasPrefix("busy: "))
                    #expect(try bench.get("/metrics").body.contains("\nkvd_actors_answering 0\n"))
                }
                place.value.pointee.store(true, ordering: .releasing)
            }
            var isBack = false
            let deadline = time(nil) + 10
            while !isBack, time(nil) < deadline { isBack = try bench.get("/healthz").status == 200 }
            #expect(isBack)
        }
    }

    @Test func manyWhoAskCostTheActorsOneReportAtATime() throws {
        try withBench { bench in
            let sockets = try (0..<50).map { _ in try TestSocket(port: bench.port) }
            for socket in sockets { try socket.send("GET /metrics HTTP/1.0\r\n\r\n") }
            let bodies = try sockets.map { Bench.parts(try $0.receiveAll()).body }
            let lines = bodies.map { $0.split(separator: "\n").first { $0.hasPrefix("process_cpu_seconds_total ") } }
            #expect(Set(lines).count <= 10 && !lines.contains(nil), "\(Set(lines).count) reports for 50 requests")
        }
    }

    @Test func aPortThatIsTakenIsOneLine() throws {
        let held = try HeldPort()
        try held.listen()
        var config = Config()
        (config.port, config.actors, config.pinLoops) = (FreePorts.take(2), 1, false)
        config.metricsAddress = Endpoint(host: "127.0.0.1", port: Int(held.port))
        let server = Server(config: config, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        do {
            _ = try server.start()
            Issue.record("started")
        } catch {
            #expect(
                error.description
                    == "cannot listen on 127.0.0.1:\(held.port): Address already in use; choose another --metrics-address"
            )
        }
        #expect(throws: TestSocket.Failure.self) { try TestSocket(port: UInt16(config.port + 1)) }
    }
}
