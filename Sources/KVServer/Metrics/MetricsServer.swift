// The port of --metrics-address: HTTP on a loop and a thread of its own, so that whoever asks costs the query actors a
// report in a fifth of a second and no more. Started and stopped by the main thread; the rest is the loop's thread.

import KVBase
import KVRuntime
import Synchronization

final class MetricsServer {
    private let thread: LoopThread
    private let listener: Listener
    private let desk: MetricsDesk

    /// Opens the port. Nothing is served before `start`.
    init(
        _ context: ServerContext, address: SocketAddress, backend: LoopBackend,
        actors: [(loop: Loop, shard: UncheckedBox<Shard>)]
    ) throws {
        let loop = try Loop(backend: backend, index: actors.count)
        let desk = MetricsDesk(context, loop: loop, actors: actors)
        self.desk = desk
        listener = try loop.listen(address, acceptor: MetricsAcceptor(desk))
        thread = LoopThread(loop: loop, name: "kvd-metrics")
    }

    func start() {
        desk.begin()
        thread.start()
    }

    /// From now on /readyz says no. Any thread.
    func noteLeaving() { desk.noteLeaving() }

    /// Waits for the thread. The actors' loops must still be there.
    func stop() throws {
        let box = UncheckedBox(listener)
        thread.loop.perform { box.value.close() }
        try thread.stopAndJoin()
    }
}

/// What all connections share.
final class MetricsDesk {
    /// Connections at once; more are told to come back.
    static let connectionsMax = 64
    /// For a request that has begun, and for the next one of a connection that is kept.
    static let requestMillisMax: Int64 = 5_000
    static let idleMillisMax: Int64 = 60_000
    /// Between two looks at the clock for them.
    private static let lookMillis: Int64 = 500

    let loop: Loop
    private let context: ServerContext
    private(set) var collector: StatusCollector!
    private(set) var history: StatusHistory
    /// Written by the main thread when the server begins to leave.
    private let leaving = Atomic<Bool>(false)
    var connections: [ObjectIdentifier: MetricsConnection] = [:]

    init(_ context: ServerContext, loop: Loop, actors: [(loop: Loop, shard: UncheckedBox<Shard>)]) {
        (self.context, self.loop) = (context, loop)
        history = StatusHistory(actors: context.config.actors)
        collector = StatusCollector(context, loop: loop, actors: actors) { [unowned self] in
            leaving.load(ordering: .relaxed)
        }
    }

    func begin() {
        history.sample(context.statistics, now: loop.nowNanos)
        loop.schedule(everyMillis: StatusHistory.sampleMillis) { [unowned self] in
            history.sample(context.statistics, now: loop.nowNanos)
        }
        loop.schedule(everyMillis: MetricsDesk.lookMillis) { [unowned self] in
            for connection in connections.values { connection.look(loop.nowNanos) }
        }
    }

    func noteLeaving() { leaving.store(true, ordering: .relaxed) }

    /// The answer to a request, now or when the actors have told of themselves; false if too many wait for that.
    func answer(_ request: HTTPRequest, _ reply: @escaping (HTTPResponse) -> Void) -> Bool {
        guard request.method != .other else {
            reply(HTTPResponse(status: .method, body: "only GET and HEAD\n", extra: "Allow: GET, HEAD\r\n"))
            return true
        }
        guard let page = MetricsDesk.pages[request.path] else {
            reply(HTTPResponse(status: .notFound, body: MetricsDesk.contents))
            return true
        }
        return collector.report { [unowned self] report in reply(page(report, history)) }
    }

    private typealias Page = @Sendable (StatusReport, StatusHistory) -> HTTPResponse

    private static let contents = "there are /, /metrics, /status.json, /readyz and /healthz\n"

    private static let pages: [String: Page] = [
        "/": { report, history in
            HTTPResponse(
                status: .ok, type: "text/html; charset=utf-8", body: StatusPage.html(report, history),
                extra: "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; "
                    + "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'\r\n"
                    + "Referrer-Policy: no-referrer\r\n")
        },
        "/metrics": { report, _ in
            HTTPResponse(
                status: .ok, type: "text/plain; version=0.0.4; charset=utf-8", body: MetricsText.of(report))
        },
        "/status.json": { report, _ in HTTPResponse(status: .ok, type: "application/json", body: report.json) },
        "/healthz": { report, _ in
            let missing = report.actorCount - report.actors.count
            return missing == 0
                ? HTTPResponse(status: .ok, body: "ok\n")
                : HTTPResponse(
                    status: .unavailable,
                    body: "\(missing) of \(report.actorCount) actors have not turned for a second\n")
        },
        "/readyz": { report, _ in
            report.unreadiness.map { HTTPResponse(status: .unavailable, body: "\($0)\n") }
                ?? HTTPResponse(status: .ok, body: "ready\n")
        },
    ]
}

