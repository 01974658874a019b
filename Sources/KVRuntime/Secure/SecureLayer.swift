// TLS of one connection with a client, between the loop's bytes and the handler's. Its loop's thread.

import CTLS
package import KVBase

/// Steps that Connection+Secure.swift puts in order. Until the first step there is nothing behind it.
package final class SecureLayer {
    package enum Step: Sendable { case more, done, failed }
    package enum Opened: Sendable { case all, ended, failed }

    let port: SecurePort
    /// What each request looks at.
    private let state: UnsafeMutablePointer<SecureState>
    /// Of a handshake: what came and waits for its step.
    private var input: OutputBuffer?
    private var saidEnd = false
    /// The peer said that no more follows.
    var hasEnded = false
    /// The client has been answered in its handshake: it is not one that only begins.
    private(set) var hasBegun = false
    /// The stream has ended behind bytes that wait for a step of the handshake.
    var endsBehind = false
    /// In the port's queue, since then.
    var isQueued = false
    var queuedAt: Nanos = 0
    /// It stands only until the client has been told that it is not served.
    var isFarewell = false
    /// Ends a handshake that takes too long.
    var timer: LoopTimer?
    /// Changes of keys up to the beginning of the second that counts.
    private var changesBefore: UInt32 = 0
    private var secondBegan: Nanos = 0

    /// Of every TLS handshake.
    static let firstByte: UInt8 = 0x16
    /// Of all records: kind, version, length.
    static let headerBytes = 5
    static let majorVersion: UInt8 = 3
    /// Kept of what waits for a step of the handshake, such as long requests behind the last flight; then nothing is
    /// received until the step is done, but what the loop has received already.
    static let inputBytesMax = 128 * 1024
    /// Alerts and changes of keys that a client does not take.
    static let heldBytesMax = 64 * 1024
    /// Changes of keys in a second.
    static let keyChangesMax: UInt32 = 32

    package init(_ port: SecurePort) {
        self.port = port
        state = .allocate(capacity: 1)
        state.initialize(to: SecureState())
    }

    deinit {
        forgetState()
        held.deallocate()
        input?.deallocate()
        state.deallocate()
    }

    package private(set) var isDone: Bool {
        get { state.pointee.isDone }
        set { state.pointee.isDone = newValue }
    }

    package private(set) var hasFailed: Bool {
        get { state.pointee.hasFailed }
        set { state.pointee.hasFailed = newValue }
    }

    /// What is to be sent besides replies: of the handshake, alerts.
    package var held: OutputBuffer {
        get { state.pointee.held }
        _modify { yield &state.pointee.held }
    }

    private var raw: OpaquePointer? {
        get { state.pointee.raw }
        set { state.pointee.raw = newValue }
    }

    /// What OpenSSL has of a connection that failed or is gone. What is held goes out yet.
    func forgetState() {
        guard let raw else { return }
        cs_front_free(raw)
        self.raw = nil
        port.statistics.closed()
    }

    /// False if memory is short.
    package func start(_ context: SecureContext) -> Bool {
        raw = cs_front_new(context.raw)
        if raw != nil { port.statistics.opened() }
        return raw != nil
    }

    package var hasStarted: Bool { raw != nil }

    // MARK: Handshake

    /// Whether what came is worth a step. Before the first record is whole there is nothing behind this object yet: a
    /// client that only begins takes no more than its bytes.
    package var hasWholeRecord: Bool {
        if hasStarted { return true }
        guard let bytes = input?.bytes, bytes.count > 1 else { return false }
        // OpenSSL says what is wrong with it.
        if bytes[1] != SecureLayer.majorVersion { return true }
        guard bytes.count >= SecureLayer.headerBytes else { return false }
        let length = Int(bytes[3]) << 8 | Int(bytes[4])
        return length > Int(CS_FRONT_RECORD_BYTES) || bytes.count >= SecureLayer.headerBytes + length
    }

    /// Keeps what came for the next step.
    package func collect(_ bytes: UnsafeRawBufferPointer) {
        if input == nil { input = OutputBuffer(capacity: bytes.count) }
        input!.append(bytes)
    }

    var isInputFull: Bool { (input?.count ?? 0) >= SecureLayer.inputBytesMax }

    /// As far as it goes with what came. When it is done, `open` has to take the rest at once.
    package func shakeHands() -> Step {
        guard let raw, let input else { return .more }
        let result = cs_front_handshake(raw, input.base, input.count)
        takeHeld()
        hasBegun = true
        if result == 0 { self.input!.count = 0 }
        isDone = result == 1
        hasFailed = result < 0
        if !isDone, !hasFailed { return .more }
        if hasFailed { forgetInput() }
        return isDone ? .done : .failed
    }

    func forgetInput() {
        input?.deallocate()
        input = nil
    }

    var isResumed: Bool { raw.map { cs_front_is_resumed($0) != 0 } ?? false }

    // MARK: Records

    /// Decrypts what came, or, with nil, what came with the end of the handshake; a call of `body` for each piece of
    /// the arena it fills.
    package func open(
        _ bytes: UnsafeRawBufferPointer?, in arena: SecureArena, now: Nanos, _ body: (UnsafeRawBufferPointer) -> Void
    ) -> Opened {
        guard let raw else { return .failed }
        var (next, count) = (bytes?.baseAddress, bytes?.count ?? input?.count ?? 0)
        var result: Int32
        repeat {
            // What OpenSSL has of an unfinished record may come to an end as well.
            let room = count + Int(CS_FRONT_RECORD_BYTES)
            let at = arena.take(room)
            var filled = 0
            result = cs_front_open(raw, next, bytes?.count ?? 0, at, room, &filled)
            arena.giveBack(room - filled)
            if filled > 0 { body(UnsafeRawBufferPointer(start: at, count: filled)) }
            (next, count) = (nil, 0)
        } while result == 1
        if bytes == nil { forgetInput() }
        takeHeld()
        if result >= 0, changesKeysTooOften(raw, now) || held.count > SecureLayer.heldBytesMax {
            hasFailed = true
            return .failed
        }
        hasFailed = result == -1
        return result == 0 ? .all : result == -2 ? .ended : .failed
    }

    private func changesKeysTooOften(_ raw: OpaquePointer, _ now: Nanos) -> Bool {
        let changes = cs_front_key_changes(raw)
        guard changes != state.pointee.changesSeen else { return false }
        if now - secondBegan >= 1_000_000_000 { (secondBegan, changesBefore) = (now, state.pointee.changesSeen) }
        state.pointee.changesSeen = changes
        return changes &- changesBefore > SecureLayer.keyChangesMax
    }

    /// Encrypts the first `count` bytes to the end of `output`. False: failed.
    package func seal(_ bytes: UnsafeRawPointer, _ count: Int, into output: inout OutputBuffer) -> Bool {
        guard let raw else { return false }
        let room = cs_front_sealed_max(count)
        output.reserve(room)
        let sealed = cs_front_seal(raw, bytes, count, output.base + output.count, room)
        guard sealed >= 0 else {
            hasFailed = true
            return false
        }
        output.count += sealed
        // A change of keys that did not fit.
        appendPending(to: &output)
        return true
    }

    /// Appends that no more follows, once.
    func end(into output: inout OutputBuffer) {
        guard isDone, !hasFailed, !saidEnd, let raw else { return }
        saidEnd = true
        cs_front_end(raw)
        appendPending(to: &output)
    }

    private func takeHeld() { appendPending(to: &held) }

    private func appendPending(to output: inout OutputBuffer) {
        guard let raw else { return }
        let waiting = cs_front_pending(raw)
        guard waiting > 0 else { return }
        output.reserve(waiting)
        cs_front_take(raw, output.base + output.count)
        output.count += waiting
    }

    /// Why it failed.
    package var reason: String {
        let text = raw.map { String(cString: cs_front_error($0)) } ?? ""
        return text.isEmpty ? "it changes its keys too often, or takes no answer" : text
    }

    /// The one name of the client's certificate; empty if it has none or several, nil if it showed no certificate.
    func peerName(isURI: Bool) -> String? {
        guard let raw else { return nil }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(CS_FRONT_NAME_BYTES_MAX)) { name in
            let count = cs_front_peer_name(raw, isURI ? 1 : 0, name.baseAddress!)
            return count < 0 ? nil : String(decoding: UnsafeRawBufferPointer(name).prefix(Int(count)), as: UTF8.self)
        }
    }
}

/// Kept behind a pointer: no exclusivity checks on the request path.
private struct SecureState {
    var raw: OpaquePointer?
    var isDone = false
    var hasFailed = false
    var held = OutputBuffer()
    /// Changes of keys.
    var changesSeen: UInt32 = 0
}
