// The event loop: one thread, its sockets, timers, inbox and end-of-turn work. wake, stop, perform: any thread; the
// rest: its own.

import CMemory
import CSupport
package import KVBase

/// One turn: wait for events, handle all of them, take messages, run timers and end-of-turn hooks, then send every
/// connection's output once. Nothing on that path locks or, once warm, allocates. Until `run` is called the creating
/// thread may listen, connect and schedule.
package final class Loop: @unchecked Sendable {
    package let backend: LoopBackend
    /// A number the owner gives, usually the position among its loops.
    package let index: Int
    let handle: OpaquePointer
    let state: UnsafeMutablePointer<LoopState>
    let inbox: Mailbox
    private let tasks = TaskReceiver()
    private let stopRequested: UnsafeMutablePointer<UInt32>

    static let eventsPerTurnMax = 512
    /// The same while many are connected who are nobody yet: each of their events may take twenty microseconds.
    static let eventsPerTurnBounded = 32
    /// Inbox envelopes taken before the loop looks at its sockets again.
    static let envelopesPerTurnMax = 4096
    /// How long `stop` waits for connections to close before it gives up on them.
    static let stopMillisMax: Int64 = 2000

    /// Throws when the kernel refuses the backend; see `LoopBackend.select` for falling back.
    package init(backend: LoopBackend, index: Int = 0) throws {
        var failure: Int32 = 0
        guard let handle = cs_loop_create(backend.raw, &failure) else {
            throw SocketFailure("cannot create an event loop on \(backend.rawValue)", code: -failure)
        }
        self.backend = backend
        self.index = index
        self.handle = handle
        // An OpaquePointer is not Sendable; writing an eventfd is safe from anywhere.
        let address = UInt(bitPattern: handle)
        inbox = Mailbox(wake: { cs_loop_wake(OpaquePointer(bitPattern: address)) })
        stopRequested = .allocate(capacity: 1)
        stopRequested.initialize(to: 0)
        state = .allocate(capacity: 1)
        state.initialize(to: LoopState(events: .allocate(capacity: Self.eventsPerTurnMax)))
        readClocks()
    }

    package convenience init(choice: LoopBackendChoice, index: Int = 0) throws {
        try self.init(backend: LoopBackend.select(choice).backend, index: index)
    }

    /// The thread has ended or was never started, and the last reference is gone.
    deinit {
        discardInbox()
        // What never ran still holds its sockets.
        for socket in state.pointee.sockets {
            if let conn = socket.handle { cs_conn_abandon(conn) }
            socket.handle = nil
            Unmanaged.passUnretained(socket).release()
        }
        state.pointee.events.deallocate()
        state.pointee.outboxes.deallocate()
        state.pointee.spares.free()
        state.deinitialize(count: 1)
        state.deallocate()
        stopRequested.deallocate()
        cs_loop_destroy(handle)
    }

    /// The loop whose `run` the calling thread is in.
    package static var current: Loop? {
        guard let loop = cs_thread_loop() else { return nil }
        return Unmanaged<Loop>.fromOpaque(loop).takeUnretainedValue()
    }

    /// Calls `body` with that loop, which is not counted; nil if there is none.
    @inline(__always)
    package static func withCurrent<R>(_ body: (Loop) -> R) -> R? {
        guard let loop = cs_thread_loop() else { return nil }
        return Unmanaged<Loop>.fromOpaque(loop)._withUnsafeGuaranteedRef(body)
    }

    package var isCurrent: Bool { cs_thread_loop() == Unmanaged.passUnretained(self).toOpaque() }

    /// Wall clock as of the beginning of this turn.
    package var nowMillis: Millis { state.pointee.nowMillis }
    /// Monotonic clock as of the beginning of this turn.
    package var nowNanos: Nanos { state.pointee.nowNanos }
    /// The longest that the work of one turn has taken, waiting and the kernel's part of sending left out. Counted from
    /// the start or the last `forgetLongestTurn`.
    package var turnLengths: TurnLengths { state.pointee.turnLengths }
    package func forgetLongestTurn() { state.pointee.turnLengths.forget() }
    /// Says what the turn under way does, for whoever finds it long.
    @inline(__always)
    package func note(_ work: TurnWork) { state.pointee.turnWork.formUnion(work) }

    // MARK: From any thread

    /// Ends the wait under way. Rarely needed: pushing to the inbox wakes by itself.
    package func wake() { cs_loop_wake(handle) }

    /// Makes `run` return soon: closes every socket and waits for that, at most two seconds. Messages still in the
    /// inbox are dropped.
    package func stop() {
        cs_publish_flag(stopRequested, 1)
        cs_loop_wake(handle)
    }

    package var isStopping: Bool { cs_load_flag(stopRequested) != 0 }

    /// Runs `body` on the loop's thread in one of its next turns, in order per calling thread. False if the loop has
    /// stopped: then it never runs.
    @discardableResult
    package func perform(_ body: @escaping @Sendable () -> Void) -> Bool {
        let envelope = tasks.envelope(body)
        if post(first: envelope, last: envelope) { return true }
        tasks.discard(envelope)
        return false
    }

    /// Hands a chain of envelopes over. False if the loop has stopped; then they stay the caller's.
    package func post(first: UnsafeMutablePointer<Envelope>, last: UnsafeMutablePointer<Envelope>) -> Bool {
        inbox.push(first: Envelope.node(first), last: Envelope.node(last)) != .closed
    }

    // MARK: Sockets

    /// Listens on `address` (port 0: any; see `localAddress`). With `reusePort` several loops may share the port, with
    /// `secure` connections may speak TLS, or have to.
    package func listen(
        _ address: SocketAddress, reusePort: Bool = false, acceptor: Acceptor, secure: SecurePort? = nil
    ) throws -> Listener {
        let listener = Listener(loop: self, acceptor: acceptor, secure: secure)
        var raw = address.raw
        var failure: Int32 = 0
        guard let conn = cs_loop_listen(handle, listener.token, &raw, reusePort ? 1 : 0, &failure) else {
            throw SocketFailure("cannot listen on \(address)", code: -failure)
        }
        keep(listener, conn)
        return listener
    }

    /// Listens on a path of the file system, for whom `mode` lets; its connections have no addresses.
    package func listen(path: String, mode: UInt32, acceptor: Acceptor) throws -> Listener {
        let listener = Listener(loop: self, acceptor: acceptor, secure: nil)
        var failure: Int32 = 0
        guard let conn = cs_loop_listen_path(handle, listener.token, path, mode, &failure) else {
            throw SocketFailure("cannot listen on \(path)", code: -failure)
        }
        keep(listener, conn)
        return listener
    }

    /// Begins to connect. `handler.connected` follows, or only `handler.closed`. Output appended meanwhile is sent
    /// once connected.
    package func connect(_ address: SocketAddress, handler: ConnectionHandler) throws -> Connection {
        let connection = Connection(loop: self)
        connection.handler = handler
        connection.state.pointee.flags |= ConnectionState.connecting
        var raw = address.raw
        var failure: Int32 = 0
        guard let conn = cs_loop_connect(handle, connection.token, &raw, &failure) else {
            throw SocketFailure("cannot connect to \(address)", code: -failure)
        }
        keep(connection, conn)
        return connection
    }

    func adopt(_ connection: Connection, _ fd: Int32) {
        keep(connection, cs_conn_adopt(handle, connection.token, fd))
    }

    private func keep(_ socket: LoopSocket, _ conn: OpaquePointer) {
        _ = Unmanaged.passRetained(socket)
        socket.handle = conn
        socket.listIndex = state.pointee.sockets.count
        state.pointee.sockets.append(socket)
    }

    private func forget(_ socket: LoopSocket) {
        let last = state.pointee.sockets.removeLast()
        if last !== socket {
            state.pointee.sockets[socket.listIndex] = last
            last.listIndex = socket.listIndex
        }
        socket.handle = nil
    }

    /// Open sockets, listeners included.
    package var socketCount: Int { state.pointee.sockets.count }

    // MARK: Timers and turns

    /// Calls `action` once, `afterMillis` from the beginning of this turn or later.
    @discardableResult
    package func schedule(afterMillis: Int64, _ action: @escaping () -> Void) -> LoopTimer {
        insert(LoopTimer(intervalNanos: 0, action: action), afterMillis: afterMillis)
    }

    /// Calls `action` every `everyMillis` (at least 1) until cancelled.
    @discardableResult
    package func schedule(everyMillis: Int64, _ action: @escaping () -> Void) -> LoopTimer {
        insert(LoopTimer(intervalNanos: max(1, everyMillis) * 1_000_000, action: action), afterMillis: everyMillis)
    }

    private func insert(_ timer: LoopTimer, afterMillis: Int64) -> LoopTimer {
        let delay = min(max(0, afterMillis), 1 << 40) * 1_000_000
        state.pointee.timers.insert(timer, deadline: state.pointee.nowNanos + delay)
        return timer
    }

    /// Adapts how much fresh memory is kept ready for this thread, and gives back what an idle one does not need; every
    /// 100 ms or so (cmemory.h, csupport_loop.h). What a thread that became quiet had freed goes back in small
    /// steps afterwards, by itself.
    package func tendMemory() {
        state.pointee.spares.tend()
        let isGivingBack = cm_tend() != 0
        cs_loop_tend(handle)
        if isGivingBack, !state.pointee.isGivingBack { giveBackSoon() }
    }

    private func giveBackSoon() {
        state.pointee.isGivingBack = true
        schedule(afterMillis: Self.giveBackMillis) { [unowned self] in
            state.pointee.isGivingBack = false
            if cm_step() != 0 { giveBackSoon() }
        }
    }

    private static let giveBackMillis: Int64 = 10

    /// Fresh memory is used up faster than it is made ready. Who can wait before taking more should, with
    /// `requestTurn(afterMillis:)`: the next page would hold this loop for as long as the kernel needs for it.
    package var isMemoryShort: Bool { cm_is_short() != 0 }

    /// Huge pages of fresh memory that were ready as the calling thread first used them, and that were not.
    package static var freshPages: (ready: Int, late: Int) {
        let warmth = cm_read_warmth()
        return (Int(warmth.ready), Int(warmth.unready))
    }

    /// Says how far the calling loop has filled a large block. It fills it from the beginning, so the memory behind is
    /// made ready. Cheap enough for every piece of 64 KiB.
    package static func willFill(_ at: UnsafeRawPointer, _ bytesLeft: Int) {
        cm_ahead(at, min(bytesLeft, readyBytesAhead))
    }

    /// Sixteen milliseconds of writing.
    private static let readyBytesAhead = 16 * 1024 * 1024

    /// Adds work done when all bytes of a turn have been handed over, so that handlers may collect what several
    /// connections received and work on it together: received bytes stay valid until then. Cannot be removed.
    package func onReceived(_ hook: @escaping () -> Void) { state.pointee.receivedHooks.append(hook) }

    func runReceivedHooks() {
        for i in 0..<state.pointee.receivedHooks.count { state.pointee.receivedHooks[i]() }
    }

    /// Adds work done at the end of every turn, before output is sent. Cannot be removed.
    package func onTurnEnd(_ hook: @escaping () -> Void) { state.pointee.hooks.append(hook) }

    /// Adds work done where something was received after the hooks of `onTurnEnd` have run, once more before output is
    /// sent. Cannot be removed.
    package func onResumed(_ hook: @escaping () -> Void) { state.pointee.resumedHooks.append(hook) }

    /// Whether a turn takes few events, so that a crowd of strangers does not make it long.
    func boundEvents(_ isBounded: Bool) {
        state.pointee.eventsMax = Int32(isBounded ? Self.eventsPerTurnBounded : Self.eventsPerTurnMax)
    }

    /// The next wait returns at once: there is work left that had to make room for others.
    package func requestTurn() { state.pointee.anotherTurn = true }

    /// Asks for a turn so many milliseconds after the beginning of this one, whatever happens. Asking again costs
    /// nothing: the earliest wish counts.
    package func requestTurn(afterMillis: Int64) {
        let wanted = state.pointee.nowNanos + min(max(0, afterMillis), 1 << 40) * 1_000_000
        state.pointee.turnWantedNanos = min(state.pointee.turnWantedNanos, wanted)
    }

    /// The list holds no references: a connection is alive while its handle is, and one whose closed event arrives
    /// while it is on the list is kept until the end of the turn (`dispatch`), by when the list has been worked off.
    func markDirty(_ connection: Connection) {
        guard connection.handle != nil, connection.state.pointee.flags & ConnectionState.dirty == 0 else { return }
        connection.state.pointee.flags |= ConnectionState.dirty
        connection.state.pointee.nextDirty = state.pointee.dirty
        state.pointee.dirty = Unmanaged.passUnretained(connection)
    }

    func release(atTurnEnd object: AnyObject) { state.pointee.retired.append(object) }

    func deliverLater(_ connection: Connection) {
        guard connection.state.pointee.flags & ConnectionState.deliverLater == 0 else { return }
        connection.state.pointee.flags |= ConnectionState.deliverLater
        state.pointee.resumed.append(connection)
    }

    // MARK: Running

    /// Runs until `stop`. One call per loop; the calling thread becomes the loop's.
    package func run() throws {
        let failure = cs_loop_start(handle)
        guard failure == 0 else {
            inbox.close()
            discardInbox()
            throw SocketFailure("cannot start the event loop", code: -failure)
        }
        cs_set_thread_loop(Unmanaged.passUnretained(self).toOpaque())
        defer { cs_set_thread_loop(nil) }
        readClocks()
        while !isStopping { turn(timeoutNanos: nextTimeout()) }
        drainAndClose()
        inbox.close()
        discardInbox()
    }

    private func drainAndClose() {
        state.pointee.stopping = true
        let deadline = cs_monotonic_nanos() + Self.stopMillisMax * 1_000_000
        repeat {
            for socket in state.pointee.sockets { socket.close() }
            turn(timeoutNanos: 1_000_000)
        } while cs_loop_live(handle) > 0 && cs_monotonic_nanos() < deadline
    }

    private func discardInbox() {
        while let node = inbox.pop() {
            let envelope = Envelope.of(node)
            envelope.pointee.receiver._withUnsafeGuaranteedRef { $0.discard(envelope) }
        }
    }

    private func readClocks() {
        state.pointee.nowNanos = cs_monotonic_nanos()
        state.pointee.nowMillis = cs_wall_millis()
        state.pointee.endNanos = state.pointee.nowNanos
    }

    /// 0 if there is work, negative for ever.
    private func nextTimeout() -> Nanos {
        let isAsked = state.pointee.anotherTurn || state.pointee.hasObjects
        if isAsked || state.pointee.dirty != nil || !state.pointee.ready.isEmpty {
            state.pointee.anotherTurn = false
            return 0
        }
        let deadline = min(state.pointee.timers.earliest ?? .max, state.pointee.turnWantedNanos)
        return deadline == .max ? -1 : max(0, deadline - state.pointee.endNanos)
    }

    private func turn(timeoutNanos: Nanos) {
        let waits = timeoutNanos != 0
        let timeout = waits && !inbox.prepareToWait() ? 0 : timeoutNanos
        let events = state.pointee.events
        let count = Int(cs_loop_wait(handle, events, state.pointee.eventsMax, timeout))
        state.pointee.turnEvents = count
        if waits { inbox.waited() }
        readClocks()
        if state.pointee.turnWantedNanos <= state.pointee.nowNanos { state.pointee.turnWantedNanos = .max }
        state.pointee.turnLengths.begin(state.pointee.nowNanos) { cs_thread_nanos() }
        for i in 0..<count { dispatch(events[i]) }
        if count > 0 { runReceivedHooks() }
        takeInbox()
        runReady()
        while let action = state.pointee.timers.popDue(now: state.pointee.nowNanos) { action() }
        for i in 0..<state.pointee.hooks.count { state.pointee.hooks[i]() }
        if !state.pointee.resumed.isEmpty { deliverResumed() }
        if state.pointee.hasObjects { sendObjects() }
        sendOutboxes()
        flushDirty()
        if !state.pointee.retired.isEmpty {
            // Moved out first: what is released may run code that retires more.
            var retired: [AnyObject] = []
            swap(&retired, &state.pointee.retired)
        }
        noteTurn()
    }

    /// One look at the clock serves the turn's length and the next wait's.
    private func noteTurn() {
        let end = cs_monotonic_nanos()
        state.pointee.endNanos = end
        state.pointee.turnLengths.end(state.pointee.nowNanos, end, state.pointee.turnWork) { cs_thread_nanos() }
        state.pointee.turnWork = []
    }

    private func dispatch(_ event: cs_event) {
        let token = event.token!
        switch event.kind {
        case CS_EVENT_RECEIVED:
            let bytes = UnsafeRawBufferPointer(start: event.data, count: Int(event.result))
            Unmanaged<Connection>.fromOpaque(token)._withUnsafeGuaranteedRef { $0.didReceive(bytes) }
        case CS_EVENT_SENT:
            Unmanaged<Connection>.fromOpaque(token)._withUnsafeGuaranteedRef { $0.didSend() }
        case CS_EVENT_ACCEPTED:
            Unmanaged<Listener>.fromOpaque(token)._withUnsafeGuaranteedRef { $0.didAccept(event.result) }
        case CS_EVENT_OVERLOADED:
            Unmanaged<Listener>.fromOpaque(token)._withUnsafeGuaranteedRef { $0.didOverload(event.result) }
        case CS_EVENT_CONNECTED:
            Unmanaged<Connection>.fromOpaque(token)._withUnsafeGuaranteedRef { $0.didConnect() }
        case CS_EVENT_ENDED:
            Unmanaged<Connection>.fromOpaque(token)._withUnsafeGuaranteedRef { $0.didEnd() }
        default:
            let socket = Unmanaged<LoopSocket>.fromOpaque(token).takeRetainedValue()
            forget(socket)
            release(atTurnEnd: socket)
            socket.didClose(reason: event.result)
        }
    }

    private func takeInbox() {
        var left = Self.envelopesPerTurnMax
        while left > 0, let node = inbox.pop() {
            let envelope = Envelope.of(node)
            envelope.pointee.receiver._withUnsafeGuaranteedRef { $0.take(envelope) }
            left -= 1
        }
        if left == 0 { state.pointee.anotherTurn = true }
    }

    private func deliverResumed() {
        let resumed = state.pointee.resumed
        state.pointee.resumed = []
        for connection in resumed { connection.deliverStash() }
        for i in 0..<state.pointee.resumedHooks.count { state.pointee.resumedHooks[i]() }
        if !state.pointee.resumed.isEmpty { state.pointee.anotherTurn = true }
    }

    /// Connections made dirty meanwhile wait for the next turn, which comes at once.
    private func flushDirty() {
        var next = state.pointee.dirty
        state.pointee.dirty = nil
        while let unmanaged = next {
            unmanaged._withUnsafeGuaranteedRef { connection in
                next = connection.state.pointee.nextDirty
                connection.flush()
            }
        }
    }
}

