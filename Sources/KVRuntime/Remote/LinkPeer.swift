// Everything this system has for one other: the connection in use, an attempt at one, what waits for it. The
// transport's loop only.

import CSupport
import KVBase

/// Who wants a link to an address.
struct LinkWish: OptionSet {
    let rawValue: UInt8
    /// The user, to whoever is there.
    static let given = LinkWish(rawValue: 1)
    /// Another system said that a third one is there.
    static let told = LinkWish(rawValue: 2)
}

final class LinkPeer {
    /// The address it is dialled at.
    let address: String
    private unowned(unsafe) let transport: RemoteTransport
    private(set) var link: RemoteLink
    /// Addresses under which somebody wants the link kept, and who.
    private var wanted: [UInt32: LinkWish] = [:]
    /// Whom others said to be there.
    private var told: [UInt32: UInt64] = [:]
    /// Where another one answered than those, and which.
    private var others: [SocketAddress: UInt64] = [:]
    private static let othersMax = 64
    /// Addresses that lead here, and one of them.
    var addresses: Set<UInt32>
    let mainAddress: UInt32
    /// The connection that serves.
    private(set) var current: LinkConnection?
    /// The attempt under way.
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
    /// Where it was reached last.
    private var worked: SocketAddress?
    /// Where it was dialled since then.
    private var tried: Set<SocketAddress> = []
    private static let triedMax = 64
    /// The address leads to this very system, and never elsewhere: left alone.
    private var isSelf = false
    /// The attempt that somebody was told of before it had come to anything.
    private var opening: UInt64 = 0
    /// Another one says since then that it is at its place.
    private var doubtedAt: Nanos?

    init(addressId: UInt32, transport: RemoteTransport) {
        self.transport = transport
        (addresses, mainAddress) = ([addressId], addressId)
        address = SystemRegistry.name(addressId)
        link = RemoteLink(seed: cs_random())
        paces = PairPaces(spacing: transport.trackedSpacing)
    }

    private var now: Nanos { transport.loop.nowNanos }
    var isUp: Bool { current != nil }
    /// Somebody hears of what becomes of it.
    var isWanted: Bool { !wanted.isEmpty }
    /// Nobody wants it and nothing is under way.
    var isIdle: Bool {
        wanted.isEmpty && current == nil && dialing == nil && retired.isEmpty && waiting.isEmpty && !isResolving
    }

    /// `incarnation`: whom others said to be there, where that is the wish.
    func keep(_ id: UInt32, _ wish: LinkWish, of incarnation: UInt64) {
        wanted[id, default: []].formUnion(wish)
        if wish == .told { told[id] = incarnation }
        link.isKept = true
        if !isSelf { carryOut(link.wanted(now: now)) }
    }

    /// Whoever had this wish has it no more. True if nobody asks for the link under this address now.
    func unkeep(_ id: UInt32, _ wish: LinkWish) -> Bool {
        let left = (wanted[id] ?? []).subtracting(wish)
        wanted[id] = left.isEmpty ? nil : left
        if wish == .told { told[id] = nil }
        link.isKept = !wanted.isEmpty
        return left.isEmpty
    }

    // MARK: Two of one name or address

    /// The one it is connected with was heard a short while ago.
    var isHeard: Bool { current.map { now - $0.lastHeard < RemoteLink.livingNanosMax } ?? false }

    /// Another one says that it is at this one's place, or has its name: who lives answers soon.
    func doubt() {
        guard doubtedAt == nil, let current else { return }
        doubtedAt = now
        current.send(LinkFrame.Kind.ping) { _ in }
    }

    private func settleDoubt() {
        guard let since = doubtedAt else { return }
        guard let current, current.lastHeard <= since else { return doubtedAt = nil }
        if now - since > RemoteLink.doubtNanosMax { giveWay("another system has taken its place") }
    }

    /// What it is connected with is gone.
    func giveWay(_ why: String) {
        doubtedAt = nil
        guard let gone = current else { return }
        current = nil
        reason = why
        lose(gone, why)
        end(of: gone, link.closed(now: now))
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
        let targets = targets
        guard !targets.isEmpty else { return unusable("'\(address)' is no host:port") }
        let numeric = targets.compactMap { SocketAddress(host: $0.host, port: $0.port) }
        if numeric.count == targets.count { return connect(toOneOf: numeric) }
        isResolving = true
        let loop = transport.loop
        let held = UInt(bitPattern: Unmanaged.passRetained(self).toOpaque())
        transport.resolver.start(targets) { result in
            let returned = loop.perform {
                let this = Unmanaged<LinkPeer>.fromOpaque(UnsafeRawPointer(bitPattern: held)!).takeRetainedValue()
                this.resolved(result)
            }
            // The loop has ended: nobody uses the link any more.
            if !returned { Unmanaged<LinkPeer>.fromOpaque(UnsafeRawPointer(bitPattern: held)!).release() }
        }
    }

