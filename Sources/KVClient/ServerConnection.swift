// One server's connection: calls come in from any thread, everything else happens on its event loop.

import KVBase
import NIOCore
import NIOPosix
import Synchronization

/// Calls are queued under a lock by the threads that make them; the first of a batch wakes the event loop, which writes
/// all that gathered in one piece. Replies come in the order of the calls (RESP), so a queue of calls sent is all the
/// bookkeeping there is; a call given up keeps its place in it until its answer has passed.
final class ServerConnection: @unchecked Sendable {
    /// Bytes encoded before they are handed to the socket.
    static let writeBytesMax = 1024 * 1024
    /// What a server that has too many clients says to the next one, before it reads anything.
    static let fullServer = "ERR max number of clients reached"
    /// Timeouts closer together than this are looked at together.
    static let timerGrainNanos: UInt64 = 1_000_000

    private struct Inbox {
        var calls: [Call] = []
        var isScheduled = false
        var isClosed = false
    }

    private enum Phase { case idle, resting, connecting, connected, closed }

    let address: KVAddress
    /// Milliseconds of the greatest stamp this server gave to a write of this client, or may have given to one whose
    /// stamp is not known; 0: none. Written on the event loop.
    let greatestStamp = Atomic<Int64>(0)
    /// Calls accepted and not answered yet, those given up included.
    let outstanding = Atomic<Int>(0)
    /// How often the router was told that this server refuses calls for its own state.
    private let refusals = Mutex(0)

    private let loop: any EventLoop
    private let core: ClientCore
    private let configuration: KVClientConfiguration
    private let inbox = Mutex(Inbox())

    // From here on: event loop only.
    private var phase = Phase.idle
    private var arrivals: [Call] = []
    private var waiting = CircularBuffer<Call>()
    private var inFlight = CircularBuffer<Call>()
    /// The established connection's end of the channel; nil without one.
    private var handler: ReplyHandler?
    /// The end of the channel that the attempt under way will use, when its handshake is done.
    private var candidate: ReplyHandler?
    /// The last thing the server said that answered nothing.
    private var serverSaid: String?
    /// The server has said something on this connection.
    private var hasSpoken = false
    private var output = ByteBuffer()
    private var input = ByteBuffer()
    private var decoder: ReplyDecoder
    private var timer: Scheduled<Void>?
    private var timerAt = UInt64.max
    private var heardAt: UInt64 = 0
    /// The greatest stamp that was told, and when.
    private var toldStamp: Int64 = 0
    private var toldStampAt: UInt64 = 0
    private var connectingSince: UInt64 = 0
    private var isProbing = false
    /// Probes answered by this server since it was heard on this connection.
    private var probesAnswered = 0
    /// The server has not said yet whether it accepts who this client says it is, or why it does not.
    private var isLoginUnanswered = false
    private var loginRefusal: String?
    private var failuresInRow = 0
    private var attemptAt: UInt64 = 0
    private var lastFailure = "no connection in time"
    private var closeHandlers: [@Sendable () -> Void] = []

    init(_ address: KVAddress, loop: any EventLoop, core: ClientCore, configuration: KVClientConfiguration) {
        (self.address, self.loop, self.core, self.configuration) = (address, loop, core, configuration)
        decoder = ReplyDecoder(replyBytesMax: configuration.replyBytesMax)
    }

    // MARK: From any thread

    /// How often the router was told of refusals; to be taken before a call is made here.
    var refusalsTold: Int { refusals.withLock { $0 } }

    /// A call that was made when `told` was that count was refused for the server's own state. `tell` is run by the
    /// first of those under way together, and the others wait for it: none may be made here again because another is
    /// about to say so.
    func refused(since told: Int, _ tell: () -> Void) {
        refusals.withLock { count in
            guard count == told else { return }
            count += 1
            tell()
        }
    }

    func submit(_ call: Call) {
        if configuration.whenFull == .fail,
            outstanding.load(ordering: .relaxed) >= configuration.outstandingCallsMax
        {
            call.finish(.failure(.tooManyOutstanding(limit: configuration.outstandingCallsMax)))
            return
        }
        outstanding.wrappingAdd(1, ordering: .relaxed)
        let (refused, wakes) = inbox.withLock { inbox in
            if inbox.isClosed { return (true, false) }
            inbox.calls.append(call)
            defer { inbox.isScheduled = true }
            return (false, !inbox.isScheduled)
        }
        if refused { call.finish(.failure(.closed)) }
        if wakes { loop.execute { self.drain() } }
    }

