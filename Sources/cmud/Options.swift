// The command line of `cmud`. Main thread.

import ArgumentParser
import CMUDCore
import Foundation
import KVClient

enum UserInterface: String, ExpressibleByArgument, CaseIterable { case auto, interactive, line, plain }
enum ColorChoice: String, ExpressibleByArgument, CaseIterable { case auto, always, never }

extension StoryMode: ExpressibleByArgument {}
extension Pace: ExpressibleByArgument {}

struct Options: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cmud",
        abstract: "CMUD, a multi-player game for the terminal: mine coins, solve problems together, retire.",
        discussion: """
            cmud 127.0.0.1:6001             play on the store there
            cmud A:6001,B:6001              the same, with a second server to fall back on
            cmud --solo                     look around alone; nothing is kept
            cmud A:6001 --name ada -e 'mine 5; shop'
                                            run commands and leave
            cmud A:6001 --listen 4000       serve MUD clients and telnet on port 4000

            Exit codes: 0 quit or end of input, 3 store unreachable, 4 refused (wrong password, logged in elsewhere),
            64 bad usage, 130 interrupted.
            (CMUD is also the name of an unrelated MUD client for Windows.)
            """,
        version: "cmud \(KVClient.version)")

    @Argument(
        help: ArgumentHelp(
            "Store to play on (or KV_SERVER; default 127.0.0.1:6001).", valueName: "HOST:PORT[,HOST:PORT...]"))
    var server: String?

    @Option(help: "Your character's name; asked for otherwise.") var name: String?
    @Option(help: "The world to enter.") var world = "main"
    @Option(help: "A file whose first line is the password.") var passwordFile: String?
    @Option(help: "How to talk to you: \(UserInterface.allCases.map(\.rawValue).joined(separator: ", ")).")
    var ui = UserInterface.auto
    @Option(help: "Colours: auto, always, never.") var color = ColorChoice.auto
    @Flag(help: "Output made for screen readers (or CMUD_SCREEN_READER=1).") var screenReader = false
    @Option(help: "How chapters are told: full (line by line), fast, off.") var story: StoryMode?
    @Option(help: "Pace of a world that does not exist yet: standard or classic.") var pace: Pace?
    @Option(name: [.customShort("e")], help: "Commands to run instead of a prompt, separated by `;`.") var execute:
        String?
    @Flag(help: "Show prompts even when the input is not a terminal.") var prompt = false
    @Flag(help: "Play alone in a world in memory.") var solo = false
    @Flag(help: "Speak TLS with the store. Any of the next three says so too.") var tls = false
    @Option(help: "Who signs the store's certificate (default: whom the system trusts).") var cacert: String?
    @Option(help: "A certificate to show to the store.") var cert: String?
    @Option(help: "Its private key.") var key: String?
    @Option(help: "Who you are to a store that asks (or KV_USER); the password is KV_PASSWORD.") var user: String?
    @Option(help: ArgumentHelp("Serve telnet and MUD clients.", valueName: "[ADDR:]PORT")) var listen: String?

    func validate() throws {
        guard Keys.isWorld(world) else {
            throw ValidationError("--world takes 1 to 32 of a-z, 0-9 and -, not \"\(world)\".")
        }
        if let name, let fault = Names.fault(name) { throw ValidationError("--name: \(fault).") }
        if KVAddress.list(address) == nil {
            throw ValidationError("\"\(address)\" is not HOST:PORT[,HOST:PORT...]; try 127.0.0.1:6001.")
        }
        if let listen, Gateway.address(listen) == nil {
            throw ValidationError("--listen takes PORT or ADDR:PORT, not \"\(listen)\".")
        }
        if (cert == nil) != (key == nil) { throw ValidationError("--cert and --key go together.") }
        if solo, server != nil { throw ValidationError("--solo plays without a store; leave the address out.") }
    }

    /// How the store is spoken to.
    var storeTLS: KVTLS? {
        guard tls || cacert != nil || cert != nil else { return nil }
        return KVTLS(authorityFile: cacert, certificateFile: cert, keyFile: key)
    }

    var address: String { server ?? ProcessInfo.processInfo.environment["KV_SERVER"] ?? "127.0.0.1:6001" }

    /// The first line of the password file.
    func password() throws -> String? {
        guard let passwordFile else { return nil }
        guard let text = try? String(contentsOfFile: passwordFile, encoding: .utf8) else {
            throw ArgumentFault(description: "cannot read the password file \(passwordFile)")
        }
        return String(text.prefix { !$0.isNewline })
    }
}
