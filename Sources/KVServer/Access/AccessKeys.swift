// Which arguments of a command are keys, and whether it reads or writes them: the specifications of the command table,
// read once. Any thread.

import KVBase

/// As Redis does: `access` needs the right to read, `insert`, `update` and `delete` that to write. A command that only
/// tells whether a key is there, or how long it is, needs any right to it.
struct AccessKeys {
    let first, last, step: Int
    let reads: Bool
    let writes: Bool
    /// SET reads only with GET.
    let readsWithGet: Bool

    static let ofRows = CommandTable.standard.rows.map { parse($0.facts.specifications) }
    static let ofSubcommands = Dictionary(
        uniqueKeysWithValues: CommandTable.subcommandRows.map { ($0.nameText, parse($0.facts.specifications)) })

    private static func parse(_ text: StaticString) -> [AccessKeys] {
        text.description.split(separator: ";").compactMap { specification in
            let parts = specification.split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count >= 4, let first = Int(parts[1]), let last = Int(parts[2]), let step = Int(parts[3]) else {
                return nil
            }
            let flags = Set(parts[0].split(separator: " "))
            let isVariable = flags.contains("variable_flags")
            return AccessKeys(
                first: first, last: last, step: step, reads: flags.contains("access") && !isVariable,
                writes: !flags.isDisjoint(with: ["insert", "update", "delete"]), readsWithGet: isVariable)
        }
    }

    /// Where they are among `count` arguments.
    func places(_ count: Int) -> StrideThrough<Int> {
        stride(from: first, through: last < 0 ? count + last : first + last, by: step)
    }
}
