// Frames that lie, made from honest ones: what a member with the key may say, by mistake or on purpose. For tests, the
// simulator and the fuzzers; a server has no use for it. One thread.

package import KVBase

/// One kind of lie.
package enum FrameLie: String, Sendable, CaseIterable {
    /// Everybody else is forgotten, or has left.
    case othersForgotten, othersLeft
    /// Everybody else is somewhere else, with the greatest incarnation.
    case othersMoved
    /// There are twenty more members.
    case inventedMembers
    /// The sender has seen everything that anybody will ever write, or nothing.
    case sawEverything, sawNothing
    /// It wrote, and sent, far more than it did.
    case sentMuch
    /// It has far more of others' writes beyond gaps.
    case islands
    /// Others have collected up to tomorrow.
    case floorAhead
    /// All its actors have seen everything, and agree on everybody who is gone.
    case falseReport
    /// It lacks everything, and asks for it again and again.
    case asksForEverything
    /// Its clock is years away, and so are the times that it echoes.
    case wrongClock
    /// Others have written a great number of times, and nothing of it is left: their real writes count as seen.
    case silencedWriters
    /// An entry of a writer that nobody has.
    case unknownWriter
    /// Entries in the receiver's name, in its siblings', and in a third server's for a write of it that is known.
    case receiversEntry, siblingsEntry, thirdsEntry
    /// Its replica differs.
    case wrongDigest
    /// A write of its own in two years.
    case stampAhead
    /// A value of its own with a deadline that it says it kept, which is newer than the value.
    case deadlineAhead
    /// A value of its own where only deadlines are.
    case hiddenValue
    /// The frame is a third server's.
    case borrowedName
    /// A frame for the id that the receiver's address had before, which is forgotten.
    case oldIdForgotten
}