private final class MetricsAcceptor: Acceptor {
    private let desk: MetricsDesk
    init(_ desk: MetricsDesk) { self.desk = desk }

    override func accepted(_ connection: Connection) -> ConnectionHandler? {
        guard desk.connections.count < MetricsDesk.connectionsMax else {
            let response = HTTPResponse(status: .unavailable, body: "too many connections\n")
            response.bytes(keepsAlive: false, withBody: true).withUnsafeBytes { connection.output.pointee.append($0) }
            return nil
        }
        return MetricsConnection(desk, connection)
    }

    override var overloadedReply: StaticString { "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n" }
}

/// One connection: requests one after the other.
final class MetricsConnection: ConnectionHandler {
    private unowned let desk: MetricsDesk
    private unowned let link: Connection
    private var parser = HTTPParser()
    /// The request under way waits for the actors.
    private var isWaiting = false
    private var hasEnded = false
    private var isServing = false
    /// Since the connection was made, or the last response; and since a request has begun that is not whole.
    private var quietSince: Nanos
    private var begunAt: Nanos?

    init(_ desk: MetricsDesk, _ connection: Connection) {
        (self.desk, link, quietSince) = (desk, connection, desk.loop.nowNanos)
        super.init()
        desk.connections[ObjectIdentifier(self)] = self
    }

    override func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {
        guard parser.append(bytes) else { return refuse(.tooLong) }
        if begunAt == nil { begunAt = desk.loop.nowNanos }
        serve()
    }

    override func ended(_ connection: Connection) {
        hasEnded = true
        if !isWaiting { connection.close(afterFlush: true) }
    }

    override func closed(_ connection: Connection) { desk.connections[ObjectIdentifier(self)] = nil }

    private func serve() {
        guard !isServing else { return }
        isServing = true
        defer { isServing = false }
        while !isWaiting, !link.isClosing {
            do throws(HTTPFault) {
                guard let request = try parser.next() else { return }
                begunAt = parser.pending > 0 ? desk.loop.nowNanos : nil
                answer(request)
            } catch { return refuse(error.status) }
        }
    }

    private func answer(_ request: HTTPRequest) {
        isWaiting = true
        let isTaken = desk.answer(request) { [weak self] response in self?.send(response, to: request) }
        if !isTaken { send(HTTPResponse(status: .unavailable, body: "too many requests wait\n"), to: request) }
    }

    private func send(_ response: HTTPResponse, to request: HTTPRequest) {
        isWaiting = false
        quietSince = desk.loop.nowNanos
        guard !link.isClosing else { return }
        let keepsAlive = request.keepsAlive && !hasEnded
        response.bytes(keepsAlive: keepsAlive, withBody: request.method != .head).withUnsafeBytes {
            link.output.pointee.append($0)
        }
        link.outputMayHaveGrown()
        if !keepsAlive { return link.close(afterFlush: true) }
        // Who sends on without reading the answers is read no further than this.
        if link.unsentBytes > Limits.outputBytesHigh { return link.close() }
        serve()
    }

    private func refuse(_ status: HTTPStatus) {
        let response = HTTPResponse(status: status, body: status.rawValue + "\n")
        response.bytes(keepsAlive: false, withBody: true).withUnsafeBytes { link.output.pointee.append($0) }
        link.outputMayHaveGrown()
        link.close(afterFlush: true)
    }

    /// Who does not finish a request, or asks nothing for long, is closed.
    func look(_ now: Nanos) {
        guard !isWaiting, !link.isClosing else { return }
        if parser.pending > 0, let begunAt, now - begunAt > MetricsDesk.requestMillisMax * 1_000_000 {
            return refuse(.timeout)
        }
        if now - quietSince > MetricsDesk.idleMillisMax * 1_000_000 { link.close() }
    }
}
