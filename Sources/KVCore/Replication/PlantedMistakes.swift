// The faults that the simulator plants to prove that it would notice them. Plain value, any thread.

/// One switch per classic mistake of a replicated store; `kvd-sim --bug NAME` turns one on and must then fail.
///
/// The code asks with one word, `planted(.skipClosure)`. In a build without `KV_CHECKS` the answer is the constant
/// false, so a server carries none of them.
package struct PlantedMistakes: OptionSet, Sendable, Hashable {
    package let rawValue: UInt128

    package init(rawValue: UInt128) { self.rawValue = rawValue }

    /// Whether this build can make mistakes at all.
    package static var isPossible: Bool {
        #if KV_CHECKS
            true
        #else
            false
        #endif
    }

    /// Whether this mistake is to be made. O(1); constant false without `KV_CHECKS`.
    @inline(__always)
    package func callAsFunction(_ mistake: PlantedMistakes) -> Bool {
        #if KV_CHECKS
            return contains(mistake)
        #else
            return false
        #endif
    }

    /// Whether any is planted.
    @inline(__always)
    var isAny: Bool { PlantedMistakes.isPossible && rawValue != 0 }

    /// Whether one is planted after which vectors prove nothing. Mistakes in what members are believed are none of
    /// these: beside them everything else that a liar says must still be refused, or that is noticed in their place.
    @inline(__always)
    var breaksVectors: Bool { isAny && !subtracting(.ofLies).isEmpty }

    /// Mistakes in what a member is believed.
    private static let ofLies: PlantedMistakes = [
        .resetOfOldId, .ownFromOthers, .floorAhead, .forgottenAtAWord, .goneBeforeItCame, .goneWithoutRoom,
        .unsaidRefused, .unsetClockBounds,
    ]

    package static let skipClosure = PlantedMistakes(rawValue: 1 << 0)
    package static let advanceOverGap = PlantedMistakes(rawValue: 1 << 1)
    package static let mergeSwapped = PlantedMistakes(rawValue: 1 << 2)
    package static let tieByArrival = PlantedMistakes(rawValue: 1 << 3)
    package static let sequenceIgnored = PlantedMistakes(rawValue: 1 << 4)
    package static let nowOnly = PlantedMistakes(rawValue: 1 << 5)
    package static let lastPlusOne = PlantedMistakes(rawValue: 1 << 6)
    package static let noFloor = PlantedMistakes(rawValue: 1 << 7)
    package static let collectWithoutMembers = PlantedMistakes(rawValue: 1 << 8)
    package static let collectWithoutHeads = PlantedMistakes(rawValue: 1 << 9)
    package static let collectWithoutFrontier = PlantedMistakes(rawValue: 1 << 10)
    package static let collectOnMaximum = PlantedMistakes(rawValue: 1 << 11)
    package static let askWithMaximum = PlantedMistakes(rawValue: 1 << 12)
    package static let vectorAtScanEnd = PlantedMistakes(rawValue: 1 << 13)
    package static let joiningNotCounted = PlantedMistakes(rawValue: 1 << 14)
    package static let tombstoneSkippedInScan = PlantedMistakes(rawValue: 1 << 15)
    package static let reinsertCovered = PlantedMistakes(rawValue: 1 << 16)
    /// Carried out by whoever starts the process: the restarted server takes its old id again and counts from 1.
    package static let uidReused = PlantedMistakes(rawValue: 1 << 17)
    package static let leaveWithoutFlush = PlantedMistakes(rawValue: 1 << 18)
    package static let acknowledgeBeforeApply = PlantedMistakes(rawValue: 1 << 19)
    package static let coalesceDropsLast = PlantedMistakes(rawValue: 1 << 20)
    package static let keepAliveWithoutHead = PlantedMistakes(rawValue: 1 << 21)
    package static let relayWrongBounds = PlantedMistakes(rawValue: 1 << 22)
    package static let gatewayChangeResets = PlantedMistakes(rawValue: 1 << 23)
    package static let digestForgetsOld = PlantedMistakes(rawValue: 1 << 24)
    package static let retireEarly = PlantedMistakes(rawValue: 1 << 25)
    package static let spacing100 = PlantedMistakes(rawValue: 1 << 26)
    package static let forgetOnSilence = PlantedMistakes(rawValue: 1 << 27)
    package static let stalePageAccepted = PlantedMistakes(rawValue: 1 << 28)
    package static let journalCutPastAck = PlantedMistakes(rawValue: 1 << 29)
    package static let floorMissingFromBootstrap = PlantedMistakes(rawValue: 1 << 30)
    package static let headsFromOtherVectors = PlantedMistakes(rawValue: 1 << 31)
    /// What is not acknowledged in time goes out again although the connection lives.
    package static let resendOnLivingLink = PlantedMistakes(rawValue: 1 << 32)
    /// A scan is given up when no whole chunk came for five seconds.
    package static let progressByMessages = PlantedMistakes(rawValue: 1 << 33)
    /// The pace of messages is kept by server id, not by address.
    package static let paceById = PlantedMistakes(rawValue: 1 << 34)
    /// A scan proves a vector that is newer than the state it began with.
    package static let stateBeforeVector = PlantedMistakes(rawValue: 1 << 35)

    /// EXPIRE writes the value again, with the deadline.
    package static let touchWritesValue = PlantedMistakes(rawValue: 1 << 36)
    /// An expired value becomes a tombstone stamped with its deadline.
    package static let expiryDeletes = PlantedMistakes(rawValue: 1 << 37)
    /// An expired value is forgotten as soon as its write is known everywhere.
    package static let forgetWithoutReports = PlantedMistakes(rawValue: 1 << 38)
    /// The same once this server's clock has passed the deadline by what clocks may differ, whatever the others' say.
    package static let reportWithoutClock = PlantedMistakes(rawValue: 1 << 39)
    /// A SET that keeps the deadline writes it anew.
    package static let keepStampsDeadline = PlantedMistakes(rawValue: 1 << 40)
    /// A write is stamped without regard to the key's deadline set apart.
    package static let stampIgnoresDeadline = PlantedMistakes(rawValue: 1 << 41)

    /// A value goes out without the deadline that was set apart from it.
    package static let escortForgotten = PlantedMistakes(rawValue: 1 << 42)

    /// A word for the id that an address had before is taken for one to the server that is there now.
    package static let resetOfOldId = PlantedMistakes(rawValue: 1 << 43)
    /// Entries in the receiver's own name are merged like others.
    package static let ownFromOthers = PlantedMistakes(rawValue: 1 << 44)
    /// A floor is taken over however far it is ahead.
    package static let floorAhead = PlantedMistakes(rawValue: 1 << 45)
    /// One message of one server is enough to be forgotten.
    package static let forgottenAtAWord = PlantedMistakes(rawValue: 1 << 46)
    /// A server that nobody here has met is gone as soon as somebody says so.
    package static let goneBeforeItCame = PlantedMistakes(rawValue: 1 << 80)
    /// The same where there is no room for one more that nobody has heard.
    package static let goneWithoutRoom = PlantedMistakes(rawValue: 1 << 83)
    /// What a sibling has not said yet that it wrote is refused, and not waited for.
    package static let unsaidRefused = PlantedMistakes(rawValue: 1 << 86)
    /// A server whose own clock was never set takes any stamp.
    package static let unsetClockBounds = PlantedMistakes(rawValue: 1 << 81)
    /// INCR writes the sum as a value.
    package static let countWritesSum = PlantedMistakes(rawValue: 1 << 47)
    /// SET and DEL do not say what they have seen of a counter's parts.
    package static let setForgetsTaken = PlantedMistakes(rawValue: 1 << 48)
    /// A part is deleted as soon as it adds nothing here, whoever may have a SET that has not seen it.
    package static let partBuriedEarly = PlantedMistakes(rawValue: 1 << 49)
    /// A count that begins after an expiry goes on from the old one.
    package static let expiryLeavesParts = PlantedMistakes(rawValue: 1 << 50)
    /// A newcomer's zero, which counting begins with, is stamped above a floor that it was handed.
    package static let zeroAtFloor = PlantedMistakes(rawValue: 1 << 51)
    /// Who joined by way of a newcomer counts above the floor at once.
    package static let zeroOfNewcomers = PlantedMistakes(rawValue: 1 << 89)
    /// The zero that counting begins with over a delete is stamped above a deadline set apart.
    package static let zeroOverDeadline = PlantedMistakes(rawValue: 1 << 76)
    /// A deadline set apart is forgotten before the delete of its key.
    package static let companionAlone = PlantedMistakes(rawValue: 1 << 85)
    /// What is written again above a floor has the deadline of its own record, whatever was set apart.
    package static let againWithoutDeadline = PlantedMistakes(rawValue: 1 << 88)
    /// A report names a departed server as level with a vector that says less of it than is here.
    package static let levelUnsaid = PlantedMistakes(rawValue: 1 << 56)
    /// Who adds to a part that has expired adds to all of it.
    package static let partNotCut = PlantedMistakes(rawValue: 1 << 77)

    // Those of disks (docs/durability.md).

    /// Replies go a turn before what they tell of is in the log.
    package static let replyBeforeWrite = PlantedMistakes(rawValue: 1 << 64)
    /// An interval of another server's writes is in the log before its entries.
    package static let vectorBeforeEntries = PlantedMistakes(rawValue: 1 << 65)
    /// A snapshot says what had been seen when its walk ended.
    package static let snapshotVectorAtEnd = PlantedMistakes(rawValue: 1 << 66)
    /// A snapshot says what had been collected when its walk began.
    package static let floorAtStart = PlantedMistakes(rawValue: 1 << 67)
    /// A log's full files go with the next snapshot, whatever that has.
    package static let segmentDroppedEarly = PlantedMistakes(rawValue: 1 << 68)
    /// Files go before the manifest that does not name them is on the disk. Carried out by who writes it.
    package static let oldManifestBelieved = PlantedMistakes(rawValue: 1 << 69)
    /// A chunk is believed wherever it lies, whosever it was.
    package static let recycledChunkBelieved = PlantedMistakes(rawValue: 1 << 70)
    /// A server takes the id of its last life. Carried out by who starts it.
    package static let diskIdReused = PlantedMistakes(rawValue: 1 << 71)
    /// A chunk that was not written whole is believed.
    package static let tornTailTaken = PlantedMistakes(rawValue: 1 << 72)
    /// A server that comes back believes its disk whatever others have collected.
    package static let staleDiskTrusted = PlantedMistakes(rawValue: 1 << 60)
    /// What lies behind damage proves as much as what lies before.
    package static let damageProves = PlantedMistakes(rawValue: 1 << 73)
    /// A sync that failed is tried again, and believed when it does not fail.
    package static let fsyncRetried = PlantedMistakes(rawValue: 1 << 74)
    /// A server reports what it has seen, be it on its disk or not.
    package static let collectOnUndurable = PlantedMistakes(rawValue: 1 << 75)
    /// Writes are answered however long a sync takes.
    package static let answersWhileBehind = PlantedMistakes(rawValue: 1 << 82)
    /// A log has what came, whatever beat it.
    package static let losersLogged = PlantedMistakes(rawValue: 1 << 84)
    /// A snapshot counts before what its logs have is on the disk.
    package static let snapshotBeforeLogs = PlantedMistakes(rawValue: 1 << 87)

    /// RESTAMP writes below what it is to beat. Not among `all`: simulated clocks do not go so far ahead.
    package static let restampBelow = PlantedMistakes(rawValue: 1 << 61)

    /// A server is asked for what a sibling has. Not among `all`: it only sends more than is needed.
    package static let askBesideSibling = PlantedMistakes(rawValue: 1 << 62)

    /// Every switch with the name the simulator's command line uses, in the order above: exactly 78.
    package static let all: [(name: String, bug: PlantedMistakes)] =
        [
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
            ("floorMissingFromBootstrap", .floorMissingFromBootstrap),
            ("headsFromOtherVectors", .headsFromOtherVectors),
            ("resendOnLivingLink", .resendOnLivingLink), ("progressByMessages", .progressByMessages),
            ("paceById", .paceById), ("stateBeforeVector", .stateBeforeVector), ("touchWritesValue", .touchWritesValue),
            ("expiryDeletes", .expiryDeletes), ("forgetWithoutReports", .forgetWithoutReports),
            ("reportWithoutClock", .reportWithoutClock), ("keepStampsDeadline", .keepStampsDeadline),
            ("stampIgnoresDeadline", .stampIgnoresDeadline), ("escortForgotten", .escortForgotten),
            ("resetOfOldId", .resetOfOldId), ("ownFromOthers", .ownFromOthers), ("floorAhead", .floorAhead),
            ("forgottenAtAWord", .forgottenAtAWord), ("goneBeforeItCame", .goneBeforeItCame),
            ("goneWithoutRoom", .goneWithoutRoom),
            ("unsaidRefused", .unsaidRefused),
            ("unsetClockBounds", .unsetClockBounds),
            ("countWritesSum", .countWritesSum), ("setForgetsTaken", .setForgetsTaken),
            ("partBuriedEarly", .partBuriedEarly), ("expiryLeavesParts", .expiryLeavesParts),
            ("zeroAtFloor", .zeroAtFloor), ("zeroOverDeadline", .zeroOverDeadline),
            ("companionAlone", .companionAlone), ("againWithoutDeadline", .againWithoutDeadline),
            ("zeroOfNewcomers", .zeroOfNewcomers),
            ("levelUnsaid", .levelUnsaid), ("partNotCut", .partNotCut),
        ] + ofDisks

    /// Those that only a server with a disk can make.
    package static let ofDisks: [(name: String, bug: PlantedMistakes)] = [
        ("replyBeforeWrite", .replyBeforeWrite), ("vectorBeforeEntries", .vectorBeforeEntries),
        ("snapshotVectorAtEnd", .snapshotVectorAtEnd), ("floorAtStart", .floorAtStart),
        ("segmentDroppedEarly", .segmentDroppedEarly), ("oldManifestBelieved", .oldManifestBelieved),
        ("recycledChunkBelieved", .recycledChunkBelieved), ("diskIdReused", .diskIdReused),
        ("tornTailTaken", .tornTailTaken), ("staleDiskTrusted", .staleDiskTrusted), ("damageProves", .damageProves),
        ("fsyncRetried", .fsyncRetried), ("collectOnUndurable", .collectOnUndurable),
        ("answersWhileBehind", .answersWhileBehind), ("losersLogged", .losersLogged),
        ("snapshotBeforeLogs", .snapshotBeforeLogs),
    ]
}