package struct FrameForger {
    private let origins: OriginTable
    private let cluster: UInt64
    /// Whom the lies are about.
    package var third: UInt64 = 0
    package var keys: [[UInt8]] = [[UInt8(ascii: "k")]]
    /// Up to which of a writer's writes everybody has had them for long, as far as that is known.
    package var knownTo: (ActorUID) -> UInt64 = { _ in .max }
    private static let much: UInt64 = 1 << 36

    /// `origins` is the table of whoever made the frames.
    package init(origins: OriginTable, clusterId: UInt64) { (self.origins, cluster) = (origins, clusterId) }

    /// The frame with a lie in it; nil if it is no frame.
    package func forge(_ bytes: [UInt8], _ lie: FrameLie, random: inout PRNG) -> [UInt8]? {
        let decoded = bytes.withUnsafeBytes { FrameReader.decode($0, cluster: cluster, origins) }
        guard case .frame(var head, let blocks, _) = decoded else { return nil }
        var forged: [(block: Block, entries: [Record])] = []
        change(&head, lie, &random)
        if let block = block(lie, &head, &random) { forged.append(block) }
        defer { for block in forged { for record in block.entries { record.release() } } }
        return encode(head, blocks, bytes, forged)
    }

    // MARK: Heads

    private func change(_ head: inout FrameHead, _ lie: FrameLie, _ random: inout PRNG) {
        let receiver = head.toServer
        switch lie {
        case .othersForgotten: head.rows = others(head, .forgotten)
        case .othersLeft: head.rows = others(head, .left)
        case .othersMoved:
            head.rows = others(head, .up).map {
                var row = $0
                (row.incarnation, row.address, row.actorCount) = (.max, "192.0.2.1:9", 128)
                return row
            }
        case .inventedMembers:
            for _ in 0..<20 {
                head.rows.append(
                    MemberRow(server: random.next() | 1, status: .up, actorCount: 128, address: "192.0.2.2:9"))
            }
        case .sawEverything: for uid in writers(head) { claim(uid, FrameForger.much, &head.vector) }
        case .sawNothing: head.vector = VersionVector()
        case .sentMuch: head.sentTo = FrameForger.much
        case .islands:
            for uid in writers(head) {
                guard let origin = origins.intern(uid) else { continue }
                head.islands.append(Island(origin: origin, from: 1 << 20, to: FrameForger.much))
            }
        case .floorAhead: head.floor = head.wall + [12, 48].randomElement(using: &random)! * 3_600_000
        case .falseReport:
            var report = StabilityReport(
                stamp: head.steady + 1, least: VersionVector(), heads: [0], level: [third, receiver].sorted(),
                retired: [])
            for uid in writers(head) { claim(uid, FrameForger.much, &report.least) }
            report.clock = head.wall + 630_720_000_000
            head.report = report
        case .asksForEverything:
            head.scanAsk = ScanAsk(
                session: UInt32(truncatingIfNeeded: random.next()), next: 0, credit: 1 << 20, vector: VersionVector(),
                everything: true)
            for uid in writers(head) {
                guard let origin = origins.intern(uid) else { continue }
                head.asks.append(RepairAsk(origin: origin, from: 0, to: FrameForger.much))
            }
        case .wrongClock:
            head.wall += random.chance(0.5) ? 630_720_000_000 : -630_720_000_000
            (head.echo, head.echoHold) = (head.steady - Int64(random.below(100_000)), 3)
        case .wrongDigest: (head.digest, head.isSettled) = (random.next(), true)
        case .borrowedName: head.sender.server = third
        case .oldIdForgotten:
            head.toServer = receiver ^ 0x10
            head.rows = [MemberRow(server: head.toServer, status: .forgotten, actorCount: 1, address: "192.0.2.3:9")]
        default: break
        }
    }

    private func others(_ head: FrameHead, _ status: MemberStatus) -> [MemberRow] {
        [head.toServer, third].filter { $0 != 0 }.map {
            MemberRow(server: $0, status: status, actorCount: 1, address: "192.0.2.1:9")
        }
    }

    /// Actors that the lies are about.
    private func writers(_ head: FrameHead) -> [ActorUID] {
        [head.toServer, third].filter { $0 != 0 }.flatMap { id in
            (0..<4).map { ActorUID(server: id, index: UInt16($0)) }
        }
    }

    private func claim(_ uid: ActorUID, _ seq: UInt64, _ vector: inout VersionVector) {
        if let origin = origins.intern(uid) { vector.set(origin, seq) }
    }

    // MARK: Blocks

    private func block(
        _ lie: FrameLie, _ head: inout FrameHead, _ random: inout PRNG
    ) -> (block: Block, entries: [Record])? {
        func section(_ uid: ActorUID, to: UInt64, _ entries: [Record]) -> (block: Block, entries: [Record])? {
            guard let origin = origins.intern(uid) else { return nil }
            if uid == head.sender { head.vector.set(origin, max(head.vector[origin], to)) }
            let kind = BlockKind.section(origin: origin, from: 0, to: to)
            let latest = entries.reduce(Millis(0)) { max($0, Version.clockMillis($1.ms)) }
            return (Block(kind: kind, count: entries.count, millisMax: latest), entries)
        }
        let third = ActorUID(server: third, index: 0)
        switch lie {
        case .silencedWriters: return section(third, to: FrameForger.much, [])
        case .unknownWriter:
            let nobody = ActorUID(server: random.next() | 1, index: 7)
            return section(head.sender, to: 1 << 20, [entry(nobody, 1, head, &random)].compactMap { $0 })
        case .receiversEntry:
            let entries = (0..<4).map { index in
                old(ActorUID(server: head.toServer, index: UInt16(index)), head, &random)
            }
            return section(head.sender, to: 1 << 20, entries.compactMap { $0 })
        case .siblingsEntry:
            let entries = (0..<4).map { index in
                entry(ActorUID(server: head.toServer, index: UInt16(index)), 1 << 30, head, &random)
            }
            return section(head.sender, to: 1 << 20, entries.compactMap { $0 })
        case .thirdsEntry:
            return section(head.sender, to: 1 << 20, [old(third, head, &random)].compactMap { $0 })
        case .stampAhead:
            var late = head
            late.wall += 63_072_000_000
            return section(head.sender, to: 1 << 20, [entry(head.sender, 1, late, &random)].compactMap { $0 })
        case .deadlineAhead:
            let later = Version(ms: head.wall + 600_000, uid: head.sender, seq: 2)
            let kept = RecordExtension(deadline: head.wall + 1, version: later)
            return section(head.sender, to: 1 << 20, [entry(head.sender, 1, head, &random, kept)].compactMap { $0 })
        case .hiddenValue:
            guard let key = keys.randomElement(using: &random) else { return nil }
            var hidden = self
            hidden.keys = [[0xFF, 0x00, Companion.deadlineKind] + key]
            return section(
                head.sender, to: 1 << 20, [hidden.entry(head.sender, 1, head, &random)].compactMap { $0 })
        default: return nil
        }
    }

    /// One with the number of a write that everybody has had for long.
    private func old(_ uid: ActorUID, _ head: FrameHead, _ random: inout PRNG) -> Record? {
        let known = min(origins.index(of: uid).map { head.vector[$0] } ?? 0, knownTo(uid))
        guard known > 1, known != VersionVector.retired else { return nil }
        return entry(uid, 1 + random.next() % max(1, known / 8), head, &random)
    }

    /// A value for one of the keys, a little later than everybody's clock.
    private func entry(
        _ uid: ActorUID, _ seq: UInt64, _ head: FrameHead, _ random: inout PRNG, _ addition: RecordExtension? = nil
    ) -> Record? {
        guard let origin = origins.intern(uid), let key = keys.randomElement(using: &random) else { return nil }
        let ms = head.wall + 1_000
        return key.withUnsafeBytes { key in
            Array("a lie".utf8).withUnsafeBytes { value in
                addition.map {
                    Record.create(
                        key: ByteView(key), $0, value: ByteView(value), ms: ms, origin: origin, seq: seq)
                }
                    ?? Record.create(
                        key: ByteView(key), value: ByteView(value), ms: ms, origin: origin, seq: seq,
                        isTombstone: false)
            }
        }
    }

    private func encode(
        _ head: FrameHead, _ blocks: [Block], _ bytes: [UInt8], _ forged: [(block: Block, entries: [Record])]
    ) -> [UInt8] {
        var writer = FrameWriter(buffer: OutputBuffer(capacity: 4096), table: origins)
        writer.head(head, cluster: cluster)
        var runs: [OutputBuffer] = []
        defer { for run in runs { run.deallocate() } }
        return bytes.withUnsafeBytes { bytes in
            for block in blocks {
                writer.block(block, entries: UnsafeRawBufferPointer(rebasing: bytes[block.from..<block.to]))
            }
            for (block, entries) in forged {
                var run = OutputBuffer(capacity: 256)
                var encoder = EntryEncoder()
                for record in entries { encoder.encode(record, origins, into: &run) }
                runs.append(run)
                writer.block(block, entries: run.bytes)
            }
            let (made, buffer) = writer.finish()
            buffer.deallocate()
            return made
        }
    }
}
