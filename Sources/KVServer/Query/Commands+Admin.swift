// TIME, COMMAND, CONFIG and INFO. Handlers; loop thread.

import Glibc
import KVBase
import RESP

extension Commands {
    @Sendable static func time(_ x: inout Execution) {
        var t = timespec()
        clock_gettime(CLOCK_REALTIME, &t)
        x.output.pointee.arrayHeader(2)
        x.output.pointee.bulk(String(t.tv_sec))
        x.output.pointee.bulk(String(t.tv_nsec / 1000))
    }

    // COMMAND

    @Sendable static func command(_ x: inout Execution) {
        let rows = CommandTable.standard.rows
        let out = x.output
        guard x.count > 1 else {
            out.pointee.arrayHeader(rows.count)
            for row in rows { describe(row, &x) }
            return
        }
        switch x.argument(1) {
        case let sub where sub.equals("COUNT"):
            guard x.count == 2 else { return x.wrongArity("command|count") }
            out.pointee.integer(rows.count)
        case let sub where sub.equals("INFO"):
            if x.count == 2 {
                out.pointee.arrayHeader(rows.count)
                for row in rows { describe(row, &x) }
                return
            }
            out.pointee.arrayHeader(x.count - 2)
            for k in 2..<x.count {
                if let index = CommandTable.standard.find(x.argument(k)) {
                    describe(rows[index], &x)
                } else {
                    out.pointee.nullArray(resp3: x.resp3)
                }
            }
        case let sub where sub.equals("LIST"):
            guard x.count == 2 else { return x.error("ERR syntax error") }
            out.pointee.arrayHeader(rows.count)
            for row in rows { out.pointee.bulk(row.name) }
        case let sub where sub.equals("DOCS"): commandDocs(&x)
        case let sub where sub.equals("GETKEYS"): commandGetKeys(&x)
        case let sub where sub.equals("HELP"): x.help(commandHelp)
        default: x.unknownSubcommand(of: "COMMAND")
        }
    }

    /// The ten elements of Redis 7: name, arity, flags, first, last, step, ACL categories, tips, key specs,
    /// subcommands.
    private static func describe(_ row: CommandRow, _ x: inout Execution) {
        let resp3 = x.resp3
        let out = x.output
        let flags = row.flags
        out.pointee.arrayHeader(10)
        out.pointee.bulk(row.name)
        out.pointee.integer(row.arity)
        out.pointee.setHeader(
            (flags.contains(.readonly) ? 1 : 0) + (flags.contains(.write) ? 1 : 0) + (flags.contains(.fast) ? 1 : 0),
            resp3: resp3)
        if flags.contains(.readonly) { out.pointee.simple("readonly") }
        if flags.contains(.write) { out.pointee.simple("write") }
        if flags.contains(.fast) { out.pointee.simple("fast") }
        out.pointee.integer(row.keys.first)
        out.pointee.integer(row.keys.last)
        out.pointee.integer(row.keys.step)
        var categories: [StaticString] = []
        if flags.contains(.readonly) { categories.append("@read") }
        if flags.contains(.write) { categories.append("@write") }
        if flags.contains(.connection) { categories.append("@connection") }
        if flags.contains(.keyspace) { categories.append("@keyspace") }
        if row.group.description == "string" { categories.append("@string") }
        categories.append(flags.contains(.fast) ? "@fast" : "@slow")
        out.pointee.setHeader(categories.count, resp3: resp3)
        for category in categories { out.pointee.simple(category) }
        out.pointee.arrayHeader(0)
        out.pointee.arrayHeader(row.keys.first == 0 ? 0 : 1)
        if row.keys.first != 0 { describeKeys(row, &x) }
        out.pointee.arrayHeader(0)
    }

    private static func describeKeys(_ row: CommandRow, _ x: inout Execution) {
        let resp3 = x.resp3
        let out = x.output
        out.pointee.mapHeader(3, resp3: resp3)
        out.pointee.bulk("flags")
        out.pointee.setHeader(2, resp3: resp3)
        out.pointee.simple(row.flags.contains(.write) ? "OW" : "RO")
        out.pointee.simple(row.flags.contains(.write) ? "update" : "access")
        out.pointee.bulk("begin_search")
        out.pointee.mapHeader(2, resp3: resp3)
        out.pointee.bulk("type")
        out.pointee.bulk("index")
        out.pointee.bulk("spec")
        out.pointee.mapHeader(1, resp3: resp3)
        out.pointee.bulk("index")
        out.pointee.integer(row.keys.first)
        out.pointee.bulk("find_keys")
        out.pointee.mapHeader(2, resp3: resp3)
        out.pointee.bulk("type")
        out.pointee.bulk("range")
        out.pointee.bulk("spec")
        out.pointee.mapHeader(3, resp3: resp3)
        out.pointee.bulk("lastkey")
        out.pointee.integer(row.keys.last == -1 ? -1 : 0)
        out.pointee.bulk("keystep")
        out.pointee.integer(row.keys.step)
        out.pointee.bulk("limit")
        out.pointee.integer(0)
    }

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

