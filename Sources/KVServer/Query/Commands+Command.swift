// COMMAND and its subcommands, word for word as Redis 7 answers them. Handlers; loop thread.

import KVBase
import RESP

extension Commands {
    @Sendable static func command(_ x: inout Execution) {
        let rows = CommandTable.standard.rows
        let out = x.output
        guard x.count > 1 else { return commandInfo(&x) }
        switch x.argument(1) {
        case let sub where sub.equals("COUNT"):
            guard x.count == 2 else { return x.wrongArity("command|count") }
            out.pointee.integer(rows.count)
        case let sub where sub.equals("INFO"): commandInfo(&x)
        case let sub where sub.equals("LIST"): commandList(&x)
        case let sub where sub.equals("DOCS"): commandDocs(&x)
        case let sub where sub.equals("GETKEYS"): commandGetKeys(&x, withFlags: false)
        case let sub where sub.equals("GETKEYSANDFLAGS"): commandGetKeys(&x, withFlags: true)
        case let sub where sub.equals("HELP"): x.help(commandHelp)
        default: x.unknownSubcommand(of: "COMMAND")
        }
    }

    // COMMAND INFO

    /// Of all commands, or of those named; a name may be that of a subcommand.
    private static func commandInfo(_ x: inout Execution) {
        let rows = CommandTable.standard.rows
        guard x.count > 2 else {
            x.output.pointee.arrayHeader(rows.count)
            for row in rows { describe(row, &x) }
            return
        }
        x.output.pointee.arrayHeader(x.count - 2)
        for k in 2..<x.count {
            if let index = CommandTable.standard.find(x.argument(k)) {
                describe(rows[index], &x)
            } else if let row = CommandTable.standard.subcommand(x.argument(k)) {
                describe(row.nameText, row.arity, row.facts, row.keys, subcommands: [], &x)
            } else {
                x.output.pointee.nullArray(resp3: x.resp3)
            }
        }
    }

    private static func describe(_ row: CommandRow, _ x: inout Execution) {
        let subcommands =
            row.flags.contains(.subcommands) ? CommandTable.standard.subcommands(of: row.nameText) : []
        describe(row.nameText, row.arity, row.facts, row.keys, subcommands: subcommands, &x)
    }

    /// The ten elements of Redis 7: name, arity, flags, first, last, step, ACL categories, tips, key specs,
    /// subcommands.
    private static func describe(
        _ name: String, _ arity: Int, _ facts: CommandFacts, _ keys: KeyPositions, subcommands: [SubcommandRow],
        _ x: inout Execution
    ) {
        let out = x.output
        out.pointee.arrayHeader(10)
        out.pointee.bulk(name)
        out.pointee.integer(arity)
        words(of: facts.flags, &x)
        out.pointee.integer(keys.first)
        out.pointee.integer(keys.last)
        out.pointee.integer(keys.step)
        words(of: facts.categories, &x)
        let tips = facts.tips.description.split(separator: " ")
        out.pointee.arrayHeader(tips.count)
        for tip in tips { out.pointee.bulk(String(tip)) }
        let specifications = KeySpecification.all(facts.specifications)
        out.pointee.arrayHeader(specifications.count)
        for specification in specifications { describe(specification, &x) }
        out.pointee.arrayHeader(subcommands.count)
        for row in subcommands { describe(row.nameText, row.arity, row.facts, row.keys, subcommands: [], &x) }
    }

    private static func words(of text: StaticString, _ x: inout Execution) {
        let words = text.description.split(separator: " ")
        x.output.pointee.setHeader(words.count, resp3: x.resp3)
        for word in words { x.output.pointee.simple(String(word)) }
    }

    private static func describe(_ keys: KeySpecification, _ x: inout Execution) {
        let resp3 = x.resp3
        let out = x.output
        out.pointee.mapHeader(keys.notes == nil ? 3 : 4, resp3: resp3)
        if let notes = keys.notes {
            out.pointee.bulk("notes")
            out.pointee.bulk(notes)
        }
        out.pointee.bulk("flags")
        out.pointee.setHeader(keys.flags.count, resp3: resp3)
        for flag in keys.flags { out.pointee.simple(flag) }
        out.pointee.bulk("begin_search")
        out.pointee.mapHeader(2, resp3: resp3)
        out.pointee.bulk("type")
        out.pointee.bulk("index")
        out.pointee.bulk("spec")
        out.pointee.mapHeader(1, resp3: resp3)
        out.pointee.bulk("index")
        out.pointee.integer(keys.first)
        out.pointee.bulk("find_keys")
        out.pointee.mapHeader(2, resp3: resp3)
        out.pointee.bulk("type")
        out.pointee.bulk("range")
        out.pointee.bulk("spec")
        out.pointee.mapHeader(3, resp3: resp3)
        out.pointee.bulk("lastkey")
        out.pointee.integer(keys.last)
        out.pointee.bulk("keystep")
        out.pointee.integer(keys.step)
        out.pointee.bulk("limit")
        out.pointee.integer(0)
    }

    // COMMAND LIST

