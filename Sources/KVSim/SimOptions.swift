// Everything one seed decides before its world starts: cluster, load, faults, limits. A value; any thread.
package import KVBase

/// The kinds of disturbance a seed may switch on. Each seed takes a random subset ("swarm testing", Groce et al. 2012):
/// a run with all of them on never reaches the states that need a quiet network and a busy clock.
package struct SimFaults: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    package static let drop = SimFaults(rawValue: 1 << 0)
    package static let duplicate = SimFaults(rawValue: 1 << 1)
    package static let reorder = SimFaults(rawValue: 1 << 2)
    package static let corrupt = SimFaults(rawValue: 1 << 3)
    package static let stale = SimFaults(rawValue: 1 << 4)
    package static let spikes = SimFaults(rawValue: 1 << 5)
    package static let partition = SimFaults(rawValue: 1 << 6)
    package static let oneWay = SimFaults(rawValue: 1 << 7)
    package static let partial = SimFaults(rawValue: 1 << 8)
    package static let flapping = SimFaults(rawValue: 1 << 9)
    package static let clog = SimFaults(rawValue: 1 << 10)
    package static let reset = SimFaults(rawValue: 1 << 11)
    package static let crash = SimFaults(rawValue: 1 << 12)
    package static let freeze = SimFaults(rawValue: 1 << 13)
    package static let slowActor = SimFaults(rawValue: 1 << 14)
    package static let clockOffset = SimFaults(rawValue: 1 << 15)
    package static let clockStep = SimFaults(rawValue: 1 << 16)
    package static let clockDrift = SimFaults(rawValue: 1 << 17)
    package static let clockWild = SimFaults(rawValue: 1 << 18)
    package static let join = SimFaults(rawValue: 1 << 19)
    package static let localDrop = SimFaults(rawValue: 1 << 20)
    package static let rotten = SimFaults(rawValue: 1 << 21)
    package static let forget = SimFaults(rawValue: 1 << 22)
    package static let leave = SimFaults(rawValue: 1 << 23)

    package static let names: [(SimFaults, String)] = [
        (.drop, "drop"), (.duplicate, "duplicate"), (.reorder, "reorder"), (.corrupt, "corrupt"), (.stale, "stale"),
        (.spikes, "spikes"), (.partition, "partition"), (.oneWay, "one-way"), (.partial, "partial"),
        (.flapping, "flapping"), (.clog, "clog"), (.reset, "reset"), (.crash, "crash"), (.freeze, "freeze"),
        (.slowActor, "slow-actor"), (.clockOffset, "clock-offset"), (.clockStep, "clock-step"),
        (.clockDrift, "clock-drift"), (.clockWild, "clock-wild"), (.join, "join"), (.localDrop, "local-drop"),
        (.rotten, "rotten"), (.forget, "forget"), (.leave, "leave"),
    ]

    package static let clocks: SimFaults = [.clockOffset, .clockStep, .clockDrift, .clockWild]
    /// Faults after which some replica may hold data that nobody else has, or need a full scan to catch up.
    package static let lossOfMemory: SimFaults = [.crash, .join]

    package var description: String {
        let on = Self.names.filter { contains($0.0) }.map(\.1)
        return on.isEmpty ? "none" : on.joined(separator: ",")
    }
}

