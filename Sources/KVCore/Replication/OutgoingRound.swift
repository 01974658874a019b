// Own writes being put into segments, for everything that is due. A part of `Replica`; on its actor's thread.

import KVBase

/// A segment of own writes made in this round, and its bytes if a server waits for it.
struct OwnSegment {
    let segment: DeltaSegment
    let section: EncodedSection?
}

/// When something is due, own writes so far are put into segments first, in slices; then everything due goes out.
struct OutgoingRound {
    private var isUnderWay = false
    /// Own writes up to here are put into segments by this round.
    private var target: UInt64 = 0
    private var builder: SegmentBuilder?
    /// Made in this round, for servers that stand at the same position.
    private var made: [OwnSegment] = []
    /// Servers for which a segment of their own was begun in this round.
    private var begun: [UInt64] = []
    /// Own writes up to here are in the stream to the siblings.
    private var loggedTo: UInt64 = 0

    var isOpen: Bool { isUnderWay }
    /// The last write this round, or the one before, brings.
    var end: UInt64 { target }
    var logged: UInt64 { loggedTo }
    var isBuilding: Bool { builder != nil }
    /// More is to be put into segments for the siblings.
    var isLogBehind: Bool { loggedTo < target }

    mutating func open(through seq: UInt64) {
        isUnderWay = true
        target = seq
        begun.removeAll(keepingCapacity: true)
    }

    /// A segment for this server was begun in this round. O(servers).
    func hasBegun(for server: UInt64) -> Bool { begun.contains(server) }

    /// Begins a segment with the write after `from`, which lies before the end of the round; for one server or for all
    /// that stand there.
    mutating func begin(
        from: UInt64, _ limits: FrameLimits, dotsMax: Int, encodes: Bool, for server: UInt64? = nil
    ) {
        if let server { begun.append(server) }
        builder = SegmentBuilder(
            from: from, target: target, bytesMax: limits.sectionBytes, dotsMax: dotsMax,
            largeBytes: limits.largeBytes, encodes: encodes)
    }

    /// Looks at up to `budget` writes; returns how many, and whether the segment is finished: then `take` must follow.
    mutating func advance(
        _ store: Store, budget: Int, planted: PlantedMistakes
    ) -> (looked: Int, isFinished: Bool) {
        guard builder != nil else { return (0, false) }
        let looked = builder!.advance(store, budget: budget, planted: planted)
        return (looked, builder!.isFinished)
    }

    /// The segment that was finished, if any write went in. `isOverrun` says that the journal lost writes that were to
    /// be in it: they are skipped, and vectors will tell who lacks them. `cut` is the vector now.
    mutating func take(_ store: Store, cut: VersionVector) -> (segment: DeltaSegment?, isOverrun: Bool) {
        guard var builder else { return (nil, false) }
        self.builder = nil
        var segment: DeltaSegment?
        if builder.reached > builder.from {
            let finished = builder.finish(origin: store.ownOrigin, cut: cut)
            made.append(OwnSegment(segment: finished, section: builder.takeSection()))
            if finished.from == loggedTo { loggedTo = finished.to }
            segment = finished
        } else {
            builder.abandon()
        }
        if builder.isOverrun { loggedTo = max(loggedTo, store.journalFirstSeq - 1) }
        return (segment, builder.isOverrun)
    }

    /// A segment of this round that begins after `from` and fits. O(segments of the round).
    func segment(from: UInt64, _ limits: FrameLimits) -> OwnSegment? {
        made.first { $0.segment.from == from && limits.allow($0.segment) }
    }

    /// Everything is made; what is due may be sent.
    mutating func close() { isUnderWay = false }

    /// Everything due was sent. Hands over the round's segments: they hold on to superseded values.
    mutating func takeMade() -> [OwnSegment] {
        defer { made.removeAll() }
        return made
    }

    /// Gives up what is half made.
    mutating func abandon() {
        builder?.abandon()
        builder = nil
    }

    func checkInvariants(ownSeq: UInt64) {
        check(target <= ownSeq && loggedTo <= ownSeq)
        check(isUnderWay || builder == nil && made.isEmpty)
    }
}
