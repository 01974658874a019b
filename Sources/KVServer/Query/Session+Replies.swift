// CLIENT REPLY: a session whose replies are not sent, all or the next one. Loop thread of its shard.

import KVBase
import RESP

/// What CLIENT REPLY asked for.
enum ReplyMode: UInt8 {
    case on, off
    /// The command behind this one has no reply.
    case skipNext
    /// The command about to be run has none.
    case skip
}

extension Session {
    /// Answers buffered input one command at a time, each reply taken back. Who has replies never comes here.
    func answerMuted(_ output: UnsafeMutablePointer<OutputBuffer>, _ unsent: Int) -> SessionStatus {
        let (s, batch) = (state, shard.batch)
        defer { batch.reset() }
        for _ in 0..<Batch.commandsPerParse where s.pointee[.muted] {
            if s.pointee.replies == .skipNext { s.pointee.replies = .skip }
            batch.reset()
            let rest = UnsafeRawBufferPointer(rebasing: s.pointee.input.bytes[s.pointee.inputStart...])
            let run = batch.parse(rest, of: s, max: 1, on: shard.state)
            let before = output.pointee.count
            if run.count > 0 {
                guard batch.run(run, of: self, output, outputMax: .max) == 1 else {
                    restartParser()
                    return beginLongCommand(output, unsent)
                }
            }
            s.pointee.inputStart += s.pointee.parser.consumed
            if s.pointee[.continuation] {
                output.pointee.count = before
                restartParser()
                return .ready
            }
            if run.count > 0 { mute(output, from: before) }
            if s.pointee.closing { return .closing }
            switch run.status {
            case .drained:
                tidyInput()
                return .idle
            case .batchFull: break
            case .failed:
                s.pointee.parser.appendError(to: &output.pointee)
                s.pointee.closing = true
                return .closing
            }
        }
        tidyInput()
        return .ready
    }

    /// A command has been run: takes its reply back, unless it was CLIENT REPLY ON.
    func mute(_ output: UnsafeMutablePointer<OutputBuffer>, from before: Int) {
        guard state.pointee.replies != .on else { return }
        output.pointee.count = before
        if state.pointee.replies == .skip { state.pointee.replies = .on }
    }
}

extension Commands {
    /// CLIENT REPLY ON|OFF|SKIP. Only ON has a reply itself.
    static func clientReply(_ x: inout Execution) {
        let session = x.session.state
        if x.argument(2, is: "ON") {
            session.pointee.replies = .on
            x.output.pointee.ok()
        } else if x.argument(2, is: "OFF") {
            session.pointee.replies = .off
        } else if x.argument(2, is: "SKIP") {
            if session.pointee.replies != .off { session.pointee.replies = .skipNext }
        } else {
            x.error("ERR syntax error")
        }
    }
}
