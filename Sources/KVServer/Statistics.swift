// Counters of one query actor, written by its thread once per turn and read by any.

import KVBase
package import KVRuntime
import Synchronization

package final class ShardStatistics: Sendable {
    let byCommand = CommandStatistics()
    private let commandCount = Atomic<Int>(0)
    private let hotGetCount = Atomic<Int>(0)
    private let hotSetCount = Atomic<Int>(0)
    private let hitCount = Atomic<Int>(0)
    private let missCount = Atomic<Int>(0)
    private let connectionCount = Atomic<Int>(0)
    private let clientCount = Atomic<Int>(0)
    private let rate = Atomic<Int>(0)
    private let received = Atomic<Int>(0)
    private let sent = Atomic<Int>(0)
    private let longestTurnByWall = Atomic<UInt64>(0)
    private let longestTurnByProcessor = Atomic<UInt64>(0)
    private let longTurnCount = Atomic<Int>(0)
    private let held = Atomic<Int>(0)
    private let blockedCount = Atomic<Int>(0)
    private let receivedRate = Atomic<Int>(0)
    private let sentRate = Atomic<Int>(0)
    private let keyCount = Atomic<Int>(0)
    private let expiredCount = Atomic<Int>(0)
    private let heldReplies = Atomic<Int>(0)
    private let pagesReady = Atomic<Int>(0)
    private let pagesLate = Atomic<Int>(0)
    /// Set by CONFIG RESETSTAT on any thread, taken by the owner in its next turn.
    private let resetRequest = Atomic<Bool>(false)

    package init() {}

    package var commands: Int { commandCount.load(ordering: .relaxed) }
    package var hotGets: Int { hotGetCount.load(ordering: .relaxed) }
    package var hotSets: Int { hotSetCount.load(ordering: .relaxed) }
    package var hits: Int { hitCount.load(ordering: .relaxed) }
    package var misses: Int { missCount.load(ordering: .relaxed) }
    package var connectionsReceived: Int { connectionCount.load(ordering: .relaxed) }
    package var clients: Int { clientCount.load(ordering: .relaxed) }
    package var commandsPerSecond: Int { rate.load(ordering: .relaxed) }
    package var bytesReceived: Int { received.load(ordering: .relaxed) }
    package var bytesSent: Int { sent.load(ordering: .relaxed) }
    package var longestTurn: LongestTurn { LongestTurn(word: longestTurnByWall.load(ordering: .relaxed)) }
    package var longestTurnOnProcessor: LongestTurn {
        LongestTurn(word: longestTurnByProcessor.load(ordering: .relaxed))
    }
    /// Turns above a millisecond of the processor.
    package var longTurns: Int { longTurnCount.load(ordering: .relaxed) }
    /// Huge pages of fresh memory that were ready as the loop first used them, and that were not, since the start; a
    /// tenth of a second old.
    package var freshPages: (ready: Int, late: Int) {
        (pagesReady.load(ordering: .relaxed), pagesLate.load(ordering: .relaxed))
    }
    /// Bytes of requests received and not run.
    package var heldInput: Int { held.load(ordering: .relaxed) }

    /// Clients whose command waits: WAIT, CLIENT PAUSE.
    package var blocked: Int { blockedCount.load(ordering: .relaxed) }
    /// Over the last 1.6 s.
    package var bytesReceivedPerSecond: Int { receivedRate.load(ordering: .relaxed) }
    package var bytesSentPerSecond: Int { sentRate.load(ordering: .relaxed) }
    /// Of all databases, and values whose time has come since the start; a tenth of a second old.
    package var keys: Int { keyCount.load(ordering: .relaxed) }
    package var expired: Int { expiredCount.load(ordering: .relaxed) }
    /// Bytes of buffers with replies that clients have not taken; a second old.
    package var heldOutput: Int { heldReplies.load(ordering: .relaxed) }

    package func requestReset() { resetRequest.store(true, ordering: .relaxed) }

    // Owner's thread only.

    /// By pointer: once a turn, and the whole state would be copied.
    func publish(_ state: UnsafeMutablePointer<ShardState>) {
        commandCount.store(state.pointee.counters.commands, ordering: .relaxed)
        hotGetCount.store(state.pointee.counters.hotGets, ordering: .relaxed)
        hotSetCount.store(state.pointee.counters.hotSets, ordering: .relaxed)
        hitCount.store(state.pointee.counters.hits, ordering: .relaxed)
        missCount.store(state.pointee.counters.misses, ordering: .relaxed)
        received.store(state.pointee.counters.bytesReceived, ordering: .relaxed)
        sent.store(state.pointee.counters.bytesSent, ordering: .relaxed)
    }

    func setLongestTurns(_ lengths: TurnLengths) {
        let byWall = LongestTurn(nanos: lengths.longestNanos, work: lengths.longestWork)
        let byProcessor = LongestTurn(nanos: lengths.longestProcessorNanos, work: lengths.longestProcessorWork)
        longestTurnByWall.store(byWall.word, ordering: .relaxed)
        longestTurnByProcessor.store(byProcessor.word, ordering: .relaxed)
        longTurnCount.store(lengths.longCount, ordering: .relaxed)
    }

    /// Whether the counters are to begin again; answered once per request.
    func takeReset() -> Bool {
        guard resetRequest.load(ordering: .relaxed) else { return false }
        resetRequest.store(false, ordering: .relaxed)
        connectionCount.store(0, ordering: .relaxed)
        byCommand.reset()
        return true
    }

    func connected(_ now: Int) {
        clientCount.store(now, ordering: .relaxed)
        connectionCount.add(1, ordering: .relaxed)
    }

    func disconnected(_ now: Int) { clientCount.store(now, ordering: .relaxed) }
    func setHeldOutput(_ bytes: Int) { heldReplies.store(bytes, ordering: .relaxed) }
    func setHeldInput(_ bytes: Int) { held.store(bytes, ordering: .relaxed) }
    func noteBlocked(_ change: Int) {
        blockedCount.store(blockedCount.load(ordering: .relaxed) + change, ordering: .relaxed)
    }

    func setRates(commands: Int, received: Int, sent: Int) {
        rate.store(commands, ordering: .relaxed)
        receivedRate.store(received, ordering: .relaxed)
        sentRate.store(sent, ordering: .relaxed)
    }

    func setKeys(_ keys: Int, expired: Int) {
        keyCount.store(keys, ordering: .relaxed)
        expiredCount.store(expired, ordering: .relaxed)
    }

    func setFreshPages(_ pages: (ready: Int, late: Int)) {
        pagesReady.store(pages.ready, ordering: .relaxed)
        pagesLate.store(pages.late, ordering: .relaxed)
    }
}