    /// Submits all at once, so that nothing of another task comes between.
    func submit(_ calls: [Call]) {
        if configuration.whenFull == .fail,
            outstanding.load(ordering: .relaxed) + calls.count > configuration.outstandingCallsMax
        {
            let error = KVError.tooManyOutstanding(limit: configuration.outstandingCallsMax)
            for call in calls { call.finish(.failure(error)) }
            return
        }
        outstanding.wrappingAdd(calls.count, ordering: .relaxed)
        let (refused, wakes) = inbox.withLock { inbox in
            if inbox.isClosed { return (true, false) }
            inbox.calls.append(contentsOf: calls)
            defer { inbox.isScheduled = true }
            return (false, !inbox.isScheduled)
        }
        if refused { for call in calls { call.finish(.failure(.closed)) } }
        if wakes { loop.execute { self.drain() } }
    }

    /// Fails what is under way with ``KVError/closed`` and closes the socket; `done` runs after that.
    func close(_ done: @escaping @Sendable () -> Void) {
        inbox.withLock { $0.isClosed = true }
        loop.execute { self.closeOnLoop(sentCallsFail: .closed, done) }
    }

    /// Closes an idle connection to make room. A call that slipped in fails as closed if it was not sent, which makes
    /// the core choose again, and otherwise as one whose outcome is not known.
    func retire() {
        inbox.withLock { $0.isClosed = true }
        let error = KVError.connectionLost(
            server: address, reason: "closed in favour of another server", mayHaveExecuted: true)
        loop.execute { self.closeOnLoop(sentCallsFail: error) {} }
    }

    // MARK: Sending

    private func drain() {
        inbox.withLock { inbox in
            swap(&inbox.calls, &arrivals)
            inbox.isScheduled = false
        }
        var earliest = UInt64.max
        for call in arrivals {
            earliest = min(earliest, call.deadline)
            waiting.append(call)
        }
        arrivals.removeAll(keepingCapacity: arrivals.count <= 4096)
        arm(earliest)
        if phase == .connected { pump() } else { connect() }
    }

    /// Writes waiting calls as long as the socket takes them and the limit of outstanding calls allows.
    private func pump() {
        guard let handler else { return }
        while !waiting.isEmpty, inFlight.count < configuration.outstandingCallsMax, handler.isWritable {
            let wasIdle = inFlight.isEmpty
            if wasIdle { heardAt = NIODeadline.now().uptimeNanoseconds }
            output.clear(minimumCapacity: 4096)
            var floor: Int64?
            while let call = waiting.first, output.readableBytes < Self.writeBytesMax,
                inFlight.count < configuration.outstandingCallsMax
            {
                waiting.removeFirst()
                guard call.markSent() else {
                    outstanding.wrappingSubtract(1, ordering: .relaxed)
                    continue
                }
                if call.command.isPut, floor == nil { floor = core.floor(for: self) }
                call.command.encode(into: &output, floor: floor ?? 0)
                inFlight.append(call)
            }
            if output.readableBytes > 0 { handler.write(output) }
            if output.capacity > 64 * 1024 { output = ByteBuffer() }
            if wasIdle, !inFlight.isEmpty {
                probesAnswered = 0
                arm(heardAt + UInt64(min(configuration.silenceTimeout, configuration.probeAfter).wholeNanos))
            }
        }
    }

    // MARK: Receiving, called by ReplyHandler

    func writabilityChanged() { pump() }

