// What a seed decides about disks: for a share of the worlds, behind everything else, so that the others keep their
// meaning. Values; any thread.
package import KVBase
package import KVCore

/// Faults that a world's disks may have.
package struct SimDiskFaults: OptionSet, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }

    /// The power goes, not only the process.
    package static let power = SimDiskFaults(rawValue: 1 << 0)
    /// All servers at once.
    package static let everywhere = SimDiskFaults(rawValue: 1 << 1)
    package static let slow = SimDiskFaults(rawValue: 1 << 2)
    package static let full = SimDiskFaults(rawValue: 1 << 3)
    package static let writeError = SimDiskFaults(rawValue: 1 << 4)
    package static let syncError = SimDiskFaults(rawValue: 1 << 5)
    package static let flip = SimDiskFaults(rawValue: 1 << 6)
    /// A backup is put back.
    package static let stale = SimDiskFaults(rawValue: 1 << 7)
    /// A copy of another server's is put in.
    package static let clone = SimDiskFaults(rawValue: 1 << 8)
    package static let lost = SimDiskFaults(rawValue: 1 << 9)

    package static let names: [(SimDiskFaults, String)] = [
        (.power, "power"), (.everywhere, "everywhere"), (.slow, "slow"), (.full, "full"),
        (.writeError, "write-error"), (.syncError, "sync-error"), (.flip, "flip"), (.stale, "stale-disk"),
        (.clone, "clone"), (.lost, "lost"),
    ]

    package var description: String {
        let on = SimDiskFaults.names.filter { contains($0.0) }.map(\.1)
        return on.isEmpty ? "none" : on.joined(separator: ",")
    }
}

/// Of a world whose servers have disks.
package struct SimDiskOptions: Sendable {
    package var policy = AppendPolicy.everysec
    package var faults: SimDiskFaults = []
    /// Copies of other servers' disks are put in, if the run wants that.
    package var mayClone = false
    package var faultMeanMillis: Millis = 4_000
    package var limits = LogLimits()
    package var blockBytes = 4_096
    package var saveAfterBytes = 32_768
    /// Steps of a snapshot's walk in a turn.
    package var stepsPerTurn = 2
    /// How long an operation takes that waits for the disk.
    package var microsMax = 2_000
    /// How much longer a sync of a log or a snapshot takes, but on the first server's disk.
    package var slowSyncMillis: Millis = 0
    /// How long after a turn the next one comes that was asked for.
    package var turnMicros = 50
    /// Of a hundred seconds so many in which others use an actor than who writes.
    package var othersPercent = 0
    /// The number of actors may change from one start to the next.
    package var changesActors = false

    package init() {}
}

extension SimOptions {
    /// Of a hundred seeds so many have disks unless a run says otherwise.
    package static let diskPercent = 0

    mutating func drawDisks(percent: Int) {
        var random = PRNG(seed: seed ^ 0xD15C_D15C)
        guard random.below(100) < percent, liar == nil, !faults.contains(.rotten), profile != .thin else { return }
        makeDisks(&random)
    }

    /// Servers with disks that crash, and a load that fits.
    mutating func makeDisks(_ random: inout PRNG) {
        var disks = SimDiskOptions()
        disks.policy = random.pick([.always, .everysec, .everysec, .no])
        for (fault, _) in SimDiskFaults.names where random.chance(0.25) { disks.faults.insert(fault) }
        // A copy of a living server's disk is known to go wrong (docs/replication.md 13).
        disks.mayClone = disks.faults.remove(.clone) != nil
        disks.faultMeanMillis = Millis(random.pick([1_000, 4_000, 10_000]))
        disks.limits.fileBytesMin = random.pick([8, 16, 64]) * 1_024
        disks.limits.fileBytesMax = disks.limits.fileBytesMin * random.pick([1, 4])
        disks.limits.roomBytesMin = 1_024
        disks.limits.learnedPieceBytes = random.pick([64, 512, 32 * 1_024])
        disks.limits.ownBytesPerTurn = disks.limits.learnedPieceBytes * 2
        disks.limits.learnedBytesPerTurn = disks.limits.learnedPieceBytes * random.pick([1, 4])
        disks.blockBytes = random.pick([256, 4_096])
        disks.saveAfterBytes = random.pick([4, 16, 64, 256]) * 1_024
        disks.stepsPerTurn = random.pick([1, 4, 100])
        disks.microsMax = random.pick([200, 5_000, 100_000])
        disks.changesActors = random.chance(0.3)
        disks.turnMicros = random.pick([50, 2_000, 20_000])
        // Nothing is drawn for these: what follows keeps its meaning.
        disks.othersPercent = [0, 50, 100][Int(mix64(seed, 0xD15C) % 3)]
        disks.limits.quickWritesMin = 4
        disks.limits.chunkBytesMax = 4_096
        disks.limits.gatheredBytesMax = 16_384
        self.disks = disks
        if random.chance(0.4) {
            // Deletes that are collected while others are away.
            (putPercent, deletePercent) = (40, random.pick([20, 40]))
            (tombstoneAgeMillis, collectEveryMillis) = (0, 200)
        }
        downMillisMax = Millis(random.pick([200, 3_000, 15_000]))
        countPercent = 0
        (touchPercent, volatilePercent) = (0, 0)
        faults.insert(.crash)
        profile = .swarm
        keys = min(keys, 400)
        valueBytesMax = min(valueBytesMax, 2_000)
        if checkMillis > 200 { checkMillis = 200 }
    }

    var diskDescription: String {
        guard let disks else { return "" }
        return """

            disks \(disks.policy.rawValue), faults \(disks.faults.description) each \(disks.faultMeanMillis) ms, files \
            \(disks.limits.fileBytesMin) to \(disks.limits.fileBytesMax) B, learned \(disks.limits.learnedPieceBytes) \
            of \(disks.limits.learnedBytesPerTurn) B a turn, blocks \(disks.blockBytes) B, saved after \
            \(disks.saveAfterBytes) B, \(disks.stepsPerTurn) steps a turn, <= \(disks.microsMax) us, others in \
            \(disks.othersPercent) %
            """
    }
}
