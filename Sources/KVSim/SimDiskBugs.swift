// The worlds in which planted mistakes of disks are hunted. Values; any thread.
import KVBase
import KVCore

extension SimBug {
    /// Two or three servers that crash often and come back at once, and nothing else that goes wrong.
    private static func disks(
        _ o: inout SimOptions, _ random: inout PRNG, _ policy: AppendPolicy, _ faults: SimDiskFaults
    ) {
        o.makeDisks(&random)
        o.disks!.policy = policy
        o.disks!.faults = faults
        o.disks!.faultMeanMillis = 1_500
        o.disks!.microsMax = random.pick([200, 5_000])
        o.disks!.changesActors = false
        o.faults = [.crash]
        o.crashMeanMillis = 1_500
        o.downMillisMax = 500
        o.loadMillis = 12_000
        o.servers = random.within(2...3)
        o.joiners = 0
        o.actors = (0..<o.servers).map { _ in random.within(1...2) }
        o.operationsPerSecond = 200
        (o.putPercent, o.deletePercent) = (70, 5)
        o.keys = random.pick([50, 200])
        o.checkMillis = 20
        o.subsetFirst = false
    }

    /// Deletes that are collected as soon as may be.
    private static func collects(_ o: inout SimOptions) {
        (o.putPercent, o.deletePercent) = (40, 40)
        o.tombstoneAgeMillis = 0
        o.collectEveryMillis = 100
        o.latencyMillisMax = min(o.latencyMillisMax, 20)
    }

    /// The power goes everywhere, and nothing was synced but snapshots: much is left beyond gaps of writers that went.
    private static func powerCuts(_ o: inout SimOptions, _ random: inout PRNG) {
        disks(&o, &random, .no, [.power, .everywhere])
        collects(&o)
        (o.disks!.stepsPerTurn, o.disks!.saveAfterBytes, o.disks!.blockBytes) = (100, 4_096, 256)
        (o.disks!.limits.fileBytesMin, o.disks!.limits.fileBytesMax) = (65_536, 65_536)
        (o.disks!.microsMax, o.disks!.turnMicros) = (100_000, 100_000)
        (o.disks!.faultMeanMillis, o.crashMeanMillis, o.downMillisMax) = (4_000, 8_000, 3_000)
        o.disks!.changesActors = true
        o.loadMillis = 60_000
        o.operationsPerSecond = 100
        (o.keys, o.servers) = (400, 3)
        o.actors = (0..<3).map { _ in random.within(1...3) }
    }

    static let diskAdjustments: [String: Adjustment] = [
        "replyBeforeWrite": { o, random in disks(&o, &random, random.pick([.everysec, .no]), []) },
        "vectorBeforeEntries": { o, random in
            disks(&o, &random, .everysec, [])
            (o.disks!.limits.learnedPieceBytes, o.disks!.limits.learnedBytesPerTurn) = (64, 64)
            o.disks!.turnMicros = 5_000
            o.latencyMillisMax = 250
            o.valueBytesMax = 300
        },
        "snapshotVectorAtEnd": { o, random in
            disks(&o, &random, .everysec, [])
            (o.disks!.stepsPerTurn, o.disks!.saveAfterBytes) = (1, 4_096)
            (o.disks!.limits.fileBytesMin, o.disks!.limits.fileBytesMax) = (65_536, 65_536)
            o.keys = 400
            o.keyChoice = .uniform
        },
        // A delete is collected during a walk, and the file with it goes, for it was full before; then the clock is set
        // back, and nobody else has the floor.
        "floorAtStart": { o, random in
            disks(&o, &random, .everysec, [.everywhere])
            collects(&o)
            o.collectEveryMillis = 400
            (o.disks!.stepsPerTurn, o.disks!.saveAfterBytes) = (1, 1_024)
            (o.disks!.limits.fileBytesMin, o.disks!.limits.fileBytesMax) = (8_192, 8_192)
            (o.disks!.blockBytes, o.disks!.microsMax, o.disks!.turnMicros) = (256, 40_000, 2_000)
            (o.keys, o.keyChoice) = (random.pick([100, 200]), .uniform)
            o.faults.formUnion([.clockOffset, .clockStep])
            (o.servers, o.actors) = (1, [1])
            (o.clockOffsetMillisMax, o.clockMeanMillis) = (random.pick([1_000, 3_000]), 700)
            (o.disks!.faultMeanMillis, o.downMillisMax) = (700, 100)
            o.loadMillis = 40_000
        },
        "segmentDroppedEarly": { o, random in
            disks(&o, &random, .everysec, [])
            (o.disks!.stepsPerTurn, o.disks!.saveAfterBytes) = (1, 8_192)
            (o.disks!.limits.fileBytesMin, o.disks!.limits.fileBytesMax) = (8_192, 8_192)
            o.keys = 400
            o.keyChoice = .uniform
            o.valueBytesMax = 300
        },
        "oldManifestBelieved": { o, random in
            disks(&o, &random, .everysec, [.power])
            o.disks!.saveAfterBytes = 4_096
        },
        "recycledChunkBelieved": { o, random in
            disks(&o, &random, .no, [.power])
            o.disks!.saveAfterBytes = 4_096
            (o.disks!.limits.fileBytesMin, o.disks!.limits.fileBytesMax) = (8_192, 8_192)
            o.actors = o.actors.map { _ in 2 }
            o.valueBytesMax = 300
        },
        "diskIdReused": { o, random in disks(&o, &random, .everysec, [.power]) },
        "tornTailTaken": { o, random in
            disks(&o, &random, random.pick([.everysec, .no]), [.power])
            o.valueBytesMax = 2_000
        },
        "staleDiskTrusted": { o, random in
            disks(&o, &random, .everysec, [.stale])
            collects(&o)
            o.loadMillis = 30_000
            o.crashMeanMillis = 5_000
            o.keyChoice = .uniform
        },
        "damageProves": { o, random in
            disks(&o, &random, .everysec, [.flip])
            o.disks!.saveAfterBytes = 256 * 1_024
            (o.disks!.limits.fileBytesMin, o.disks!.limits.fileBytesMax) = (65_536, 65_536)
        },
        // Those that come back first have lost a delete, for their disks are slow; the last one has collected it, and
        // a snapshot has that. Nothing is collected for a while after a restart, so they are rare.
        "collectOnUndurable": { o, random in
            disks(&o, &random, .everysec, [.power, .everywhere])
            collects(&o)
            (o.disks!.stepsPerTurn, o.disks!.saveAfterBytes) = (100, 2_048)
            (o.disks!.microsMax, o.disks!.slowSyncMillis) = (200, random.pick([2_000, 4_000]))
            o.faults = []
            o.disks!.faultMeanMillis = random.pick([8_000, 15_000])
            o.downMillisMax = 8_000
            o.loadMillis = 40_000
            o.operationsPerSecond = random.pick([20, 50])
            (o.keys, o.keyChoice) = (random.pick([100, 200, 400]), .uniform)
            o.servers = 3
            o.actors = [1, 1, 1]
        },
        "answersWhileBehind": { o, random in
            disks(&o, &random, .everysec, [])
            o.disks!.slowSyncMillis = random.pick([2_000, 4_000])
            o.crashMeanMillis = 6_000
        },
        "losersLogged": { o, random in powerCuts(&o, &random) },
        "snapshotBeforeLogs": { o, random in powerCuts(&o, &random) },
        "fsyncRetried": { o, random in
            disks(&o, &random, .always, [.power, .syncError])
            o.disks!.faultMeanMillis = 500
            o.disks!.saveAfterBytes = 256 * 1_024
        },
    ]
}