/// Kept behind a pointer: no exclusivity checks on the request path.
struct LoopState {
    let events: UnsafeMutablePointer<cs_event>
    var eventsMax = Int32(Loop.eventsPerTurnMax)
    var nowNanos: Nanos = 0
    var nowMillis: Millis = 0
    /// When the last turn's work was done.
    var endNanos: Nanos = 0
    var turnLengths = TurnLengths()
    /// What the turn under way has done so far.
    var turnWork: TurnWork = []
    /// What the kernel had to say at its beginning.
    var turnEvents = 0
    /// Connections with output to send, linked through their state.
    var dirty: Unmanaged<Connection>?
    /// Kept alive until the end of the turn.
    var retired: [AnyObject] = []
    var anotherTurn = false
    /// The latest time of the next turn, if somebody wants one.
    var turnWantedNanos: Nanos = .max
    var stopping = false
    var timers = TimerHeap()
    var spares = SpareBuffers()
    var isGivingBack = false
    var hooks: [() -> Void] = []
    var receivedHooks: [() -> Void] = []
    var resumedHooks: [() -> Void] = []
    var resumed: [Connection] = []
    var sockets: [LoopSocket] = []
    /// Connections that were refused and are not closed yet, but for those in a hurry.
    var refusedNow = 0
    // Actors.
    var acting = ActingActor()
    var ready: [ReadyItem] = []
    var running: [ReadyItem] = []
    let outboxes: UnsafeMutablePointer<Outbox>
    var outboxesUsed: [Int] = []
    // Objects for other loops that go at the end of the turn.
    var objects: [ObjectChain] = []
    var hasObjects = false
    var objectInboxes: [ObjectInbox] = []

    init(events: UnsafeMutablePointer<cs_event>) {
        self.events = events
        outboxes = .allocate(capacity: Outbox.count)
        outboxes.initialize(repeating: Outbox(), count: Outbox.count)
    }
}
