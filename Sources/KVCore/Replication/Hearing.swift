// When another server was heard, how far away it is, and what its clock says. A part of `RemoteServer`; on the
// replica's thread.

import KVBase

struct Hearing {
    private var lastAt: Millis?
    /// The same of a frame to a member: who takes this server for gone says only that.
    private var toldAt: Millis?
    /// When its first vector arrived: sending deltas makes sense from then on.
    private var firstContact: Millis?
    /// Since when another process is heard at its address while it is silent itself.
    private var replaced: Millis?
    private var announcedState: PeerState?
    private var rows: UInt64 = 0
    /// The steady time of its last frame, to be echoed, and when that arrived.
    private var echo: Millis = 0
    private var echoAt: Millis = 0
    private var clock = ClockSample()
    /// From this actor's frames or a sibling's, whoever took a sample last: the server may long have another gateway.
    private var clockOffset: Millis?
    private var clockOffsetAt: Millis = .min
    private var shortestRoundTrip: Millis?

    // MARK: Silence

    /// When it was heard last, by this actor or a sibling.
    var heardAt: Millis? { lastAt }

    func isSuspect(_ now: Millis, _ suspectMillis: Millis) -> Bool {
        guard let lastAt else { return true }
        return now - lastAt > suspectMillis
    }

    /// It was not said of it lately that it cannot be heard.
    var isAudible: Bool { announcedState != .down && announcedState != .suspect }

    mutating func note(_ now: Millis) { lastAt = now }

    /// When it last said what it has seen, to this actor or a sibling.
    var tellingAt: Millis? { toldAt }

    mutating func note(tellingAt now: Millis) { toldAt = now }

    func isTelling(_ now: Millis, _ suspectMillis: Millis) -> Bool { toldAt.map { now - $0 <= suspectMillis } ?? false }

    /// A sibling heard it.
    mutating func note(bySibling time: Millis) { lastAt = max(lastAt ?? time, time) }

    /// This process stood still for so long: the silence is its own fault.
    mutating func forgive(_ pause: Millis, _ now: Millis) {
        if let lastAt { self.lastAt = min(now, lastAt + pause) }
        if let toldAt { self.toldAt = min(now, toldAt + pause) }
    }

    var isContacted: Bool { firstContact != nil }
    var contactedAt: Millis? { firstContact }

    mutating func noteContact(_ now: Millis) { firstContact = now }

    /// Since when another process is heard at its address: now, if that is new; nil if none is.
    mutating func replacedSince(_ isReplaced: Bool, _ now: Millis) -> Millis? {
        replaced = isReplaced ? replaced ?? now : nil
        return replaced
    }

    /// True if the state is to be told: it changed, and is not that of a server which was never there.
    mutating func change(to state: PeerState) -> Bool {
        guard state != announcedState else { return false }
        defer { announcedState = state }
        return announcedState != nil || state != .down
    }

    /// Its table of members. True if it changed.
    mutating func noteRows(_ hash: UInt64) -> Bool {
        defer { rows = hash }
        return rows != hash
    }

    var rowsHash: UInt64 { rows }

    // MARK: Clocks

    /// Its wall clock minus ours.
    func offset(_ at: Moment) -> Millis? { clockOffset.map { $0 - (at.wall - at.steady) } }

    /// Its wall clock minus our steady one, when that was estimated, and the round trip it was estimated with.
    var steadyOffset: Millis? { clockOffset }
    var offsetAt: Millis { clockOffsetAt }
    var roundTrip: Millis? { shortestRoundTrip }

    /// A frame of it arrived, which echoes one of ours.
    mutating func note(_ head: FrameHead, _ at: Moment) {
        if head.echo != 0 {
            let roundTrip = max(0, at.steady - head.echo - head.echoHold)
            clock.add(roundTrip: roundTrip, offset: head.wall + roundTrip / 2 - at.steady, at: at.steady)
            clockOffset = clock.best?.offset
            clockOffsetAt = at.steady
            shortestRoundTrip = clock.best?.roundTrip
        }
        if head.steady > echo || echo == 0 {
            echo = head.steady
            echoAt = at.steady
        }
    }

    /// What a sibling knows of its clock, and when it told that something.
    mutating func note(_ news: ServerNews) {
        if let told = news.tellingAt { toldAt = max(toldAt ?? told, told) }
        guard news.offsetAt > clockOffsetAt else { return }
        (clockOffset, clockOffsetAt, shortestRoundTrip) = (news.offset, news.offsetAt, news.roundTrip)
    }

    /// What a frame to it echoes: its time, and for how long that lay here; nil before its first frame.
    func echo(_ now: Millis) -> (echo: Millis, hold: Millis)? { echo == 0 ? nil : (echo, now - echoAt) }
}
