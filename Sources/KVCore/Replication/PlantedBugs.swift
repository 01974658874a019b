// The faults that the simulator plants to prove that it would notice them. Consulted off the request path only, any
// thread.

/// One switch per classic mistake of a replicated store. All are off in a server; `kvd-sim --bug NAME` turns one on and
/// must then fail (docs/replication.md 11). Where a mistake concerns disk files, which this product does not have yet,
/// an equivalent one of data in memory stands in its place:
///
/// | designed mistake (disk)               | stand-in                                                              |
/// |---------------------------------------|-----------------------------------------------------------------------|
/// | GC on applied, not durable VV         | `collectOnMaximum`: one sibling having seen a tombstone is enough     |
/// | max instead of min over donors        | `askWithMaximum`: catch-up from where the best sibling is, for all    |
/// | log after reply                       | `leaveWithoutFlush`: a graceful leave drops what nobody acknowledged  |
/// | gcFloor missing from snapshot         | `floorMissingFromBootstrap`                                           |
/// | auto-forget without majority          | `forgetOnSilence`: forgets whoever is silent, not only the replaced   |
package struct PlantedBugs: OptionSet, Sendable, Hashable {
    package let rawValue: UInt64

    package init(rawValue: UInt64) { self.rawValue = rawValue }

    package static let skipClosure = PlantedBugs(rawValue: 1 << 0)
    package static let advanceOverGap = PlantedBugs(rawValue: 1 << 1)
    package static let mergeSwapped = PlantedBugs(rawValue: 1 << 2)
    package static let tieByArrival = PlantedBugs(rawValue: 1 << 3)
    package static let sequenceIgnored = PlantedBugs(rawValue: 1 << 4)
    package static let nowOnly = PlantedBugs(rawValue: 1 << 5)
    package static let lastPlusOne = PlantedBugs(rawValue: 1 << 6)
    package static let noFloor = PlantedBugs(rawValue: 1 << 7)
    package static let collectWithoutMembers = PlantedBugs(rawValue: 1 << 8)
    package static let collectWithoutHeads = PlantedBugs(rawValue: 1 << 9)
    package static let collectWithoutFrontier = PlantedBugs(rawValue: 1 << 10)
    package static let collectOnMaximum = PlantedBugs(rawValue: 1 << 11)
    package static let askWithMaximum = PlantedBugs(rawValue: 1 << 12)
    package static let vectorAtScanEnd = PlantedBugs(rawValue: 1 << 13)
    package static let joiningNotCounted = PlantedBugs(rawValue: 1 << 14)
    package static let tombstoneSkippedInScan = PlantedBugs(rawValue: 1 << 15)
    package static let reinsertCovered = PlantedBugs(rawValue: 1 << 16)
    /// Carried out by whoever starts the process: the restarted server takes its old id again and counts from 1.
    package static let uidReused = PlantedBugs(rawValue: 1 << 17)
    package static let leaveWithoutFlush = PlantedBugs(rawValue: 1 << 18)
    package static let acknowledgeBeforeApply = PlantedBugs(rawValue: 1 << 19)
    package static let coalesceDropsLast = PlantedBugs(rawValue: 1 << 20)
    package static let keepAliveWithoutHead = PlantedBugs(rawValue: 1 << 21)
    package static let relayWrongBounds = PlantedBugs(rawValue: 1 << 22)
    package static let gatewayChangeResets = PlantedBugs(rawValue: 1 << 23)
    package static let digestForgetsOld = PlantedBugs(rawValue: 1 << 24)
    package static let retireEarly = PlantedBugs(rawValue: 1 << 25)
    package static let spacing100 = PlantedBugs(rawValue: 1 << 26)
    package static let forgetOnSilence = PlantedBugs(rawValue: 1 << 27)
    package static let stalePageAccepted = PlantedBugs(rawValue: 1 << 28)
    package static let journalCutPastAck = PlantedBugs(rawValue: 1 << 29)
    package static let floorMissingFromBootstrap = PlantedBugs(rawValue: 1 << 30)
    package static let headsFromOtherVectors = PlantedBugs(rawValue: 1 << 31)
    /// What is not acknowledged in time goes out again although the connection lives.
    package static let resendOnLivingLink = PlantedBugs(rawValue: 1 << 32)
    /// A scan is given up when no whole chunk came for five seconds.
    package static let progressByMessages = PlantedBugs(rawValue: 1 << 33)
    /// The pace of messages is kept by server id, not by address.
    package static let paceById = PlantedBugs(rawValue: 1 << 34)
    /// A scan proves a vector that is newer than the state it began with.
    package static let stateBeforeVector = PlantedBugs(rawValue: 1 << 35)

    /// Every switch with the name the simulator's command line uses, in the order above: exactly 36.
    package static let all: [(name: String, bug: PlantedBugs)] = [
        ("skipClosure", .skipClosure), ("advanceOverGap", .advanceOverGap), ("mergeSwapped", .mergeSwapped),
        ("tieByArrival", .tieByArrival), ("sequenceIgnored", .sequenceIgnored), ("nowOnly", .nowOnly),
        ("lastPlusOne", .lastPlusOne), ("noFloor", .noFloor), ("collectWithoutMembers", .collectWithoutMembers),
        ("collectWithoutHeads", .collectWithoutHeads), ("collectWithoutFrontier", .collectWithoutFrontier),
        ("collectOnMaximum", .collectOnMaximum), ("askWithMaximum", .askWithMaximum),
        ("vectorAtScanEnd", .vectorAtScanEnd), ("joiningNotCounted", .joiningNotCounted),
        ("tombstoneSkippedInScan", .tombstoneSkippedInScan), ("reinsertCovered", .reinsertCovered),
        ("uidReused", .uidReused), ("leaveWithoutFlush", .leaveWithoutFlush),
        ("acknowledgeBeforeApply", .acknowledgeBeforeApply), ("coalesceDropsLast", .coalesceDropsLast),
        ("keepAliveWithoutHead", .keepAliveWithoutHead), ("relayWrongBounds", .relayWrongBounds),
        ("gatewayChangeResets", .gatewayChangeResets), ("digestForgetsOld", .digestForgetsOld),
        ("retireEarly", .retireEarly), ("spacing100", .spacing100), ("forgetOnSilence", .forgetOnSilence),
        ("stalePageAccepted", .stalePageAccepted), ("journalCutPastAck", .journalCutPastAck),
        ("floorMissingFromBootstrap", .floorMissingFromBootstrap), ("headsFromOtherVectors", .headsFromOtherVectors),
        ("resendOnLivingLink", .resendOnLivingLink), ("progressByMessages", .progressByMessages),
        ("paceById", .paceById), ("stateBeforeVector", .stateBeforeVector),
    ]
}
