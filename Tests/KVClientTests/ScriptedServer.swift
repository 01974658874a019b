// A RESP server whose every answer the test decides. Any thread; its own event loop runs the script.

import KVBase
import NIOCore
import NIOPosix
import RESP
import Synchronization
import Testing

/// One request as it arrived, and the way to answer it. Answers go out in the order in which `reply` is called, so a
/// script that keeps requests back must answer them in their order, as a RESP server does.
struct Exchange: Sendable {
    let arguments: [String]
    /// Number of the connection, from 1.
    let connection: Int
    fileprivate let channel: any Channel

    func reply(_ raw: String) { reply(Array(raw.utf8)) }

    /// Always by way of the event loop's queue, so that answers given on it and elsewhere keep the order of the calls.
    func reply(_ raw: [UInt8]) {
        channel.eventLoop.execute { [channel] in channel.writeAndFlush(ByteBuffer(bytes: raw), promise: nil) }
    }

    /// The answer in pieces of the given sizes in turn, each flushed by itself, so that the client reads it cut up.
    func reply(_ raw: [UInt8], inPieces sizes: [Int]) {
        var at = 0
        var turn = 0
        while at < raw.count {
            let end = min(raw.count, at + sizes[turn % sizes.count])
            reply(Array(raw[at..<end]))
            (at, turn) = (end, turn + 1)
        }
    }

    func bulk(_ text: String) { reply("$\(text.utf8.count)\r\n\(text)\r\n") }

    func close() { channel.eventLoop.execute { [channel] in channel.close(promise: nil) } }
}

final class ScriptedServer: Sendable {
    typealias Script = @Sendable (Exchange) -> Void

    private struct State {
        var requests: [[String]] = []
        var connections = 0
        var open: [ObjectIdentifier: any Channel] = [:]
    }

    private let script: Script
    private let state = Mutex(State())
    private let listener = Mutex<(any Channel)?>(nil)

    init(port: Int = 0, _ script: @escaping Script) async throws {
        self.script = script
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(RequestHandler(self))
                }
            }
            .bind(host: "127.0.0.1", port: port).get()
        listener.withLock { $0 = channel }
    }

    var port: Int { listener.withLock { $0?.localAddress?.port ?? 0 } }

    /// All requests that the script has seen, in the order of arrival.
    var requests: [[String]] { state.withLock { $0.requests } }
    var connections: Int { state.withLock { $0.connections } }
    var openConnections: Int { state.withLock { $0.open.count } }

    /// Stops listening and closes every connection.
    func stop() async {
        let (listening, open) = (listener.withLock { $0 }, state.withLock { Array($0.open.values) })
        try? await listening?.close().get()
        for channel in open { try? await channel.close().get() }
    }

    fileprivate func opened(_ channel: any Channel) -> Int {
        state.withLock { state in
            state.connections += 1
            state.open[ObjectIdentifier(channel)] = channel
            return state.connections
        }
    }

    fileprivate func closed(_ channel: any Channel) { state.withLock { $0.open[ObjectIdentifier(channel)] = nil } }

    fileprivate func asked(_ exchange: Exchange) {
        // First the script: who sees a request counted finds what the script keeps of it. Who sees an answer finds the
        // request counted as well, because answers leave by way of this loop's queue.
        script(exchange)
        state.withLock { $0.requests.append(exchange.arguments) }
    }
}

/// Requests are arrays of bulk strings, so the reply parser reads them.
private final class RequestHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let server: ScriptedServer
    private var number = 0
    private var input = ByteBuffer()
    private var parser = RESPReplyParser()

    init(_ server: ScriptedServer) { self.server = server }

    func channelActive(context: ChannelHandlerContext) { number = server.opened(context.channel) }

    func channelInactive(context: ChannelHandlerContext) { server.closed(context.channel) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var received = unwrapInboundIn(data)
        input.writeBuffer(&received)
        while input.readableBytes > 0 {
            let outcome = input.withUnsafeReadableBytes { parser.parse($0) }
            guard case .reply(let value, let consumed) = outcome else {
                if case .failed(let message) = outcome { Issue.record("the client sent no RESP: \(message)") }
                return
            }
            input.moveReaderIndex(forwardBy: consumed)
            let arguments = (value.elements ?? []).map { $0.bytes?.description ?? "?" }
            server.asked(Exchange(arguments: arguments, connection: number, channel: context.channel))
        }
    }
}
