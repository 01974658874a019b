// How long commands take: into the statistics, and into the slow log what took long. Loop thread of the shard.

import CIntrinsics
import KVBase
import KVCore
import KVRuntime
import RESP

/// What a shard needs at hand to note a command's time.
struct CommandTimes {
    private let statistics: Unmanaged<CommandStatistics>
    private let rate = TickRate.ofThisMachine
    private let getRow = CommandTable.getRow
    private let setRow = CommandTable.setRow
    /// What takes so many ticks or more is told of.
    private(set) var noticed: UInt64 = .max
    /// Below this every command goes through the table, so that each has a time of its own.
    private static let exactNanosMax = 100_000
    private(set) var isExact = false

    /// Valid as long as the statistics are.
    init(_ statistics: CommandStatistics) { self.statistics = Unmanaged.passUnretained(statistics) }

    mutating func take(_ settings: LiveSettings) {
        let nanos = settings.noticedNanos
        noticed = nanos.map { rate.ticks($0) } ?? .max
        isExact = nanos.map { $0 < CommandTimes.exactNanosMax } ?? false
    }

    func nanos(_ ticks: UInt64) -> UInt64 { rate.nanos(ticks) }

    @inline(__always)
    func note(_ row: Int, ticks: UInt64) {
        statistics._withUnsafeGuaranteedRef { $0.noteTime(row, calls: 1, nanos: rate.nanos(ticks)) }
    }

    /// GETs and SETs that ran one behind the other: each took its share.
    @inline(__always)
    func note(gets: Int, sets: Int, ticks: UInt64) {
        let count = gets &+ sets
        var nanos = rate.nanos(ticks)
        if count > 1 { nanos = UInt64(UInt32(clamping: nanos) / UInt32(truncatingIfNeeded: count)) }
        statistics._withUnsafeGuaranteedRef {
            if gets > 0 { $0.noteTime(getRow, calls: gets, nanos: nanos) }
            if sets > 0 { $0.noteTime(setRow, calls: sets, nanos: nanos) }
        }
    }
}

extension Shard {
    /// Takes over what CONFIG SET, MONITOR and CLIENT PAUSE have changed; O(1).
    func takeSettings() {
        state.pointee.times.take(context.live)
        state.pointee.headroom.noticeLimit()
        state.pointee.monitorsEverywhere = context.monitors.count
        state.pointee.wantsEach =
            state.pointee.times.isExact || state.pointee.monitorsEverywhere > 0 || state.pointee.pause != nil
    }

    /// The same at every actor, here at once.
    func settingsChanged() {
        takeSettings()
        guard let homes else { return }
        for other in 1...homes.actorCount where other != index { _ = homes.tell(other) { $0.takeSettings() } }
    }
}

extension Session {
    /// A command of the table has run for so many ticks, and is done or goes on in slices.
    func noteTime(_ row: Int, _ ticks: UInt64, _ x: Execution) {
        if let trip { return trip.note(row, ticks: ticks) }
        guard !state.pointee[.continuation] || isGuest else {
            // Whoever waits for others is not slow itself.
            runningWords = continuation!.isSlowable ? ShownWords.cut(x) : nil
            (state.pointee.runningRow, state.pointee.runningTicks) = (Int32(truncatingIfNeeded: row), ticks)
            return
        }
        shard.state.pointee.times.note(row, ticks: ticks)
        if ticks >= shard.state.pointee.times.noticed { noteSlow(row, ticks) { ShownWords.cut(x) } }
    }

    /// A command begins that runs in slices only, and whose call nobody has counted.
    func beginRunning(_ row: Int, words: @autoclosure () -> [Bytes]?) {
        shard.statistics.byCommand.note(row, isRejected: false, isFailed: false)
        (state.pointee.runningRow, state.pointee.runningTicks) = (Int32(truncatingIfNeeded: row), 0)
        runningWords = words()
    }

    /// The command that ran in slices has ended.
    func endRunning() {
        let (row, ticks) = (Int(state.pointee.runningRow), state.pointee.runningTicks)
        guard row >= 0 else { return }
        state.pointee.runningRow = -1
        shard.state.pointee.times.note(row, ticks: ticks)
        if ticks >= shard.state.pointee.times.noticed, let words = runningWords { noteSlow(row, ticks) { words } }
        runningWords = nil
    }

    /// A command, and so many more of the same read, took long.
    func noteSlow(_ command: ParsedCommand, of batch: CommandBatch, and more: Int = 0, _ ticks: UInt64) {
        let x = execution(command, of: batch, shard.movedKey)
        guard let row = CommandTable.standard.find(x.argument(0)) else { return }
        noteSlow(row, ticks) { ShownWords.cut(x, more: more) }
    }

    @inline(never)
    func noteSlow(_ row: Int, _ ticks: UInt64, _ words: () -> [Bytes]) {
        let (live, nanos) = (shard.context.live, shard.state.pointee.times.nanos(ticks))
        let (micros, seconds) = (Int(nanos / 1000), Int(shard.state.pointee.nowMillis / 1000))
        let command = CommandTable.standard.rows[row]
        if live.latencyMillis > 0, micros / 1000 >= live.latencyMillis {
            shard.context.latencyEvents.add(
                command.flags.contains(.fast) ? "fast-command" : "command", seconds: seconds, millis: micros / 1000)
        }
        guard live.slowLogMicros >= 0, micros >= live.slowLogMicros, live.slowLogEntries > 0,
            !command.flags.contains(.neverSlow)
        else { return }
        shard.context.slowLog.add(
            SlowLog.Entry(
                seconds: seconds, micros: micros, words: words(), client: state.pointee.peer, name: state.pointee.name),
            keeping: live.slowLogEntries)
    }
}
