// Everything this system has for one other: the connection in use, an attempt at one, what waits for it. The
// transport's loop only.

import CSupport
import KVBase

final class LinkPeer {
    /// The address it is dialled at.
    let address: String
    private unowned(unsafe) let transport: RemoteTransport
    private(set) var link: RemoteLink
    /// Addresses under which somebody wants the link kept.
    private var wanted: Set<UInt32> = []
    /// Addresses that lead here, and one of them.
    var addresses: Set<UInt32>
    let mainAddress: UInt32
    /// The connection that serves.
    private(set) var current: LinkConnection?
    /// Ours on its way to that.
    private var dialing: LinkConnection?
    /// Given up for another one; what was begun on them ends on them.
    private var retired: [LinkConnection] = []
    /// Untracked messages while no connection serves, in order.
    private var waiting = LinkOutbox()
    private var countedDrops: UInt64 = 0
    var paces: PairPaces
    /// Its path has lost packets: the next connection need not find that out again.
    var isLossy = false
    private var reason = ""
    private var isResolving = false
    private var isAbandoned = false
    /// The address leads to this very system: said once, then left alone.
    var isSelf = false

    init(addressId: UInt32, transport: RemoteTransport) {
        self.transport = transport
        (addresses, mainAddress) = ([addressId], addressId)
        address = SystemRegistry.name(addressId)
        link = RemoteLink(seed: cs_random())
        paces = PairPaces(spacing: transport.trackedSpacing)
    }

    private var now: Nanos { transport.loop.nowNanos }
    var isUp: Bool { current != nil }
    /// Nobody wants it and nothing is under way.
    var isIdle: Bool {
        wanted.isEmpty && current == nil && dialing == nil && retired.isEmpty && waiting.isEmpty && !isResolving
    }

    func keep(_ id: UInt32) {
        wanted.insert(id)
        link.isKept = true
        if !isSelf { carryOut(link.wanted(now: now)) }
    }

    /// Nobody asks for it under this address any more; true if the link is not wanted under any.
    func unkeep(_ id: UInt32) -> Bool {
        wanted.remove(id)
        link.isKept = !wanted.isEmpty
        return wanted.isEmpty
    }

    // MARK: Sending

    func send(_ frame: UnsafeRawBufferPointer, _ tail: WireTail?, _ stream: LinkStream) {
        let bytes = frame.count + (tail?.bytes.count ?? 0)
        switch link.admit(bytes: bytes, unsent: current?.unsentBytes ?? 0, now: now) {
        case .send:
            if tail == nil, current!.sendAtOnce(frame) { return }
            current!.send(QueuedFrame(stream: stream, frame: Array(frame), tail: tail))
        case .queue:
            waiting.append(QueuedFrame(stream: stream, frame: Array(frame), tail: tail))
            if !isSelf { carryOut(link.wanted(now: now)) }
        case .drop: countDrops()
        }
    }

    /// A message for one connection, whose teller wants to know how far it gets. If that connection gave way to another
    /// without loss, the other takes it; if it is gone, the teller knows or will hear.
    func send(_ frame: UnsafeRawBufferPointer, _ tail: WireTail?, _ stream: LinkStream, over session: UInt64) {
        let target = connection(session)
        guard let target, let taker = target.isRetired ? current : target else { return transport.countDropped(1) }
        taker.send(
            QueuedFrame(stream: stream, frame: Array(frame), tail: tail, isTracked: taker.number == session))
    }

    private func connection(_ number: UInt64) -> LinkConnection? {
        if let current, current.number == number { return current }
        if let dialing, dialing.number == number { return dialing }
        return retired.first { $0.number == number }
    }

    // MARK: Connections

    private func connect() {
        reason = ""
        // Ours may be on its way still, when the peer's own has come and gone.
        guard dialing == nil, !isResolving else { return }
        guard let target = HostPort(address) else { return unusable("'\(address)' is no host:port") }
        if let numeric = SocketAddress(host: target.host, port: target.port) { return connect(to: numeric) }
        isResolving = true
        let loop = transport.loop
        let held = UInt(bitPattern: Unmanaged.passRetained(self).toOpaque())
        Resolver.resolve(target) { result in
            let returned = loop.perform {
                let this = Unmanaged<LinkPeer>.fromOpaque(UnsafeRawPointer(bitPattern: held)!).takeRetainedValue()
                this.resolved(result)
            }
            // The loop has ended: nobody uses the link any more.
            if !returned { Unmanaged<LinkPeer>.fromOpaque(UnsafeRawPointer(bitPattern: held)!).release() }
        }
    }

    private func resolved(_ result: Result<[SocketAddress], SocketFailure>) {
        isResolving = false
        if isAbandoned || isUp { return }
        switch result {
        case .success(let found): connect(to: found[link.choice(of: found.count)])
        case .failure(let failure): unusable("\(failure)")
        }
    }

    private func connect(to target: SocketAddress) {
        do { dialing = try transport.dial(target, for: self) } catch { unusable("\(error)") }
    }

    private func unusable(_ why: String) {
        reason = why
        failed()
    }

    private func failed() { carryOut(link.closed(now: now)) }

    /// TCP stands on our own attempt: the first words go out with the greeting.
    func opened(_ connection: LinkConnection) {
        guard connection === dialing, !isAbandoned else { return connection.close("not wanted any more") }
        let effects = isUp ? .sendHello : link.connected(now: now)
        carryOut(effects)
        if !isUp, effects.contains(.sendHello) {
            transport.reportOpened(LinkOpening(address: address, session: connection.number))
        }
    }