    func received(_ buffer: inout ByteBuffer) {
        guard phase == .connected else { return }
        heardAt = NIODeadline.now().uptimeNanoseconds
        probesAnswered = 0
        if input.readableBytes == 0 {
            swap(&input, &buffer)
        } else {
            input.writeBuffer(&buffer)
        }
        var isAnswered = false
        var violation: String?
        var isTurnedAway = false
        let consumed = input.withUnsafeReadableBytes { bytes in
            var at = 0
            loop: while at < bytes.count {
                switch decoder.next(bytes, &at) {
                case .reply(let reply):
                    isTurnedAway = !hasSpoken && reply == .error(Self.fullServer)
                    hasSpoken = true
                    if isTurnedAway { break loop }
                    let before = inFlight.count
                    guard answer(reply) else {
                        violation = "unexpected message: \(reply)"
                        break loop
                    }
                    isAnswered = isAnswered || inFlight.count < before
                case .incomplete:
                    break loop
                case .malformed(let reason):
                    violation = reason
                    break loop
                }
            }
            return at
        }
        input.moveReaderIndex(forwardBy: consumed)
        // A partial reply moves to the front of its own buffer, unless it is there already; that grows by doubling, as
        // bytes arrive and never as the other side announces.
        if consumed > 0 { input = input.readableBytes == 0 ? ByteBuffer() : ByteBuffer(buffer: input.slice()) }
        if isAnswered, failuresInRow > 0 {
            failuresInRow = 0
            core.connectionSucceeded(self)
        }
        if isTurnedAway { return broken(Self.fullServer, isViolation: false, isUntouched: true) }
        if let violation { broken(violation, isViolation: true) } else if !waiting.isEmpty { pump() }
    }

    /// Gives `reply` to the oldest call; false when there is none.
    private func answer(_ reply: KVReply) -> Bool {
        if isLoginUnanswered {
            isLoginUnanswered = false
            if case .error(let message) = reply { loginRefusal = message }
            return true
        }
        guard let call = inFlight.popFirst() else {
            guard case .error(let message) = reply else { return false }
            serverSaid = message
            return true
        }
        // First, as who has the answer may call again at once.
        outstanding.wrappingSubtract(1, ordering: .relaxed)
        switch reply {
        case .error(let message):
            let isForLogin = message.hasPrefix("NOAUTH ")
            call.finish(.failure(.server(isForLogin ? loginRefusal ?? message : message)))
        case .integer(let millis) where call.command.isPut:
            stampTold(millis)
            call.finish(.success(reply))
        case .array(let elements) where !call.stampPlaces.isEmpty:
            for place in call.stampPlaces where place < elements.count {
                if case .integer(let millis) = elements[place] { stampTold(millis) }
            }
            call.finish(.success(reply))
        default:
            if call.command.isDelete { coverUnknownStamp(at: heardAt) }
            call.finish(.success(reply))
        }
        return true
    }

    /// One of several channels may end that an attempt opened to a name with several addresses: only the one that is
    /// used counts.
    func inactive(_ ended: ReplyHandler, _ reason: String) {
        guard ended === handler ?? candidate else { return }
        (handler, candidate) = (nil, nil)
        switch phase {
        case .connected: broken(reason, isViolation: false)
        // Within the handshake of TLS.
        case .connecting: connectFailed(reason)
        case .closed: closed()
        case .idle, .resting: break
        }
    }

    // MARK: Connecting

