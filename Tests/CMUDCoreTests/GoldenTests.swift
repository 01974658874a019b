// Line mode word for word: the same seed and the same virtual time give the same transcript. To accept a change on
// purpose, run with CMUD_GOLDEN=write and read the difference.

@testable import CMUDCore
import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct GoldenTests {
    private func golden(_ name: String, _ text: String) throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Golden")
        let file = folder.appendingPathComponent(name + ".txt")
        if ProcessInfo.processInfo.environment["CMUD_GOLDEN"] == "write" {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
            return try (text + "\n").write(to: file, atomically: true, encoding: .utf8)
        }
        let wanted = try String(contentsOf: file, encoding: .utf8).split(
            separator: "\n", omittingEmptySubsequences: false)
        let found = (text + "\n").split(separator: "\n", omittingEmptySubsequences: false)
        for (index, pair) in zip(wanted, found).enumerated() where pair.0 != pair.1 {
            Issue.record("\(name) line \(index + 1): wanted \"\(pair.0)\", found \"\(pair.1)\"")
            return
        }
        #expect(wanted.count == found.count, "\(name): \(wanted.count) lines wanted, \(found.count) found")
    }

    private static let tour = [
        "mine 3", "shop", "buy cpu", "inv", "stats", "problem", "solve", "solve 2", "resign", "say hello", ":waves",
        "map", "who",
        "move 4", "study 3", "learn", "hint", "move 3", "coffee",
        "move fence", "paint HELLO 2010", "look", "history", "set", "hints off", "help mine", "scores", "mien",
        "buy gpu", "quit",
    ]

    @Test(arguments: [false, true]) func aFirstVisit(isReader: Bool) throws {
        let world = SimWorld(seed: 440)
        let ada = world.join(nil) {
            $0.isBackground = false
            $0.story = .fast
            $0.isReader = isReader
        }
        world.command(ada, "ada")
        world.waitUntilIn(ada)
        for line in GoldenTests.tour { world.command(ada, line) }
        #expect(ada.session.ending == .quit)
        try golden(isReader ? "first-visit-reader" : "first-visit", ada.text)
        if isReader {
            #expect(!ada.text.contains("[#") && !ada.text.contains("  CMUD"), "nothing drawn")
            #expect(!ada.heard("A block!"), "repeats are merged into the summary")
        }
    }
}
