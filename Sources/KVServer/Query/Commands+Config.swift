// CONFIG: settings shown, and those changed that may change while the server runs. Handlers; loop thread.

import KVBase
import Logging
import RESP

extension Commands {
    @Sendable static func config(_ x: inout Execution) {
        switch x.argument(1) {
        case let sub where sub.equals("GET"):
            guard x.count >= 3 else { return x.wrongArity("config|get") }
            configGet(&x)
        case let sub where sub.equals("SET"):
            guard x.count >= 4, x.count % 2 == 0 else { return x.wrongArity("config|set") }
            configSet(&x)
        case let sub where sub.equals("RESETSTAT"):
            guard x.count == 2 else { return x.wrongArity("config|resetstat") }
            for statistics in x.shard.context.statistics { statistics.requestReset() }
            x.shard.publish()
            x.output.pointee.ok()
        case let sub where sub.equals("REWRITE"):
            guard x.count == 2 else { return x.wrongArity("config|rewrite") }
            configRewrite(&x)
        case let sub where sub.equals("HELP"):
            x.help([
                "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                "GET <pattern>", "    Return parameters matching the glob-like <pattern> and their values.",
                "SET <directive> <value>", "    Set the configuration <directive> to <value>.",
                "RESETSTAT", "    Reset statistics reported by the INFO command.",
                "REWRITE", "    Rewrite the configuration file.",
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

    /// All of the pairs, or none.
    private static func configSet(_ x: inout Execution) {
        let known = x.shard.context.settings
        var changes: [() -> Void] = []
        var seen: Set<String> = []
        for k in stride(from: 2, to: x.count, by: 2) {
            let name = x.argument(k).lowercased
            guard known.contains(where: { $0.name == name }) else {
                return x.output.pointee.error(
                    "ERR Unknown option or number of arguments for CONFIG SET - '\(x.argument(k).printable(max: 128))'")
            }
            guard seen.insert(name).inserted else { return refuse(&x, name, "duplicate parameter") }
            guard let setting = LiveSetting.all.first(where: { $0.name == name }) else {
                return refuse(&x, name, "can't set immutable config")
            }
            do throws(LiveSettingError) { changes.append(try setting.change(x.shard.context, x.text(k + 1))) } catch {
                return refuse(&x, name, error.reason)
            }
        }
        for change in changes { change() }
        x.shard.context.live.noteChanged(seen)
        x.shard.settingsChanged()
        let names = seen.sorted().joined(separator: ", ")
        x.shard.context.log.notice(
            "CONFIG SET changed \(names)", metadata: ["client": "\(x.session.state.pointee.peer)"])
        x.output.pointee.ok()
    }

    /// What CONFIG SET has changed goes into the file, at its place, or at the end.
    private static func configRewrite(_ x: inout Execution) {
        let context = x.shard.context
        guard let path = context.config.file else { return x.error("ERR The server is running without a config file") }
        let changed = context.live.changed.sorted()
        let values = Dictionary(context.settings.map { ($0.name, $0.value) }) { first, _ in first }
        do throws(ConfigError) {
            try ConfigFile.rewrite(path, changed.compactMap { name in values[name].map { (name, $0) } })
            x.output.pointee.ok()
        } catch { x.output.pointee.error("ERR Rewriting config file: \(error.description)") }
    }

    private static func refuse(_ x: inout Execution, _ name: String, _ reason: String) {
        x.output.pointee.error("ERR CONFIG SET failed (possibly related to argument '\(name)') - \(reason)")
    }
}