    private func connect() {
        guard phase == .idle, !waiting.isEmpty else { return }
        let now = NIODeadline.now().uptimeNanoseconds
        if now < attemptAt {
            phase = .resting
            loop.scheduleTask(deadline: .uptimeNanoseconds(attemptAt)) {
                guard self.phase == .resting else { return }
                self.phase = .idle
                self.connect()
            }
            return
        }
        phase = .connecting
        serverSaid = nil
        connectingSince = now
        probesAnswered = 0
        arm(now + UInt64(configuration.probeAfter.wholeNanos))
        ClientBootstrap(group: loop)
            .connectTimeout(configuration.connectTimeout.timeAmount)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.writeBufferWaterMark, value: .init(low: 256 * 1024, high: Self.writeBytesMax))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let secure = self.core.secure
                    if let secure { try channel.pipeline.syncOperations.addHandler(secure.handler(for: self.address)) }
                    let limit = secure == nil ? nil : self.configuration.connectTimeout
                    try channel.pipeline.syncOperations.addHandler(ReplyHandler(self, handshakeTimeout: limit))
                }
            }
            .connect(host: address.host, port: address.port)
            .whenComplete { result in
                switch result {
                case .success(let channel): self.opened(channel)
                case .failure(let error): self.connectFailed(failureText(error, self.configuration))
                }
            }
    }

    private func opened(_ channel: any Channel) {
        guard phase == .connecting else { return }
        candidate = try? channel.pipeline.syncOperations.handler(type: ReplyHandler.self)
        if candidate == nil || !channel.isActive { connectFailed(candidate?.reason ?? "closed by the server") }
    }

    func connected(_ handler: ReplyHandler) {
        guard phase == .connecting else {
            handler.detachAndClose()
            return
        }
        (self.handler, candidate) = (handler, nil)
        phase = .connected
        hasSpoken = false
        login(handler)
        core.connected(self)
        pump()
    }

    /// Before anything else, and without waiting for the answer: what follows is refused with it.
    private func login(_ handler: ReplyHandler) {
        (isLoginUnanswered, loginRefusal) = (false, nil)
        guard let credentials = configuration.credentials else { return }
        var request = ByteBuffer(string: "*3\r\n$4\r\nAUTH\r\n")
        for word in [credentials.user, credentials.password] {
            request.writeString("$\(word.utf8.count)\r\n\(word)\r\n")
        }
        handler.write(request)
        isLoginUnanswered = true
    }

    private func connectFailed(_ reason: String) {
        guard phase == .connecting else { return }
        candidate = nil
        rest(reason)
        core.connectFailed(self, reason)
        failWaiting(.unreachable(server: address, reason: reason))
    }

    /// Back to idle; the next attempt is made when a call comes, but not before the delay has passed.
    private func rest(_ reason: String) {
        phase = .idle
        lastFailure = reason
        let shortest = configuration.reconnectDelayMin.wholeNanos
        let longest = max(shortest, configuration.reconnectDelayMax.wholeNanos)
        let delay = min(shortest << min(failuresInRow, 20), longest)
        failuresInRow += 1
        let jittered = delay / 2 + Int64.random(in: 0...max(1, delay / 2))
        attemptAt = NIODeadline.now().uptimeNanoseconds + UInt64(jittered)
    }

    /// An established connection is of no use any more. `isUntouched`: the server has read nothing of it.
    private func broken(_ reason: String, isViolation: Bool, isUntouched: Bool = false) {
        check(phase == .connected, "only an established connection breaks")
        let why = serverSaid.map { "\(reason) after saying: \($0)" } ?? reason
        handler?.detachAndClose()
        handler = nil
        if !isUntouched, inFlight.contains(where: { $0.isStamped }) {
            coverUnknownStamp(at: NIODeadline.now().uptimeNanoseconds)
        }
        rest(why)
        decoder = ReplyDecoder(replyBytesMax: configuration.replyBytesMax)
        input = ByteBuffer()
        core.connectionLost(self, why)
        let lost = inFlight
        inFlight = CircularBuffer()
        outstanding.wrappingSubtract(lost.count, ordering: .relaxed)
        for (position, call) in lost.enumerated() {
            call.fail { sent in
                isViolation && position == 0
                    ? .protocolViolation(server: address, reason: why)
                    : .connectionLost(server: address, reason: why, mayHaveExecuted: sent && !isUntouched)
            }
        }
        failWaiting(.connectionLost(server: address, reason: why, mayHaveExecuted: false))
    }

    private func failWaiting(_ error: KVError) {
        let lost = waiting
        waiting = CircularBuffer()
        outstanding.wrappingSubtract(lost.count, ordering: .relaxed)
        for call in lost { call.finish(.failure(error)) }
    }

    /// A write whose answer is lost, or has no stamp in it as that of a delete, may have got a later one than any this
    /// client was told. The server's clock has moved on by about as much as ours since then, so that sum bounds it for
    /// the floor of the next server.
    private func coverUnknownStamp(at now: UInt64) {
        guard toldStamp > 0 else { return }
        raiseStamp(to: toldStamp + Int64((now - min(now, toldStampAt)) / 1_000_000) + 1)
    }

    private func stampTold(_ millis: Int64) {
        if millis > toldStamp { (toldStamp, toldStampAt) = (millis, heardAt) }
        raiseStamp(to: millis)
    }

    private func raiseStamp(to millis: Int64) {
        if millis > greatestStamp.load(ordering: .relaxed) { greatestStamp.store(millis, ordering: .relaxed) }
    }

    // MARK: Time

    private func arm(_ deadline: UInt64) {
        guard deadline < timerAt else { return }
        timer?.cancel()
        timerAt = deadline
        timer = loop.scheduleTask(deadline: .uptimeNanoseconds(deadline)) { self.timerFired() }
    }

    /// Fails what ran out of time and looks for the next such moment. O(outstanding), at most once a millisecond.
    private func timerFired() {
        timerAt = .max
        timer = nil
        let now = NIODeadline.now().uptimeNanoseconds
        var earliest = UInt64.max
        let error: (Bool) -> KVError = { [address, lastFailure, phase] sent in
            phase == .connected || sent
                ? .timeout(mayHaveExecuted: sent) : .unreachable(server: address, reason: lastFailure)
        }
        for call in inFlight where !call.isFinished {
            if call.deadline <= now { call.fail(error) } else { earliest = min(earliest, call.deadline) }
        }
        var isAbandoned = false
        for call in waiting {
            if !call.isFinished, call.deadline <= now { call.fail(error) }
            if !call.isFinished {
                earliest = min(earliest, call.deadline)
            } else if call.isAbandoned {
                isAbandoned = true
            }
        }
        if isAbandoned {
            // More may be cancelled meanwhile: those that are taken out are counted.
            let before = waiting.count
            waiting.removeAll { $0.isAbandoned }
            outstanding.wrappingSubtract(before - waiting.count, ordering: .relaxed)
        }
        if !inFlight.isEmpty, phase == .connected {
            let silence = UInt64(configuration.silenceTimeout.wholeNanos)
            if heardAt + silence <= now {
                broken("nothing heard for \(configuration.silenceTimeout)", isViolation: false)
                return
            }
            earliest = min(earliest, heardAt + silence)
        }
        earliest = min(earliest, probe(now))
        if earliest != .max { arm(max(earliest, now + Self.timerGrainNanos)) }
    }

    /// Since when this server owes something and has been silent; nil when it does not.
    private var silentSince: UInt64? {
        switch phase {
        case .connected: inFlight.isEmpty ? nil : heardAt
        case .connecting: waiting.isEmpty ? nil : connectingSince
        case .idle, .resting, .closed: nil
        }
    }

    /// Probes a server that is silent, if there is another to turn to; returns when to look again.
    private func probe(_ now: UInt64) -> UInt64 {
        guard !isProbing, let since = silentSince else { return .max }
        let due = since + UInt64(configuration.probeAfter.wholeNanos) << UInt64(min(probesAnswered, 10))
        guard due <= now else { return due }
        let others = core.alternatives(to: self)
        guard !others.isEmpty else { return .max }
        isProbing = true
        let timeout = configuration.probeTimeout.timeAmount
        let probes = ([address] + others).map { HealthProbe.ask($0, on: loop, within: timeout, core.secure) }
        EventLoopFuture.whenAllSucceed(probes, on: loop).whenSuccess { self.probed(since, others, $0) }
        return .max
    }

    /// `answers` are of this server and then of the others, in their order.
    private func probed(_ since: UInt64, _ others: [KVAddress], _ answers: [Bool]) {
        isProbing = false
        let now = NIODeadline.now().uptimeNanoseconds
        guard silentSince == since else { return arm(probe(now)) }
        let turnsAway = !answers[0] && answers.dropFirst().contains(true)
        guard turnsAway else {
            // Alive, or nobody answers: then it may be this program's own network, and another server is no better.
            probesAnswered += 1
            return arm(probe(now))
        }
        for (other, isAlive) in zip(others, answers.dropFirst()) where !isAlive { core.probeFailed(other) }
        let reason = "it hangs: silent for \((now - since) / 1_000_000) ms, and no answer to PING"
        if phase == .connected { broken(reason, isViolation: false) } else { connectFailed(reason) }
    }

    // MARK: Closing

    private func closeOnLoop(sentCallsFail: KVError, _ done: @escaping @Sendable () -> Void) {
        closeHandlers.append(done)
        phase = .closed
        timer?.cancel()
        inbox.withLock { swap(&$0.calls, &arrivals) }
        for call in arrivals { call.finish(.failure(.closed)) }
        failWaiting(.closed)
        for call in inFlight { call.finish(.failure(sentCallsFail)) }
        arrivals = []
        inFlight = CircularBuffer()
        if let handler { handler.close() } else { closed() }
    }

    private func closed() {
        let handlers = closeHandlers
        closeHandlers = []
        for done in handlers { done() }
    }
}
