// Chooses how to play from the options and the surroundings. Main thread.

import CMUDCore
import Foundation
import KVClient

struct Program {
    let options: Options
    private let environment = ProcessInfo.processInfo.environment
    /// How long a script or a pipe tries an unreachable store before it gives up.
    static let scriptPatienceMillis: Int64 = 15_000

    static let soloName = "visitor"
    private static let unreachableCode: Int32 = 3

    init(_ options: Options) { self.options = options }

    func run() -> Int32 {
        do {
            if options.solo { return try serve(MemoryStore()) }
            let store = try ClientStore(options.address, tls: options.storeTLS, user: options.user)
            let code = try serve(store)
            if code == Program.unreachableCode, let why = store.lastFailure { complain(why) }
            return code
        } catch {
            complain("\(error)")
            if case KVError.invalidArgument = error { return 64 }
            return error is ArgumentFault ? 64 : 1
        }
    }

    private func serve(_ store: any GameStore) throws -> Int32 {
        guard let listen = options.listen else { return play(store, password: try options.password()) }
        return Gateway.run(listen, store: store, options: options)
    }

    private func complain(_ text: String) { FileHandle.standardError.write(Data("cmud: \(text)\n".utf8)) }

    private func play(_ store: any GameStore, password: String?) -> Int32 {
        let hasTerminal = TerminalControl.isTerminal(STDIN_FILENO) && TerminalControl.isTerminal(STDOUT_FILENO)
        let term = environment["TERM"] ?? ""
        let isInteractive: Bool
        switch options.ui {
        case .auto: isInteractive = hasTerminal && !term.isEmpty && term != "dumb" && options.execute == nil
        case .interactive: isInteractive = hasTerminal && options.execute == nil
        case .line, .plain: isInteractive = false
        }
        var configuration = SessionConfiguration()
        configuration.world = options.world
        configuration.isBackground = isInteractive
        configuration.isReader =
            options.screenReader || ["1", "true", "yes"].contains(environment["CMUD_SCREEN_READER"] ?? "")
        configuration.story = options.story ?? (isInteractive ? .full : .fast)
        // A script cannot answer; in a world that is gone afterwards any name will do.
        configuration.name = options.name ?? (options.solo && options.execute != nil ? Program.soloName : nil)
        configuration.password = password
        configuration.newWorldPace = options.pace
        configuration.patienceMillis =
            TerminalControl.isTerminal(STDIN_FILENO) && options.execute == nil ? nil : Program.scriptPatienceMillis
        configuration.utcOffsetSeconds = Int64(TimeZone.current.secondsFromGMT())

        var generator = SystemRandomNumberGenerator()
        let session = GameSession(configuration, seed: generator.next(), at: momentNow())
        let wakeups = Wakeups()
        TerminalSignals.forward(to: wakeups)
        let renderer = Renderer(isReader: configuration.isReader, utcOffsetSeconds: configuration.utcOffsetSeconds)
        let frontEnd: FrontEnd
        if isInteractive {
            frontEnd = TerminalFrontEnd(
                session: session, store: store, hasher: ScryptHasher(), wakeups: wakeups, renderer: renderer,
                style: TerminalFrontEnd.Style(color: wantsColor(hasTerminal, term), isUnicode: isUnicode))
        } else {
            let color = options.ui == .plain ? false : wantsColor(TerminalControl.isTerminal(STDOUT_FILENO), term)
            frontEnd = LineFrontEnd(
                session: session, store: store, hasher: ScryptHasher(), wakeups: wakeups, renderer: renderer,
                style: LineFrontEnd.Style(
                    showsPrompt: TerminalControl.isTerminal(STDIN_FILENO) || options.prompt, color: color,
                    isTerminal: TerminalControl.isTerminal(STDIN_FILENO), script: options.execute))
        }
        return frontEnd.run()
    }

    /// `--color` beats NO_COLOR, which beats CLICOLOR_FORCE and FORCE_COLOR, which beat the terminal's own ability.
    private func wantsColor(_ isTerminal: Bool, _ term: String) -> Bool {
        switch options.color {
        case .always: return true
        case .never: return false
        case .auto: break
        }
        if !(environment["NO_COLOR"] ?? "").isEmpty { return false }
        for name in ["CLICOLOR_FORCE", "FORCE_COLOR"] {
            if let value = environment[name], !value.isEmpty, value != "0" { return true }
        }
        return isTerminal && !term.isEmpty && term != "dumb"
    }

    private var isUnicode: Bool {
        let locale = [environment["LC_ALL"], environment["LC_CTYPE"], environment["LANG"]].compactMap { $0 }.first {
            !$0.isEmpty
        }
        let name = (locale ?? "").lowercased()
        return name.contains("utf-8") || name.contains("utf8")
    }
}

/// An argument that turned out wrong after parsing.
struct ArgumentFault: Error, CustomStringConvertible {
    var description: String
}
