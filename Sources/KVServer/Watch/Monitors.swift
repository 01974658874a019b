// MONITOR: every command of every actor to the connections that watch, as Redis writes them, within bounds. What does
// not fit is dropped and counted, and the watcher is told. Counters: any thread; the rest: loop thread of its shard.

import Glibc
import KVBase
import KVRuntime
import RESP
import Synchronization

/// Who watches where, and how much is on its way to each actor.
final class Monitors: Sendable {
    /// Lines of one turn of one actor, and what may be on its way to another.
    static let turnBytesMax = 1024 * 1024
    static let waitingBytesMax = 8 * 1024 * 1024
    /// What is shown of a command.
    static let wordsMax = 128
    static let wordBytesMax = 1024

    private struct Place: ~Copyable {
        let watching = Atomic<Int>(0)
        let waiting = Atomic<Int>(0)
        let dropped = Atomic<Int>(0)
    }

    private nonisolated(unsafe) let places: UnsafeMutablePointer<Place>
    private let actors: Int

    /// For actors 1 to `actors`.
    init(actors: Int) {
        self.actors = actors
        places = .allocate(capacity: actors)
        for i in 0..<actors { (places + i).initialize(to: Place()) }
    }

    deinit {
        places.deinitialize(count: actors)
        places.deallocate()
    }

    /// Connections that watch, of all actors.
    var count: Int { (1...actors).reduce(0) { $0 + watching(at: $1) } }
    func watching(at actor: Int) -> Int { places[actor - 1].watching.load(ordering: .relaxed) }
    func note(_ change: Int, at actor: Int) { places[actor - 1].watching.add(change, ordering: .relaxed) }

    /// Whether so much may be sent to an actor; if not, `lines` are counted as dropped there.
    func mayTell(_ actor: Int, bytes: Int, lines: Int) -> Bool {
        if places[actor - 1].waiting.add(bytes, ordering: .relaxed).newValue <= Monitors.waitingBytesMax { return true }
        arrived(actor, bytes: bytes)
        noteDropped(lines, at: actor)
        return false
    }

    func arrived(_ actor: Int, bytes: Int) { places[actor - 1].waiting.subtract(bytes, ordering: .relaxed) }
    func noteDropped(_ lines: Int, at actor: Int) { places[actor - 1].dropped.add(lines, ordering: .relaxed) }
    func takeDropped(at actor: Int) -> Int { places[actor - 1].dropped.exchange(0, ordering: .relaxed) }
}

/// The lines of one turn.
struct MonitorLines {
    var text = OutputBuffer()
    var count = 0

    var isEmpty: Bool { count == 0 }
}

extension Shard {
    /// A command is about to run. `client`: whose it is, which may be a guest that stands for one.
    func showMonitors(_ x: Execution, of client: Session, _ row: borrowing CommandRow) {
        guard !Shard.isForAdministrators(x, row) else { return }
        guard state.pointee.monitorLines.text.count < Monitors.turnBytesMax else {
            for actor in 1...context.config.actors where context.monitors.watching(at: actor) > 0 {
                context.monitors.noteDropped(1, at: actor)
            }
            return
        }
        Shard.appendTime(&state.pointee.monitorLines.text)
        state.pointee.monitorLines.text.append("[\(client.state.pointee.database) \(client.state.pointee.peer)]")
        for k in 0..<min(x.count, Monitors.wordsMax) {
            state.pointee.monitorLines.text.append(" ")
            if ShownWords.isSecret(k, x) {
                state.pointee.monitorLines.text.append("\"(redacted)\"")
            } else {
                Shard.appendQuoted(x.argument(k).bytes, &state.pointee.monitorLines.text)
            }
        }
        if x.count > Monitors.wordsMax {
            state.pointee.monitorLines.text.append(" ... (\(x.count - Monitors.wordsMax) more arguments)")
        }
        state.pointee.monitorLines.text.append("\r\n")
        state.pointee.monitorLines.count += 1
        loop?.requestTurn()
    }

