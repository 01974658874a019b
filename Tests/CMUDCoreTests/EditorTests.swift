// The line editor and its prompt block, seen through a model of a terminal.

@testable import CMUDCore
import KVBase
import KVTestTraits
import Testing

/// Editor, decoder and block together, as the interactive front end drives them.
struct EditorRig {
    var screen: ScreenModel
    var decoder = KeyParser()
    var editor = Editor()
    var block: PromptBlock
    var prompt = "(mining) > "
    var actions: [EditorAction] = []

    init(width: Int = 40, height: Int = 10) {
        screen = ScreenModel(width: width, height: height)
        block = PromptBlock(width: width, height: height)
        redraw()
    }

    mutating func type(_ text: String) { type(bytes: Array(text.utf8)) }

    mutating func type(bytes: [UInt8]) {
        for key in decoder.feed(bytes) { handle(key) }
    }

    mutating func handle(_ key: Key) {
        let action = editor.handle(key)
        if action != .none { actions.append(action) }
        redraw()
    }

    mutating func redraw(bar: ProgressView? = nil) {
        screen.write(block.erase())
        screen.write(block.draw(bar: bar, prompt: prompt, text: editor.text, cursor: editor.cursor))
    }

    mutating func event(_ text: String) {
        screen.write(block.erase() + text + "\r\n")
        redraw()
    }

    /// As the front end does it: the terminal first breaks its rows anew, then says so.
    mutating func resize(_ width: Int, bar: ProgressView? = nil) {
        screen.resize(width: width)
        block.resize(width: width, height: screen.height)
        screen.write(block.erase())
        redraw(bar: bar)
    }
}

@Suite(.blocking) struct EditorTests {
    @Test func typingAnEventAndTypingOnKeepTheLineWhole() {
        var rig = EditorRig()
        rig.type("say hel")
        rig.event("ada says: hi")
        rig.type("lo")
        #expect(rig.screen.text == "ada says: hi\n(mining) > say hello")
        #expect(rig.screen.column == 20)
        rig.type("\r")
        #expect(rig.actions == [.submit("say hello")])
    }

    @Test func aLineAsLongAsTheWidthIsErasedWhole() {
        for extra in [-1, 0, 1, 39, 40, 41, 80] {
            var rig = EditorRig(width: 40)
            rig.type(String(repeating: "x", count: 29 + extra))
            rig.event("event")
            #expect(rig.screen.rows[0] == "event")
            let typed = rig.screen.rows[1...].joined()
            #expect(typed == "(mining) > " + String(repeating: "x", count: 29 + extra), "\(extra): \(rig.screen.text)")
        }
    }

    @Test func resizingFrom80To40AndBackKeepsTheInput() {
        var rig = EditorRig(width: 80, height: 12)
        rig.event("before")
        rig.type("say the quick brown fox jumps over the lazy dog and on")
        rig.resize(40)
        #expect(rig.screen.text.hasSuffix("(mining) > say the quick brown fox jumps\n over the lazy dog and on"))
        rig.resize(80)
        #expect(rig.screen.text == "before\n(mining) > say the quick brown fox jumps over the lazy dog and on")
    }

    @Test func joinedEmojiAreOneCharacterToType() {
        var rig = EditorRig()
        rig.type("a👩\u{200D}👩\u{200D}👧b")
        #expect(rig.editor.text.count == 3)
        rig.type("\u{1B}[D\u{7F}")
        #expect(rig.editor.line == "ab")
    }

    @Test func wideAndCombiningCharactersMoveAsOne() {
        var rig = EditorRig(width: 20)
        rig.type("'中文e\u{301}x")
        #expect(rig.editor.text.count == 5)
        #expect(rig.screen.column == 11 + 1 + 4 + 1 + 1 - 0)
        rig.type("\u{1B}[D\u{1B}[D\u{1B}[D")
        #expect(rig.screen.column == 11 + 1 + 2)
        rig.type("\u{7F}")
        #expect(rig.editor.line == "'文e\u{301}x")
        rig.type("\u{1B}[3~")
        #expect(rig.editor.line == "'e\u{301}x")
        // A wide character never straddles the edge.
        rig = EditorRig(width: 12)
        rig.type("中")
        #expect(rig.screen.rows[1] == "中" && rig.screen.row == 1)
    }

