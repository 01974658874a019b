// Who is at the other end of a connection, where that one is reached, and whether it may be: names, addresses, two of
// one name or address. Part of `RemoteTransport`; its loop only.

import KVBase

/// Why a system is not wanted: what it is told, and what is said here.
struct LinkRefusal {
    let code: UInt8
    let reply: String
    let error: LinkError
}

extension RemoteTransport {
    // MARK: What is said of oneself

    func hello(to target: String, _ link: LinkConnection) -> Hello {
        var hello = Hello(
            cluster: cluster, address: announced(to: link), target: target, incarnation: incarnation,
            port: listeningPort, name: name)
        hello.epoch = epoch
        return hello
    }

    func welcome(_ link: LinkConnection) -> Welcome {
        var welcome = Welcome(
            address: announced(to: link), incarnation: incarnation, seen: link.seenAddress, name: name)
        welcome.epoch = epoch
        return welcome
    }

    private var listeningPort: UInt16 { listener?.localAddress?.port ?? 0 }

    private func announced(to link: LinkConnection) -> String {
        guard listener != nil else { return system.address }
        return own.announced(to: link.reach)?.description ?? ""
    }

    /// A connection shows this system's own address.
    func shown(_ address: HostPort, _ source: OwnAddress.Source, by link: LinkConnection) {
        let isShown = links.values.contains { $0 !== link && $0.shown == own.announced }
        link.shown = address
        if own.learn(address, source, isShown: isShown) { reportOwnAddress(address.description) }
    }

    /// The peer at the other end of one that was accepted dialled this end of it.
    func shownByAccepting(_ link: LinkConnection) {
        guard let local = link.connection.localAddress?.unmapped else { return }
        shown(HostPort(host: local.host, port: listeningPort), .dialled, by: link)
    }

    // MARK: What is believed of others

    /// Where the system at the other end is reached: as it says, or, where that cannot be, as it is seen.
    func address(claimed: String, seen: String, by link: LinkConnection) -> String {
        isCredible(claimed, seen, link) ? claimed : seen
    }

    private func isCredible(_ claimed: String, _ seen: String, _ link: LinkConnection) -> Bool {
        // One that listens nowhere calls itself what it likes.
        guard let address = HostPort(claimed) else { return seen.isEmpty && SystemName.isWord(claimed) }
        guard SystemName.isWord(claimed), address.port != 0 else { return false }
        let reach = address.reach ?? .network
        guard reach > .nowhere, reach > .machine || link.reach <= .machine else { return false }
        let isOwn = SocketAddress(host: address.host, port: address.port).map { own.isOwn($0) } ?? false
        guard isOwn || address == own.announced else { return true }
        say(
            "\(seen) says that it is reached at \(claimed), which is this server's own address",
            about: "claim of \(seen)")
        return false
    }

    /// Why it is not wanted; nil if it is.
    func refusal(of hello: Hello, from address: String) -> LinkRefusal? {
        if hello.cluster != cluster {
            return LinkRefusal(
                code: LinkFrame.RejectCode.cluster, reply: "this system belongs to another cluster",
                error: .cluster(hello.cluster))
        }
        guard hello.protocolVersion == LinkFrame.protocolVersion else {
            return LinkRefusal(
                code: LinkFrame.RejectCode.version,
                reply: "this system speaks version \(LinkFrame.protocolVersion) of the protocol",
                error: .protocolVersion(hello.protocolVersion))
        }
        return refusal(of: hello.epoch) ?? refusal(of: hello.name, hello.incarnation, address)
    }

    /// Whose state is of before a restore of the cluster does not meet those whose state is of after it: what was given
    /// up would come back. One that has no epoch yet takes that of the first it meets.
    func refusal(of other: UInt64) -> LinkRefusal? {
        guard epoch != 0, other != 0, epoch != other else { return nil }
        if other < epoch {
            return LinkRefusal(
                code: LinkFrame.RejectCode.epoch, reply: RemoteTransport.restored,
                error: .epoch("data of before the cluster was restored from a backup: that one must begin anew"))
        }
        return LinkRefusal(
            code: LinkFrame.RejectCode.epochOfAcceptor, reply: "its data is of before the cluster was restored",
            error: .epoch("\(RemoteTransport.restored); \(epochAdvice)"))
    }

    static let restored =
        "the cluster was restored from a backup, and this server's data is of before: it must begin anew"

    /// Both ends know each other and are of one epoch, or one or both of none.
    func agree(on other: UInt64) {
        guard epoch == 0 else { return }
        epoch = other == 0 ? RemoteConfiguration.firstEpoch : other
        report(epoch: epoch)
    }

