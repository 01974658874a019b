// The commands of docs/operating.md, run as they stand there, against two servers.

import Foundation
import KVTestTraits
import Testing

@Suite(.blocking) struct OperatingPageTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// The lines between fences without a language.
    private static func commands(of page: String) throws -> [String] {
        let text = try String(contentsOf: root.appendingPathComponent(page), encoding: .utf8)
        var (commands, isCode): ([String], Bool) = ([], false)
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix("```") {
                isCode.toggle()
            } else if isCode {
                commands.append(String(line))
            }
        }
        return commands
    }

    @Test func eachCommandOfThePageDoesWhatItSays() throws {
        guard Tool.path("redis-cli") != nil, Tool.path("curl") != nil, let shell = Tool.path("sh") else {
            print("redis-cli or curl is not installed: the commands of docs/operating.md are not run")
            return #expect(ProcessInfo.processInfo.environment["KVD_REQUIRE_TOOLS"] == nil)
        }
        let config = FileManager.default.temporaryDirectory.appendingPathComponent("kvd-\(UUID().uuidString).conf").path
        defer { try? FileManager.default.removeItem(atPath: config) }
        let directory = TestDirectory()
        try "maxclients 500\n".write(toFile: config, atomically: true, encoding: .utf8)
        let metrics = FreePorts.take(1)
        let server = try KVDProcess(
            arguments: ["--config", config, "--metrics-address", "\(metrics)", "--name", "one"]
                + ["--dir", directory.path("data")], actors: 2,
            before: "ulimit -n 30000 2>/dev/null; true")
        let other = try KVDProcess(arguments: ["--join", "127.0.0.1:\(server.port)", "--name", "two"])
        defer { _ = other.port }
        let deadline = Clock.millis() + 20_000
        while try server.peers().first.map({ $0[2] }) != "up", Clock.millis() < deadline { _ = poll(nil, 0, 50) }
        let commands = try Self.commands(of: "docs/operating.md")
        #expect(commands.count >= 11, "the commands of the page could not be read")
        for command in commands {
            let here = command.replacingOccurrences(of: "6001", with: "\(server.clientPort)")
                .replacingOccurrences(of: "9121", with: "\(metrics)").replacingOccurrences(of: "20000", with: "600")
                .replacingOccurrences(of: "/var/backups", with: directory.path(""))
            let ended = try Tool.run(
                shell, ["-c", here],
                environment: [
                    "KV_SERVER": "127.0.0.1:\(server.clientPort)",
                    "PATH": KVDProcess.directory.path + ":"
                        + (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin"),
                ])
            #expect(ended.code == 0 && !ended.output.hasPrefix("ERR"), "\(here): \(ended)")
            if command.hasSuffix("/readyz") { #expect(ended.output == "ready\n") }
            if command.hasPrefix("kv check") { #expect(ended.output.contains("intact"), "\(ended)") }
            if command == "kv status" { #expect(ended.output.contains("two")) }
        }
        #expect(try String(contentsOfFile: config, encoding: .utf8) == "maxclients 600\n")
    }
}
