// What the actor system counts: per loop without locked instructions, plus the rate of messages per pair of actors.

import CSupport
import KVBase

/// One per loop and one (with shared additions) for other threads. Single writer, read anywhere with relaxed loads.
struct ActorCounters {
    var messagesSentActor: UInt64 = 0
    var messagesSentExternal: UInt64 = 0
    var repliesSent: UInt64 = 0
    var bytesSent: UInt64 = 0
    var remoteBytesReceived: UInt64 = 0
    var maxMessageRate: UInt64 = 0
    var delivered: UInt64 = 0
    var deadLetters: UInt64 = 0
    var failures: UInt64 = 0
    // Keeps neighbours off this cache line pair.
    var padding: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0)
}

/// Totals since start. Figures of one system, all loops.
public struct ActorSystemStatistics: Sendable, Equatable {
    /// Messages told by actors, local and remote.
    public var messagesSentActor: UInt64 = 0
    /// Messages told from outside of actors.
    public var messagesSentExternal: UInt64 = 0
    /// Answers to asks.
    public var repliesSent: UInt64 = 0
    /// Marshalled bytes of messages told by actors (locally: of those that account themselves).
    public var bytesSent: UInt64 = 0
    /// Bytes that arrived from other systems.
    public var remoteBytesReceived: UInt64 = 0
    /// Largest number of messages one actor sent to one other in any second.
    public var maxMessageRate: UInt64 = 0
    /// Messages handled by actors.
    public var delivered: UInt64 = 0
    /// Messages to actors that do not exist (any more), or of the wrong type.
    public var deadLetters: UInt64 = 0
    /// Errors thrown by actors and messages that could not be decoded.
    public var failures: UInt64 = 0
    /// Messages to other systems dropped because the link was down or too slow.
    public var remoteDropped: UInt64 = 0
    /// Links closed because of bad frames.
    public var badFrames: UInt64 = 0

    mutating func add(_ counters: UnsafeMutablePointer<ActorCounters>) {
        messagesSentActor += cs_counter_read(&counters.pointee.messagesSentActor)
        messagesSentExternal += cs_counter_read(&counters.pointee.messagesSentExternal)
        repliesSent += cs_counter_read(&counters.pointee.repliesSent)
        bytesSent += cs_counter_read(&counters.pointee.bytesSent)
        remoteBytesReceived += cs_counter_read(&counters.pointee.remoteBytesReceived)
        maxMessageRate = max(maxMessageRate, cs_counter_read(&counters.pointee.maxMessageRate))
        delivered += cs_counter_read(&counters.pointee.delivered)
        deadLetters += cs_counter_read(&counters.pointee.deadLetters)
        failures += cs_counter_read(&counters.pointee.failures)
    }
}

/// Messages per ordered pair within the last second. Exact up to `exactMax` messages a second, beyond that counted in
/// eighths of a second, over at most nine of them: never too low. Loop's thread.
struct PairRates {
    static let exactMax = 32
    static let pairsMax = 4096
    private static let second: Nanos = 1_000_000_000
    private static let slice: Nanos = second / 8

    private struct Pair: Hashable {
        var sender: UInt64
        var target: UInt64
        var address: UInt32
    }

    fileprivate struct Window {
        var times = [Nanos](repeating: .min / 2, count: PairRates.exactMax)
        var next = 0
        var slices = [Int](repeating: 0, count: 9)
        var currentSlice: Nanos = 0
    }

    private var positions: [Pair: Int] = [:]
    private var windows: [Window] = []
    private var lastPair = Pair(sender: 0, target: 0, address: 0)
    private var lastPosition = -1

    /// The count of the window that ends with this message. O(1) (O(exactMax) while the rate is low).
    mutating func record(_ sender: UInt64, _ address: UInt32, _ target: UInt64, now: Nanos) -> Int {
        let pair = Pair(sender: sender, target: target, address: address)
        if pair != lastPair || lastPosition < 0 {
            guard let position = position(of: pair) else { return 0 }
            lastPair = pair
            lastPosition = position
        }
        return windows[lastPosition].record(now)
    }

    private mutating func position(of pair: Pair) -> Int? {
        if let found = positions[pair] { return found }
        guard windows.count < Self.pairsMax else { return nil }
        positions[pair] = windows.count
        windows.append(Window())
        return windows.count - 1
    }
}

extension PairRates.Window {
    fileprivate mutating func record(_ now: Nanos) -> Int {
        let slice = now / PairRates.slice
        if slice != currentSlice {
            // What lies between was silent; more than nine slices ago is forgotten.
            let passed = min(slice - currentSlice, 9)
            for i in 0..<passed { slices[Int((slice - i) % 9)] = 0 }
            currentSlice = slice
        }
        slices[Int(slice % 9)] += 1
        let oldest = times[next]
        times[next] = now
        next = next + 1 == times.count ? 0 : next + 1
        // A second is closed: two messages exactly 1 s apart do not share one.
        if now - oldest < PairRates.second { return slices.reduce(0, +) }
        var count = 0
        for time in times where now - time < PairRates.second { count += 1 }
        return count
    }
}
