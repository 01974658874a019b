// One TCP connection on a loop: two output buffers, one send in flight, back-pressure, orderly closing. Loop's thread
// only.

import CSupport
package import KVBase

/// What happens on a connection. Subclassed; every call comes on the loop's thread, one virtual call per event.
open class ConnectionHandler {
    package init() {}

    /// A connection made by `Loop.connect` stands.
    open func connected(_ connection: Connection) {}

    /// The client of a listener with TLS has done its handshake; nothing has been received yet.
    open func secured(_ connection: Connection) {}

    /// Bytes arrived; they stay until the hooks of `Loop.onReceived` have run in this turn. Replies go to
    /// `connection.output`, which is sent once at the end of the turn.
    open func received(_ connection: Connection, _ bytes: UnsafeRawBufferPointer) {}

    /// Unsent output had passed `Limits.outputBytesHigh` (or `notifyWhenDrained` was called) and is at most half of
    /// that now.
    open func drained(_ connection: Connection) {}

    /// The peer sends no more. By default what is unsent is sent, then the connection closes.
    open func ended(_ connection: Connection) { connection.close(afterFlush: true) }

    /// Exactly once for every connection, the last call. `connection.closeReason` says why.
    open func closed(_ connection: Connection) {}
}

/// Created by the loop. Output is appended to `output` and sent once per turn: while one buffer is with the kernel the
/// other fills. Nothing is copied between them.
public final class Connection: LoopSocket {
    /// The buffer being filled. Appending inside a handler's call is enough; elsewhere call `outputMayHaveGrown` after.
    package let output: UnsafeMutablePointer<OutputBuffer>
    let state: UnsafeMutablePointer<ConnectionState>

    override init(loop: Loop) {
        output = .allocate(capacity: 1)
        output.initialize(to: OutputBuffer())
        state = .allocate(capacity: 1)
        state.initialize(to: ConnectionState())
        super.init(loop: loop)
    }

    deinit {
        output.pointee.deallocate()
        output.deallocate()
        state.pointee.sending.deallocate()
        if let stash = state.pointee.stash { stash.deallocate() }
        state.deinitialize(count: 1)
        state.deallocate()
    }

    /// Buffers above this go to the loop's spare ones when they become empty.
    static let bufferBytesKept = 256 * 1024
    static let bufferBytesFresh = 16 * 1024
    /// How long a peer may take to read the rest after we are done.
    static let lingerMillis: Int64 = 1000
    /// Refused ones of a loop that are waited for: a storm of them must not take the descriptors of all other work.
    static let refusedMax = 8

    package var handler: ConnectionHandler {
        get { state.pointee.handler }
        set {
            // Calls do not retain the handler: one that is replaced in the middle of its own call lives until the turn
            // ends.
            loop.release(atTurnEnd: state.pointee.handler)
            state.pointee.handler = newValue
            state.pointee.callee = Unmanaged.passUnretained(newValue)
        }
    }

    /// Bytes appended and not yet with the kernel.
    package var unsentBytes: Int { output.pointee.count + state.pointee.sending.count }

    /// Of both buffers.
    package var outputCapacity: Int { output.pointee.capacity + state.pointee.sending.capacity }

    /// No handler call but `closed` will come, and nothing appended now will be sent.
    package var isClosing: Bool {
        state.pointee.flags & (ConnectionState.closing | ConnectionState.closeAfterFlush) != 0
    }

    /// 0 for an ordinary end, else a negative errno. Valid in `closed`.
    package var closeReason: Int32 { state.pointee.closeReason }

    package var peerAddress: SocketAddress? {
        var raw = cs_address()
        guard let handle, cs_conn_peer_address(handle, &raw) == 0 else { return nil }
        return SocketAddress(raw)
    }

    /// For a connection to another server: see `cs_conn_set_far`.
    func prepareForDistance() { if let handle { cs_conn_set_far(handle) } }

    /// Bytes that are not sent yet and that the kernel may hold.
    func setUnsentMax(_ bytes: Int) { if let handle { cs_conn_set_unsent_max(handle, UInt32(clamping: bytes)) } }

