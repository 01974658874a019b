// The words a player types: what is understood, what help says, and that a question changes nothing.

@testable import CMUDCore
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct CommandTests {
    private func screen(_ event: Event) -> [String] {
        let renderer = Renderer()
        return renderer.rows(renderer.lines(event), width: 80).map(\.text)
    }

    // MARK: help

    @Test func helpFitsAScreenAndNamesEveryCommand() {
        let lines = screen(.help(isSolving: false))
        for command in GameCommand.allCases {
            #expect(lines.contains { $0.split(whereSeparator: { !$0.isLetter }).contains { $0 == command.rawValue } })
        }
        #expect(lines[0].contains("mine 5") && !lines[0].contains("resign"))
        #expect(screen(.help(isSolving: true)).prefix(3).joined().contains("resign"))
        let events: [Event] =
            [.help(isSolving: false), .help(isSolving: true)] + CommandGroup.allCases.map { .helpGroup($0) }
            + GameCommand.allCases.map { .helpTopic($0) }
        for event in events {
            let rows = screen(event)
            // A screen of 24 rows keeps the typed line and the next prompt.
            #expect(rows.count <= 22 && rows.allSatisfy { Columns.of($0) <= 80 }, "\(rows)")
        }
        for event in events { #expect(!Renderer(isReader: true).lines(event).contains { $0.text.contains("   ") }) }
    }

    @Test func eachStepOfHelpSaysMoreThanTheOneBefore() {
        for group in CommandGroup.allCases {
            let rows = screen(.helpGroup(group)).joined(separator: " ")
            for command in GameCommand.allCases where command.group == group { #expect(rows.contains(command.usage)) }
        }
        for command in GameCommand.allCases {
            let topic = Renderer().lines(.helpTopic(command)).map(\.text)
            #expect(topic.contains { $0.count > 30 && !$0.contains(command.summary) }, "\(topic)")
        }
        let world = SimWorld(seed: 1)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        for line in ["help", "help people", "help Play", "help mine"] { world.command(ada, line) }
        #expect(ada.failures.isEmpty && ada.heard("tell WHO TEXT") && ada.heard("nine times in ten"))
    }

    @Test func anExampleIsWhatOneTypesAndNothingElse() {
        for command in GameCommand.allCases {
            #expect(!command.example.contains("`") && !command.example.contains("  "), "\(command.example)")
            let word = command.example.prefix { $0.isLetter }
            if word.isEmpty {
                #expect([GameCommand.say, .emote].contains(command))
            } else {
                #expect(GameCommand.match(String(word)) == .one(command))
            }
        }
        let world = SimWorld(seed: 2)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        for line in ["say", "emote", "tell", "reply", "shout", "paint", "gift", "buy", "mentor"] {
            world.command(ada, line)
            let quotes = ada.failures.last?.count { $0 == "`" } ?? 1
            #expect(quotes % 2 == 0, "\(ada.failures.last ?? "")")
        }
    }

    // MARK: words

    @Test func oneLetterIsEnoughForWhatIsTypedMost() {
        let meant: [String: GameCommand] = [
            "m": .mine, "b": .buy, "s": .say, "t": .tell, "l": .look, "i": .inv, "p": .problem, "q": .quit, "w": .who,
            "r": .reply, "h": .help, "e": .emote, "g": .gift,
        ]
        for (letter, command) in meant { #expect(GameCommand.match(letter) == .one(command), "\(letter)") }
        for letter in Set(GameCommand.allCases.map { String($0.rawValue.prefix(1)) }) {
            if case .one = GameCommand.match(letter) { continue }
            Issue.record("\(letter) is ambiguous")
        }
    }

    @Test func aCommandIsNotBrokenOverTwoRows() {
        let line = Line(
            "You step back: breakages took your power from 4,329 to 2,720. `solve 20` goes on; `resign`, `mine 10` and "
                + "`buy max` rebuild.")
        for width in 24...120 {
            let rows = line.wrapped(width).map(\.text)
            #expect(rows.allSatisfy { row in row.count { $0 == "`" } % 2 == 0 }, "\(width): \(rows)")
            #expect(rows.allSatisfy { Columns.of($0) <= width })
            #expect(rows.joined(separator: " ").split(separator: " ") == line.text.split(separator: " "), "\(width)")
        }
        // A backquote that somebody types binds nothing.
        let said = Line("bob says: ` " + String(repeating: "word ", count: 40)).wrapped(30)
        #expect(said.count > 5 && said.allSatisfy { $0.text.hasSuffix("word") || $0.text.hasSuffix("word ") })
    }

    @Test func semicolonsAreMentionedWhereOneCutALine() {
        let world = SimWorld(seed: 3)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        for line in ["@", "@who", "#", "!", "\"hi"] {
            world.command(ada, line)
            #expect(ada.failures.last?.contains("semicolon") == false, "\(ada.failures.last ?? "")")
        }
        for line in ["say see you ;)", "say 3;4", "'tuning first; you theory", "tell ada yes; 5 more tries"] {
            world.command(ada, line)
            #expect(ada.failures.last?.contains("`;;` writes a semicolon") == true)
        }
        world.command(ada, "look; frobnicate")
        #expect(ada.failures.last?.contains("semicolon") == false, "nothing was said")
    }

    @Test func aQuestionChangesNoSetting() {
        let world = SimWorld(seed: 4)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        for line in ["hint", "hints", "brief", "set hints", "set brief", "set reader", "hi"] {
            world.command(ada, line)
        }
        #expect(ada.heard("Next: `mine 10`") && ada.heard("Hints are on; `set hints off` changes it."))
        #expect(ada.heard("Brief is off;") && ada.heard("Reader is off;"))
        world.command(ada, "set")
        #expect(ada.transcript.suffix(6).prefix(3) == ["hints: on", "brief: off", "reader: off"])
        world.command(ada, "hints off")
        world.command(ada, "hint")
        #expect(ada.transcript.last?.hasPrefix("Next: ") == true, "advice that is asked for is given all the same")
    }

    // MARK: what is told, and when

    @Test func nothingStandsBetweenAChapterAndItsText() {
        let world = SimWorld(seed: 5)
        world.character("ada", cpus: 900)
        let ada = world.join("ada") { $0.story = .full }
        world.waitUntilIn(ada)
        world.command(ada, "solve 6")
        world.run(for: 60_000)
        let title = ada.transcript.firstIndex { $0.contains("Chapter 2") } ?? -1
        #expect(title > 0)
        let lines = Chapter.of(.masters).lines
        #expect(Array(ada.transcript[(title + 1)...].prefix(lines.count)) == lines, "\(ada.text)")
        #expect(ada.transcript[(title + lines.count)...].contains { $0.contains("The shop now sells GPUs") })
    }

    @Test func joinedEmojiStayOnePicture() {
        let family = "👩\u{200D}👩\u{200D}👧\u{200D}👦"
        #expect(Safe.text("hi \(family)!").string == "hi \(family)!")
        #expect(Safe.text("\(family)").string.count == 1 && Columns.of(Safe.text(family).string) == 2)
        #expect(Safe.text("🏳\u{FE0F}\u{200D}🌈").string.count == 1)
        #expect(Safe.text("👍🏽 👩🏽\u{200D}💻").string.count == 3)
        // Between letters it is a way to write one name in two ways.
        for text in ["a\u{200D}b", "\u{200D}👩", "👩\u{200D}", "👩\u{200D}b", "a\u{200D}👩", "👩 \u{200D}👩", "1\u{200D}2"] {
            #expect(!Safe.text(text).string.unicodeScalars.contains("\u{200D}"), "\(text)")
        }
        let chain = Array(repeating: "👩", count: 50).joined(separator: "\u{200D}")
        #expect(Safe.text(chain).string.count > 10, "no picture without end")
        #expect(Line("hi \(family) é").encoded(color: false, ascii: true) == "hi ? ?")
    }

    @Test func linesAreBrokenForEyesOnly() {
        let long = Line(String(repeating: "word ", count: 60))
        #expect(Renderer().rows([long], width: 40).count > 7)
        #expect(Renderer(isReader: true).rows([long], width: 40) == [long])
        #expect(TelnetPeer().columns == 80, "nc does not say how wide it is")
    }
}
