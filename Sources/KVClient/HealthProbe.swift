// Asks a server, on a connection of its own, whether it answers at all. Event loop only.

import NIOCore
import NIOPosix

/// A server that is busy with a long answer on one connection answers PING on another; one that hangs does not, though
/// its kernel still takes connections.
enum HealthProbe {
    /// Whether anything came back within `timeout`, whatever it was. Never fails.
    static func ask(
        _ address: KVAddress, on loop: any EventLoop, within timeout: TimeAmount, _ secure: SecureChannels?
    ) -> EventLoopFuture<Bool> {
        let handler = ProbeHandler(loop.makePromise(of: Bool.self))
        let answer = handler.answer
        let limit = loop.scheduleTask(in: timeout) { handler.finish(false) }
        answer.whenComplete { _ in limit.cancel() }
        ClientBootstrap(group: loop)
            .connectTimeout(timeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let secure { try channel.pipeline.syncOperations.addHandler(secure.handler(for: address)) }
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
            }
            .connect(host: address.host, port: address.port)
            .whenFailure { _ in handler.finish(false) }
        return answer
    }
}

/// Event loop only, as the loop that made it runs all of it.
private final class ProbeHandler: ChannelInboundHandler, @unchecked Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    let answer: EventLoopFuture<Bool>
    private var promise: EventLoopPromise<Bool>?
    private var context: ChannelHandlerContext?

    init(_ promise: EventLoopPromise<Bool>) { (self.promise, answer) = (promise, promise.futureResult) }

    func finish(_ isAlive: Bool) {
        promise?.succeed(isAlive)
        promise = nil
        context?.close(promise: nil)
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelActive(context: ChannelHandlerContext) {
        guard promise != nil else { return context.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: "*1\r\n$4\r\nPING\r\n")), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { finish(true) }

    func channelInactive(context: ChannelHandlerContext) { finish(false) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { finish(false) }
}
