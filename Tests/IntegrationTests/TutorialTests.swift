// The tutorial of KVRuntime, as it is printed: its code is the example's, and the example runs in two processes.

import Foundation
import KVTestTraits
import Testing

@Suite(.blocking, .serialized) struct TutorialTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    @Test func itsCodeIsTheExamples() throws {
        func text(_ path: String) throws -> String {
            try String(contentsOf: Self.root.appendingPathComponent(path), encoding: .utf8)
        }
        let example = try text("Sources/visits-example/main.swift")
        let page = try text("Sources/KVRuntime/KVRuntime.docc/TwoProcesses.md")
        let blocks = page.components(separatedBy: "```swift\n").dropFirst().map { $0.components(separatedBy: "```")[0] }
        #expect(blocks.count == 5)
        for block in blocks { #expect(example.contains(block), "not in the example:\n\(block)") }
    }

    /// Without a key, and with one: then nobody counts who has not got it.
    @Test(arguments: ["", String(repeating: "5a", count: 32)])
    func anActorIsAskedFromAnotherProcess(_ key: String) throws {
        let program = KVDProcess.directory.appendingPathComponent("visits-example")
        let serving = Process()
        let (input, output) = (Pipe(), Pipe())
        let environment = key.isEmpty ? [:] : ["VISITS_KEY": key]
        serving.executableURL = program
        serving.arguments = ["serve"]
        serving.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        (serving.standardInput, serving.standardOutput) = (input, output)
        try serving.run()
        defer {
            serving.terminate()
            serving.waitUntilExit()
        }
        let uid = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
            .trimmingCharacters(in: .newlines)
        #expect(uid.hasPrefix("127.0.0.1:") && uid.hasSuffix("/1"), "\(uid)")
        if !key.isEmpty { #expect(try Tool.run(program.path, ["visit", uid, "Mallory"]).code != 0) }
        for (name, count) in [("Ada", "1\n"), ("Grace", "2\n")] {
            let ended = try Tool.run(program.path, ["visit", uid, name], environment: environment)
            #expect(ended.code == 0 && ended.output == count, "\(ended.output) \(ended.errors)")
        }
    }
}
