// Interactive mode: an editor at the bottom of a scrolling screen. One object owns the output: an event erases the
// prompt block, prints its lines and draws the block again. Main thread only.

import CMUDCore
import Foundation
import KVBase

final class TerminalFrontEnd: FrontEnd {
    struct Style {
        var color: Bool
        var isUnicode: Bool
    }

    private let style: Style
    private var renderer: Renderer
    private var decoder = KeyParser()
    private var editor = Editor()
    private var block = PromptBlock()
    private var escapeDeadline: Int64?
    private var barDeadline: Int64?
    private var lastInterrupt: Int64?
    private var lastTabLine: String?
    private var drawn: [String] = []
    private var shownPrompt = ""
    static let barMillis: Int64 = 250
    static let doubleInterruptMillis: Int64 = 2_000

    init(
        session: GameSession, store: any GameStore, hasher: any PasswordHasher, wakeups: Wakeups, renderer: Renderer,
        style: Style
    ) {
        (self.style, self.renderer) = (style, renderer)
        super.init(session: session, store: store, hasher: hasher, wakeups: wakeups)
    }

    // MARK: beginning and end

    override func prepare() {
        TerminalControl.enterRaw()
        readSize()
        write("\u{1B}[?2004h")
    }

    override func restore() {
        write(leaveBlock() + "\u{1B}[?2004l")
        TerminalControl.leaveRaw()
    }

    private func readSize() {
        guard let size = TerminalControl.size() else { return }
        block.resize(width: size.columns, height: size.rows)
    }

    // MARK: input

    override func received(_ bytes: [UInt8]) {
        apply(decoder.feed(bytes))
        escapeDeadline = decoder.isUndecided ? momentNow().steady + KeyParser.escapeTimeoutMillis : nil
    }

    override var nextTick: Int64? { [escapeDeadline, barDeadline].compactMap { $0 }.min() }

    override func tick() {
        if let deadline = escapeDeadline, deadline <= momentNow().steady {
            escapeDeadline = nil
            apply(decoder.flush())
        }
        if session.progress == nil || renderer.isReader {
            barDeadline = nil
        } else if barDeadline.map({ $0 <= momentNow().steady }) ?? true {
            barDeadline = momentNow().steady + TerminalFrontEnd.barMillis
        }
    }

    private func apply(_ keys: [Key]) {
        for key in keys where session.ending == nil {
            if session.isTelling {
                // Any key cuts the chapter short; what is typed is kept, only a bare Enter or blank is used up by that.
                session.skipStory()
                if key == .enter || key == .text(" ") || key == .escape { continue }
            }
            editor.isSecret = session.prompt.isSecret
            let action = editor.handle(key)
            if key != .tab { lastTabLine = nil }
            perform(action)
        }
    }

    private func perform(_ action: EditorAction) {
        switch action {
        case .none: break
        case .submit(let line): submit(line)
        case .pasted(let lines, let refused):
            for line in lines { submit(line) }
            if refused > 0 { printLines([Line("\(refused) more pasted lines were left out.")]) }
        case .complete: complete()
        case .interrupt: interrupt()
        case .endOfInput: end()
        case .suspend: kill(0, SIGTSTP)
        case .clearScreen:
            write(block.erase() + "\u{1B}[H\u{1B}[2J")
            drawn = []
        case .bell: write("\u{7}")
        }
    }

    private func submit(_ line: String) {
        // The typed line stays on the screen as it was, under its prompt.
        if renderer.isReader {
            write(block.erase())
            if !session.prompt.isSecret, !line.isEmpty { write(line + "\r\n") }
        } else {
            write(block.erase())
            let echo = session.prompt.isSecret ? "" : line
            printLines([Line(promptText) + Line(echo)], wraps: false)
        }
        drawn = []
        shownPrompt = ""
        session.input(line, at: momentNow())
        showOutputs()
    }

