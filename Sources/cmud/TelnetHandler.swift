// One telnet connection: its session, its peer state and its timers. On the event loop of its channel only.

import CMUDCore
import Foundation
import KVBase
import NIOCore

final class TelnetHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let registry: GatewayRegistry
    private let store: any GameStore
    private let session: GameSession
    private var peer = TelnetPeer()
    private var channel: (any Channel)?
    private var address = ""
    private var timer: Scheduled<Void>?
    private var hasStarted = false
    private var isPrompting = false
    private var promptShown: PlayerPrompt = .none
    private var lastLine = momentNow().steady
    private let opened = momentNow().steady
    private var closed: EventLoopPromise<Void>?
    private var early: [String?] = []

    var isPlaying: Bool { session.prompt == .mining || session.prompt == .solving || session.progress != nil }

    init(registry: GatewayRegistry, store: any GameStore, world: String, pace: Pace?) {
        (self.registry, self.store) = (registry, store)
        var configuration = SessionConfiguration()
        configuration.world = world
        configuration.newWorldPace = pace
        configuration.isBackground = true
        configuration.story = .fast
        configuration.utcOffsetSeconds = Int64(TimeZone.current.secondsFromGMT())
        var generator = SystemRandomNumberGenerator()
        session = GameSession(configuration, seed: generator.next(), at: momentNow())
    }

    // MARK: the channel

    func channelActive(context: ChannelHandlerContext) {
        channel = context.channel
        address = context.remoteAddress?.ipAddress ?? "?"
        if let refusal = registry.enter(self, from: address) {
            peer.send(refusal + "\n")
            flush()
            context.close(promise: nil)
            return
        }
        peer.status = registry.status
        peer.start()
        turn()
    }

    func channelInactive(context: ChannelHandlerContext) {
        registry.leave(self, from: address)
        channel = nil
        if session.ending == nil, hasStarted { session.hangUp(at: momentNow(), as: .quit) }
        turn()
        if session.ending != nil { finished() }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        for line in peer.receive(buffer.readableBytesView) {
            lastLine = momentNow().steady
            if !hasStarted, early.isEmpty, let line, rejects(line) {
                context.close(promise: nil)
                return
            }
            if hasStarted { give(line) } else if early.count < GameSession.queueMax { early.append(line) }
        }
        turn()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    /// A browser that posts to this port, or a crawler that asks for the plain-text status.
    private func rejects(_ line: String) -> Bool {
        if ["GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "CONNECT "].contains(where: line.hasPrefix) {
            peer.send("This is a game, not a web server.\n")
            flush()
            return true
        }
        guard line == "MSSP-REQUEST" else { return false }
        peer.send(
            "MSSP-REPLY-START\n" + registry.status.map { "\($0.name)\t\($0.value)\n" }.joined() + "MSSP-REPLY-END\n")
        flush()
        return true
    }

    private func give(_ line: String?) {
        isPrompting = false
        guard let line else {
            peer.send("That line is too long - at most \(TelnetParser.lineBytesMax) bytes.\n")
            return
        }
        session.input(line, at: momentNow())
    }

    // MARK: a turn

    /// Lets time pass, sends what is to be sent and sets the timer for the next turn.
    private func turn() {
        let now = momentNow()
        if !hasStarted, channel == nil { return finished() }
        if !hasStarted, peer.isSettled || now.steady - opened >= Gateway.settleMillis { start() }
        if hasStarted { session.advance(to: now) }
        checkPatience(now.steady)
        sendRequests()
        show()
        flush()
        if session.ending != nil {
            finished()
            channel?.close(promise: nil)
        } else {
            schedule()
        }
    }

    private func start() {
        hasStarted = true
        if peer.isReader { session.isReader = true }
        session.start()
        for line in early { give(line) }
        early = []
    }

    private func checkPatience(_ now: Int64) {
        guard session.ending == nil, channel != nil else { return }
        if !isPlaying, now - opened > Gateway.loginMillis, session.prompt == .login {
            peer.send("\nNobody there? Goodbye.\n")
            session.hangUp(at: momentNow(), as: .quit)
        } else if now - lastLine > Gateway.idleMillis, session.progress == nil {
            peer.send("\nYou have been away for half an hour. Everything is saved. Goodbye.\n")
            session.hangUp(at: momentNow(), as: .quit)
        }
    }

    private func schedule() {
        timer?.cancel()
        guard let loop = eventLoop else { return }
        let now = momentNow().steady
        let wake = hasStarted ? min(session.nextWake ?? now + 1_000, now + 1_000) : opened + Gateway.settleMillis
        let bound = NIOLoopBound(self, eventLoop: loop)
        timer = loop.scheduleTask(in: .milliseconds(max(1, wake - now))) { bound.value.turn() }
    }

    private var loopWhenClosed: (any EventLoop)?

    private var eventLoop: (any EventLoop)? {
        if let channel { loopWhenClosed = channel.eventLoop }
        return loopWhenClosed
    }

    private func sendRequests() {
        let requests = session.takeRequests()
        guard let loop = eventLoop else { return }
        let bound = NIOLoopBound(self, eventLoop: loop)
        for request in requests {
            Task.detached { [store] in
                let reply = await request.perform(store: store, hasher: ScryptHasher())
                loop.execute {
                    bound.value.session.complete(request.id, reply, at: momentNow())
                    bound.value.turn()
                }
            }
        }
    }

    // MARK: output

    private func show() {
        let outputs = session.takeOutputs()
        let renderer = Renderer(isReader: session.isReader)
        var text = ""
        for output in outputs {
            for row in renderer.rows(renderer.lines(output.event), width: peer.columns) {
                text += row.encoded(color: peer.hasColor && !session.isReader, ascii: !peer.isUTF8) + "\n"
            }
        }
        if !text.isEmpty {
            // Something happened while a prompt was waiting: it gets a line of its own and comes again below.
            peer.send((isPrompting && !session.isReader ? "\n" : "") + text)
            if !session.isReader { isPrompting = false }
        }
        if peer.hasGMCP { peer.withGMCP { $0.messages(session, outputs) } }
        guard session.ending == nil, hasStarted, session.prompt != .none, !session.isTelling else { return }
        if promptShown != session.prompt {
            if promptShown.isSecret != session.prompt.isSecret { peer.setSecret(session.prompt.isSecret) }
            promptShown = session.prompt
            isPrompting = false
        }
        guard !isPrompting, session.isReady || session.progress != nil else { return }
        isPrompting = true
        peer.send(session.prompt.text + (session.isReader ? "\n" : ""))
        peer.sendPromptEnd()
    }

    private func flush() {
        let bytes = peer.takeOutput()
        guard !bytes.isEmpty, let channel else { return }
        // A client that does not read is let go rather than remembered.
        if let waiting = try? channel.syncOptions?.getOption(.bufferedWritableBytes), waiting > Gateway.unsentBytesMax {
            channel.close(promise: nil)
            return
        }
        channel.writeAndFlush(channel.allocator.buffer(bytes: bytes), promise: nil)
    }

    // MARK: the end

    private func finished() {
        timer?.cancel()
        closed?.succeed(())
        closed = nil
    }

    /// The gateway is closing: saves, then completes.
    func goodbye() -> EventLoopFuture<Void> {
        let loop = channel!.eventLoop
        let promise = loop.makePromise(of: Void.self)
        closed = promise
        peer.send("\nThe gateway is closing. Everything is saved. Goodbye.\n")
        session.hangUp(at: momentNow(), as: .quit)
        turn()
        return promise.futureResult
    }
}
