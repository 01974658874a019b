// TLS between a connection's bytes and its handler, in the order in which bytes come and go. Loop's thread only.

import KVBase

extension Connection {
    /// The client may speak TLS, or has to; its first byte says it. Before anything else of a new connection.
    func begin(_ port: SecurePort) {
        let layer = SecureLayer(port)
        state.pointee.layer = layer
        state.pointee.flags |= ConnectionState.undecided
        port.noteEvent()
        if port.countsFromArrival { endHandshake(layer, afterMillis: port.handshakeMillis) }
    }

    /// It is encrypted, or will be.
    package var isSecure: Bool { state.pointee.flags & ConnectionState.secured != 0 }

    /// The one name in the client's certificate: its URI, or its common name. Empty if it has none or several of the
    /// kind; nil if the client showed no certificate.
    package func peerCertificateName(isURI: Bool) -> String? { state.pointee.layer?.peerName(isURI: isURI) }

    /// Its handshake goes on when its turn comes.
    var wantsHandshake: Bool {
        guard handle != nil, let layer = state.pointee.layer else { return false }
        let gone = ConnectionState.closing | ConnectionState.peerEnded
        return state.pointee.flags & gone == 0 && !layer.isDone && !layer.hasFailed
    }

    // MARK: Receiving

    /// Bytes for a connection that is not in the usual state, or whose bytes are not for the handler as they are.
    func receiveUnusual(_ bytes: UnsafeRawBufferPointer) {
        if state.pointee.flags & ConnectionState.closing != 0 { return }
        if state.pointee.flags & ConnectionState.undecided != 0, !decide(bytes) { return }
        if let layer = state.pointee.layer {
            if layer.hasFailed { return }
            if !layer.isDone { return collect(bytes, layer) }
        }
        if state.pointee.flags & ConnectionState.closeAfterFlush != 0 { return }
        if state.pointee.flags & (ConnectionState.paused | ConnectionState.deliverLater) != 0 { return stash(bytes) }
        if let layer = state.pointee.layer { open(bytes, layer) } else { deliver(bytes) }
    }

    /// By the first byte. False if the bytes need nobody any more.
    private func decide(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let layer = state.pointee.layer, let first = bytes.first else { return false }
        state.pointee.flags &= ~ConnectionState.undecided
        let isRefused = state.pointee.flags & ConnectionState.closeAfterFlush != 0
        if first == SecureLayer.firstByte {
            state.pointee.flags |= ConnectionState.secured
            // A farewell's was another time.
            if layer.isFarewell { layer.timer?.cancel() }
            if layer.isFarewell || !layer.port.countsFromArrival {
                endHandshake(layer, afterMillis: layer.port.handshakeMillis)
            }
            return true
        }
        layer.timer?.cancel()
        state.pointee.layer = nil
        if isRefused {
            loop.markDirty(self)
            return false
        }
        guard layer.port.refusesPlain else { return true }
        layer.port.statistics.notePlainRefused()
        output.pointee.append("-")
        output.pointee.append(SecurePort.plainReply)
        output.pointee.append("\r\n")
        close(afterFlush: true)
        return false
    }

    private func endHandshake(_ layer: SecureLayer, afterMillis: Int64) {
        layer.timer = loop.schedule(afterMillis: afterMillis) { [unowned self] in
            guard let layer = state.pointee.layer, !layer.isDone else { return }
            if !isClosing { layer.port.statistics.noteLate() }
            close()
        }
    }

    private func collect(_ bytes: UnsafeRawBufferPointer, _ layer: SecureLayer) {
        layer.port.noteEvent()
        layer.collect(bytes)
        guard layer.hasWholeRecord else { return }
        layer.port.enqueue(self, layer)
        if layer.isInputFull { pauseReading() }
    }

    /// The next step of the handshake, with what came since the last.
    func shakeHands() {
        guard let layer = state.pointee.layer else { return }
        guard layer.hasStarted || layer.start(layer.port.context) else { return close() }
        let step = layer.shakeHands()
        resumeReading()
        switch step {
        case .more: layer.endsBehind ? close() : loop.markDirty(self)
        case .failed: fail(layer)
        case .done:
            layer.timer?.cancel()
            layer.timer = nil
            layer.port.statistics.noteDone(isResumed: layer.isResumed)
            loop.markDirty(self)
            guard state.pointee.flags & ConnectionState.closeAfterFlush == 0 else { return layer.forgetInput() }
            state.pointee.handler.secured(self)
            // What came with the last flight.
            open(nil, layer)
            loop.runReceivedHooks()
            if layer.endsBehind, !isClosing { peerEnds() }
        }
    }