    /// Name of the kernel's congestion control for it; empty if it does not say.
    var congestion: String {
        guard let handle else { return "" }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { name in
            cs_conn_congestion(handle, name.baseAddress!, 32) == 0 ? String(cString: name.baseAddress!) : ""
        }
    }

    /// False if the system does not have it, or not for everyone.
    func setCongestion(_ name: String) -> Bool { handle.map { cs_conn_set_congestion($0, name) == 0 } ?? false }

    /// Where the bytes are that the kernel took; nil if it does not say. Three system calls.
    func readFlow() -> cs_conn_flow? {
        var flow = cs_conn_flow()
        guard let handle, cs_conn_read_flow(handle, &flow) == 0 else { return nil }
        return flow
    }

    package var descriptor: Int32 { handle.map { cs_conn_descriptor($0) } ?? -1 }

    /// To call after appending to `output` outside of a handler's call. O(1).
    package func outputMayHaveGrown() {
        if output.pointee.count > 0 { markDirty() }
    }

    /// Asks for one `drained` call when unsent output is at most `bytes`, now or later.
    package func notifyWhenDrained(below bytes: Int = Limits.outputBytesHigh / 2) {
        state.pointee.flags |= ConnectionState.wantsDrained
        state.pointee.drainedBytes = bytes
        loop.markDirty(self)
    }

    /// Sends what is unsent, then tells the peer that this was all; goes on receiving until the peer says the same.
    package func endSending() {
        guard !isClosing else { return }
        state.pointee.flags |= ConnectionState.endAfterFlush
        loop.markDirty(self)
    }

    /// No `received` calls until `resumeReading`. What the kernel has delivered already is kept and delivered then.
    package func pauseReading() {
        guard state.pointee.flags & (ConnectionState.paused | ConnectionState.closing) == 0 else { return }
        state.pointee.flags |= ConnectionState.paused
        if let handle { cs_conn_pause(handle) }
    }

    package func resumeReading() {
        guard state.pointee.flags & ConnectionState.paused != 0 else { return }
        state.pointee.flags &= ~ConnectionState.paused
        guard state.pointee.flags & ConnectionState.closing == 0, let handle else { return }
        cs_conn_resume(handle)
        if state.pointee.stash != nil || state.pointee.flags & ConnectionState.endedLater != 0 {
            loop.deliverLater(self)
        }
    }

    package var isReadingPaused: Bool { state.pointee.flags & ConnectionState.paused != 0 }

    /// Nothing more is sent until `letGo`: what its output tells is not true yet. Input goes on.
    package func hold() { state.pointee.flags |= ConnectionState.held }

    package func letGo() {
        state.pointee.flags &= ~ConnectionState.held
        loop.markDirty(self)
    }

    /// Closes at once; what was not sent is lost. `closed` follows in a later turn.
    override package func close() {
        state.pointee.flags |= ConnectionState.closing
        super.close()
    }

    /// With `afterFlush`: no more `received` calls; sends what is unsent, tells the peer that this was all, and closes
    /// when the peer has closed too or after a second. (Closing with unread input makes the kernel reset the
    /// connection, and the peer would lose the last reply.)
    package func close(afterFlush: Bool) {
        guard afterFlush else { return close() }
        guard !isClosing else { return }
        state.pointee.flags |= ConnectionState.closeAfterFlush
        loop.markDirty(self)
    }

    // What follows is called by the loop.

    /// Nobody serves it: it gets what is in `output`, and its end.
    func refuse() {
        if loop.state.pointee.refusedNow < Connection.refusedMax {
            loop.state.pointee.refusedNow += 1
            state.pointee.flags |= ConnectionState.refused
        } else {
            state.pointee.flags |= ConnectionState.hurried
        }
        close(afterFlush: true)
    }

    func didReceive(_ bytes: UnsafeRawBufferPointer) {
        if state.pointee.flags & ConnectionState.unusualInput != 0 { return receiveUnusual(bytes) }
        deliver(bytes)
    }

    @inline(__always)
    func deliver(_ bytes: UnsafeRawBufferPointer) {
        state.pointee.callee._withUnsafeGuaranteedRef { $0.received(self, bytes) }
        if output.pointee.count > 0 { markDirty() }
    }

