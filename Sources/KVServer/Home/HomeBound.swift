// Which commands always run at the home of their one key, whatever they find. Pure; any thread.

import KVBase
import RESP

/// Commands that read before they write, of which the first argument is the only key. Each goes home, or is answered
/// with an error, before it has done anything: so it may go along with another one before it is run.
enum HomeBound {
    private static let names: Set<String> = [
        "setnx", "getset", "getdel", "incr", "decr", "incrby", "decrby", "delifeq", "persist",
    ]
    /// By row: always; a SET; a DELEX.
    private static let kinds: [Kind] = CommandTable.standard.rows.map { row in
        switch row.nameText {
        case "set": .set
        case "delex": .delex
        default: names.contains(row.nameText) ? .always : .never
        }
    }

    private enum Kind: UInt8 { case never, always, set, delex }

    static func isBound(_ command: ParsedCommand, of commands: CommandBatch) -> Bool {
        guard command.argumentCount > 1, let row = CommandTable.standard.find(commands.argument(0, of: command)) else {
            return false
        }
        switch kinds[row] {
        case .never: return false
        case .always: return true
        case .delex: return command.argumentCount == 4
        case .set:
            // One of these words makes it conditional, or is part of an error.
            return (3..<max(3, Int(command.argumentCount))).contains { k in
                let word = commands.argument(k, of: command)
                return word.equals("NX") || word.equals("XX") || word.equals("GET") || word.equals("IFEQ")
                    || word.equals("IFNE")
            }
        }
    }
}

extension Session {
    /// A command of that row goes along with the trip, as it stands.
    func embark(_ command: ParsedCommand, of commands: CommandBatch, _ row: Int, to home: Int) {
        let trip = trip.unsafelyUnwrapped
        trip.take(command, of: commands, to: home, row)
        shard.statistics.byCommand.note(row, isRejected: false, isFailed: false)
    }
}