    @Test func escapeSequencesSurviveAnySplit() {
        let keys = "ab\u{1B}[D\u{1B}[1;5D\u{1B}OC\u{1B}bé中\u{1B}[200~p\u{1B}[201~\u{1B}[3~\r"
        var whole = KeyParser()
        let expected = whole.feed(Array(keys.utf8))
        #expect(expected.contains(.paste("p")) && expected.contains(.wordLeft))
        for seed in UInt64(0)..<50 {
            var random = PRNG(seed: seed)
            var decoder = KeyParser()
            var found: [Key] = []
            var rest = Array(keys.utf8)[...]
            while !rest.isEmpty {
                let count = 1 + random.below(3)
                found += decoder.feed(rest.prefix(count))
                rest = rest.dropFirst(count)
            }
            #expect(found == expected, "seed \(seed)")
        }
    }

    @Test func aLoneEscapeIsAKeyAfterAWhile() {
        var decoder = KeyParser()
        #expect(decoder.feed([0x1B]).isEmpty && decoder.isUndecided)
        #expect(decoder.flush() == [.escape])
        #expect(decoder.feed(Array("a".utf8)) == [.text("a")])
    }

    @Test func arbitraryBytesNeverCrashTheDecoderOrTheEditor() {
        var random = PRNG(seed: 7)
        var rig = EditorRig(width: 30, height: 6)
        for _ in 0..<3_000 {
            rig.type(bytes: (0..<(1 + random.below(6))).map { _ in UInt8(truncatingIfNeeded: random.next()) })
            #expect(rig.editor.cursor <= rig.editor.text.count)
        }
        #expect(rig.screen.unknown.isEmpty)
    }

    @Test func theUsualKeysDoTheUsualThings() {
        var rig = EditorRig()
        rig.type("hello brave world\u{17}")
        #expect(rig.editor.line == "hello brave ")
        rig.type("\u{1}\u{B}")  // Ctrl-A, Ctrl-K
        #expect(rig.editor.line.isEmpty)
        rig.type("\u{19}\u{19}")  // Ctrl-Y twice
        #expect(rig.editor.line == "hello brave hello brave ")
        rig.type("\u{15}ab\u{14}")  // Ctrl-U, Ctrl-T
        #expect(rig.editor.line == "ba")
        rig.type("\u{15}one two\u{1B}b\u{1B}d")
        #expect(rig.editor.line == "one ")
        rig.type("\u{15}\u{4}")
        #expect(rig.actions.last == .endOfInput)
        rig.type("x\u{3}")
        #expect(rig.actions.last == .interrupt)
    }

    @Test func historyRemembersCommandsButNoSecrets() {
        var rig = EditorRig()
        rig.type("mine 3\rtell bob secret\rreply psst\rshop\r")
        rig.editor.isSecret = true
        rig.type("hunter22\r")
        rig.editor.isSecret = false
        #expect(rig.editor.history == ["mine 3", "shop"])
        rig.type("dra\u{1B}[A\u{1B}[A")
        #expect(rig.editor.line == "mine 3")
        rig.type("\u{1B}[B\u{1B}[B")
        #expect(rig.editor.line == "dra", "the draft comes back")
        rig.type("\u{15}\u{12}mi")  // Ctrl-R
        #expect(rig.editor.line == "mine 3" && rig.editor.searchPrompt == "(search \"mi\") ")
        rig.type("\r")
        #expect(rig.actions.last == .submit("mine 3"))
    }

