// What LATENCY DOCTOR and MEMORY DOCTOR say: findings in words, with what to do. Any thread.

import KVBase

enum Advice {
    /// A report on commands and turns that took long.
    static func onLatency(_ context: ServerContext) -> String {
        var lines: [String] = []
        let live = context.live
        if live.latencyMillis == 0 {
            lines.append(
                "Single commands are not watched. CONFIG SET latency-monitor-threshold 10 notes each that takes 10 ms.")
        }
        for event in context.latencyEvents.all {
            let sum = event.samples.reduce(0) { $0 + $1.millis }
            lines.append(
                "\(event.name): \(event.samples.count) seconds with one of \(live.latencyMillis) ms or more, "
                    + "\(sum / event.samples.count) ms on average, \(event.worstMillis) ms at worst. "
                    + "SLOWLOG GET names the commands.")
        }
        let longest = context.statistics.map(\.longestTurnOnProcessor).max { $0.word < $1.word }
        let byWall = context.statistics.map(\.longestTurn).max { $0.word < $1.word }
        if let longest, longest.micros > 1000 {
            lines.append(
                "The longest turn of a loop took \(longest.micros) us of its processor, with \(longest.work.text).")
        }
        if let longest, let byWall, byWall.micros > 10_000, byWall.micros > 4 * longest.micros {
            lines.append(
                "A turn took \(byWall.micros) us by the wall: other programs, or the host, took the processor away. "
                    + "Give kvd cores of its own, or fewer --actors.")
        }
        if lines.isEmpty { lines.append("No command was slow since the last reset.") }
        return lines.joined(separator: "\n") + "\n"
    }

    private static let littleBytes = 5 * 1024 * 1024

    /// A report on the process's memory.
    static func onMemory(used: Int, resident: Int, peak: Int, clients: Int, unfinished: Int) -> String {
        if used < littleBytes {
            return "This server holds next to nothing, so there is nothing to say of its memory.\n"
        }
        var lines: [String] = []
        if peak > used + used / 2 {
            lines.append(
                "The peak was \(Memory.human(peak)), \(Memory.human(used)) are used now. What was freed goes back to the "
                    + "system in small steps; MEMORY PURGE gives it back at once.")
        }
        if resident > used + used / 2, resident > used + (64 << 20) {
            lines.append(
                "\(Memory.human(resident)) are resident for \(Memory.human(used)): freed values left holes. "
                    + "New values fill them.")
        }
        if unfinished > 64 << 20 {
            lines.append(
                "\(Memory.human(unfinished)) are requests that have not ended: CLIENT LIST shows whose (qbuf).")
        }
        if used > Memory.machineBytes / 10 * 9 {
            lines.append("Nearly all of the machine's memory is used: delete keys, or move to a larger one.")
        }
        if lines.isEmpty { lines.append("Nothing is wrong with the memory of this server.") }
        return lines.joined(separator: "\n") + "\n"
    }
}