    private var targets: [HostPort] {
        (wanted.isEmpty ? [mainAddress] : wanted.keys.sorted()).compactMap { HostPort(SystemRegistry.name($0)) }
    }

    private func resolved(_ result: Result<[SocketAddress], SocketFailure>) {
        isResolving = false
        if isAbandoned || isUp { return }
        switch result {
        case .success(let found): connect(toOneOf: found)
        case .failure(let failure): unusable("\(failure)")
        }
    }

    private func connect(toOneOf found: [SocketAddress]) {
        let isGiven = wanted.values.contains { $0.contains(.given) } || wanted.isEmpty
        var useful = found.filter { transport.mayDial($0, isGiven: isGiven) && (isGiven || !isOfAnother($0)) }
        // An address that the peer does not tell itself may be the only one that leads there from here.
        if let worked, !useful.contains(worked), transport.mayDial(worked, isGiven: true), !isOfAnother(worked) {
            useful.append(worked)
        }
        guard useful.isEmpty else {
            do {
                dialing = try transport.dial(choice(of: useful), for: self)
                link.dialed(now: now)
            } catch { unusable("\(error)") }
            return
        }
        let leadsHere = found.allSatisfy { transport.own.isOwn($0) }
        reason =
            leadsHere
            ? "it leads back to this server itself"
            : found.contains { isOfAnother($0) } ? LinkPeer.anotherIsThere : "it is of no use on this machine"
        let effects = link.closed(now: now, isRefused: true)
        // What others say of each other is no news to whoever wants the link.
        end(of: nil, isGiven ? effects : effects.subtracting(.reportDown), isItself: leadsHere && isGiven)
    }

    /// Which of the addresses of the peer's names the next attempt tries: one after the other, in whichever order they
    /// are told, as a name may stand for addresses nobody listens on (::1 before 127.0.0.1). The one that worked last
    /// comes first again.
    private func choice(of useful: [SocketAddress]) -> SocketAddress {
        if tried.isSuperset(of: useful) || tried.count >= LinkPeer.triedMax { tried = [] }
        let isFirst = tried.isEmpty && worked.map(useful.contains) ?? false
        let chosen = isFirst ? worked! : useful.first { !tried.contains($0) }!
        tried.insert(chosen)
        return chosen
    }

    private func unusable(_ why: String) {
        reason = why
        end(of: nil, link.closed(now: now))
    }

    /// TCP stands on our own attempt: the first words go out with the greeting.
    func opened(_ connection: LinkConnection) {
        guard connection === dialing, !isAbandoned else { return connection.close("not wanted any more") }
        let effects = isUp ? .sendHello : link.connected(now: now)
        carryOut(effects)
        if !isUp, effects.contains(.sendHello) {
            opening = connection.number
            transport.reportOpened(LinkOpening(address: address, session: connection.number))
        }
    }

    private static let anotherIsThere = "another server is there"

    /// Whoever answered is not the one that is said to be here, and says itself that it is elsewhere: as where a name
    /// leads to another machine for a while. Whom the user wants is whoever is there.
    func misses(_ connection: LinkConnection) -> Bool {
        !wanted.isEmpty && wanted.values.allSatisfy { $0 == .told }
            && !told.values.contains(connection.peerIncarnation)
            && !addresses.contains { SystemRegistry.name($0) == connection.peerAddress }
    }

    /// The connection serves another peer: this one is looked for again, and not there as long as that one is.
    func missed(_ connection: LinkConnection) {
        if others.count >= LinkPeer.othersMax { others.removeAll() }
        if let target = connection.target { others[target] = connection.peerIncarnation }
        let wasTold = connection.number == opening
        (dialing, opening) = (nil, 0)
        if isUp { return }
        reason = LinkPeer.anotherIsThere
        let effects = link.closed(now: now, isRefused: true)
        end(of: nil, wasTold ? effects.union(.reportDown) : effects)
    }

    private func isOfAnother(_ address: SocketAddress) -> Bool {
        guard let other = others[address] else { return false }
        return transport.allPeers.contains { $0.current?.peerIncarnation == other }
    }

