// How a simulated server starts from its disk, as kvd does, and what may have happened to that disk meanwhile. Part of
// SimWorld.
import KVBase
import KVCore

/// What a start finds, in new stores.
private struct SimFound {
    var stores: [Store]
    var manifest: Manifest
    var found: DirectoryState?
}

extension SimWorld {
    /// Starts a server with a new identity and what its disk has.
    func startFromDisk(_ server: SimServer, seeds told: [Int]?) {
        let isFirst = server.starts == 0
        if !isFirst { meddle(server) }
        server.starts += 1
        server.leavingSince = nil
        server.hadDiskTrouble = server.disk.slowMillis > 0
        if isFirst || !(bug?.bug.contains(.diskIdReused) ?? false) { server.id = random.identity.next() | 1 }
        if isFirst { initialClock(server) }
        var count = options.actors[server.slot]
        if !isFirst, options.disks?.changesActors ?? false { count = random.disks.within(1...3) }
        let uids = (0..<count).map { ActorUID(server: server.id, index: UInt16($0)) }
        guard uids.allSatisfy({ oracle.index(of: $0) == nil }) else {
            return fail(SimViolation("I26", "server \(server.slot) takes an id that was used before"))
        }
        let origins = OriginTable()
        // The disk does not answer: whoever keeps the server running tries again.
        guard !server.disk.failsSyncs else { return putOff(server) }
        guard var found = recover(server, uids, origins), !failed else { return }
        found.manifest.begin(
            Manifest.Life(server: server.id, actors: count, firstLogs: [UInt64](repeating: 1, count: count)))
        let home = SimHome(server.slot, server.id, server.disk, found.manifest, self)
        guard home.begin(actors: count) else {
            for store in found.stores { store.destroy() }
            return putOff(server)
        }
        server.isUp = true
        server.home = home
        let isFounder = server.slot == 0 && (isFirst || options.slots == 1)
        server.seeds = isFounder ? [] : told ?? seeds(of: server.slot, isFirst)
        server.actors = []
        for (index, uid) in uids.enumerated() {
            let origin = oracle.register(uid)
            actors.append(
                SimActor(
                    uid: uid, actorCount: count, address: Self.address(server.slot), isJoining: !isFounder,
                    origins: origins, view: SimView(origin: origin, slot: server.slot, keys: keys.total), world: self,
                    store: found.stores[index], recovered: found.found?.state))
            server.actors.append(origin)
        }
        let started = server.actors.map { actors[$0] }
        home.attach(started)
        say { "start server \(server.slot) id \(String(server.id, radix: 16)) as actors \(server.actors)" }
        trace.fold(server.id)
        outcome.points.hit(isFirst ? "world: server starts" : "world: server restarts")
        if let state = found.found?.state {
            for actor in started { for row in state.rows { actor.learn(row) } }
            checkReturned(server, started)
        }
        // Damaged files are not read again.
        if let found = found.found, !found.damages.isEmpty { home.save(true, nil) }
        for actor in started { schedule(actor, at: now) }
        queue.push(.connect, at: now + 1, server.slot, server.starts)
    }

    private func putOff(_ server: SimServer) {
        outcome.points.hit("disk: start put off")
        queue.push(.start, at: now + simSecond, server.slot)
    }

    /// What lies on the server's disk goes into new stores. A disk that somebody else was at and that cannot be used is
    /// given up, as an operator would.
    private func recover(_ server: SimServer, _ uids: [ActorUID], _ origins: OriginTable) -> SimFound? {
        func stores() -> [Store] { uids.map { SimActor.emptyStore($0, origins) } }
        for repairs in [false, true] {
            let filled = stores()
            keys.hashAll(with: filled[0])
            do {
                return try read(server, filled, repairs: repairs)
            } catch {
                for store in filled { store.destroy() }
                say { "server \(server.slot) does not start: \(error)" }
                outcome.points.hit(repairs ? "disk: given up" : "disk: start refused")
                guard server.disk.isTampered else {
                    fail(SimViolation("I25", "server \(server.slot) does not start: \(error)"))
                    return nil
                }
            }
        }
        server.disk.lose()
        forgive(server)
        return SimFound(stores: stores(), manifest: SimWorld.emptyManifest(server.slot))
    }

    private static func emptyManifest(_ slot: Int) -> Manifest {
        Manifest(cluster: "sim", name: "s\(slot)", isNamed: true)
    }

    private func read(_ server: SimServer, _ stores: [Store], repairs: Bool) throws -> SimFound {
        guard let manifest = try SimHome.manifest(of: server.disk) else {
            if debts[server.slot].promises.values.contains(where: { $0.kill > 0 }) {
                throw DirectoryFault.missing(DiskNames.manifest)
            }
            return SimFound(stores: stores, manifest: SimWorld.emptyManifest(server.slot))
        }
        let found = try DirectoryRecovery.run(
            manifest, SimReader(disk: server.disk), into: stores, now: moment(server.slot).wall, repairs: repairs,
            planted: bug?.bug ?? [])
        if let first = found.damages.first, !server.disk.isTampered {
            fail(SimViolation("I25", "server \(server.slot) finds damage where there is none: \(first)"))
        }
        outcome.points.hit("disk: server restarts with its data")
        outcome.points.hit("disk: repaired", repairs ? 1 : 0)
        outcome.points.hit("disk: damage found", found.damages.isEmpty ? 0 : 1)
        let remarks = found.torn + found.unwritten
        outcome.points.hit("disk: torn or unwritten end", remarks.isEmpty ? 0 : 1)
        for remark in remarks { say { remark } }
        say {
            "server \(server.slot) read \(found.entries) entries of \(found.bytes) bytes, floor "
                + "\(found.state.floor - simEpochMillis)"
        }
        return SimFound(stores: stores, manifest: manifest, found: found)
    }