package struct SimOptions: Sendable {
    /// Calm and lossy worlds carry the visibility promise (I14); every other world is a random swarm, on lines without
    /// a limit or on long and thin ones.
    package enum Profile: String, Sendable, CaseIterable { case calm, lossy, swarm, thin }
    package enum Transport: String, Sendable { case stream, datagram, wire }
    package enum KeyChoice: String, Sendable { case uniform, zipf, hot }

    package var seed: UInt64
    package var profile = Profile.swarm
    package var faults: SimFaults = []

    // The cluster. Slots are addresses; the first `servers` of them run from the start, the rest join later.
    package var servers = 3
    package var joiners = 0
    package var actors: [Int] = []

    // The load.
    package var loadMillis: Millis = 20_000
    package var keys = 50
    package var keyChoice = KeyChoice.zipf
    package var operationsPerSecond = 100
    package var putPercent = 50
    package var deletePercent = 10
    package var listPercent = 2
    package var valueBytesMax = 32
    /// Share of operations that follow another at once on the same key and actor, to hit the same millisecond.
    package var burstPercent = 10
    /// Share of writes that hop: a client that moved carries the greatest timestamp it has seen as a floor.
    package var hopPercent = 5

    // Deadlines: shares of operations that touch one, and of writes that set one; 0 and 0 are a world without.
    package var touchPercent = 0
    package var volatilePercent = 0
    package var lifeMillisMax: Millis = 0

    /// Share of operations that add to a counter; 0 is a world without.
    package var countPercent = 0

    // The network between servers.
    package var transport = Transport.stream
    package var latencyMillisMin = 0
    package var latencyMillisMax = 50
    package var jitterMillis = 5
    package var dropPerMille = 0
    package var spikePerMille = 10
    /// An operator may also forget a server that lives.
    package var forgetsLiving = true
    package var forgetMeanMillis: Millis = 6_000
    /// Whether an orderly leave may lose nothing although this seed's faults are not all harmless to it.
    package var checksLeaving = false
    package var localDropPerMille = 0
    package var netFaultMeanMillis: Millis = 5_000
    package var cutMillisMax: Millis = 10_000

    // Lines with a limit (`wire`).
    /// Bytes a second of the worst line; 0 stands for no limit.
    package var bandwidth = 0
    /// Other lines may be better.
    package var bandwidthVaries = false
    package var bandwidthDivisor = 1
    /// After the load began; nil if they stay as they are.
    package var bandwidthAtMillis: Millis?
    /// Share of keys that the founder holds before anybody joins it.
    package var prefillPercent = 0
    /// Values are small but for a share of them.
    package var usualBytesMax = 0
    package var largePercent = 100

    // Processes and clocks.
    package var crashMeanMillis: Millis = 10_000
    package var downMillisMax: Millis = 8_000
    package var freezeMeanMillis: Millis = 8_000
    package var freezeMillisMax: Millis = 5_000
    package var clockOffsetMillisMax: Millis = 5_000
    package var clockMeanMillis: Millis = 5_000
    package var joinAtMillis: Millis = 5_000

    // The engine's own limits, made tiny in some seeds to force the rare paths.
    package var journalCapacity = 4096
    package var frameBytesMax = 0
    package var scanEntriesPerTurn = 0
    package var bootstrapChunkBytes = 0
    package var localEntriesMax = 0
    /// Age before a tombstone may be collected, and how often that is tried: short in most seeds, so that collection
    /// happens in the middle of the load.
    package var tombstoneAgeMillis: Millis = 60_000
    package var collectEveryMillis: Millis = 5_000

    /// The servers have disks.
    package var disks: SimDiskOptions?

    /// The slot of a server that lies.
    package var liar: Int?
    /// Who joins later has a clock that was never set.
    package var newcomerClockIsUnset = false
    /// Of the liar's words so many, in percent, are that the newcomer is gone.
    package var slanderPercent = 0

    // Checking.
    package var checkMillis: Millis = 50
    /// First phase of the end: only a random subset of servers heals and must converge on its own (I16).
    package var subsetFirst = false
    /// Invariants that are not looked at.
    package var ignored: [String] = []
    /// The trace tells of each record of this key.
    package var watched: Int?

    package init(seed: UInt64) { self.seed = seed }

    package var slots: Int { servers + joiners }

    /// Whether the visibility promise is checked for every write (I14).
    package var promisesVisibility: Bool { profile == .calm || profile == .lossy }

    /// Derives a world from its seed.
    package static func swarm(
        seed: UInt64, thinPercent: Int = SimOptions.thinPercent, liarPercent: Int = SimOptions.liarPercent,
        diskPercent: Int = SimOptions.diskPercent
    ) -> SimOptions {
        var random = SimRandom(seed: seed).options
        var o = SimOptions(seed: seed)
        let draw = random.below(100)
        o.profile = draw < 8 ? .calm : draw < 14 ? .lossy : .swarm
        o.drawCluster(&random)
        o.drawLoad(&random)
        o.drawNetwork(&random)
        o.drawProcesses(&random)
        o.drawLimits(&random)
        o.drawThin(&random, percent: thinPercent)
        o.drawExpiry()
        o.drawLiar(percent: liarPercent)
        o.drawCounts()
        o.drawDisks(percent: diskPercent)
        return o
    }

    private mutating func drawCluster(_ random: inout PRNG) {
        let choice = random.below(100)
        servers = choice < 20 ? 2 : choice < 80 ? 3 : choice < 93 ? 4 : 5
        if profile == .swarm, random.chance(0.25) {
            faults.insert(.join)
            joiners = random.within(1...3)
            servers = min(servers, 3)
        }
        let uniform = random.pick([1, 2, 2, 2, 3])
        let mixed = random.chance(0.3)
        actors = (0..<slots).map { _ in mixed ? random.within(1...4) : uniform }
        loadMillis = Millis(random.pick([2_000, 4_000, 4_000, 6_000, 6_000, 8_000, 10_000, 12_000, 20_000, 60_000]))
        joinAtMillis = Millis(random.within(500...Int(loadMillis / 2)))
    }

    private mutating func drawLoad(_ random: inout PRNG) {
        keys = random.pick([10, 20, 50, 50, 100, 200, 400])
        keyChoice = random.pick([.uniform, .zipf, .hot])
        operationsPerSecond = random.pick([20, 50, 100, 100, 200])
        putPercent = random.pick([20, 40, 60, 90])
        deletePercent = random.pick([0, 5, 10, 30])
        if putPercent + deletePercent > 95 { deletePercent = 5 }
        listPercent = random.within(0...3)
        valueBytesMax = random.pick([0, 8, 32, 32, 300, 2_000])
        burstPercent = random.pick([0, 10, 50])
        hopPercent = random.pick([0, 5, 20])
        if random.chance(0.02) {
            valueBytesMax = 256 * 1024
            operationsPerSecond = 20
        }
        if random.chance(0.02) { keys = random.pick([2_000, 5_000]) }
    }

    private mutating func drawNetwork(_ random: inout PRNG) {
        latencyMillisMax = random.pick([0, 1, 20, 100, 250])
        jitterMillis = random.pick([0, 1, 10])
        transport = random.chance(0.6) ? .stream : .datagram
        if profile == .lossy {
            transport = .datagram
            dropPerMille = 10
        }
        guard profile == .swarm else { return }
        netFaultMeanMillis = Millis(random.pick([1_000, 3_000, 8_000]))
        cutMillisMax = Millis(random.pick([300, 2_000, 12_000, 30_000]))
        let datagramOnly: SimFaults = [.drop, .duplicate, .reorder, .stale]
        for (fault, _) in SimFaults.names where fault.rawValue <= SimFaults.reset.rawValue {
            if random.chance(0.22) { faults.insert(fault) }
        }
        if transport == .stream { faults.subtract(datagramOnly) }
        if faults.contains(.drop) { dropPerMille = random.pick([1, 10, 100, 500]) }
        if random.chance(0.12) {
            faults.insert(.localDrop)
            localDropPerMille = random.pick([5, 50, 200])
        }
        if random.chance(0.03) {
            faults.formUnion([.rotten, .drop])
            transport = .datagram
            dropPerMille = 100
        }
    }

    private mutating func drawProcesses(_ random: inout PRNG) {
        guard profile == .swarm else { return }
        if random.chance(0.3) { faults.insert(.crash) }
        if random.chance(0.2) { faults.insert(.freeze) }
        if random.chance(0.15) { faults.insert(.slowActor) }
        if random.chance(0.25) { faults.insert(.clockOffset) }
        if random.chance(0.2) { faults.insert(.clockStep) }
        if random.chance(0.2) { faults.insert(.clockDrift) }
        if random.chance(0.05) { faults.insert(.clockWild) }
        if random.chance(0.06) { faults.insert(.forget) }
        if random.chance(0.12) { faults.insert(.leave) }
        crashMeanMillis = Millis(random.pick([3_000, 8_000, 20_000]))
        downMillisMax = Millis(random.pick([200, 3_000, 15_000]))
        freezeMeanMillis = Millis(random.pick([3_000, 10_000]))
        freezeMillisMax = Millis(random.pick([1_000, 5_000, 20_000]))
        clockOffsetMillisMax = Millis(random.pick([5, 200, 900, 5_000, 50_000, 3_600_000]))
        clockMeanMillis = Millis(random.pick([1_000, 5_000]))
        subsetFirst = random.chance(0.2)
    }

    private mutating func drawLimits(_ random: inout PRNG) {
        let checks: [Millis] = [5, 20, 50, 50, 200]
        checkMillis = random.pick(checks)
        if keys > 400 { checkMillis = 2_000 }
        guard profile == .swarm else { return }
        journalCapacity = random.pick([16, 64, 1024, 4096, 4096])
        frameBytesMax = random.pick([0, 0, 0, 1_024, 8_192])
        if frameBytesMax > 0 {
            // Tiny frames, but not so tiny that they cannot carry the load at ten a second.
            let bytesPerSecond = 2 * operationsPerSecond * (valueBytesMax / 2 + 40)
            frameBytesMax = max(frameBytesMax, bytesPerSecond / 5 + 2 * valueBytesMax)
        }
        scanEntriesPerTurn = random.pick([0, 0, 3, 50])
        bootstrapChunkBytes = random.pick([0, 0, 300, 4_096])
        localEntriesMax = random.pick([0, 0, 0, 10, 100])
        tombstoneAgeMillis = random.pick([0, 0, 500, 500, 3_000, 3_000, 3_000, 60_000])
        collectEveryMillis = random.pick([200, 1_000, 5_000])
    }

    private mutating func drawExpiry() {
        var random = PRNG(seed: seed ^ 0xE791_0E91)
        guard profile != .thin, !faults.contains(.rotten), keys <= 400, random.chance(0.5) else { return }
        touchPercent = random.pick([5, 20, 40])
        volatilePercent = random.pick([20, 60, 100])
        lifeMillisMax = Millis(random.pick([300, 3_000, 3_000, 20_000, 600_000]))
    }

    private mutating func drawCounts() {
        var random = PRNG(seed: seed ^ 0xC0_4E7E)
        guard profile != .thin, !faults.contains(.rotten), liar == nil, keys <= 400, random.chance(0.4) else { return }
        countPercent = random.pick([10, 30, 60])
    }

    /// Values have deadlines, or may have.
    package var expires: Bool { touchPercent + volatilePercent + countPercent > 0 }

    /// All derived options on a few lines, for the head of a replay.
    package var description: String {
        """
        seed \(seed) profile \(profile.rawValue) servers \(servers)+\(joiners) actors \(actors) \
        faults \(faults.description)
        load \(loadMillis) ms, \(operationsPerSecond) op/s, put \(putPercent) % delete \(deletePercent) % list \
        \(listPercent) %, \(keys) keys \(keyChoice.rawValue), values <= \(valueBytesMax) B, burst \(burstPercent) % \
        hop \(hopPercent) %
        network \(transport.rawValue), latency <= \(latencyMillisMax)+\(jitterMillis) ms, drop \(dropPerMille)/1000, \
        local drop \(localDropPerMille)/1000, fault each \(netFaultMeanMillis) ms, cuts <= \(cutMillisMax) ms
        crash each \(crashMeanMillis) ms, down <= \(downMillisMax) ms, freeze each \(freezeMeanMillis) ms <= \
        \(freezeMillisMax) ms, clock offset <= \(clockOffsetMillisMax) ms each \(clockMeanMillis) ms, join at \
        \(joinAtMillis) ms
        journal \(journalCapacity), frame bytes \(frameBytesMax), scan \(scanEntriesPerTurn), chunk \
        \(bootstrapChunkBytes), local log \(localEntriesMax), check each \(checkMillis) ms, \
        tombstones \(tombstoneAgeMillis) ms each \(collectEveryMillis) ms, subset first \
        \(subsetFirst)\(liarDescription)\(thinDescription)
        touch \(touchPercent) % volatile \(volatilePercent) % life <= \(lifeMillisMax) ms, count \(countPercent) \
        %\(diskDescription)
        """
    }
}