    private func interrupt() {
        let now = momentNow()
        if session.interrupt(at: now) { return }
        if !editor.line.isEmpty {
            editor.clear()
            lastInterrupt = nil
            return
        }
        if let last = lastInterrupt, now.steady - last < TerminalFrontEnd.doubleInterruptMillis {
            return session.hangUp(at: now, as: .interrupted)
        }
        lastInterrupt = now.steady
        printLines([Line("Ctrl-C again leaves; so does `quit`.", .dim)])
    }

    private func end() {
        if session.prompt == .mining || session.prompt == .solving {
            submit("quit")
        } else {
            session.hangUp(at: momentNow(), as: .quit)
        }
    }

    override func inputEnded() { session.hangUp(at: momentNow(), as: .quit) }

    private func complete() {
        let (word, candidates) = session.completions(of: editor.beforeCursor)
        guard !candidates.isEmpty else { return write("\u{7}") }
        if candidates.count > 1, lastTabLine == editor.line {
            lastTabLine = nil
            return printLines(
                renderer.isReader ? candidates.map { Line($0) } : [Line(candidates.joined(separator: "  "), .dim)])
        }
        let finished = editor.complete(word: word, with: candidates)
        lastTabLine = editor.line
        if renderer.isReader, let finished { printLines([Line(finished)]) }
    }

    // MARK: signals

    override func signaled(_ number: Int32) {
        switch number {
        case SIGINT: interrupt()
        case SIGWINCH:
            // The terminal has broken the rows anew already: the block must know the new width to erase them.
            readSize()
            write(block.erase())
            drawn = []
        case SIGTSTP:
            write(leaveBlock() + "\u{1B}[?2004l")
            TerminalControl.leaveRaw()
            raise(SIGSTOP)
            resume()
        case SIGCONT: resume()
        default: break
        }
    }

    private func resume() {
        TerminalControl.enterRaw()
        readSize()
        write("\u{1B}[?2004h")
        drawn = []
        shownPrompt = ""
    }

    // MARK: output

    private var promptText: String {
        if let search = editor.searchPrompt { return search }
        if session.isTelling { return renderer.isReader ? "" : "(any key goes on) " }
        return session.prompt.text
    }

    override func show() {
        showOutputs()
        if session.ending == nil { draw() }
    }

    private func showOutputs() {
        renderer.isReader = session.isReader
        let outputs = session.takeOutputs()
        var lines: [Line] = []
        for output in outputs {
            if case .progress = output.event { continue }  // the bar shows it
            lines += renderer.lines(output.event)
        }
        printLines(lines)
    }

    private func printLines(_ lines: [Line], wraps: Bool = true) {
        guard !lines.isEmpty else { return }
        var text = ""
        if renderer.isReader, block.isDrawn, !editor.line.isEmpty {
            text += block.leave()
        } else {
            text += block.erase()
        }
        for row in wraps ? renderer.rows(lines, width: block.width) : lines {
            text += row.encoded(color: style.color) + "\r\n"
        }
        drawn = []
        write(text)
    }

    private func draw() {
        let progress = renderer.isReader ? nil : session.progress
        let bar = progress.map { PromptBlock.bar($0, unicode: style.isUnicode, width: block.width - 1) }
        var prompt = promptText
        if renderer.isReader {
            // Once, on a line of its own, when it is the player's turn.
            if shownPrompt != prompt, !prompt.isEmpty {
                write(block.erase() + prompt + "\r\n")
                shownPrompt = prompt
                drawn = []
            }
            prompt = editor.searchPrompt ?? ""
        }
        let state = [bar ?? "", prompt, editor.line, String(editor.cursor), String(session.prompt.isSecret)]
        guard state != drawn else { return }
        write(
            block.erase()
                + block.draw(
                    bar: progress, unicode: style.isUnicode, prompt: prompt, text: editor.text, cursor: editor.cursor,
                    mask: session.prompt.isSecret))
        drawn = state
    }

    private func leaveBlock() -> String {
        editor.line.isEmpty && promptText.isEmpty ? block.erase() : block.leave()
    }
}
