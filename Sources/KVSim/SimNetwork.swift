// The simulated network between servers: latency, loss, order, cuts, resets, corruption. Used by SimWorld only, one
// thread.
package import KVBase
package import KVCore

/// A frame on its way between two actors of different servers. Slots are the servers' addresses.
package struct SimMessage {
    package var from: ActorUID
    package var to: ActorUID
    package var fromSlot: Int
    package var toSlot: Int
    package var bytes: [UInt8]
    /// The connection it came over, where connections matter.
    package var session: UInt64 = 0
    fileprivate var epoch: UInt32 = 0

    package init(from: ActorUID, to: ActorUID, fromSlot: Int, toSlot: Int, bytes: [UInt8]) {
        self.from = from
        self.to = to
        self.fromSlot = fromSlot
        self.toSlot = toSlot
        self.bytes = bytes
    }
}

/// One direction between two addresses. A stream link behaves as a TCP connection does: in order, and whatever was in
/// flight is lost when the connection breaks. A datagram link may lose, repeat and reorder each message.
private struct Link {
    var latency: SimTime = 0
    /// Number of cuts that cover this direction now.
    var blocked = 0
    var cloggedUntil: SimTime = 0
    var lastArrival: SimTime = 0
    /// A message of an earlier connection is lost on arrival.
    var epoch: UInt32 = 0
    var connectedAt: SimTime = 0
    /// Messages a cut holds back; a surviving connection retransmits them when it heals.
    var held: [Int] = []
}

/// Bound on what one cut link keeps for retransmission, as a socket buffer would.
private let heldMessagesMax = 64
/// Old messages kept for re-delivery long after their time.
private let staleMessagesMax = 32

