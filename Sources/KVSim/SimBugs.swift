// The planted bugs and the worlds in which each is hunted. Values; any thread.
import KVBase
package import KVCore

/// One switch of the engine's `PlantedMistakes` with the conditions under which it can show: a hunt runs swarm worlds
/// in which those conditions are common instead of rare.
package struct SimBug: Sendable {
    package let name: String
    package let bug: PlantedMistakes
    let adjust: @Sendable (inout SimOptions, inout PRNG) -> Void

    package func options(seed: UInt64) -> SimOptions {
        var options = SimOptions.swarm(seed: seed, thinPercent: 0, liarPercent: 0)
        options.profile = .swarm
        options.loadMillis = min(options.loadMillis, 15_000)
        options.faults.subtract([.rotten])
        var random = PRNG(seed: seed ^ 0xB06)
        adjust(&options, &random)
        options.joiners = options.faults.contains(.join) ? max(1, options.joiners) : 0
        while options.actors.count < options.slots { options.actors.append(random.within(1...3)) }
        return options
    }

    package static let all: [SimBug] = PlantedMistakes.all.map { entry in
        SimBug(
            name: entry.name, bug: entry.bug,
            adjust: adjustments[entry.name] ?? diskAdjustments[entry.name] ?? unchanged)
    }

    package static func named(_ name: String) -> SimBug? { all.first { $0.name == name } }

    typealias Adjustment = @Sendable (inout SimOptions, inout PRNG) -> Void

    private static let unchanged: Adjustment = { _, _ in }

    private static func lossy(_ o: inout SimOptions, _ random: inout PRNG) {
        o.transport = .datagram
        o.faults.formUnion([.drop, .duplicate, .reorder])
        o.dropPerMille = random.pick([50, 200])
    }

    private static func busyKeys(_ o: inout SimOptions) {
        o.keys = 20
        o.keyChoice = .hot
        o.operationsPerSecond = 100
        o.putPercent = 60
        o.deletePercent = 10
        o.burstPercent = 30
    }

    private static func deletes(_ o: inout SimOptions, _ random: inout PRNG) {
        o.keys = 20
        o.putPercent = 45
        o.deletePercent = 30
        o.tombstoneAgeMillis = random.pick([0, 500, 2_000])
        o.collectEveryMillis = 200
    }

    /// Few keys, written and deleted everywhere at once, and frames that arrive seconds late: an older write is still
    /// on its way when everybody has reported the delete that beats it.
    private static func lateWrites(_ o: inout SimOptions, _ random: inout PRNG) {
        deletes(&o, &random)
        o.servers = random.within(2...3)
        o.joiners = 0
        o.actors = Array(repeating: random.within(1...2), count: o.servers)
        o.transport = .datagram
        o.faults = [.reorder, .spikes]
        o.spikePerMille = random.pick([50, 150, 300])
        o.keys = random.pick([3, 5, 10])
        o.keyChoice = .uniform
        o.operationsPerSecond = 100
        o.burstPercent = 0
        o.tombstoneAgeMillis = 0
        o.collectEveryMillis = 100
        o.latencyMillisMax = random.pick([20, 100, 250])
        o.checkMillis = 20
        o.journalCapacity = 4096
        o.frameBytesMax = 0
        o.scanEntriesPerTurn = 0
    }

    /// Long and thin lines, newcomers that have much to fetch over them, and nothing else that goes wrong.
    private static func thinJoin(_ o: inout SimOptions, _ random: inout PRNG) {
        o.makeThin(&random)
        o.faults = [.join]
        o.servers = random.within(2...3)
        o.joiners = max(1, min(o.joiners, 2))
        o.actors = (0..<o.slots).map { _ in random.within(1...2) }
        o.loadMillis = max(o.loadMillis, 6_000)
        o.joinAtMillis = Millis(random.within(500...3_000))
        o.bandwidth = random.pick([100_000, 400_000])
        o.bandwidthAtMillis = nil
        o.bandwidthDivisor = 1
        o.bandwidthVaries = false
        o.latencyMillisMax = 250
        o.prefillPercent = 100
        o.bootstrapChunkBytes = random.pick([0, 65_536])
    }

    /// A newcomer joins, and a liar says that it is gone. Messages take long, so that there is time to speak of it
    /// before it is met.
    private static func slanderedNewcomer(_ o: inout SimOptions, _ random: inout PRNG) {
        o.makeLiar(&random)
        o.addNewcomer(clockIsUnset: false, &random)
        o.slanderPercent = 80
        o.latencyMillisMax = 250
    }

    /// Short lives, touched everywhere, forgotten as soon as may be, and clocks that differ.
    private static func shortLives(_ o: inout SimOptions, _ random: inout PRNG) {
        o.keys = random.pick([5, 20])
        o.operationsPerSecond = 100
        (o.putPercent, o.deletePercent) = (50, 10)
        o.touchPercent = 30
        o.volatilePercent = 70
        o.lifeMillisMax = random.pick([1_000, 5_000])
        o.tombstoneAgeMillis = 0
        o.collectEveryMillis = 100
        o.latencyMillisMax = random.pick([100, 250])
        o.faults.insert(.clockOffset)
        o.clockOffsetMillisMax = random.pick([5_000, 3_600_000])
    }

    /// Few keys, counted, set and deleted everywhere at once, and collected as soon as may be.
    private static func counters(_ o: inout SimOptions, _ random: inout PRNG) {
        o.keys = random.pick([4, 10])
        o.operationsPerSecond = 100
        (o.putPercent, o.deletePercent) = (40, 20)
        o.countPercent = 50
        (o.touchPercent, o.volatilePercent) = (0, 0)
        o.tombstoneAgeMillis = 0
        o.collectEveryMillis = 100
        o.latencyMillisMax = random.pick([100, 250])
    }

    private static let adjustments: [String: Adjustment] = [
        "skipClosure": { o, random in
            busyKeys(&o)
            o.faults.insert(.crash)
        },
        "advanceOverGap": { o, random in lossy(&o, &random) },
        "mergeSwapped": { o, random in busyKeys(&o) },
        "tieByArrival": { o, random in busyKeys(&o) },
        "sequenceIgnored": { o, random in
            busyKeys(&o)
            o.burstPercent = 70
        },
        "nowOnly": { o, random in
            busyKeys(&o)
            o.faults.formUnion([.clockOffset, .clockStep])
        },
        "lastPlusOne": { o, random in
            busyKeys(&o)
            o.burstPercent = 80
        },
        "noFloor": { o, random in
            deletes(&o, &random)
            o.faults.formUnion([.clockOffset, .clockStep])
            o.clockOffsetMillisMax = 5_000
        },
        "collectWithoutMembers": { o, random in
            deletes(&o, &random)
            o.faults.formUnion([.partition, .oneWay])
            o.cutMillisMax = 12_000
        },
        "collectWithoutHeads": { o, random in lateWrites(&o, &random) },
        // A page with a dead writer's last values is seconds late, and nobody but its sender has them; meanwhile they
        // are deleted, the dead one is forgotten and the delete collected. Keys enough that a delete stays the newest
        // for that long, chunks so small that the repetition of a late one waits for those behind it, and nobody that
        // joins and so holds back collecting.
        "collectWithoutFrontier": { o, random in
            lateWrites(&o, &random)
            o.servers = random.within(3...4)
            o.actors = Array(repeating: 1, count: o.servers)
            o.faults.formUnion([.crash, .forget, .partial, .oneWay])
            o.keys = random.pick([30, 60])
            o.operationsPerSecond = 60
            o.spikePerMille = random.pick([200, 350])
            o.latencyMillisMax = random.pick([20, 100])
            o.bootstrapChunkBytes = random.pick([40, 120])
            o.netFaultMeanMillis = 1_000
            o.cutMillisMax = 3_000
            o.crashMeanMillis = 6_000
            o.downMillisMax = 30_000
            o.forgetMeanMillis = 200
            o.forgetsLiving = false
            o.loadMillis = 20_000
        },
        "collectOnMaximum": { o, random in
            deletes(&o, &random)
            o.actors = o.actors.map { max(2, $0) }
            o.faults.insert(.slowActor)
        },
        "askWithMaximum": { o, random in
            lossy(&o, &random)
            o.actors = o.actors.map { max(2, $0) }
            o.journalCapacity = 16
            o.localDropPerMille = 50
            o.faults.formUnion([.localDrop, .slowActor])
        },
        "vectorAtScanEnd": { o, random in
            o.faults.insert(.join)
            o.journalCapacity = 16
            o.scanEntriesPerTurn = 3
            o.bootstrapChunkBytes = 300
            o.keys = 200
        },
        "joiningNotCounted": { o, random in
            deletes(&o, &random)
            o.faults.insert(.join)
            o.bootstrapChunkBytes = 300
            o.scanEntriesPerTurn = 3
            o.keys = 200
        },
        "tombstoneSkippedInScan": { o, random in
            deletes(&o, &random)
            o.faults.formUnion([.partition, .reset])
            o.journalCapacity = 16
        },
        "reinsertCovered": { o, random in
            lateWrites(&o, &random)
            lossy(&o, &random)
            o.faults.insert(.stale)
        },
        "uidReused": { o, random in o.faults.insert(.crash) },
        "leaveWithoutFlush": { o, random in o.faults.insert(.leave) },
        "acknowledgeBeforeApply": { o, random in
            lossy(&o, &random)
            o.faults.insert(.slowActor)
        },
        "coalesceDropsLast": { o, random in busyKeys(&o) },
        "keepAliveWithoutHead": { o, random in
            lossy(&o, &random)
            o.operationsPerSecond = 5
        },
        "relayWrongBounds": { o, random in
            o.actors = o.actors.map { max(2, $0) }
            lossy(&o, &random)
        },
        // So lossy that gateways change often, and servers that leave as soon as all they wrote is acknowledged.
        "gatewayChangeResets": { o, random in
            o.servers = 2
            o.actors = [random.within(2...3), random.within(2...3)]
            o.transport = .datagram
            o.faults = [.drop, .leave]
            o.dropPerMille = random.pick([300, 500])
            o.operationsPerSecond = 50
            o.checksLeaving = true
        },
        "digestForgetsOld": { o, random in busyKeys(&o) },
        "retireEarly": { o, random in
            o.faults.formUnion([.crash, .partition])
            o.crashMeanMillis = 3_000
        },
        "spacing100": { o, random in o.operationsPerSecond = 200 },
        "forgetOnSilence": { o, random in
            o.faults.formUnion([.partition, .freeze])
            o.cutMillisMax = 30_000
        },
        "stalePageAccepted": { o, random in
            deletes(&o, &random)
            lossy(&o, &random)
            o.faults.formUnion([.stale, .join, .partition])
            o.journalCapacity = 16
        },
        "journalCutPastAck": { o, random in
            o.journalCapacity = 16
            o.faults.insert(.partition)
        },
        // One server that collects alone, then one whose clock is slow: with three the clock would be corrected.
        "floorMissingFromBootstrap": { o, random in
            deletes(&o, &random)
            o.servers = 1
            o.joiners = 1
            o.faults.formUnion([.join, .clockOffset])
            o.clockOffsetMillisMax = 5_000
        },
        "headsFromOtherVectors": { o, random in lateWrites(&o, &random) },
        "resendOnLivingLink": { o, random in thinJoin(&o, &random) },
        "progressByMessages": { o, random in
            thinJoin(&o, &random)
            // A chunk that takes longer than the five seconds after which it counts as lost.
            o.bandwidth = 20_000
            o.bootstrapChunkBytes = 0
        },
        // Servers that come back at once, while the others have much to tell them.
        "paceById": { o, random in
            thinJoin(&o, &random)
            o.faults.insert(.crash)
            o.crashMeanMillis = 3_000
            o.downMillisMax = 200
            o.prefillPercent = 0
            o.largePercent = 0
            o.bandwidth = 1_000_000
            o.operationsPerSecond = 200
            o.putPercent = 90
        },
        "resetOfOldId": { o, random in o.makeLiar(&random) },
        "ownFromOthers": { o, random in
            busyKeys(&o)
            o.makeLiar(&random)
        },
        "floorAhead": { o, random in
            o.makeLiar(&random)
            o.joiners = 1
            o.actors = (0..<o.slots).map { _ in random.within(1...2) }
            o.faults.insert(.join)
            o.joinAtMillis = 3_500
        },
        "forgottenAtAWord": { o, random in o.makeLiar(&random) },
        "goneBeforeItCame": { o, random in slanderedNewcomer(&o, &random) },
        "goneWithoutRoom": { o, random in slanderedNewcomer(&o, &random) },
        // All write a few keys, and messages between servers take no longer than those between siblings wait.
        "unsaidRefused": { o, random in
            (o.profile, o.faults, o.transport, o.dropPerMille) = (.calm, [], .stream, 0)
            (o.latencyMillisMax, o.jitterMillis) = (random.within(1...20), 0)
            (o.servers, o.joiners, o.actors) = (2, 0, [3, 3])
            (o.keys, o.keyChoice) = (random.within(1...3), .uniform)
            (o.putPercent, o.deletePercent, o.operationsPerSecond) = (100, 0, 400)
            o.loadMillis = 10_000
        },
        "unsetClockBounds": { o, random in
            o.makeLiar(&random)
            o.addNewcomer(clockIsUnset: true, &random)
        },
        "touchWritesValue": { o, random in shortLives(&o, &random) },
        "expiryDeletes": { o, random in shortLives(&o, &random) },
        "forgetWithoutReports": { o, random in
            shortLives(&o, &random)
            o.faults.insert(.partition)
        },
        // Two servers: with three the clock is corrected.
        "reportWithoutClock": { o, random in
            shortLives(&o, &random)
            o.servers = 2
            o.joiners = 0
            o.faults = [.clockOffset]
            o.clockOffsetMillisMax = 5_000
            o.lifeMillisMax = 5_000
        },
        // A newcomer gets the value from one, the deadline from nobody.
        "escortForgotten": { o, random in
            shortLives(&o, &random)
            o.faults.formUnion([.join, .partition])
            o.clockOffsetMillisMax = 900
            o.operationsPerSecond = 20
            o.keys = 100
            o.touchPercent = 40
        },
        "keepStampsDeadline": { o, random in shortLives(&o, &random) },
        "stampIgnoresDeadline": { o, random in
            shortLives(&o, &random)
            o.clockOffsetMillisMax = 3_600_000
            o.lifeMillisMax = 600_000
        },
        "countWritesSum": { o, random in counters(&o, &random) },
        "setForgetsTaken": { o, random in counters(&o, &random) },
        "partBuriedEarly": { o, random in
            counters(&o, &random)
            o.faults.insert(.partition)
        },
        "zeroAtFloor": { o, random in
            counters(&o, &random)
            o.servers = 1
            o.joiners = 2
            o.faults.insert(.join)
        },
        // One of two newcomers is cut off from the founder, and joins by way of the other, who has little yet.
        "zeroOfNewcomers": { o, random in
            counters(&o, &random)
            o.servers = 1
            o.joiners = 2
            o.actors = [1, 1, 1]
            o.transport = .stream
            o.faults = [.join, .partial]
            (o.netFaultMeanMillis, o.cutMillisMax) = (1_000, 8_000)
            (o.keys, o.bootstrapChunkBytes) = (100, 300)
            o.latencyMillisMax = random.pick([20, 100])
        },
        "zeroOverDeadline": { o, random in
            counters(&o, &random)
            (o.touchPercent, o.lifeMillisMax) = (30, 600_000)
        },
        // Deletes that stay for a while, clocks by which deadlines are newer, and keys that keep what they get.
        "companionAlone": { o, random in
            counters(&o, &random)
            (o.touchPercent, o.lifeMillisMax) = (30, 600_000)
            o.keys = 50
            (o.putPercent, o.deletePercent) = (20, 10)
            o.collectEveryMillis = 5_000
            o.clockOffsetMillisMax = 900
        },
        "againWithoutDeadline": { o, random in
            counters(&o, &random)
            o.servers = 1
            o.joiners = 2
            o.faults.insert(.join)
            (o.touchPercent, o.lifeMillisMax) = (30, 600_000)
        },
        // Living servers that are removed while some have writes of them that others lack, and siblings that get these
        // from a gateway after they heard of it.
        "levelUnsaid": { o, random in
            busyKeys(&o)
            o.servers = random.within(3...4)
            o.joiners = 0
            o.actors = Array(repeating: random.within(2...3), count: o.servers)
            o.transport = .stream
            o.faults = [.oneWay, .forget]
            o.netFaultMeanMillis = 1_000
            o.cutMillisMax = 300
            o.forgetMeanMillis = 1_000
            o.latencyMillisMax = random.pick([20, 100, 250])
            o.localDropPerMille = 0
        },
        "expiryLeavesParts": { o, random in
            shortLives(&o, &random)
            o.countPercent = 40
            o.clockOffsetMillisMax = 900
        },
        "partNotCut": { o, random in
            shortLives(&o, &random)
            o.countPercent = 40
        },
        "stateBeforeVector": { o, random in
            thinJoin(&o, &random)
            o.faults.insert(.crash)
            o.journalCapacity = 16
            o.scanEntriesPerTurn = 3
            o.operationsPerSecond = 100
            o.largePercent = 0
        },
    ]
}
