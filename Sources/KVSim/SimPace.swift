// Counts messages per ordered pair of actors and per addressed server against the promised rate (I6). Used by SimWorld
// only, one thread.
import KVBase

/// Most messages one actor may send to one other within any closed window of a second.
private let messagesPerSecondMax = 10

/// The last eleven sending times of one ordered pair, in microseconds.
private struct Window {
    var times:
        (
            SimTime, SimTime, SimTime, SimTime, SimTime, SimTime, SimTime, SimTime, SimTime, SimTime
        ) = (.min, .min, .min, .min, .min, .min, .min, .min, .min, .min)
    var next = 0

    /// The sending time ten messages ago, replaced by `now`.
    mutating func exchange(_ now: SimTime) -> SimTime {
        withUnsafeMutableBytes(of: &times) { bytes in
            let slots = bytes.assumingMemoryBound(to: SimTime.self)
            let old = slots[next]
            slots[next] = now
            next = (next + 1) % messagesPerSecondMax
            return old
        }
    }
}

package struct SimPace {
    private var pairs: [UInt64: Window] = [:]
    private var servers: [UInt64: (tick: SimTime, addressee: Int)] = [:]
    private var places: [UInt64: Window] = [:]

    package init(slots: Int) { pairs.reserveCapacity(64 * slots) }

    /// Notes that `from` sends to `to` (dense actor numbers; `server` numbers the addressed process, nil for a
    /// sibling).
    package mutating func note(from: Int, to: Int, server: Int?, now: SimTime) -> SimViolation? {
        let before = pairs[UInt64(from) << 32 | UInt64(to), default: Window()].exchange(now)
        if before != .min, now - before <= simSecond {
            return SimViolation(
                "I6", "actor \(from) sent 11 messages to actor \(to) within \((now - before) / 1000) ms")
        }
        return server.flatMap { noteAddressee(from: from, server: $0, to: to, now: now) }
    }

    /// Notes that a frame's first byte leaves an actor for an address (slot, index of the actor there): a server that
    /// starts again is not sent more for that. Who starts again itself knows nothing of what it sent before.
    package mutating func noteLeaving(from: Int, to: (slot: Int, actor: Int), now: SimTime) -> SimViolation? {
        let key = UInt64(from) << 32 | UInt64(to.slot) << 16 | UInt64(to.actor)
        let before = places[key, default: Window()].exchange(now)
        guard before != .min, now - before <= simSecond else { return nil }
        return SimViolation(
            "I6",
            "11 messages of actor \(from) to actor \(to.actor) of server \(to.slot) left within "
                + "\((now - before) / 1000) ms")
    }

    /// Notes whom of a server an actor addresses in this turn.
    package mutating func noteAddressee(from: Int, server: Int, to: Int, now: SimTime) -> SimViolation? {
        let key = UInt64(from) << 32 | UInt64(server)
        if let last = servers[key], last.tick == now, last.addressee != to {
            return SimViolation("I6", "actor \(from) addressed two actors of server \(server) in one turn")
        }
        servers[key] = (tick: now, addressee: to)
        return nil
    }
}
