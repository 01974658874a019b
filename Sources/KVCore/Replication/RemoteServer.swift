// Another server as one replica knows it. Owned by the replica; on its thread.

import KVBase

/// What it has, what it was sent, how far away it is: each a part that owns its state.
final class RemoteServer {
    let id: UInt64
    let knownSince: Millis
    private var actors: Int

    // Receiving.
    var hearing = Hearing()
    var view = PeerView()
    var digests = DigestWatch()
    var unasked = UnaskedCollection()

    // Sending.
    var link = ServerLink()
    var pacer = PairPacer()
    var wish = SendWish()
    var turns = FrameTurns()
    var gateway = GatewayChoice()
    var stream = OwnStream()
    var repairs = RepairQueue()
    /// The scan that it was asked for.
    var donor: ScanDonor?
    var scanRestarts = ScanRestarts()

    init(id: UInt64, actorCount: Int, knownSince: Millis) {
        (self.id, self.knownSince, actors) = (id, knownSince, actorCount)
    }

    var actorCount: Int { actors }

    func noteActors(_ count: Int) { actors = count }

    /// A vector arrived: sending deltas makes sense.
    var isContacted: Bool { hearing.isContacted }
    var heardAt: Millis? { hearing.heardAt }
    /// Up to where it has all writes, and the same with islands counted as if their gap were closed.
    var seenGapless: VersionVector { view.seenGapless }
    var seenAtMost: VersionVector { view.seenAtMost }
    var report: StabilityReport? { view.report }
    var usableReport: StabilityReport? { view.usableReport }

    func isSuspect(_ now: Millis, _ suspectMillis: Millis) -> Bool { hearing.isSuspect(now, suspectMillis) }

    /// How long an answer usually takes. A connection that stood through a cut says nothing of that by its
    /// acknowledgements.
    var usualRoundTrip: Millis { link.roundTripMillis ?? stream.expectedAckMillis }

    func checkInvariants(planted: PlantedMistakes) {
        view.checkInvariants()
        link.checkInvariants()
        stream.checkInvariants(planted: planted)
        repairs.checkInvariants()
        donor?.checkInvariants()
        scanRestarts.checkInvariants()
    }
}
