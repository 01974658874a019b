// One line of CLIENT LIST and CLIENT INFO, with the fields and names of Redis 7. Loop thread of the session's shard.

import KVBase
import RESP

extension Session {
    /// What is shown as `cmd`. A command with subcommands is told with them.
    func noteCommand(_ row: borrowing CommandRow, _ x: borrowing Execution) {
        state.pointee.lastCommand = row.name
        if row.flags.contains(.subcommands), x.count > 1 {
            state.pointee.lastSubcommand = Bytes(x.argument(1).lowercased)
        } else if state.pointee.lastSubcommand.count > 0 {
            state.pointee.lastSubcommand = Bytes([])
        }
    }

    /// `request`: bytes and arguments' bytes of the command under way, if it is this session's.
    func describe(into text: inout OutputBuffer, request: (bytes: Int, arguments: Int)? = nil) {
        let now = shard.state.pointee.nowMillis
        let s = state
        let unsent = owner?.sessionUnsentBytes ?? 0
        let output = owner?.sessionOutputBytes ?? 0
        let (query, free) = (pendingInput + (request?.bytes ?? 0), s.pointee.input.capacity - s.pointee.input.count)
        text.append("id=")
        text.appendDecimal(s.pointee.id)
        text.append(" addr=\(s.pointee.peer) laddr=\(s.pointee.local) fd=\(s.pointee.descriptor) name=")
        s.pointee.name.withBytes { text.append($0) }
        text.append(
            " age=\((now - s.pointee.createdMillis) / 1000) idle=\(max(0, now - s.pointee.activeMillis) / 1000)")
        text.append(
            " flags=\(s.pointee.isMonitor ? "O" : transaction == nil ? "N" : "x") db=\(s.pointee.database) sub=0 psub=0 ssub=0"
        )
        text.append(" multi=\(transaction?.queue.count ?? -1) qbuf=\(query) qbuf-free=\(free)")
        text.append(" argv-mem=\(request?.arguments ?? 0) multi-mem=0 rbs=\(output) rbp=\(output) obl=\(unsent)")
        // Replies are in two buffers, never in a list of them.
        text.append(" oll=0 omem=0 tot-mem=\(s.pointee.input.capacity + output + MemoryLayout<SessionState>.size)")
        text.append(s.pointee.isBlocked ? " events=w cmd=" : " events=r cmd=")
        text.append(s.pointee.lastCommand)
        if s.pointee.lastSubcommand.count > 0 {
            text.append("|")
            s.pointee.lastSubcommand.withBytes { text.append($0) }
        }
        text.append(" user=\(login.name) redir=-1 resp=\(s.pointee.resp3 ? 3 : 2) lib-name=")
        s.pointee.libraryName.withBytes { text.append($0) }
        text.append(" lib-ver=")
        s.pointee.libraryVersion.withBytes { text.append($0) }
        text.append("\n")
    }
}
