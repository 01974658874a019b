// TIME, CONFIG and INFO. Handlers; loop thread.

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

    // CONFIG

    @Sendable static func config(_ x: inout Execution) {
        switch x.argument(1) {
        case let sub where sub.equals("GET"):
            guard x.count >= 3 else { return x.wrongArity("config|get") }
            configGet(&x)
        case let sub where sub.equals("SET"):
            guard x.count >= 4 else { return x.wrongArity("config|set") }
            configSet(&x)
        case let sub where sub.equals("RESETSTAT"):
            guard x.count == 2 else { return x.wrongArity("config|resetstat") }
            for statistics in x.shard.context.statistics { statistics.requestReset() }
            x.shard.publish()
            x.output.pointee.ok()
        case let sub where sub.equals("HELP"):
            x.help([
                "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                "GET <pattern>", "    Return parameters matching the glob-like <pattern> and their values.",
                "SET <directive> <value>", "    Set the configuration <directive> to <value>.",
                "RESETSTAT", "    Reset statistics reported by the INFO command.",
                "HELP", "    Prints this help.",
            ])
        default: x.unknownSubcommand(of: "CONFIG")
        }
    }

    /// The one setting that may change while the server runs.
    private static func configSet(_ x: inout Execution) {
        guard x.count == 4, x.argument(2).equals("MAXMEMORY") else {
            return x.output.pointee.error(
                "ERR Unknown option or number of arguments for CONFIG SET - '\(x.argument(2).printable(max: 128))'")
        }
        guard let bytes = MemoryLimit.parse(x.text(3)) else {
            return x.output.pointee.error(
                "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value")
        }
        x.shard.context.memory.set(bytes)
        x.shard.state.pointee.headroom.noticeLimit()
        x.output.pointee.ok()
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