    func noteReconciled(_ actor: SimActor, _ dropped: Int) {
        outcome.points.hit("disk: dropped what was collected", dropped)
        // More may have been collected since it came back.
        excuse([actor])
        if actor.uid.index == 0 { servers[actor.view.slot].home?.save(true, nil) }
    }

    // MARK: What happens to disks

    /// Nothing that the disk promised is demanded any more.
    private func forgive(_ server: SimServer) {
        debts[server.slot].promises = [:]
        outcome.points.hit("world: write lost with its disk", oracle.lowerFloors(to: survivors()))
        rememberCollected()
    }

    /// While the server was down somebody was at its disk, or a bit changed.
    private func meddle(_ server: SimServer) {
        guard let disks = options.disks, !calm else { return }
        let disk = server.disk
        var isChanged = false
        // Two at once may take over from each other what was deleted (docs/replication.md 13).
        let isOnlyOne = !servers.contains { $0 !== server && $0.hasBackup }
        let mayPutBack = isOnlyOne && !debts[server.slot].images.isEmpty
        if disks.faults.contains(.stale), mayPutBack, random.disks.chance(0.3) {
            disk.become(debts[server.slot].images[random.disks.below(debts[server.slot].images.count)])
            (isChanged, server.hasBackup) = (true, true)
            outcome.points.hit("disk: backup put back")
        } else if disks.faults.contains(.clone), random.disks.chance(0.2) {
            let other = servers[random.disks.below(servers.count)]
            if other !== server {
                disk.become(other.disk)
                isChanged = true
                outcome.points.hit("disk: another server's copied")
            }
        } else if disks.faults.contains(.lost), random.disks.chance(0.2) {
            disk.lose()
            isChanged = true
            outcome.points.hit("disk: lost")
        }
        if disks.faults.contains(.flip), random.disks.chance(0.3), isOnlyOne, disk.flip(&random.disks) {
            (isChanged, server.hasBackup) = (true, true)
            outcome.points.hit("disk: bit flipped")
        }
        if isChanged {
            say { "somebody was at the disk of server \(server.slot)" }
            forgive(server)
        } else if disks.faults.contains(.stale), debts[server.slot].images.count < 2, random.disks.chance(0.4) {
            debts[server.slot].images.append(disk.image())
        }
    }

    func armDiskFaults() {
        guard let disks = options.disks else { return }
        later(at: now + random.disks.interval(mean: disks.faultMeanMillis * simMillisecond)) { [unowned self] in
            guard !calm else { return }
            strikeDisk(disks)
            armDiskFaults()
        }
    }

    private func strikeDisk(_ disks: SimDiskOptions) {
        let kinds: [SimDiskFaults] = [.everywhere, .slow, .full, .writeError, .syncError]
        let possible = kinds.filter { disks.faults.contains($0) }
        let up = servers.filter { $0.isUp }
        guard !possible.isEmpty, !up.isEmpty else { return }
        let server = up[random.disks.below(up.count)]
        let millis = Millis(random.disks.within(20...3_000))
        let kind = possible[random.disks.below(possible.count)]
        say { "disk of server \(server.slot): \(kind.description) for \(millis) ms" }
        outcome.points.hit("disk: \(kind.description)")
        switch kind {
        case .everywhere:
            for server in up where !failed { crash(server, mayCut: true) }
            return
        case .slow: server.disk.slowMillis = Millis(random.disks.within(10...2_000))
        case .full: server.disk.isFull = true
        case .writeError: server.disk.failsWrites = true
        default: server.disk.failsSyncs = true
        }
        server.hadDiskTrouble = true
        later(at: now + millis * simMillisecond) { server.disk.heal() }
    }
}

/// The files of a simulated disk, for a start.
private struct SimReader: DirectoryReader {
    let disk: SimDisk

    final class Bytes: DirectoryBytes {
        let bytes: UnsafeRawBufferPointer

        init(_ array: [UInt8]) {
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, array.count), alignment: 8)
            copy.copyBytes(from: array)
            bytes = UnsafeRawBufferPointer(rebasing: copy[..<array.count])
        }

        deinit { UnsafeMutableRawPointer(mutating: bytes.baseAddress)?.deallocate() }
    }

    func names() -> [String] { disk.names() }

    func read(_ name: String, syncs: Bool) throws(DirectoryFault) -> any DirectoryBytes {
        guard let file = disk.file(name) else { throw .missing(name) }
        if syncs, !disk.sync(file) { throw DirectoryFault(name, "it cannot be synced") }
        return Bytes(file.shown)
    }
}