    /// As Redis: what administrators do is not shown.
    private static func isForAdministrators(_ x: Execution, _ row: borrowing CommandRow) -> Bool {
        func has(_ facts: CommandFacts) -> Bool { facts.flags.description.split(separator: " ").contains("admin") }
        if has(row.facts) { return true }
        guard row.flags.contains(.subcommands), x.count > 1 else { return false }
        let name = row.nameText + "|" + x.argument(1).lowercased
        return CommandTable.subcommandRows.first { $0.nameText == name }.map { has($0.facts) } ?? false
    }

    private static func appendTime(_ text: inout OutputBuffer) {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let micros = String(now.tv_nsec / 1000)
        text.append("+\(now.tv_sec).\(String(repeating: "0", count: 6 - micros.utf8.count))\(micros) ")
    }

    /// In quotes, as Redis escapes it.
    private static func appendQuoted(_ bytes: UnsafeRawBufferPointer, _ text: inout OutputBuffer) {
        text.append("\"")
        for byte in bytes.prefix(Monitors.wordBytesMax) {
            switch byte {
            case UInt8(ascii: "\\"), UInt8(ascii: "\""):
                text.append(UInt8(ascii: "\\"))
                text.append(byte)
            case 10: text.append("\\n")
            case 13: text.append("\\r")
            case 9: text.append("\\t")
            case 7: text.append("\\a")
            case 8: text.append("\\b")
            case 32..<127: text.append(byte)
            default: text.append("\\x\(byte < 16 ? "0" : "")\(String(byte, radix: 16))")
            }
        }
        text.append("\"")
        if bytes.count > Monitors.wordBytesMax {
            text.append("... (\(bytes.count - Monitors.wordBytesMax) more bytes)")
        }
    }

    /// At the end of a turn: its lines to whoever watches.
    func tellMonitors() {
        guard !state.pointee.monitorLines.isEmpty else { return }
        let (bytes, lines, monitors) = (
            Array(state.pointee.monitorLines.text.bytes), state.pointee.monitorLines.count, context.monitors
        )
        state.pointee.monitorLines.text.count = 0
        state.pointee.monitorLines.text.shrink(to: 4096)
        state.pointee.monitorLines.count = 0
        for actor in 1...context.config.actors where monitors.watching(at: actor) > 0 {
            if actor == index {
                show(bytes, lines)
            } else if monitors.mayTell(actor, bytes: bytes.count, lines: lines) {
                let isTold = homes?.tell(actor) {
                    $0.context.monitors.arrived(actor, bytes: bytes.count)
                    $0.show(bytes, lines)
                }
                if isTold != true { monitors.arrived(actor, bytes: bytes.count) }
            }
        }
    }

    /// Lines for this actor's watchers. One that does not keep up loses lines, and is told how many.
    private func show(_ bytes: [UInt8], _ lines: Int) {
        let dropped = context.monitors.takeDropped(at: index)
        for session in sessions where session.state.pointee.isMonitor {
            session.state.pointee.monitorLinesDropped += dropped
            guard let owner = session.owner, owner.sessionUnsentBytes + bytes.count <= Limits.outputBytesHigh else {
                session.state.pointee.monitorLinesDropped += lines
                continue
            }
            if session.state.pointee.monitorLinesDropped > 0 {
                var text = OutputBuffer()
                Shard.appendTime(&text)
                text.append("[0 kvd] \"dropped\" \"\(session.state.pointee.monitorLinesDropped)\"\r\n")
                owner.sessionTold(text.bytes)
                text.deallocate()
                session.state.pointee.monitorLinesDropped = 0
            }
            bytes.withUnsafeBytes { owner.sessionTold($0) }
        }
    }
}

extension Session {
    /// From now on, or no longer.
    func watch(_ isMonitor: Bool) {
        guard state.pointee.isMonitor != isMonitor else { return }
        state.pointee.isMonitor = isMonitor
        shard.context.monitors.note(isMonitor ? 1 : -1, at: shard.index)
        shard.settingsChanged()
    }
}

extension Commands {
    @Sendable static func monitor(_ x: inout Execution) {
        guard !x.session.isGuest else { return x.error("ERR MONITOR isn't allowed in MULTI") }
        x.output.pointee.ok()
        x.session.watch(true)
    }
}
