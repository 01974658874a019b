// What the program says before there is a game, and what it calls itself.

import CMUDCore
import Foundation
import KVTestTraits
import Testing

@Suite(.blocking) struct ComplaintTests {
    @Test func badUsageIsOneSentence() {
        let said = [
            "--listen takes PORT or ADDR:PORT, not \"x\".", "Unknown option '--nonsense'", "Two lines.\nof text.", "",
            ".",
        ].map(Complaint.usage)
        #expect(said[0] == "cmud: --listen takes PORT or ADDR:PORT, not \"x\"; see cmud --help")
        #expect(said[2] == "cmud: Two lines; see cmud --help")
        for line in said { #expect(!line.contains(".;") && !line.contains("\n") && line.hasSuffix("see cmud --help")) }
    }

    @Test(arguments: [98, 13, 99, 111, nil] as [Int32?]) func aPortThatCannotBeHadIsSaidInWords(number: Int32?) {
        let said = Complaint.listen("127.0.0.1", 4_000, errorNumber: number)
        #expect(said.contains("127.0.0.1") && said.contains("--listen") && !said.contains("errno"))
        if number == 98 { #expect(said.contains("127.0.0.1:4000 is taken by another program")) }
    }

    /// The programs are built and shipped together: `cmud --version` says what `kv` and `kvd` say.
    @Test func allProgramsHaveOneVersion() throws {
        let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Sources")
        func text(_ path: String) throws -> String {
            try String(contentsOf: sources.appendingPathComponent(path), encoding: .utf8)
        }
        #expect(try text("KVServer/Version.swift").contains("let kvd = ProductVersion.text"))
        #expect(try text("KVClient/KVClient.swift").contains("let version = ProductVersion.text"))
        #expect(try text("cmud/Options.swift").contains("version: \"cmud \\(KVClient.version)\""))
        #expect(try text("cmud/Gateway.swift").contains("(\"CODEBASE\", \"cmud \\(KVClient.version)\")"))
        for file in try FileManager.default.contentsOfDirectory(atPath: sources.appendingPathComponent("cmud").path) {
            #expect(
                try text("cmud/" + file).firstMatch(of: /"[^"\n]*\b\d+\.\d+\.\d+\b(?!\.)[^"\n]*"/) == nil, "\(file)")
        }
    }
}