    private static func commandGetKeys(_ x: inout Execution) {
        guard x.count >= 3 else { return x.wrongArity("command|getkeys") }
        guard let index = CommandTable.standard.find(x.argument(2)) else {
            return x.error("ERR Invalid command specified")
        }
        let row = CommandTable.standard.rows[index]
        guard row.accepts(x.count - 2) else { return x.error("ERR Invalid number of arguments specified for command") }
        guard row.keys.first != 0 else { return x.error("ERR The command has no key arguments") }
        let last = row.keys.last == -1 ? x.count - 3 : row.keys.last
        let positions = Array(stride(from: row.keys.first, through: last, by: row.keys.step))
        x.output.pointee.arrayHeader(positions.count)
        for position in positions { x.output.pointee.bulk(x.argument(position + 2).bytes) }
    }

    private static let commandHelp = [
        "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "(no subcommand)", "    Return details about all commands.",
        "COUNT", "    Return the total number of commands in this server.",
        "DOCS [<command-name> ...]", "    Return documentation details about multiple commands.",
        "GETKEYS <full-command>", "    Return the keys from a full command.",
        "INFO [<command-name> ...]", "    Return details about multiple commands.",
        "LIST", "    Return a list of all commands in this server.",
        "HELP", "    Prints this help.",
    ]

    // CONFIG

    @Sendable static func config(_ x: inout Execution) {
        switch x.argument(1) {
        case let sub where sub.equals("GET"):
            guard x.count >= 3 else { return x.wrongArity("config|get") }
            configGet(&x)
        case let sub where sub.equals("SET"):
            guard x.count >= 4 else { return x.wrongArity("config|set") }
            x.output.pointee.error(
                "ERR Unknown option or number of arguments for CONFIG SET - '\(x.argument(2).printable(max: 128))'")
        case let sub where sub.equals("RESETSTAT"):
            guard x.count == 2 else { return x.wrongArity("config|resetstat") }
            for statistics in x.shard.context.statistics { statistics.requestReset() }
            x.shard.publish()
            x.output.pointee.ok()
        case let sub where sub.equals("HELP"):
            x.help([
                "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                "GET <pattern>", "    Return parameters matching the glob-like <pattern> and their values.",
                "RESETSTAT", "    Reset statistics reported by the INFO command.",
                "HELP", "    Prints this help.",
            ])
        default: x.unknownSubcommand(of: "CONFIG")
        }
    }

    /// Names of Redis where a tool asks for them (redis-benchmark: save, appendonly), and the server's own settings.
    private static func configGet(_ x: inout Execution) {
        let settings = x.shard.context.settings
        var chosen = [Bool](repeating: false, count: settings.count)
        for k in 2..<x.count {
            let lowered = x.argument(k).bytes.map { $0 >= 65 && $0 <= 90 ? $0 + 32 : $0 }
            guard let glob = lowered.withUnsafeBytes({ Glob($0) }) else { continue }
            for (index, setting) in settings.enumerated() where !chosen[index] {
                var name = setting.name
                chosen[index] = name.withUTF8 { glob.matches(UnsafeRawBufferPointer($0)) }
            }
            glob.deallocate()
        }
        x.output.pointee.mapHeader(chosen.count(where: { $0 }), resp3: x.resp3)
        for (index, setting) in settings.enumerated() where chosen[index] {
            x.output.pointee.bulk(setting.name)
            x.output.pointee.bulk(setting.value)
        }
    }

    // INFO

    @Sendable static func info(_ x: inout Execution) {
        var wanted: Set<String> = []
        for k in 1..<x.count { wanted.insert(x.argument(k).lowercased) }
        let all = Set(Info.sections.map { $0.0.lowercased() })
        if !wanted.isDisjoint(with: ["all", "everything"]) {
            wanted = all
        } else if wanted.contains("default") {
            wanted.formUnion(all.subtracting(Info.onDemand))
        }
        var text = OutputBuffer(capacity: 4096)
        Info.write(sections: wanted, shard: x.shard, into: &text)
        x.output.pointee.verbatim(text.bytes, resp3: x.resp3)
        text.deallocate()
    }
}