    func stash(_ bytes: UnsafeRawBufferPointer) {
        if state.pointee.stash == nil { state.pointee.stash = OutputBuffer(capacity: bytes.count) }
        state.pointee.stash!.append(bytes)
    }

    func didEnd() {
        if state.pointee.layer != nil, endedUnusually() { return }
        peerEnds()
    }

    /// The peer sends no more.
    func peerEnds() {
        state.pointee.flags |= ConnectionState.peerEnded
        let flags = state.pointee.flags
        if flags & ConnectionState.closing != 0 { return }
        if flags & ConnectionState.closeAfterFlush != 0 {
            if flags & ConnectionState.lingering != 0 { close() }
            return
        }
        if flags & (ConnectionState.paused | ConnectionState.deliverLater) != 0 {
            state.pointee.flags |= ConnectionState.endedLater
            return
        }
        state.pointee.handler.ended(self)
        if state.pointee.flags & ConnectionState.hasEnded != 0 { return close() }
        if output.pointee.count > 0 { markDirty() }
    }

    /// Delivers what arrived while reading was paused, at the end of the turn in which it was resumed.
    func deliverStash() {
        state.pointee.flags &= ~ConnectionState.deliverLater
        if state.pointee.flags & ConnectionState.paused != 0 { return }
        if let stash = state.pointee.stash {
            state.pointee.stash = nil
            didReceive(stash.bytes)
            loop.runReceivedHooks()
            stash.deallocate()
        }
        guard state.pointee.flags & ConnectionState.endedLater != 0 else { return }
        if state.pointee.flags & ConnectionState.paused != 0 { return }
        state.pointee.flags &= ~ConnectionState.endedLater
        peerEnds()
    }

    func didConnect() {
        state.pointee.flags &= ~ConnectionState.connecting
        if state.pointee.flags & ConnectionState.closing != 0 { return }
        state.pointee.handler.connected(self)
        loop.markDirty(self)
    }

    func didSend() {
        state.pointee.flags &= ~ConnectionState.inFlight
        state.pointee.sending.count = 0
        tidySending()
        markDirty()
    }

    @inline(__always)
    private func tidySending() {
        guard state.pointee.sending.capacity > Self.bufferBytesKept else { return }
        loop.state.pointee.spares.keep(&state.pointee.sending, fresh: Self.bufferBytesFresh)
    }

    /// The same for the other buffer, where that has become empty without being sent.
    func tidyOutput() {
        guard output.pointee.capacity > Self.bufferBytesKept else { return }
        loop.state.pointee.spares.keep(&output.pointee, fresh: Self.bufferBytesFresh)
    }

    /// Before a part of a long reply: a large buffer that another part needs no more saves growing one.
    package func expectMuchOutput() {
        if output.pointee.count == 0 { loop.state.pointee.spares.lend(&output.pointee) }
    }

    @inline(__always)
    private func markDirty() { loopReference._withUnsafeGuaranteedRef { $0.markDirty(self) } }

    /// Called once per turn for a connection marked dirty.
    func flush() {
        state.pointee.flags &= ~ConnectionState.dirty
        if state.pointee.flags & ConnectionState.unusualOutput != 0 { return flushUnusual() }
        noteMuchOutput()
        if state.pointee.flags & ConnectionState.inFlight == 0, output.pointee.count > 0, let handle {
            swap(&output.pointee, &state.pointee.sending)
            send(handle)
        }
        settleOutput()
    }

    /// Before sending: whoever stopped producing at the bound is told even if the kernel takes everything at once.
    @inline(__always)
    func noteMuchOutput() {
        if unsentBytes > Limits.outputBytesHigh, state.pointee.flags & ConnectionState.wantsDrained == 0 {
            state.pointee.flags |= ConnectionState.wantsDrained
            state.pointee.drainedBytes = Limits.outputBytesHigh / 2
        }
    }

    @inline(__always)
    func send(_ handle: OpaquePointer) {
        let bytes = state.pointee.sending.bytes
        if cs_conn_send(handle, bytes.baseAddress, bytes.count) == 0 {
            state.pointee.flags |= ConnectionState.inFlight
        } else {
            state.pointee.sending.count = 0
            tidySending()
        }
    }

