// Whether a user may run one command with its arguments. A value, for one call.

import KVBase

struct AccessQuestion {
    enum Denial: Equatable {
        case command(String)
        /// `*` where the command is about all keys.
        case key(String)
        case tooMany
    }

    /// Arguments of one command whose keys have to be looked at, within a turn.
    static let argumentsMax = 16 * 1024
    static let tooMany: StaticString = "ERR too many arguments: the limit is 16384 for a user with key patterns"

    private let index: Int
    private let count: Int
    private let argument: (Int) -> ByteView
    /// The first argument in lower case; empty if there is none.
    private let first: String

    /// A command of `count` arguments, the name included.
    init(row index: Int, count: Int, _ argument: @escaping (Int) -> ByteView) {
        (self.index, self.count, self.argument) = (index, count, argument)
        first = count > 1 ? argument(1).lowercased : ""
    }

    private var row: CommandRow { CommandTable.standard.rows[index] }
    private var name: String { row.nameText }
    private var whole: String { "\(name)|\(first)" }

    /// For everybody, known or not.
    var isFree: Bool { row.flags.contains(.noAuthentication) }
    var isFreeBeforeLogin: Bool { whole == "client|setinfo" }
    var listsKeys: Bool { ["list", "keys", "scan"].contains(name) }

    /// Nil if the user may. O(keys x patterns).
    func denial(of user: AccessUser) -> Denial? {
        if isFree { return nil }
        let subcommand = row.flags.contains(.subcommands) ? AccessKeys.ofSubcommands[whole] : nil
        guard user.rights.allows(row: index, name: name, argument: first) else {
            return .command(subcommand == nil ? name : whole)
        }
        if user.hasAllKeys { return nil }
        if count > AccessQuestion.argumentsMax { return .tooMany }
        return deniedKey(of: user, subcommand ?? AccessKeys.ofRows[index]).map { .key($0) }
    }

    private func deniedKey(of user: AccessUser, _ keys: [AccessKeys]) -> String? {
        if name == "dbsize" || name == "randomkey" || whole == "kvd|digest" { return user.readsEverything ? nil : "*" }
        // What they find is what the user may read.
        if listsKeys { return user.readsSomething ? nil : "*" }
        let hasGet = keys.contains(where: \.readsWithGet) && (3..<max(3, count)).contains { argument($0).equals("GET") }
        for specification in keys {
            let reads = specification.reads || specification.readsWithGet && hasGet
            for place in specification.places(count) where place < count {
                let key = argument(place)
                if !user.mayUse(key.bytes, reading: reads, writing: specification.writes) {
                    return key.printable(max: 128)
                }
            }
        }
        return nil
    }
}