/// A turn's length and what it did, in one word, so that a reader never sees the one of this and the other of that.
package struct LongestTurn: Sendable {
    package let word: UInt64

    package init(word: UInt64) { self.word = word }
    init(nanos: Nanos, work: TurnWork) {
        word = UInt64(UInt32(clamping: nanos / 1000)) &<< 32 | UInt64(work.rawValue)
    }

    package var micros: Int { Int(word &>> 32) }
    package var work: TurnWork { TurnWork(rawValue: UInt32(truncatingIfNeeded: word)) }
}

/// A counter's growth per second over the last 1.6 s, as Redis computes it: 16 samples, one every 100 ms.
struct RateMeter {
    private var samples = [Int](repeating: 0, count: 16)
    private var next = 0
    private var lastCount = 0
    private var lastNanos: Nanos

    init(now: Nanos) { lastNanos = now }

    /// O(16), every 100 ms.
    mutating func sample(count: Int, now: Nanos) -> Int {
        let elapsed = now - lastNanos
        if elapsed > 0 {
            // The count begins again after CONFIG RESETSTAT.
            samples[next] = Int(Int64(max(0, count - lastCount)) * 1_000_000_000 / elapsed)
            next = (next + 1) % samples.count
        }
        (lastCount, lastNanos) = (count, now)
        return samples.reduce(0, +) / samples.count
    }
}
