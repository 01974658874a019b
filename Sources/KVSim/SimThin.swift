// Worlds whose lines are long and thin: connections with a bandwidth, slow start and a sender's queue, and values large
// enough to feel it. Drawn for a share of the seeds, behind everything else, so that the others keep their meaning. A
// value; any thread.
package import KVBase

extension SimOptions {
    /// Of a hundred seeds so many are thin unless a run says otherwise.
    package static let thinPercent = 20

    mutating func drawThin(_ random: inout PRNG, percent: Int) {
        guard random.below(100) < percent else { return }
        makeThin(&random)
    }

    /// Keeps cluster, clocks, crashes and cuts of the seed, and replaces its lines and its load.
    mutating func makeThin(_ random: inout PRNG) {
        profile = .thin
        transport = .wire
        faults.subtract([.drop, .duplicate, .reorder, .stale, .rotten])
        dropPerMille = 0
        latencyMillisMax = random.pick([20, 50, 100, 250, 250])
        bandwidth = random.pick([20_000, 100_000, 100_000, 400_000, 1_000_000, 0])
        bandwidthVaries = random.chance(0.3)
        if bandwidth > 0, bandwidth < 100_000 {
            // What frames and their heads alone take there leaves little for more.
            servers = min(servers, 3)
            actors = actors.prefix(slots).map { min($0, 2) }
        }
        if bandwidth != 20_000, random.chance(0.3) {
            bandwidthDivisor = bandwidth == 0 ? random.pick([100, 1_000]) : random.pick([2, 5])
            bandwidthAtMillis = Millis(random.within(0...Int(loadMillis)))
        }
        drawThinLoad(&random)
        frameBytesMax = random.pick([0, 0, 0, 64 * 1024])
        if frameBytesMax > 0 { frameBytesMax = max(frameBytesMax, 4 * valueBytesMax) }
        bootstrapChunkBytes = random.pick([0, 0, 16_384, 65_536])
        scanEntriesPerTurn = random.pick([0, 0, 50])
        crashMeanMillis = max(crashMeanMillis, 8_000)
        checkMillis = max(checkMillis, 50)
    }

    /// What the worst line takes in some seconds is there from the start; the load is a small share of the line.
    private mutating func drawThinLoad(_ random: inout PRNG) {
        keys = random.pick([20, 100, 100, 400, 1_000])
        if keys > 400 { checkMillis = 2_000 }
        let worst = worstBandwidth
        let bytes = min(worst * random.pick([2, 5, 15, 30]), 2_000_000)
        valueBytesMax = min(max(2 * bytes / keys, 64), 256 * 1024)
        usualBytesMax = random.pick([16, 64])
        largePercent = random.pick([0, 2, 20])
        prefillPercent = random.pick([0, 50, 100])
        let average = usualBytesMax / 2 + 60 + largePercent * valueBytesMax / 200
        let perSecond = worst / 5 * servers / average
        operationsPerSecond = min(operationsPerSecond, max(2, perSecond))
    }

    /// What the worst line of this world ever carries.
    package var worstBandwidth: Int {
        let first = bandwidth > 0 ? bandwidth : simUnlimitedBandwidth
        return max(10_000, first / max(1, bandwidthAtMillis == nil ? 1 : bandwidthDivisor))
    }

    /// What one plain connection takes for so many bytes: it opens, the request goes, the window doubles until the line
    /// is full.
    package static func idealMillis(bytes: Int, bandwidth: Int, roundTripMillis: Millis) -> Millis {
        let line = bandwidth > 0 ? bandwidth : simUnlimitedBandwidth
        var left = bytes
        var window = 14_000
        // The handshake, then the request and the first of the answer.
        var millis = 2 * roundTripMillis
        while left > 0, window < line / 1000 * Int(max(1, roundTripMillis)) {
            left -= window
            window *= 2
            if left > 0 { millis += roundTripMillis }
        }
        return millis + Millis(max(0, left)) * 1000 / Millis(line)
    }

    var thinDescription: String {
        guard transport == .wire else { return "" }
        return """

            lines \(bandwidth == 0 ? "unlimited" : "\(bandwidth) B/s")\(bandwidthVaries ? " or better" : ""), later one in \
            \(bandwidthDivisor) at \(bandwidthAtMillis.map { "\($0) ms" } ?? "never"); prefilled \(prefillPercent) %, \
            large values \(largePercent) %, others <= \(usualBytesMax) B
            """
    }
}

/// What a run decides instead of its seeds.
package struct SimForce: Sendable {
    /// Share of thin seeds.
    package var thinPercent = SimOptions.thinPercent
    /// Share of seeds with a liar.
    package var liarPercent = SimOptions.liarPercent
    /// Share of seeds whose servers have disks.
    package var diskPercent = SimOptions.diskPercent
    /// Disks may be copies of other servers'.
    package var clones = false
    package var bandwidth: Int?
    package var latencyMillis: Int?
    /// Invariants that are not looked at, to see what else breaks.
    package var ignored: [String] = []
    /// With a trace: the key whose records it tells of.
    package var watched: Int?

    package init() {}

    package func options(seed: UInt64) -> SimOptions {
        var options = SimOptions.swarm(
            seed: seed, thinPercent: thinPercent, liarPercent: liarPercent, diskPercent: diskPercent)
        options.ignored = ignored
        options.watched = watched
        if clones, options.disks?.mayClone ?? false { options.disks!.faults.insert(.clone) }
        guard options.transport == .wire else { return options }
        if let bandwidth { options.bandwidth = bandwidth }
        if let latencyMillis { options.latencyMillisMax = latencyMillis }
        return options
    }

    /// The same for a worker process.
    package var arguments: [String] {
        var words = ["--thin", "\(thinPercent)", "--liars", "\(liarPercent)", "--disk", "\(diskPercent)"]
        if clones { words.append("--clones") }
        if let bandwidth { words += ["--bandwidth", "\(bandwidth)"] }
        if let latencyMillis { words += ["--latency", "\(latencyMillis)"] }
        for name in ignored { words += ["--ignore", name] }
        return words
    }
}
