// The connection's end of a SwiftNIO channel: hands bytes on in both directions, nothing else. Event loop only.

import NIOCore
import NIOPosix
import NIOTLS

final class ReplyHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private var connection: ServerConnection?
    private var context: ChannelHandlerContext?
    private(set) var reason = "closed by the server"

    /// Of a channel with TLS, which is of use when its handshake is done.
    private let handshakeTimeout: Duration?
    private var handshakeLimit: Scheduled<Void>?

    init(_ connection: ServerConnection, handshakeTimeout: Duration?) {
        (self.connection, self.handshakeTimeout) = (connection, handshakeTimeout)
    }

    var isWritable: Bool { context?.channel.isWritable ?? false }

    func write(_ buffer: ByteBuffer) { context?.writeAndFlush(wrapOutboundOut(buffer), promise: nil) }

    func close() { context?.close(promise: nil) }

    /// What still arrives on this channel concerns nobody any more.
    func detachAndClose() {
        connection = nil
        context?.close(promise: nil)
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelActive(context: ChannelHandlerContext) {
        guard let handshakeTimeout else { return connected() }
        handshakeLimit = context.eventLoop.assumeIsolated().scheduleTask(in: handshakeTimeout.timeAmount) {
            self.reason = "no TLS within \(handshakeTimeout)"
            self.context?.close(promise: nil)
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? TLSUserEvent, case .handshakeCompleted = event { connected() }
        context.fireUserInboundEventTriggered(event)
    }

    private func connected() {
        handshakeLimit?.cancel()
        connection?.connected(self)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var buffer = unwrapInboundIn(data)
        connection?.received(&buffer)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) { connection?.writabilityChanged() }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        reason = failureText(error)
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        handshakeLimit?.cancel()
        let connection = connection
        self.connection = nil
        connection?.inactive(self, reason)
    }
}

/// A transport error in words a user can act on.
func failureText(_ error: any Error, _ configuration: KVClientConfiguration? = nil) -> String {
    if let text = secureFailureText(error) { return text }
    switch error {
    case let error as IOError: return systemText(error.errnoCode)
    case let error as NIOConnectionError:
        if let first = error.connectionErrors.first { return failureText(first.error, configuration) }
        return error.dnsAError == nil && error.dnsAAAAError == nil ? "no address" : "the host name is not known"
    case ChannelError.connectTimeout(_):
        return configuration.map { "no answer within \($0.connectTimeout)" } ?? "no answer"
    default: return "\(error)"
    }
}
