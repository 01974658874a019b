// Which commands a user may run: the rules in their order, and what they come to. Values; any thread.

import KVBase

/// Rules such as `+get`, `-@dangerous`, `+config|get`, kept as Redis 7.2 shows them: a rule takes the place of an
/// earlier one about the same.
package struct AccessRights: Sendable, Equatable {
    private var startsWithAll = false
    private var rules: [Rule] = []
    /// By row of the table, and by row of the table's subcommands.
    private var isAllowed = [Bool](repeating: false, count: CommandTable.standard.rows.count)
    private var isSubcommandAllowed = [Bool](repeating: false, count: CommandTable.subcommandRows.count)
    /// `get|x`: a command without subcommands, with this first argument.
    private var firstArguments: Set<String> = []

    private struct Rule: Sendable, Equatable {
        var isGiven: Bool
        /// `get`, `@read` or `config|get`.
        var name: String
    }

    static let rulesMax = 1024

    static let categories = [
        "keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo",
        "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting",
    ]

    static let all = AccessRights(all: true)
    static let none = AccessRights(all: false)

    private init(all: Bool) { start(with: all) }

    /// Every command may be run, whatever it is.
    var isUnlimited: Bool { startsWithAll && rules.isEmpty }

    // MARK: Rules

    private mutating func start(with all: Bool) {
        startsWithAll = all
        rules = []
        for i in isAllowed.indices { isAllowed[i] = all }
        for i in isSubcommandAllowed.indices { isSubcommandAllowed[i] = all }
        firstArguments = []
    }

    /// One rule, without its sign.
    mutating func apply(_ name: String, isGiven: Bool) throws(AccessRuleError) {
        let name = name.lowercased()
        if name == "@all" { return start(with: isGiven) }
        guard rules.count < AccessRights.rulesMax else { throw .tooMany }
        if name.hasPrefix("@") {
            guard AccessRights.categories.contains(String(name.dropFirst())) else { throw .unknown }
            // It decides about all of its commands, so what was said of it before is void.
            rules.removeAll { $0.name == name }
            setCategory(name, isGiven)
        } else {
            try applyCommand(name, isGiven)
        }
        rules.append(Rule(isGiven: isGiven, name: name))
    }

    private mutating func applyCommand(_ name: String, _ isGiven: Bool) throws(AccessRuleError) {
        let parts = name.split(separator: "|", omittingEmptySubsequences: false)
        guard parts.count <= 2, let command = parts.first.map(String.init), AccessRights.isKnown(command) else {
            throw parts.count > 2 ? .firstArgument : .unknown
        }
        if parts.count == 1 {
            rules.removeAll { $0.name == name || $0.name.hasPrefix(name + "|") }
            return setCommand(command, isGiven)
        }
        guard !parts[1].isEmpty else { throw .unknown }
        let isSubcommand = AccessRights.isKnown(name)
        // Else a first argument, which can only be given, of a command that has no subcommands.
        guard isSubcommand || isGiven && !AccessRights.hasSubcommands(command) else {
            throw .unknown
        }
        rules.removeAll { $0.name == name }
        if let row = AccessRights.subcommands[name] {
            isSubcommandAllowed[row] = isGiven
        } else if !isSubcommand {
            firstArguments.insert(name)
        }
    }

    private static func hasSubcommands(_ command: String) -> Bool {
        RedisNames.commands.contains { $0.hasPrefix(command + "|") }
            || subcommands.keys.contains { $0.hasPrefix(command + "|") }
    }

    private static let subcommands = Dictionary(
        uniqueKeysWithValues: CommandTable.subcommandRows.enumerated().map { ($1.nameText, $0) })

    private static func isKnown(_ name: String) -> Bool {
        if RedisNames.commands.contains(name) { return true }
        return subcommands[name] != nil || CommandTable.standard.rows.contains { $0.nameText == name }
    }

    private mutating func setCommand(_ name: String, _ isGiven: Bool) {
        for (i, row) in CommandTable.standard.rows.enumerated() where AccessRights.names(row.nameText).contains(name) {
            isAllowed[i] = isGiven
        }
        for (i, row) in CommandTable.subcommandRows.enumerated() where row.nameText.hasPrefix(name + "|") {
            isSubcommandAllowed[i] = isGiven
        }
        firstArguments = firstArguments.filter { !$0.hasPrefix(name + "|") }
    }

    /// What a rule may call a command: PUT is a SET, DELETE a DEL.
    private static func names(_ name: String) -> [String] {
        switch name {
        case "put": ["put", "set"]
        case "delete": ["delete", "del"]
        default: [name]
        }
    }

    private mutating func setCategory(_ category: String, _ isGiven: Bool) {
        for (i, row) in CommandTable.standard.rows.enumerated() where AccessRights.isIn(row.facts, category) {
            isAllowed[i] = isGiven
        }
        for (i, row) in CommandTable.subcommandRows.enumerated() where AccessRights.isIn(row.facts, category) {
            isSubcommandAllowed[i] = isGiven
        }
    }

    static func isIn(_ facts: CommandFacts, _ category: String) -> Bool {
        facts.categories.description.split(separator: " ").contains { $0 == category }
    }

    // MARK: Questions

    /// Whether a command may be run. `argument`: its first, in lower case; empty if it has none.
    package func allows(row: Int, name: String, argument: String) -> Bool {
        let whole = "\(name)|\(argument)"
        if let subcommand = AccessRights.subcommands[whole] { return isSubcommandAllowed[subcommand] }
        return isAllowed[row] || firstArguments.contains(whole)
    }

    /// As ACL LIST shows them.
    var text: String {
        ([startsWithAll ? "+@all" : "-@all"] + rules.map { ($0.isGiven ? "+" : "-") + $0.name }).joined(separator: " ")
    }
}

/// Why a rule is none, as Redis says it.
package enum AccessRuleError: Error, CustomStringConvertible {
    case unknown, syntax, afterAllKeys, afterAllChannels, noPassword, hash, firstArgument, selector, tooMany

    package var description: String {
        switch self {
        case .unknown: "Unknown command or category name in ACL"
        case .syntax: "Syntax error"
        case .afterAllKeys:
            "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect."
                + " Try 'resetkeys' to start with an empty list of patterns"
        case .afterAllChannels:
            "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect."
                + " Try 'resetchannels' to start with an empty list of channels"
        case .noPassword: "The password you are trying to remove from the user does not exist"
        case .hash:
            "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
        case .firstArgument: "Allowing first-arg of a subcommand is not supported"
        case .selector: "Selectors are not supported by kvd"
        case .tooMany: "Too many rules, passwords or patterns"
        }
    }
}
