// The table of settings: flags, the file, and the pages that are made of it.

import Foundation
import KVTestTraits
import Testing

@testable import KVServer

@Suite(.blocking) struct SettingsTests {
    private func file(_ text: String) throws -> String {
        let path = NSTemporaryDirectory() + "kvd-settings-\(UUID().uuidString)"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }

    private func message(_ body: () throws(ConfigError) -> Void) -> String? {
        do throws(ConfigError) {
            try body()
            return nil
        } catch { return error.description }
    }

    @Test func everySettingHasItsTextAndTheOtherWayRound() {
        let shown = Config.names.filter { !$0.hasPrefix("debug-") }
        #expect(Set(SettingText.all.map(\.name)) == Set(shown))
        #expect(SettingText.all.count == shown.count)
        for text in SettingText.all {
            #expect(text.help.hasSuffix("."), "\(text.name)")
            for choice in text.choices {
                let found = message { () throws(ConfigError) in
                    let isLoopback = text.name != "trust-the-network"
                    _ = try Config.resolve(flags: [(text.name, isLoopback ? choice : "yes")], environment: [:])
                }
                // A choice may need a file that another setting names; then that is what is said.
                let needs = [" needs --tls-", " goes with --restore FILE"]
                #expect(
                    found.map { found in needs.contains { found.contains($0) } } ?? true,
                    "\(text.name) \(choice): \(found ?? "")")
            }
        }
    }

    /// Where the default is one value, a server with it is as one without.
    @Test func defaultsInTheTextsAreThoseThatCount() throws {
        let context = { (config: Config) in
            ServerContext(config: config, serverID: 1, hashSeed: 1, digestKey: 1, inputOutput: "none").settings
        }
        let plain = context(Config())
        for text in SettingText.all where text.byDefault != "none" && !text.byDefault.contains(" ") {
            let config = try Config.resolve(flags: [(text.name, text.byDefault)], environment: [:])
            for (a, b) in zip(plain, context(config)) { #expect(a.value == b.value, "\(text.name): \(a.name)") }
        }
    }

    @Test func flagsAreReadByTheTable() throws {
        let parsed = try FlagParser.parse([
            "--port", "7000", "--actors=2", "--trust-the-network", "--join", "a:1", "--join=b:2", "--config", "f",
            "--debug-clock-offset-ms", "-5",
        ])
        #expect(
            parsed.flags.map { "\($0.name) \($0.value)" } == [
                "port 7000", "actors 2", "trust-the-network yes", "join a:1", "join b:2", "debug-clock-offset-ms -5",
            ])
        #expect(parsed.file == "f" && !parsed.wantsHelp && !parsed.wantsVersion)
        #expect(try FlagParser.parse(["-h"]).wantsHelp && FlagParser.parse(["--version"]).wantsVersion)
        for (words, part) in [
            (["--prot", "1"], "did you mean port?"), (["--port"], "--port has no value"),
            (["--port", "--actors"], "--port has no value"), (["x"], "'x' is no flag"),
            (["-p", "1"], "'-p' is no flag"),
            (["--"], "'--' is no flag"), (["--metrics-adress=x"], "did you mean metrics-address?"),
            (["--qwertyuiop", "1"], "none has a name like it"),
        ] {
            let text = message { () throws(ConfigError) in _ = try FlagParser.parse(words) }
            #expect(text?.contains(part) == true, "\(words): \(text ?? "-")")
        }
    }

    @Test func theNearestNameIsNamed() throws {
        let names = SettingText.all.map(\.name)
        for (wrong, right) in [
            ("prot", "port"), ("PORT", "port"), ("actor", "actors"), ("maxclient", "maxclients"),
            ("loglevel", "log-level"),
            ("cluster-keyfile", "cluster-key-file"), ("requirepass", "requirepass-file"), ("zzz", nil), ("", nil),
        ] { #expect(NearestName.of(wrong, among: names) == right, "\(wrong)") }
        let distances = [("", "abc", 3), ("abc", "acb", 1), ("kitten", "sitting", 3), ("same", "same", 0)]
        for (a, b, distance) in distances {
            #expect(NearestName.distance(Array(a.utf8), Array(b.utf8)) == distance)
            #expect(NearestName.distance(Array(b.utf8), Array(a.utf8)) == distance)
        }
        let path = try file("port 7000\n\n# x\nmetric-address 1\n")
        defer { try? FileManager.default.removeItem(atPath: path) }
        let text = message { () throws(ConfigError) in
            _ = try Config.resolve(flags: [], environment: [:], file: path)
        }
        #expect(text == "\(path) line 4: metric-address: unknown setting; did you mean metrics-address?")
    }

    @Test func whatWouldCountIsTold() throws {
        let path = try file("port 7000\nactors 3\njoin a:1\njoin b:2\n")
        defer { try? FileManager.default.removeItem(atPath: path) }
        let lines = try Config.report(
            flags: [("port", "9000")], environment: ["KVD_ACTORS": "2"], file: path)
        #expect(
            lines == [
                "port 9000  # --port", "actors 2  # KVD_ACTORS", "join a:1  # \(path) line 3",
                "join b:2  # \(path) line 4",
            ], "\(lines)")
        #expect(try Config.report(flags: [], environment: [:]) == ["# every setting has its default"])
    }

    // MARK: Pages

    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// `kvd settings markdown > docs/configuration.md && scripts/wrap docs/configuration.md` makes it so.
    @Test func thePageOfSettingsIsOfThisTable() throws {
        let page = try String(contentsOf: Self.root.appendingPathComponent("docs/configuration.md"), encoding: .utf8)
        func words(_ text: String) -> [Substring] { text.split(whereSeparator: \.isWhitespace) }
        #expect(words(page) == words(SettingPages.markdown))
    }

    @Test func theFileOfTheServiceIsReadAsItIs() throws {
        let conf = SettingPages.conf
        let path = try file(conf)
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(try Config.report(flags: [], environment: [:], file: path) == ["# every setting has its default"])
        // Each line that is commented out is a setting's.
        let names = conf.split(separator: "\n").compactMap { line -> String? in
            guard line.hasPrefix("#"), let second = line.dropFirst().first, second != " " else { return nil }
            return line.dropFirst().split(separator: " ").first.map(String.init)
        }
        #expect(
            names
                == SettingText.Group.allCases.flatMap { group in
                    SettingText.all.filter { $0.group == group }.map(\.name)
                })
        for line in conf.split(separator: "\n") { #expect(line.count <= 104, "\(line)") }
    }

    @Test func helpManAndCompletionsNameEverySetting() {
        for text in SettingText.all {
            #expect(SettingPages.help.contains("  --\(text.name)"), "\(text.name)")
            #expect(SettingPages.bash.contains("--\(text.name) "), "\(text.name)")
            #expect(SettingPages.zsh.contains("'--\(text.name)["), "\(text.name)")
            let dashed = text.name.replacingOccurrences(of: "-", with: "\\-")
            #expect(SettingPages.man.contains(".B \\-\\-\(dashed)"), "\(text.name)")
        }
        for line in SettingPages.help.split(separator: "\n") { #expect(line.count <= 110, "\(line)") }
        #expect(SettingPages.byName.map(\.name) == ["markdown", "conf", "man", "bash", "zsh"])
    }

    @Test func aFileIsRewrittenInItsPlaces() throws {
        let text = "# first\nport 7000\nmaxclients 5 # few\n\n#max-lag 3\njoin a:1"
        #expect(
            ConfigFile.rewritten(text, [("maxclients", "9"), ("max-lag", "10")])
                == "# first\nport 7000\nmaxclients 9\n\n#max-lag 3\njoin a:1\nmax-lag 10\n")
        #expect(ConfigFile.rewritten("", []) == "\n" || ConfigFile.rewritten("", []) == "")
        let path = try file(text)
        defer { try? FileManager.default.removeItem(atPath: path) }
        chmod(path, 0o640)
        try ConfigFile.rewrite(path, [("port", "7001")])
        #expect(try String(contentsOfFile: path, encoding: .utf8).contains("\nport 7001\n"))
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode == 0o640)
        #expect(throws: ConfigError.self) { try ConfigFile.rewrite("/nonexistent/f", []) }
    }
}