    /// Two systems that live do not have one name by the will of their user. One that has fallen silent gives way: if
    /// it still lives it answers soon, and the other one comes again.
    func refusal(of name: SystemName, _ incarnation: UInt64, _ address: String) -> LinkRefusal? {
        if name.excludes(self.name) { return refusal(name, own.announced?.description ?? "this address") }
        let holder = allPeers.first { peer in
            guard let current = peer.current, current.peerIncarnation != incarnation else { return false }
            return current.peerName.excludes(name) && current.peerAddress != address
        }
        guard let holder, holder.isHeard else { return nil }
        holder.doubt()
        return refusal(name, holder.current?.peerAddress ?? "?")
    }

    private func refusal(_ name: SystemName, _ holder: String) -> LinkRefusal {
        LinkRefusal(
            code: LinkFrame.RejectCode.name,
            reply: "the name \(name.text) belongs to the server at \(holder); give this one another",
            error: .name("the name \(name.text), which belongs to the server at \(holder)"))
    }

    // MARK: Whose connection it is

    /// Both ends know each other: the connection goes to the peer that this system is, by whatever address.
    func identified(_ link: LinkConnection) {
        strangers[link.number] = nil
        if let dialer = link.peer, dialer.misses(link) {
            dialer.missed(link)
            link.peer = nil
        }
        let own = allPeers.first { $0.current?.peerIncarnation == link.peerIncarnation }
        var key = link.peerAddress
        if own == nil, isTaken(key, link) {
            // Both say that they are there. Until one falls silent each is known by its id.
            key += "#\(String(link.peerIncarnation, radix: 16))"
        }
        guard let id = SystemRegistry.intern(key) else { return link.close("too many addresses") }
        makeRoom(for: link)
        let holder = own ?? peers[id]
        if let dialer = link.peer {
            if let holder, holder !== dialer {
                // Reached by another address: one of the two serves both from now on.
                absorb(dialer, into: holder, with: link)
            } else {
                peers[id] = dialer
                dialer.addresses.insert(id)
                dialer.identified(link)
            }
            return
        }
        let peer = holder ?? peer(id)
        link.peer = peer
        peer.identified(link)
    }

    /// Another one that lives is known at the address that one who came by itself gives.
    private func isTaken(_ address: String, _ link: LinkConnection) -> Bool {
        guard !link.isDialed, let id = SystemRegistry.intern(address), let holder = peers[id],
            let current = holder.current, current.peerIncarnation != link.peerIncarnation, holder.isHeard
        else { return false }
        holder.doubt()
        return true
    }

    /// What had its name before has fallen silent.
    private func makeRoom(for link: LinkConnection) {
        for peer in allPeers {
            guard let current = peer.current, current.peerIncarnation != link.peerIncarnation,
                current.peerName.excludes(link.peerName), !peer.isHeard
            else { continue }
            peer.giveWay("its name is at \(link.peerAddress) now")
        }
    }

    private func absorb(_ peer: LinkPeer, into other: LinkPeer, with link: LinkConnection? = nil) {
        for address in peer.addresses { peers[address] = other }
        other.take(over: peer)
        forget(peer)
        if let link {
            peer.give(up: link)
            link.peer = other
            other.identified(link)
        } else {
            peer.abandon()
        }
    }

    // MARK: Links that somebody wants

    /// `incarnation`: the system that is said to be at the address, which may be known by another one; 0 for whoever is
    /// there, as the user wants it.
    func keepLink(to id: UInt32, of incarnation: UInt64) {
        guard !isClosed else { return }
        let wish: LinkWish = incarnation == 0 ? .given : .told
        if incarnation != 0, let serving = allPeers.first(where: { $0.current?.peerIncarnation == incarnation }) {
            if let other = peers[id], other !== serving {
                if other.isUp { return other.keep(id, wish, of: incarnation) }
                absorb(other, into: serving)
            }
            peers[id] = serving
            serving.addresses.insert(id)
        }
        peer(id).keep(id, wish, of: incarnation)
    }

    /// Gives one wish for this link up. `closing`: where nobody has one, the connection that stands ends.
    func dropLink(to id: UInt32, _ wish: LinkWish, closing: Bool) {
        guard let peer = peers[id], peer.unkeep(id, wish) else { return }
        if !peer.isWanted, closing || !peer.isUp {
            forget(peer)
            return peer.abandon()
        }
        guard id != peer.mainAddress else { return }
        peers[id] = nil
        peer.addresses.remove(id)
    }

    /// Whether an attempt at an address makes sense. `isGiven`: by the user, not by another system.
    func mayDial(_ address: SocketAddress, isGiven: Bool) -> Bool {
        guard address.reach > .nowhere, !own.isOwn(address) else { return false }
        // Another machine's loopback is of no use here.
        return isGiven || address.reach > .machine || own.reach <= .machine
    }

    /// An address leads back here: said once, and not dialled any more.
    func foundItself(at address: SocketAddress) {
        own.prove(address)
        say("\(address) leads back to this server itself; it is not dialled any more", about: "own \(address)")
    }
}