    /// The other side is known: the connection serves, unless the two have a better one.
    func identified(_ connection: LinkConnection) {
        if dialing === connection { dialing = nil }
        if let current, current !== connection {
            if current.peerIncarnation == connection.peerIncarnation {
                // Both dialled: the smaller dialler's connection stays. The same one dialled again: the older is dead.
                if current.dialer < connection.dialer { return retire(connection, for: current) }
                let isDead = current.dialer == connection.dialer
                self.current = connection
                if isDead { lose(current, "replaced by a newer connection") } else { retire(current, for: connection) }
                return serve()
            }
            self.current = nil
            lose(current, "another system answers at this address")
            _ = link.closed(now: now)
            reportDown("another system answers at this address")
        }
        current = connection
        serve()
    }

    private func serve() { carryOut(link.accepted(now: now)) }

    private func reportUp(_ connection: LinkConnection) {
        transport.report(
            LinkChange(
                address: address, isUp: true, peerAddress: connection.peerAddress,
                incarnation: connection.peerIncarnation, session: connection.number,
                isDialed: connection.isDialed))
    }

    private func retire(_ loser: LinkConnection, for winner: LinkConnection) {
        retired.append(loser)
        let rest = loser.retire()
        winner.succeed(loser)
        for frame in rest { winner.send(frame.untracked) }
    }

    /// A connection that is gone with what it held.
    private func lose(_ connection: LinkConnection, _ why: String) {
        transport.countDropped(UInt64(connection.countLost()))
        connection.close(why)
    }

    func isDelivering(besides connection: LinkConnection) -> Bool {
        retired.contains { $0 !== connection && !$0.hasDelivered }
            || dialing.map { $0 !== connection && $0.isOpen } ?? false
            || current.map { $0 !== connection && !$0.hasDelivered } ?? false
    }

    /// A connection delivers nothing any more: what came behind its end may go on.
    func delivered(_ connection: LinkConnection) {
        for other in retired + [current, dialing].compactMap({ $0 }) where other !== connection {
            if !isDelivering(besides: other) { other.release() }
        }
    }

    func heard(by connection: LinkConnection) { if connection === current || !isUp { link.heard(now: now) } }

    func closed(_ connection: LinkConnection) {
        defer { delivered(connection) }
        paces.ended(connection.number, now)
        if let place = retired.firstIndex(where: { $0 === connection }) {
            retired.remove(at: place)
            return
        }
        if connection === dialing {
            dialing = nil
            transport.countDropped(UInt64(connection.countLost()))
            if reason.isEmpty { reason = connection.reason }
            if !isUp, !isAbandoned { failed() }
            return
        }
        guard connection === current else { return }
        current = nil
        reason = connection.reason
        transport.countDropped(UInt64(connection.countLost()))
        if !isAbandoned { carryOut(link.closed(now: now, isTheirs: !connection.isDialed)) }
    }

    func report(_ progress: SenderProgress, by connection: LinkConnection) {
        guard connection === current || connection === dialing else { return }
        transport.report(
            LinkMovement(
                address: address, incarnation: connection.peerIncarnation, session: connection.number,
                progress: progress, bytesPerSecond: connection.flow.bytesPerSecond,
                roundTripMillis: connection.flow.roundTripMillis))
    }

    // MARK: Time and effects

    func tick() {
        if isSelf { return }
        carryOut(link.tick(now: now))
        for connection in retired where now - connection.lastHeard > RemoteLink.silenceNanosMax {
            connection.close("timed out")
        }
    }

    /// The connections that may have news of what they carry.
    var connections: [LinkConnection] { [current, dialing].compactMap { $0 } }

    func abandon() {
        isAbandoned = true
        link.isKept = false
        transport.countDropped(UInt64(waiting.removeAll()))
        for connection in connections + retired { lose(connection, "not wanted any more") }
        (current, dialing) = (nil, nil)
    }

    private func carryOut(_ effects: LinkEffects) {
        if effects.isEmpty || isAbandoned { return }
        if effects.contains(.close) {
            reason = "timed out"
            if let connection = current ?? dialing { connection.close(reason) } else if !isResolving { failed() }
        }
        if effects.contains(.reportDown) { reportDown(reason) }
        if effects.contains(.dropQueue) {
            countDrops()
            _ = waiting.removeAll()
        }
        if effects.contains(.connect), !isSelf { connect() }
        if effects.contains(.sendHello), let dialing {
            dialing.send(LinkFrame.Kind.hello) { transport.hello(to: address).encode(into: &$0) }
        }
        if effects.contains(.reportUp), let current { reportUp(current) }
        if effects.contains(.sendQueue), let current { for frame in waiting.takeUnbegun() { current.send(frame) } }
        if effects.contains(.sendPing) { current?.send(LinkFrame.Kind.ping) { _ in } }
    }

    private func reportDown(_ why: String) {
        transport.report(LinkChange(address: address, isUp: false, reason: why))
    }

    /// Brings the transport's figure up to what the link has dropped.
    private func countDrops() {
        transport.countDropped(link.dropped - countedDrops)
        countedDrops = link.dropped
    }

    /// Another peer serves the same system; our attempt is its connection now.
    func give(up connection: LinkConnection) {
        if dialing === connection { dialing = nil }
        link.isKept = false
        abandon()
    }

    /// Whoever waits there is reached here from now on.
    func take(over other: LinkPeer) {
        addresses.formUnion(other.addresses)
        wanted.formUnion(other.wanted)
        link.isKept = !wanted.isEmpty
        for frame in other.waiting.takeUnbegun() {
            if let current { current.send(frame) } else { waiting.append(frame) }
        }
    }
}
