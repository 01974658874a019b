// A first-time player who knows nothing but what is on the screen gets to the first GPU without `help`.

@testable import CMUDCore
import Foundation
import KVBase
import KVTestTraits
import Testing

/// Types only what it has read: the newest command in backquotes, else what last worked. It never types `help`.
private struct Reader {
    private(set) var known: [String] = []
    private var last = ""

    /// The words between backquotes that are commands with all their arguments filled in.
    private static func commands(in line: String) -> [String] {
        line.split(separator: "`", omittingEmptySubsequences: false).enumerated().filter { $0.offset % 2 == 1 }
            .map { String($0.element) }
            .filter { text in
                guard let word = text.split(separator: " ").first,
                    case .one(let command) = GameCommand.match(String(word))
                else { return false }
                return [.mine, .buy, .solve, .resign, .shop].contains(command) && text == text.lowercased()
            }
    }

    mutating func next(_ lines: [String]) -> String {
        var advice: [String] = []
        for line in lines {
            let found = Reader.commands(in: line)
            if !found.isEmpty { advice = found }
            for command in found where !known.contains(command) { known.append(command) }
        }
        let enough = lines.last { $0.contains("enough for") }
        var choice = last
        if let first = advice.first(where: { $0 != last || $0.hasPrefix("mine") || $0.hasPrefix("solve") }) {
            choice = first
        } else if enough != nil, !last.hasPrefix("buy"), let buy = known.last(where: { $0.hasPrefix("buy") }) {
            choice = buy
        } else if last.hasPrefix("buy") || last == "resign" || last == "shop" || last.isEmpty {
            choice = known.last { $0.hasPrefix("mine ") } ?? known.last { $0.hasPrefix("mine") } ?? "mine"
        } else if last == "solve" || last.hasPrefix("solve") {
            choice = known.last { $0.hasPrefix("solve ") } ?? "solve"
        }
        last = choice
        return choice
    }
}

@Suite(.blocking) struct FirstPlayerTests {
    @Test func readingTheScreenIsEnoughForTheFirstGPU() throws {
        let world = SimWorld(seed: 15_440)
        let ada = world.join(nil) {
            $0.isBackground = false
            $0.story = .fast
        }
        world.run(for: 1_000)
        let start = world.now
        world.command(ada, "ada")
        world.waitUntilIn(ada)
        var reader = Reader()
        var read = 0
        var typed = 0
        while ada.session.ledgerNow.bought[Item.gpu.rawValue] == 0, typed < 150, ada.session.ending == nil {
            let fresh = Array(ada.transcript[read...])
            read = ada.transcript.count
            let line = reader.next(fresh)
            #expect(!line.hasPrefix("help"))
            world.command(ada, line)
            typed += 1
        }
        let minutes = Double(world.now - start) / 60_000
        print("first GPU after \(typed) commands, \((minutes * 10).rounded() / 10) min")
        #expect(ada.session.ledgerNow.bought[Item.gpu.rawValue] > 0, "\(ada.text.suffix(3_000))")
        #expect(ada.failures.count <= 2, "\(ada.failures)")
        world.command(ada, "quit")
        try record(ada, typed: typed, minutes: minutes)
    }

    /// With CMUD_GOLDEN=write the transcript becomes the document.
    private func record(_ ada: SimPlayer, typed: Int, minutes: Double) throws {
        guard ProcessInfo.processInfo.environment["CMUD_GOLDEN"] == "write" else { return }
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let text = """
            # From the first prompt to the first GPU

            A first-time player who reads only what is on the screen and never types `help`. The "player" is a
            program that knows nothing of the game: it types the newest command it has read between backquotes, or
            else what worked last (`Tests/CMUDCoreTests/FirstPlayerTests.swift`; with `CMUD_GOLDEN=write` in the
            environment the test writes this page). Line mode, pace `standard`, virtual time: \(typed) commands,
            \((minutes * 10).rounded() / 10) minutes.

            ```
            \(ada.transcript.joined(separator: "\n"))
            ```

            """
        let file = root.appendingPathComponent("docs/cmud/first-gpu-transcript.md")
        try text.write(to: file, atomically: true, encoding: .utf8)
    }
}