    private func open(_ bytes: UnsafeRawBufferPointer?, _ layer: SecureLayer) {
        let opened = layer.open(bytes, in: layer.port.arena, now: loop.nowNanos) { plain in
            if !isClosing { deliver(plain) }
        }
        if layer.held.count > 0 { loop.markDirty(self) }
        switch opened {
        case .all: break
        case .ended:
            layer.hasEnded = true
            if !isClosing { peerEnds() }
        case .failed: fail(layer)
        }
    }

    /// Tells the peer, and closes.
    private func fail(_ layer: SecureLayer) {
        layer.timer?.cancel()
        layer.port.statistics.noteFailure(layer.reason, peer: peerAddress?.description ?? "a client")
        layer.forgetState()
        output.pointee.count = 0
        if isClosing { loop.markDirty(self) } else { close(afterFlush: true) }
    }

    /// The peer's side of the socket is closed. True if that is all there is to do.
    func endedUnusually() -> Bool {
        guard let layer = state.pointee.layer else { return false }
        if layer.hasFailed || !layer.isDone {
            // The last flight of its handshake may have come, with a request behind it. Who has only begun is gone.
            layer.endsBehind = layer.isQueued && layer.hasBegun
            if !layer.endsBehind { close() }
            return true
        }
        // It has said so already, in a record.
        return layer.hasEnded && state.pointee.flags & ConnectionState.closeAfterFlush == 0
    }

    // MARK: Sending

    func flushUnusual() {
        let still = ConnectionState.closing | ConnectionState.connecting | ConnectionState.held
        if state.pointee.flags & still != 0 { return }
        if state.pointee.flags & ConnectionState.undecided != 0 { return waitForFirstByte() }
        guard let layer = state.pointee.layer, let handle else { return }
        noteMuchOutput()
        if state.pointee.flags & ConnectionState.inFlight == 0 {
            if layer.held.count > 0 { swap(&layer.held, &state.pointee.sending) }
            if layer.isDone, !layer.hasFailed, output.pointee.count > 0 { seal(layer) }
            let ends = ConnectionState.closeAfterFlush | ConnectionState.endAfterFlush
            if state.pointee.flags & ends != 0, output.pointee.count == 0 { layer.end(into: &state.pointee.sending) }
            if state.pointee.sending.count > 0 { send(handle) }
            // Long replies go on in the next turn.
            if layer.isDone, output.pointee.count > 0 { loop.markDirty(self) }
        }
        if layer.held.count == 0 { settleOutput() }
    }

    private func seal(_ layer: SecureLayer) {
        let share = layer.port.sealShare(output.pointee.count)
        guard layer.seal(output.pointee.base, share, into: &state.pointee.sending) else { return fail(layer) }
        if share < output.pointee.count { return output.pointee.removeFirst(share) }
        output.pointee.count = 0
        tidyOutput()
    }

    /// A farewell to somebody who may speak TLS: it waits for the first byte, not for long, and not for many.
    private func waitForFirstByte() {
        guard isClosing, let layer = state.pointee.layer else { return }
        guard output.pointee.count > 0 else { return settleOutput() }
        guard !layer.isFarewell else { return }
        layer.isFarewell = true
        guard layer.port.mayFinishFarewell() else { return endFarewell(layer) }
        layer.timer?.cancel()
        layer.timer = loop.schedule(afterMillis: SecurePort.farewellMillisMax) { [unowned self] in
            guard state.pointee.flags & ConnectionState.undecided != 0, let layer = state.pointee.layer else { return }
            endFarewell(layer)
        }
    }

    /// Whoever has shown nothing gets it as it is, unless nobody here would understand that.
    private func endFarewell(_ layer: SecureLayer) {
        layer.timer?.cancel()
        if layer.port.countsFromArrival { return close() }
        state.pointee.flags &= ~ConnectionState.undecided
        state.pointee.layer = nil
        loop.markDirty(self)
    }
}
