// The state machine of the link from this system to one other: connecting, handshake, back-off, liveness, bounded
// queue. Pure: time comes in, effects go out, the transport carries them out.

import KVBase

/// What the transport has to do after an event, in this order.
struct LinkEffects: OptionSet {
    let rawValue: UInt8
    static let close = LinkEffects(rawValue: 1)
    static let reportDown = LinkEffects(rawValue: 2)
    /// Forget the queued frames (they are counted already).
    static let dropQueue = LinkEffects(rawValue: 4)
    static let connect = LinkEffects(rawValue: 8)
    static let sendHello = LinkEffects(rawValue: 16)
    static let reportUp = LinkEffects(rawValue: 32)
    /// Move the queued frames to the connection.
    static let sendQueue = LinkEffects(rawValue: 64)
    static let sendPing = LinkEffects(rawValue: 128)
}

struct RemoteLink {
    enum State: Equatable {
        /// Nothing to send and nobody who wants the link.
        case idle
        case connecting(since: Nanos)
        case handshaking(since: Nanos)
        case up
        case waiting(until: Nanos)
    }

    /// What to do with one frame.
    enum Admission: Equatable { case send, queue, drop }

    static let connectNanosMax: Nanos = 3_000_000_000
    static let pingNanos: Nanos = 1_000_000_000
    /// Silence after which a link that is up counts as down: ten pings unanswered. A long or lossy path may be silent
    /// for seconds; whoever wants to know earlier that a peer is in trouble looks at its messages.
    static let silenceNanosMax: Nanos = 10_000_000_000
    /// The side that did not dial the lost link waits this much longer, so that the two do not dial at once.
    static let courtesyNanos: Nanos = 500_000_000
    /// A peer that was heard within this time lives. Pings go each second.
    static let livingNanosMax: Nanos = 3_000_000_000
    /// A peer that lives answers a ping within this time.
    static let doubtNanosMax: Nanos = 2_000_000_000
    static let backoffNanosMin: Nanos = 50_000_000
    static let backoffNanosMax: Nanos = 1_000_000_000
    /// Who was refused, or reached somebody who is no peer, comes again only after this, longer each time: nothing but
    /// a change by hand helps, or that the other one of its name is gone.
    static let refusedNanosMin: Nanos = 2_000_000_000
    static let refusedNanosMax: Nanos = 30_000_000_000
    /// A link that ends sooner than this after it came up was an attempt in vain: two servers that meet and part at
    /// once would do nothing else.
    static let triedNanosMin: Nanos = 250_000_000
    /// And who is refused sooner than this after it came up was refused once more.
    static let toleratedNanosMin: Nanos = 10_000_000_000
    /// Frames that waited longer than this for a connection are dropped.
    static let queueNanosMax: Nanos = 10_000_000_000

    private(set) var state = State.idle
    /// True while somebody wants the link even without traffic.
    var isKept = false
    private var failures = 0
    /// Refusals in a row.
    private var refusals = 0
    private var queuedSince: Nanos?
    private(set) var queuedBytes = 0
    private(set) var queuedFrames = 0
    private(set) var dropped: UInt64 = 0
    private var upSince: Nanos = 0
    private var lastHeard: Nanos = 0
    private var lastPing: Nanos = 0
    private var jitter: PRNG

    init(seed: UInt64) { jitter = PRNG(seed: seed) }

    /// A frame wants to be sent; `unsent` is what the connection still holds. Drops when the bound would be passed.
    mutating func admit(bytes: Int, unsent: Int, now: Nanos) -> Admission {
        let held = state == .up ? unsent : queuedBytes
        // A message larger than the bound goes when nothing else is held, or it could never go.
        guard held == 0 || held + bytes <= Limits.linkBytesMax else {
            dropped += 1
            return .drop
        }
        if state == .up { return .send }
        queuedBytes += bytes
        queuedFrames += 1
        if queuedSince == nil { queuedSince = now }
        return .queue
    }

    /// Somebody queued a frame or wants the link kept.
    mutating func wanted(now: Nanos) -> LinkEffects {
        guard state == .idle else { return [] }
        state = .connecting(since: now)
        return .connect
    }

    /// An address is dialled. What its name stands for may have taken long to find out: that time is not the attempt's.
    mutating func dialed(now: Nanos) { if case .connecting = state { state = .connecting(since: now) } }

    mutating func connected(now: Nanos) -> LinkEffects {
        guard case .connecting = state else { return .close }
        state = .handshaking(since: now)
        return .sendHello
    }

    mutating func welcomed(now: Nanos) -> LinkEffects {
        guard case .handshaking = state else { return .close }
        state = .up
        upSince = now
        lastHeard = now
        lastPing = now
        queuedBytes = 0
        queuedFrames = 0
        queuedSince = nil
        return [.reportUp, .sendQueue]
    }

    /// The peer's own connection serves.
    mutating func accepted(now: Nanos) -> LinkEffects {
        state = .handshaking(since: now)
        return welcomed(now: now)
    }

    /// A byte came, or one of ours was acknowledged.
    mutating func heard(now: Nanos) { lastHeard = now }

    /// The connection is gone or could not be made. `isTheirs`: the peer had dialled it. `isRefused`: somebody is there
    /// and does not want it, or is not wanted.
    mutating func closed(now: Nanos, isTheirs: Bool = false, isRefused: Bool = false) -> LinkEffects {
        let wasUp = state == .up
        if wasUp, now - upSince >= Self.triedNanosMin { failures = 0 }
        if wasUp, now - upSince >= Self.toleratedNanosMin { refusals = 0 }
        failures = min(failures + 1, 16)
        refusals = isRefused ? min(refusals + 1, 16) : 0
        // Whoever wants the link hears of the first attempt in vain too: else nothing ever said that nobody is there.
        var effects: LinkEffects = wasUp || (isKept && failures == 1) ? .reportDown : []
        effects.formUnion(expireQueue(now: now))
        if isKept || queuedFrames > 0 || wasUp {
            let delay =
                isRefused
                ? min(Self.refusedNanosMin << Int64(refusals - 1), Self.refusedNanosMax)
                : min(Self.backoffNanosMin << Int64(failures - 1), Self.backoffNanosMax)
            // Up to a quarter more, so that servers that lost each other at once do not meet at once.
            let courtesy = isTheirs ? Self.courtesyNanos : 0
            state = .waiting(until: now + delay + courtesy + Int64(jitter.below(Int(delay / 4))))
        } else {
            state = .idle
        }
        return effects
    }

    /// Waits for the peer's first frame, by now in vain if the link is to be closed.
    var isHandshaking: Bool { if case .handshaking = state { true } else { false } }

    private mutating func expireQueue(now: Nanos) -> LinkEffects {
        guard let since = queuedSince, now - since > Self.queueNanosMax else { return [] }
        dropped += UInt64(queuedFrames)
        queuedBytes = 0
        queuedFrames = 0
        queuedSince = nil
        return .dropQueue
    }

    mutating func tick(now: Nanos) -> LinkEffects {
        switch state {
        case .idle:
            return isKept ? wanted(now: now) : []
        case .connecting(let since), .handshaking(let since):
            return now - since > Self.connectNanosMax ? .close : []
        case .up:
            if now - lastHeard > Self.silenceNanosMax { return .close }
            guard now - lastPing >= Self.pingNanos else { return [] }
            lastPing = now
            return .sendPing
        case .waiting(let until):
            guard now >= until else { return [] }
            let expired = expireQueue(now: now)
            guard isKept || queuedFrames > 0 else {
                state = .idle
                return expired
            }
            state = .connecting(since: now)
            return expired.union(.connect)
        }
    }
}