    /// COMMAND LIST [FILTERBY MODULE m | ACLCAT c | PATTERN p]. A filter also finds subcommands.
    private static func commandList(_ x: inout Execution) {
        let rows = CommandTable.standard.rows
        guard x.count > 2 else {
            x.output.pointee.arrayHeader(rows.count)
            for row in rows { x.output.pointee.bulk(row.name) }
            return
        }
        guard x.count == 5, x.argument(2, is: "FILTERBY") else { return x.error("ERR syntax error") }
        let wanted = x.argument(4)
        var names: [StaticString] = []
        if x.argument(3, is: "ACLCAT") {
            let category = "@" + wanted.lowercased
            func isOf(_ facts: CommandFacts) -> Bool {
                facts.categories.description.split(separator: " ").contains { $0 == category }
            }
            names = rows.filter { isOf($0.facts) }.map(\.name)
            names += CommandTable.subcommandRows.filter { isOf($0.facts) }.map(\.name)
        } else if x.argument(3, is: "PATTERN") {
            guard let glob = Glob(wanted.bytes) else { return x.error(Glob.lengthError) }
            defer { glob.deallocate() }
            names = (rows.map(\.name) + CommandTable.subcommandRows.map(\.name)).filter {
                glob.matches(UnsafeRawBufferPointer(start: $0.utf8Start, count: $0.utf8CodeUnitCount))
            }
        } else if !x.argument(3, is: "MODULE") {
            return x.error("ERR syntax error")
        }
        x.output.pointee.arrayHeader(names.count)
        for name in names { x.output.pointee.bulk(name) }
    }

    // COMMAND DOCS

    private static func commandDocs(_ x: inout Execution) {
        var rows = CommandTable.standard.rows
        if x.count > 2 {
            rows = (2..<x.count).compactMap { CommandTable.standard.find(x.argument($0)) }
                .map { CommandTable.standard.rows[$0] }
        }
        let out = x.output
        out.pointee.mapHeader(rows.count, resp3: x.resp3)
        for row in rows {
            out.pointee.bulk(row.name)
            out.pointee.mapHeader(4, resp3: x.resp3)
            out.pointee.bulk("summary")
            out.pointee.bulk(row.summary)
            out.pointee.bulk("since")
            out.pointee.bulk(row.since)
            out.pointee.bulk("group")
            out.pointee.bulk(row.group)
            out.pointee.bulk("complexity")
            out.pointee.bulk(row.complexity)
        }
    }

    // COMMAND GETKEYS

    /// The keys of a whole command; with flags, each in an array with what the command does with it.
    private static func commandGetKeys(_ x: inout Execution, withFlags: Bool) {
        guard x.count >= 3 else { return x.wrongArity(withFlags ? "command|getkeysandflags" : "command|getkeys") }
        guard let index = CommandTable.standard.find(x.argument(2)) else {
            return x.error("ERR Invalid command specified")
        }
        let (row, count) = (CommandTable.standard.rows[index], x.count - 2)
        var (keys, facts, accepts) = (row.keys, row.facts, row.accepts(count))
        if row.flags.contains(.subcommands), x.count > 3 {
            let name = row.nameText + "|" + x.argument(3).lowercased
            guard let sub = CommandTable.subcommandRows.first(where: { $0.nameText == name }) else {
                return x.error("ERR Invalid command specified")
            }
            (keys, facts) = (sub.keys, sub.facts)
            accepts = sub.accepts(count)
        }
        if keys.isNone { return x.error("ERR The command has no key arguments") }
        guard accepts else { return x.error("ERR Invalid number of arguments specified for command") }
        let positions = Array(keys.range(count))
        x.output.pointee.arrayHeader(positions.count)
        for position in positions {
            if withFlags { x.output.pointee.arrayHeader(2) }
            x.output.pointee.bulk(x.argument(position + 2).bytes)
            guard withFlags else { continue }
            let flags = KeySpecification.all(facts.specifications).last { $0.first <= position }?.flags ?? []
            x.output.pointee.setHeader(flags.count, resp3: x.resp3)
            for flag in flags { x.output.pointee.simple(flag) }
        }
    }

    private static let commandHelp = [
        "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "(no subcommand)", "    Return details about all commands.",
        "COUNT", "    Return the total number of commands in this server.",
        "DOCS [<command-name> ...]", "    Return documentation details about multiple commands.",
        "GETKEYS <full-command>", "    Return the keys from a full command.",
        "GETKEYSANDFLAGS <full-command>", "    Return the keys and the access flags from a full command.",
        "INFO [<command-name> ...]", "    Return details about multiple commands.",
        "LIST [FILTERBY MODULE|ACLCAT|PATTERN <arg>]", "    Return a list of all commands in this server.",
        "HELP", "    Prints this help.",
    ]
}

/// One specification of keys, as a row has it in a line.
private struct KeySpecification {
    var flags: [String]
    var first, last, step: Int
    var notes: String?

    static func all(_ text: StaticString) -> [KeySpecification] {
        text.description.split(separator: ";").map { line in
            let parts = line.split(separator: "/", maxSplits: 4)
            return KeySpecification(
                flags: parts[0].split(separator: " ").map(String.init), first: Int(parts[1])!, last: Int(parts[2])!,
                step: Int(parts[3])!, notes: parts.count > 4 ? String(parts[4]) : nil)
        }
    }
}