    @Test func aPasteOfManyLinesBecomesAtMostTwentyCommands() {
        var rig = EditorRig()
        let lines = (1...30).map { "say \($0)" }.joined(separator: "\n")
        rig.type("\u{1B}[200~" + lines + "\u{1B}[201~")
        guard case .pasted(let commands, let refused)? = rig.actions.last else {
            return #expect(Bool(false), "\(rig.actions)")
        }
        #expect(commands.count == 20 && refused == 9 && commands[0] == "say 1")
        #expect(rig.editor.line == "say 30", "the last, unfinished line waits")
        rig.type("\u{15}\u{1B}[200~\u{1B}[31mx\u{7}\u{1B}[201~")
        #expect(rig.editor.line == "[31mx", "control characters do not get in")
    }

    @Test func completionExtendsAndLists() {
        var rig = EditorRig()
        rig.type("mi")
        #expect(rig.editor.complete(word: "mi", with: ["mine"]) == "mine")
        #expect(rig.editor.line == "mine ")
        rig.type("\u{15}s")
        #expect(rig.editor.complete(word: "s", with: ["say", "set"]) == nil)
        #expect(rig.editor.line == "s")
        let world = SimWorld(seed: 3)
        world.character("bob")
        let ada = world.join("ada")
        let bob = world.join("bob")
        world.waitUntilIn(ada)
        world.waitUntilIn(bob)
        world.settle()
        #expect(ada.session.completions(of: "tell b").candidates == ["bob"])
        #expect(ada.session.completions(of: "buy ").candidates == ["cpu"])
        #expect(ada.session.completions(of: "say hi; mo").candidates == ["move"])
    }

    @Test func theBarIsPlainTextOfItsWidth() {
        let view = ProgressView(activity: .mining, done: 2, total: 10, permille: 520, secondsLeft: 24)
        #expect(
            PromptBlock.bar(view, unicode: false, width: 79)
                == "mining [############............] 52 %  3/10  24 s left")
        var rig = EditorRig(width: 30)
        rig.redraw(bar: view)
        rig.event("x")
        #expect(rig.screen.text == "x\n(mining) > ".trimmingBlanks)
    }

    @Test func aNarrowBarKeepsItsNumbers() {
        let view = ProgressView(activity: .mentoring, done: 98, total: 100, permille: 980, secondsLeft: 59)
        for width in 21...100 {
            let bar = PromptBlock.bar(view, unicode: false, width: width)
            #expect(bar.contains("98 %  99/100  59 s left") || width < 23, "\(width): \(bar)")
            #expect(Columns.of(bar) <= width, "\(width): \(bar)")
        }
    }

    @Test func aNarrowedWindowKeepsNoPieceOfTheBar() {
        let view = ProgressView(activity: .mining, done: 2, total: 10, permille: 520, secondsLeft: 24)
        for (from, to) in [(80, 40), (80, 30), (60, 22), (100, 45), (40, 80)] {
            var rig = EditorRig(width: from, height: 14)
            rig.event("before")
            rig.type("say the quick brown fox jumps over the lazy dog and on")
            rig.redraw(bar: view)
            rig.resize(to, bar: view)
            let text = rig.screen.text
            #expect(text.hasPrefix("before\n"), "\(from) to \(to): \(text)")
            #expect(text.ranges(of: "52 %").count == 1 && text.ranges(of: "#").count <= 12, "\(from) to \(to): \(text)")
            rig.event("after")
            #expect(
                rig.screen.rows.prefix(2).elementsEqual(["before", "after"]), "\(from) to \(to): \(rig.screen.text)")
        }
    }

    @Test func aBlockHigherThanTheScreenIsStillErased() {
        var rig = EditorRig(width: 20, height: 4)
        rig.type(String(repeating: "abcdefghi ", count: 20))
        rig.event("event")
        #expect(rig.screen.text.contains("event"))
        rig.type("\u{15}")
        #expect(rig.screen.rows.last { !$0.isEmpty }?.hasPrefix("(mining) >") == true)
    }
}

extension String {
    fileprivate var trimmingBlanks: String {
        var copy = self
        while copy.last == " " { copy.removeLast() }
        return copy
    }
}
