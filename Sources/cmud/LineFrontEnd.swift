// Line mode: one line in, lines out; for pipes, scripts, dumb terminals and whoever prefers it. Main thread only.

import CMUDCore
import Foundation

final class LineFrontEnd: FrontEnd {
    struct Style {
        var showsPrompt: Bool
        var color: Bool
        var isTerminal: Bool
        /// Commands of `-e`, run instead of input.
        var script: String?
    }

    private let style: Style
    private var renderer: Renderer
    private var pending: [UInt8] = []
    private var isPrompting = false
    private var held: [Output] = []
    private var scriptIsGiven = false
    private var echoIsOff = false
    private var interrupts: [Int64] = []
    static let lineBytesMax = 16 * 1024

    init(
        session: GameSession, store: any GameStore, hasher: any PasswordHasher, wakeups: Wakeups, renderer: Renderer,
        style: Style
    ) {
        (self.style, self.renderer) = (style, renderer)
        super.init(session: session, store: store, hasher: hasher, wakeups: wakeups)
    }

    override var wantsInput: Bool {
        inputIsOpen && style.script == nil && session.isReady && !pending.contains(UInt8(ascii: "\n"))
            || style.isTerminal && session.isTelling && inputIsOpen
    }

    // MARK: input

    override func received(_ bytes: [UInt8]) {
        pending += bytes
        if pending.count > LineFrontEnd.lineBytesMax, !pending.contains(UInt8(ascii: "\n")) {
            pending.removeAll()
            write("That line is too long - at most \(LineFrontEnd.lineBytesMax) bytes.\n")
        }
    }

    override func tick() {
        if style.script != nil { return runScript() }
        guard session.isReady || session.isTelling else { return }
        if let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
            var line = Array(pending[..<end])
            pending.removeSubrange(...end)
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            give(String(decoding: line, as: UTF8.self))
        } else if !inputIsOpen, session.isReady {
            if !pending.isEmpty {
                let rest = String(decoding: pending, as: UTF8.self)
                pending = []
                give(rest)
            } else {
                leave()
            }
        }
    }

    private func give(_ line: String) {
        if style.isTerminal, echoIsOff { write("\n") }
        isPrompting = false
        session.input(line, at: momentNow())
    }

    private func runScript() {
        guard session.isReady else { return }
        if !scriptIsGiven, session.prompt == .mining || session.prompt == .solving {
            scriptIsGiven = true
            for command in GameCommand.split(style.script ?? "") {
                pending += Array((command.split(separator: ";").joined(separator: ";;") + "\n").utf8)
            }
        }
        guard scriptIsGiven else {
            // Nobody is there to answer a question about the name or the password.
            if inputIsOpen { inputIsOpen = false }
            write("A script needs --name, and --password-file for a protected one.\n")
            return session.hangUp(at: momentNow(), as: .refused)
        }
        if let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
            let line = String(decoding: pending[..<end], as: UTF8.self)
            pending.removeSubrange(...end)
            session.input(line, at: momentNow())
        } else {
            leave()
        }
    }

    override func inputEnded() {}

    /// End of input: saves as `quit` does.
    private func leave() {
        if session.prompt == .mining || session.prompt == .solving {
            if isPrompting { write("\n") }
            isPrompting = false
            session.input("quit", at: momentNow())
        } else {
            session.hangUp(at: momentNow(), as: .quit)
        }
    }

    // MARK: signals

    override func signaled(_ number: Int32) {
        switch number {
        case SIGINT:
            if !session.interrupt(at: momentNow()) {
                if isPrompting { write("\n") }
                session.hangUp(at: momentNow(), as: .interrupted)
            }
        case SIGTSTP:
            setEcho(true)
            raise(SIGSTOP)
            setEcho(!session.prompt.isSecret)
            isPrompting = false
        default: break
        }
    }

    // MARK: output

    override func show() {
        renderer.isReader = session.isReader
        let outputs = session.takeOutputs()
        let mayPrintHeld = session.isReady || session.isTelling || session.ending != nil
        if mayPrintHeld {
            for output in held { print(output) }
            held.removeAll()
        }
        for output in outputs {
            // Others are heard between commands only, so that a command and its answer stay together.
            if output.isAsync && !mayPrintHeld {
                held.append(output)
            } else {
                print(output)
            }
        }
        showPrompt()
    }

    private func print(_ output: Output) {
        let lines = renderer.lines(output.event)
        guard !lines.isEmpty else { return }
        var text = isPrompting && !renderer.isReader ? "\n" : ""
        isPrompting = isPrompting && renderer.isReader
        for line in lines {
            text += (output.isAsync ? "* " : "") + line.encoded(color: style.color) + "\n"
        }
        write(text)
    }

    private func showPrompt() {
        guard session.isReady, !isPrompting, !pending.contains(UInt8(ascii: "\n")), style.script == nil else { return }
        if style.isTerminal, session.prompt.isSecret != echoIsOff { setEcho(!session.prompt.isSecret) }
        isPrompting = true
        // A reader reads whole lines: the prompt gets one of its own.
        if style.showsPrompt { write(session.prompt.text + (renderer.isReader ? "\n" : "")) }
        if !style.showsPrompt { isPrompting = false }
    }

    private func setEcho(_ isOn: Bool) {
        guard style.isTerminal else { return }
        echoIsOff = !isOn
        TerminalControl.setEcho(isOn)
    }

    override func restore() {
        if echoIsOff { setEcho(true) }
    }
}