    /// After sending: who waits for it is told, and what was to come behind it is done.
    @inline(__always)
    func settleOutput() {
        if state.pointee.flags & ConnectionState.wantsDrained != 0, unsentBytes <= state.pointee.drainedBytes {
            state.pointee.flags &= ~ConnectionState.wantsDrained
            if state.pointee.flags & ConnectionState.closeAfterFlush == 0 {
                state.pointee.handler.drained(self)
                outputMayHaveGrown()
            }
        }
        if unsentBytes == 0, state.pointee.flags & ConnectionState.closeAfterFlush != 0 { linger() }
        if unsentBytes == 0, state.pointee.flags & ConnectionState.endAfterFlush != 0 { end() }
    }

    private func end() {
        state.pointee.flags &= ~ConnectionState.endAfterFlush
        guard let handle else { return }
        if state.pointee.flags & ConnectionState.peerEnded != 0 { return close() }
        state.pointee.flags |= ConnectionState.hasEnded
        cs_conn_end(handle)
    }

    private func linger() {
        guard state.pointee.flags & ConnectionState.lingering == 0, let handle else { return }
        state.pointee.flags |= ConnectionState.lingering
        if state.pointee.flags & (ConnectionState.peerEnded | ConnectionState.hurried) != 0 { return close() }
        cs_conn_end(handle)
        cs_conn_resume(handle)
        state.pointee.lingerTimer = loop.schedule(afterMillis: Self.lingerMillis) { [unowned self] in close() }
    }

    override func didClose(reason: Int32) {
        if state.pointee.flags & ConnectionState.refused != 0 { loop.state.pointee.refusedNow -= 1 }
        state.pointee.flags |= ConnectionState.closing
        state.pointee.lingerTimer?.cancel()
        state.pointee.lingerTimer = nil
        state.pointee.layer?.timer?.cancel()
        state.pointee.closeReason = reason
        state.pointee.handler.closed(self)
        state.pointee.layer = nil
        // The handler usually refers to the connection: break the cycle.
        handler = ConnectionState.nobody
    }
}

/// Kept behind a pointer: no exclusivity checks on the request path.
struct ConnectionState {
    static let paused: UInt32 = 1
    static let inFlight: UInt32 = 2
    static let dirty: UInt32 = 4
    static let closing: UInt32 = 8
    static let closeAfterFlush: UInt32 = 16
    static let lingering: UInt32 = 32
    static let peerEnded: UInt32 = 64
    static let wantsDrained: UInt32 = 128
    static let deliverLater: UInt32 = 256
    static let endedLater: UInt32 = 512
    static let connecting: UInt32 = 1024
    static let endAfterFlush: UInt32 = 2048
    static let hasEnded: UInt32 = 4096
    /// The first byte shows whether the client speaks TLS.
    static let undecided: UInt32 = 8192
    /// It does.
    static let secured: UInt32 = 16384
    /// What was answered waits for the disk.
    static let held: UInt32 = 32768
    /// It was refused: waited for, or not.
    static let refused: UInt32 = 65536
    static let hurried: UInt32 = 131_072

    /// Received bytes do not simply go to the handler, output does not simply go to the kernel.
    static let unusualInput = closing | closeAfterFlush | paused | deliverLater | undecided | secured
    static let unusualOutput = closing | connecting | held | undecided | secured

    /// Stands in before a handler is set and after the last call.
    nonisolated(unsafe) static let nobody = ConnectionHandler()

    var handler: ConnectionHandler = nobody
    /// The same, for calls without reference counting.
    var callee = Unmanaged.passUnretained(nobody)
    var sending = OutputBuffer()
    /// Bytes that arrived while reading was paused.
    var stash: OutputBuffer?
    var flags: UInt32 = 0
    /// Unsent bytes from which on `drained` is called.
    var drainedBytes = Limits.outputBytesHigh / 2
    var closeReason: Int32 = 0
    var nextDirty: Unmanaged<Connection>?
    var lingerTimer: LoopTimer?
    /// Of a client that speaks TLS, or may.
    var layer: SecureLayer?
}

extension OutputBuffer {
    mutating func shrink(above limit: Int, to fresh: Int) {
        if capacity > limit { shrink(to: fresh) }
    }
}
