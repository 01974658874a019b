// The page on bytes of files, judged by a reader in another language that was written from it alone.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct FormatsTests {
    private struct Entry {
        var version: String
        var value: String?
    }

    /// What the reader prints of a directory: of each key the greatest version.
    private func read(_ python: String, _ path: String) throws -> [String: Entry] {
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let script = tests.appendingPathComponent("Formats/read_directory.py").path
        let ended = try Tool.run(python, [script, path])
        #expect(ended.code == 0, "\(ended.errors)")
        var newest: [String: (order: String, entry: Entry)] = [:]
        for line in ended.output.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 4, omittingEmptySubsequences: false).map(String.init)
            guard words.count == 5 else {
                Issue.record("\(line)")
                continue
            }
            let uid = words[1].split(separator: "/")
            func padded(_ text: Substring) -> String { String(repeating: "0", count: 20 - text.count) + text }
            let order = words[0] + uid[0] + padded(uid[1]) + padded(uid[2])
            guard newest[words[3]].map({ $0.order < order }) ?? true else { continue }
            newest[words[3]] = (order, Entry(version: words[0], value: words[2] == "value" ? words[4] : nil))
        }
        return newest.mapValues(\.entry)
    }

    @Test func aReaderWrittenFromThePageAgrees() throws {
        guard let python = Tool.path("python3") else { return print("skipped: python3 is not installed") }
        let directory = TestDirectory()
        let server = try KVDProcess(arguments: ["--dir", directory.path("data")], actors: 2)
        let client = try server.connect()
        for i in 0..<200 { #expect(try client.command("SET", "key:\(i)", "value \(i)") == "+OK\r\n") }
        #expect(try client.command("SAVE") == "+OK\r\n")
        for i in 150..<300 { #expect(try client.command("SET", "key:\(i)", "second \(i)") == "+OK\r\n") }
        #expect(try client.command("DEL", "key:3", "key:200") == ":2\r\n")
        #expect(try client.command("SET", "later", "x y", "PXAT", "4000000000000") == "+OK\r\n")
        var millis: [String: String] = [:]
        for i in [1, 149, 150, 299] {
            // *2, then an integer: the milliseconds of the version.
            let reply = try client.command("KVD", "VERSION", "key:\(i)").split(separator: "\r\n")
            millis["key:\(i)"] = String(reply[1].dropFirst())
        }
        _ = server.end()
        let found = try read(python, directory.path("data"))
        #expect(found.count == 301, "\(found.count)")
        for i in 0..<300 {
            let value = i == 3 || i == 200 ? nil : (i < 150 ? "value \(i)" : "second \(i)")
            #expect(found["key:\(i)"] != nil && found["key:\(i)"]?.value == value, "key:\(i)")
        }
        #expect(found["later"]?.value == "x y")
        for (key, version) in millis { #expect(found[key]?.version == version) }
    }

    @Test func theReaderNoticesADamagedManifest() throws {
        guard let python = Tool.path("python3") else { return print("skipped: python3 is not installed") }
        let directory = TestDirectory()
        _ = try KVDProcess(arguments: ["--dir", directory.path("data")], actors: 1).end()
        var text = try String(contentsOfFile: directory.path("data/MANIFEST"), encoding: .utf8)
        text = text.replacingOccurrences(of: "actors 1", with: "actors 2")
        try text.write(toFile: directory.path("data/MANIFEST"), atomically: true, encoding: .utf8)
        let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let script = tests.appendingPathComponent("Formats/read_directory.py").path
        let ended = try Tool.run(python, [script, directory.path("data")])
        #expect(ended.code != 0 && ended.errors.contains("MANIFEST"))
    }
}