package final class SimNetwork {
    package struct Counters {
        package var sent = 0
        package var delivered = 0
        package var lost = 0
        package var duplicated = 0
        package var corrupted = 0
        package var stale = 0
        package var bytes = 0
    }

    package private(set) var counters = Counters()
    private let slots: Int
    private var options: SimOptions
    private var links: [Link]
    private var slab: [SimMessage?] = []
    private var free: [Int] = []
    private var old: [SimMessage] = []
    /// False once faults ended: the network is then merely slow.
    private var faulty = true
    /// Directions that stay broken although the rest healed (I16).
    private var healthy: Set<Int>?

    package init(options: SimOptions, random: inout PRNG) {
        self.options = options
        slots = options.slots
        links = Array(repeating: Link(), count: slots * slots)
        for a in 0..<slots {
            for b in 0..<slots where a != b {
                let symmetric = a < b || random.chance(0.2)
                let drawn = SimTime(random.within(options.latencyMillisMin...options.latencyMillisMax)) * simMillisecond
                links[a * slots + b].latency = symmetric ? drawn : links[b * slots + a].latency
            }
        }
    }

    /// Puts a message on its way; its arrival becomes an event.
    package func send(_ message: SimMessage, now: SimTime, queue: inout SimQueue, random: inout PRNG) {
        counters.sent += 1
        counters.bytes += message.bytes.count
        let index = message.fromSlot * slots + message.toSlot
        let disturbed = isDisturbed(message.fromSlot, message.toSlot)
        if disturbed, options.transport == .datagram, lost(&random) {
            counters.lost += 1
            return
        }
        if now < links[index].connectedAt, random.chance(0.5) {
            counters.lost += 1
            return
        }
        post(message, index, now, disturbed, &queue, &random)
        guard disturbed else { return }
        if options.transport == .datagram, options.faults.contains(.duplicate), random.chance(0.1) {
            counters.duplicated += 1
            post(message, index, now, disturbed, &queue, &random)
        }
        if options.faults.contains(.stale) { keepOrReplay(message, now, &queue, &random) }
    }

    /// The message whose arrival event fired; nil when it was lost or is held back by a cut.
    package func arrive(_ id: Int, now: SimTime, random: inout PRNG) -> SimMessage? {
        guard var message = slab[id] else { return nil }
        let index = message.fromSlot * slots + message.toSlot
        if message.epoch != links[index].epoch {
            counters.lost += 1
            release(id)
            return nil
        }
        if links[index].blocked > 0 {
            if options.transport == .stream, links[index].held.count < heldMessagesMax {
                links[index].held.append(id)
            } else {
                counters.lost += 1
                release(id)
            }
            return nil
        }
        release(id)
        disturb(&message, &random)
        return message
    }

    /// What a bad line does to a message that arrives.
    package func disturb(_ message: inout SimMessage, _ random: inout PRNG) {
        counters.delivered += 1
        if options.faults.contains(.corrupt), isDisturbed(message.fromSlot, message.toSlot), random.chance(0.02) {
            corrupt(&message.bytes, &random)
        }
    }

    /// When what has left a connection's sender at `leaving` reaches the other machine.
    package func arrival(_ from: Int, _ to: Int, leaving: SimTime, random: inout PRNG) -> SimTime {
        let link = links[from * slots + to]
        var at = leaving + link.latency + 50
        if options.jitterMillis > 0 { at += SimTime(random.below(options.jitterMillis * 1000)) }
        // A packet that was lost and sent again holds up all behind it.
        if isDisturbed(from, to), options.faults.contains(.spikes), random.below(1000) < options.spikePerMille {
            at += SimTime(random.within(100...5_000)) * simMillisecond
        }
        return at < link.cloggedUntil ? link.cloggedUntil + SimTime(random.below(1000)) : at
    }

    /// Where a message on its way is going.
    package func target(_ id: Int) -> ActorUID? { slab[id]?.to }

    package func isBlocked(_ from: Int, _ to: Int) -> Bool { links[from * slots + to].blocked > 0 }

    package func block(_ from: Int, _ to: Int) { links[from * slots + to].blocked += 1 }

    /// Ends one cut without a trace.
    package func open(_ from: Int, _ to: Int) { links[from * slots + to].blocked -= 1 }

    /// Ends one cut. When it was the last, the held messages arrive late, or the connection turns out broken.
    /// Returns whether it is broken.
    package func unblock(_ from: Int, _ to: Int, now: SimTime, queue: inout SimQueue, random: inout PRNG) -> Bool {
        let index = from * slots + to
        guard links[index].blocked > 0 else { return false }
        links[index].blocked -= 1
        guard links[index].blocked == 0 else { return false }
        let held = links[index].held
        links[index].held = []
        if random.chance(0.5) {
            for id in held { release(id) }
            counters.lost += held.count
            reset(from, to, now: now)
            return true
        }
        var at = max(now + SimTime(random.within(1...400)) * simMillisecond, links[index].lastArrival)
        for id in held {
            queue.push(.delivery, at: at, id)
            at += 1
        }
        links[index].lastArrival = at
        return false
    }

    /// The connection breaks: what is in flight is lost, and for a moment so may be what is sent.
    package func reset(_ from: Int, _ to: Int, now: SimTime) {
        let index = from * slots + to
        links[index].epoch &+= 1
        links[index].connectedAt = now + 3 * links[index].latency / 2
        links[index].lastArrival = 0
        for id in links[index].held { release(id) }
        counters.lost += links[index].held.count
        links[index].held = []
    }

    /// Everything sent over the link until `until` arrives at once after it.
    package func clog(_ from: Int, _ to: Int, until: SimTime) {
        links[from * slots + to].cloggedUntil = until
    }

    /// Faults end for the links among `among`; nil means everywhere. Cuts are the caller's to end.
    package func calm(among: Set<Int>?) {
        if among == nil { faulty = false }
        healthy = among
    }

    package func latencyMillis(_ from: Int, _ to: Int) -> Millis { links[from * slots + to].latency / simMillisecond }

    /// Whether faults still strike inside a server.
    package func isDisturbed(at slot: Int) -> Bool { faulty && !(healthy?.contains(slot) ?? false) }

    private func isDisturbed(_ from: Int, _ to: Int) -> Bool {
        guard faulty else { return false }
        guard let healthy else { return true }
        return !(healthy.contains(from) && healthy.contains(to))
    }

    private func lost(_ random: inout PRNG) -> Bool {
        options.dropPerMille > 0 && random.below(1000) < options.dropPerMille
    }

    private func post(
        _ message: SimMessage, _ index: Int, _ now: SimTime, _ disturbed: Bool, _ queue: inout SimQueue,
        _ random: inout PRNG
    ) {
        var delay = links[index].latency + 50
        if options.jitterMillis > 0 { delay += SimTime(random.below(options.jitterMillis * 1000)) }
        if disturbed, options.faults.contains(.spikes), random.below(1000) < options.spikePerMille {
            delay += SimTime(random.within(100...5_000)) * simMillisecond
        }
        var at = max(now + delay, links[index].connectedAt)
        if at < links[index].cloggedUntil { at = links[index].cloggedUntil + SimTime(random.below(1000)) }
        let scrambles = disturbed && options.transport == .datagram && options.faults.contains(.reorder)
        if scrambles {
            if random.chance(0.1) { at += SimTime(random.within(1...800)) * simMillisecond }
        } else {
            at = max(at, links[index].lastArrival + 1)
            links[index].lastArrival = at
        }
        var message = message
        message.epoch = links[index].epoch
        queue.push(.delivery, at: at, store(message))
    }

    private func keepOrReplay(_ message: SimMessage, _ now: SimTime, _ queue: inout SimQueue, _ random: inout PRNG) {
        if random.chance(0.05) {
            if old.count < staleMessagesMax {
                old.append(message)
            } else {
                old[random.below(old.count)] = message
            }
        }
        guard !old.isEmpty, random.chance(0.01) else { return }
        var replayed = old[random.below(old.count)]
        replayed.epoch = links[replayed.fromSlot * slots + replayed.toSlot].epoch
        counters.stale += 1
        queue.push(.delivery, at: now + SimTime(random.within(1...20_000)) * simMillisecond, store(replayed))
    }

    private func corrupt(_ bytes: inout [UInt8], _ random: inout PRNG) {
        guard !bytes.isEmpty else { return }
        counters.corrupted += 1
        if random.chance(0.3) {
            bytes.removeLast(random.within(1...bytes.count))
        } else {
            for _ in 0..<random.within(1...3) { bytes[random.below(bytes.count)] ^= 1 << UInt8(random.below(8)) }
        }
    }

    private func store(_ message: SimMessage) -> Int {
        if let id = free.popLast() {
            slab[id] = message
            return id
        }
        slab.append(message)
        return slab.count - 1
    }

    private func release(_ id: Int) {
        slab[id] = nil
        free.append(id)
    }
}