    /// The other side is known: the connection serves, unless the two have a better one.
    func identified(_ connection: LinkConnection) {
        if dialing === connection { dialing = nil }
        (opening, doubtedAt, tried) = (0, nil, [])
        worked = connection.target ?? worked
        if let current, current !== connection {
            if current.peerIncarnation != connection.peerIncarnation {
                giveWay("another system answers at this address")
            } else if current.dialer == connection.dialer {
                // The same one dialled again: the older is dead, with what was under way on it.
                giveWay("replaced by a newer connection")
            } else {
                // Both dialled: the smaller dialler's connection stays.
                if current.dialer < connection.dialer { return retire(connection, for: current) }
                self.current = connection
                retire(current, for: connection)
                return serve()
            }
        }
        current = connection
        serve()
    }

    private func serve() { carryOut(link.accepted(now: now)) }

    private func reportUp(_ connection: LinkConnection) {
        var names = addresses.map { SystemRegistry.name($0) }
        if let target = connection.target { names.append(target.description) }
        transport.report(
            LinkChange(
                address: address, isUp: true, addresses: names, peerAddress: connection.peerAddress,
                name: connection.peerName, incarnation: connection.peerIncarnation, session: connection.number,
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
        for other in connections where other !== connection && !isDelivering(besides: other) { other.release() }
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
            guard !isUp, !isAbandoned else { return }
            end(of: connection, link.closed(now: now, isRefused: connection.isRefused), isItself: connection.isItself)
            return
        }
        guard connection === current else { return }
        current = nil
        reason = connection.reason
        transport.countDropped(UInt64(connection.countLost()))
        guard !isAbandoned else { return }
        end(
            of: connection,
            link.closed(now: now, isTheirs: !connection.isDialed, isRefused: connection.isRefused))
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
        settleDoubt()
        carryOut(link.tick(now: now))
        for connection in retired where now - connection.lastHeard > RemoteLink.silenceNanosMax {
            connection.close("timed out")
        }
    }

    /// The connections that may have news of what they carry. What gave way has it until its end.
    var connections: [LinkConnection] { retired + [current, dialing].compactMap { $0 } }

    func abandon() {
        isAbandoned = true
        link.isKept = false
        transport.countDropped(UInt64(waiting.removeAll()))
        for connection in connections { lose(connection, "not wanted any more") }
        (current, dialing) = (nil, nil)
    }

    private func carryOut(_ effects: LinkEffects) {
        if effects.isEmpty || isAbandoned { return }
        if effects.contains(.close) {
            reason = link.isHandshaking ? "it does not answer as a server does; is it a server's port?" : "timed out"
            if let connection = current ?? dialing {
                connection.close(reason)
            } else if !isResolving {
                end(of: nil, link.closed(now: now))
            }
        }
        if effects.contains(.dropQueue) {
            countDrops()
            _ = waiting.removeAll()
        }
        if effects.contains(.connect), !isSelf { connect() }
        if effects.contains(.sendHello), let dialing {
            dialing.send(LinkFrame.Kind.hello) { transport.hello(to: address, dialing).encode(into: &$0) }
        }
        if effects.contains(.reportUp), let current { reportUp(current) }
        if effects.contains(.sendQueue), let current { for frame in waiting.takeUnbegun() { current.send(frame) } }
        if effects.contains(.sendPing) { current?.send(LinkFrame.Kind.ping) { _ in } }
    }

    /// A connection is gone, or an attempt (nil: one that did not get so far) was in vain. Whoever was told of it hears
    /// that.
    private func end(of connection: LinkConnection?, _ effects: LinkEffects, isItself: Bool = false) {
        let wasTold = connection != nil && connection!.number == opening
        opening = 0
        // A name may lead elsewhere tomorrow.
        if isItself { isSelf = targets.allSatisfy { SocketAddress(host: $0.host, port: $0.port) != nil } }
        if wasTold || effects.contains(.reportDown) || isItself {
            transport.report(
                LinkChange(
                    address: address, isUp: false, addresses: addresses.map { SystemRegistry.name($0) },
                    incarnation: connection?.peerIncarnation ?? 0, session: connection?.number ?? 0, reason: reason,
                    isItself: isItself, isRefused: connection?.isRefused ?? false))
        }
        carryOut(effects)
    }

    /// Brings the transport's figure up to what the link has dropped.
    private func countDrops() {
        transport.countDropped(link.dropped - countedDrops)
        countedDrops = link.dropped
    }

    /// Another peer serves the same system; our attempt is its connection now.
    func give(up connection: LinkConnection) {
        if dialing === connection { dialing = nil }
        abandon()
    }

    /// Whoever waits there is reached here from now on.
    func take(over other: LinkPeer) {
        addresses.formUnion(other.addresses)
        wanted.merge(other.wanted) { $0.union($1) }
        told.merge(other.told) { $1 }
        worked = worked ?? other.worked
        link.isKept = !wanted.isEmpty
        for frame in other.waiting.takeUnbegun() {
            if let current { current.send(frame) } else { waiting.append(frame) }
        }
    }
}
