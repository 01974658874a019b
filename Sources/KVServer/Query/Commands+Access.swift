// AUTH, and ACL: who the clients are and what they may do. Handlers; loop thread.

import KVBase
import KVRuntime
import Logging
import RESP

/// A login that comes after too many wrong ones: asked again when its second is over, in the order of arrival.
final class LoginWait: Continuation {
    private let name: String
    private let password: [UInt8]
    private let then: (inout Execution) -> Void
    private weak var session: Session?
    private var timer: LoopTimer?
    private var mayTry = false

    init(
        _ x: Execution, _ name: String, _ password: [UInt8], millis: Millis, _ then: @escaping (inout Execution) -> Void
    ) {
        (self.name, self.password, self.then, session) = (name, password, then, x.session)
        super.init()
        wait(millis, on: x.shard.loop)
    }

    private func wait(_ millis: Millis, on loop: Loop?) {
        mayTry = false
        timer?.cancel()
        timer = loop?.schedule(afterMillis: max(1, millis)) { [unowned self] in
            mayTry = true
            // Of one address all wake in the same turn: they queue up for its share.
            if let session { session.shard.enqueue(session) }
        }
        if timer == nil { mayTry = true }
    }

    override var isSuspended: Bool { !mayTry }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        guard mayTry else { return false }
        let verdict = password.withUnsafeBytes { Commands.judge(x, name, $0) }
        if case .wait(let millis) = verdict {
            wait(millis, on: x.shard.loop)
            return false
        }
        Commands.settle(&x, name, verdict, then)
        return true
    }

    override func cancel() {
        timer?.cancel()
        session = nil
    }
}

extension Commands {
    @Sendable static func auth(_ x: inout Execution) {
        guard x.count <= 3 else { return x.error("ERR syntax error") }
        let book = x.shard.context.access
        if x.count == 2, book.login(AccessBook.defaultName)?.user.needsNoPassword ?? false {
            return x.error(
                """
                ERR AUTH <password> called without any password configured for the default user. \
                Are you sure your configuration is correct?
                """)
        }
        let name = x.count == 3 ? x.text(1) : AccessBook.defaultName
        authenticate(&x, name, x.argument(x.count - 1)) { $0.output.pointee.ok() }
    }

    /// `then` answers; a wrong password is answered here. May take a second, after which it goes on.
    static func authenticate(
        _ x: inout Execution, _ name: String, _ password: ByteView, _ then: @escaping (inout Execution) -> Void
    ) {
        // A transaction runs as whoever stands for all clients: nobody may become another one by it.
        if x.session.isGuest { return x.error("ERR AUTH is not allowed within a transaction") }
        let verdict = judge(x, name, password.bytes)
        if case .wait(let millis) = verdict {
            x.session.continuation = LoginWait(x, name, Array(password.bytes), millis: millis, then)
        } else {
            settle(&x, name, verdict, then)
        }
    }

    static func judge(_ x: Execution, _ name: String, _ password: UnsafeRawBufferPointer) -> AccessBook.Verdict {
        let peer = x.session.state.pointee.peer
        let source = String(peer[..<(peer.lastIndex(of: ":") ?? peer.endIndex)])
        return x.shard.context.access.authenticate(name, password, from: source, Machine.monotonicNanos / 1_000_000)
    }

    static func settle(
        _ x: inout Execution, _ name: String, _ verdict: AccessBook.Verdict, _ then: (inout Execution) -> Void
    ) {
        guard case .accepted(let login) = verdict else {
            x.session.note(.auth, "AUTH", user: String(name.prefix(AccessUser.nameBytesMax)))
            return x.error("WRONGPASS invalid username-password pair or user is disabled.")
        }
        x.session.enter(login, isAuthenticated: true)
        then(&x)
    }

    // MARK: ACL

    @Sendable static func acl(_ x: inout Execution) {
        let book = x.shard.context.access
        switch x.argument(1).lowercased {
        case "whoami" where x.count == 2: x.output.pointee.bulk(x.session.login.name)
        case "users" where x.count == 2: x.bulks(book.users.map(\.name))
        case "list" where x.count == 2: x.bulks(book.users.map(\.line))
        case "getuser" where x.count == 3: getUser(&x)
        case "setuser" where x.count >= 3: setUser(&x)
        case "deluser" where x.count >= 3: deleteUsers(&x)
        case "cat" where x.count == 2: x.bulks(AccessRights.categories)
        case "cat" where x.count == 3: category(&x)
        case "genpass" where x.count <= 3: generate(&x)
        case "log" where x.count <= 3: log(&x)
        case "load" where x.count == 2: load(&x)
        case "save" where x.count == 2: save(&x)
        case "dryrun" where x.count >= 4: dryRun(&x)
        case "help" where x.count == 2: x.help(aclHelp)
        case "whoami", "users", "list", "getuser", "setuser", "deluser", "cat", "genpass", "log", "load", "save",
            "dryrun", "help":
            x.wrongArity("acl|\(x.argument(1).lowercased)")
        default: x.unknownSubcommand(of: "ACL")
        }
    }

    private static func getUser(_ x: inout Execution) {
        guard let user = x.shard.context.access.login(x.text(2))?.user else {
            return x.output.pointee.null(resp3: x.resp3)
        }
        let out = x.output
        out.pointee.mapHeader(6, resp3: x.resp3)
        out.pointee.bulk("flags")
        x.bulks(user.flags)
        out.pointee.bulk("passwords")
        x.bulks(user.passwords.map { SecureHash.hexadecimal($0) })
        for (name, text) in [
            ("commands", user.rights.text), ("keys", user.keysText), ("channels", user.channelsText),
        ] {
            out.pointee.bulk(name)
            out.pointee.bulk(text)
        }
        out.pointee.bulk("selectors")
        out.pointee.arrayHeader(0)
    }

    private static func setUser(_ x: inout Execution) {
        let name = x.text(2)
        let isUsable =
            !name.isEmpty && name.utf8.count <= AccessUser.nameBytesMax
            && !name.utf8.contains { $0 <= 0x20 || $0 == 0x7F }
        guard isUsable else { return x.error("ERR Usernames can't contain spaces or null characters") }
        if let (rule, error) = x.shard.context.access.set(name, (3..<max(3, x.count)).map { x.text($0) }) {
            return x.output.pointee.error(
                "ERR Error in ACL SETUSER modifier '\(AccessUser.shown(rule))': \(error)")
        }
        x.output.pointee.ok()
        refresh(x)
    }

    private static func deleteUsers(_ x: inout Execution) {
        let names = (2..<x.count).map { x.text($0) }
        if names.contains(AccessBook.defaultName) { return x.error("ERR The 'default' user cannot be removed") }
        x.output.pointee.integer(x.shard.context.access.delete(names))
        refresh(x)
    }

    /// Also for the clients of this turn; those of other loops look when theirs begins.
    private static func refresh(_ x: Execution) {
        x.shard.state.pointee.accessGeneration = x.shard.context.access.generation
        for session in x.shard.sessions where !session.refreshLogin() {
            if session === x.session {
                session.state.pointee.closing = true
            } else {
                session.owner?.sessionRefused(reply: nil)
            }
        }
    }

    private static func category(_ x: inout Execution) {
        let name = x.argument(2).lowercased
        guard AccessRights.categories.contains(name) else {
            return x.output.pointee.error("ERR Unknown category '\(x.argument(2).printable(max: 128))'")
        }
        let rows = CommandTable.standard.rows.filter { AccessRights.isIn($0.facts, "@" + name) }.map(\.nameText)
        let subcommands = CommandTable.subcommandRows.filter { AccessRights.isIn($0.facts, "@" + name) }
        x.bulks(rows + subcommands.map(\.nameText))
    }

    private static func generate(_ x: inout Execution) {
        let bits = x.count == 3 ? x.integer(2) : 256
        guard let bits, (1...4096).contains(bits) else {
            return x.error(
                "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096"
            )
        }
        guard let bytes = SecureHash.random((bits + 7) / 8) else {
            return x.error("ERR the system has no random bytes")
        }
        x.output.pointee.bulk(String(SecureHash.hexadecimal(bytes).prefix((bits + 3) / 4)))
    }

    private static func log(_ x: inout Execution) {
        let book = x.shard.context.access
        if x.count == 3, x.argument(2, is: "RESET") {
            book.forgetDenials()
            return x.output.pointee.ok()
        }
        let count = x.count == 3 ? x.integer(2) : 10
        guard let count else { return x.error("ERR value is not an integer or out of range") }
        let entries = book.denials(max(0, count))
        let out = x.output
        out.pointee.arrayHeader(entries.count)
        for entry in entries {
            out.pointee.mapHeader(10, resp3: x.resp3)
            out.pointee.bulk("count")
            out.pointee.integer(entry.count)
            let age = Double(x.nowMillis - entry.createdMillis) / 1000
            for (name, value) in [
                ("reason", entry.reason.rawValue), ("context", entry.context), ("object", entry.object),
                ("username", entry.user), ("age-seconds", "\(age)"), ("client-info", entry.client),
            ] {
                out.pointee.bulk(name)
                out.pointee.bulk(value)
            }
            for (name, value) in [
                ("entry-id", entry.id), ("timestamp-created", Int(entry.createdMillis)),
                ("timestamp-last-updated", Int(entry.updatedMillis)),
            ] {
                out.pointee.bulk(name)
                out.pointee.integer(value)
            }
        }
    }

    private static let noFile: StaticString = """
        ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL \
        SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order \
        to store users in the Redis configuration.
        """

    private static func load(_ x: inout Execution) {
        let (context, settings) = (x.shard.context, x.shard.context.config.access)
        guard settings.usersFile != nil else { return x.error(noFile) }
        do { for line in try settings.apply(to: context.access) { context.log.warning("\(line)") } } catch {
            return x.output.pointee.error("ERR \(error.description). WARNING: nothing is changed")
        }
        x.output.pointee.ok()
        refresh(x)
    }

    private static func save(_ x: inout Execution) {
        guard let path = x.shard.context.config.access.usersFile else { return x.error(noFile) }
        do { try AccessFile.save(x.shard.context.access.users, to: path) } catch {
            return x.output.pointee.error("ERR There was an error trying to save the ACLs: \(error.description)")
        }
        x.output.pointee.ok()
    }

    private static func dryRun(_ x: inout Execution) {
        guard let user = x.shard.context.access.login(x.text(2))?.user else {
            return x.output.pointee.error("ERR User '\(x.argument(2).printable(max: 128))' not found")
        }
        guard let index = CommandTable.standard.find(x.argument(3)) else {
            return x.output.pointee.error("ERR Command '\(x.argument(3).printable(max: 128))' not found")
        }
        let row = CommandTable.standard.rows[index]
        guard row.accepts(x.count - 3) else { return x.wrongArity(row.nameText) }
        let question = AccessQuestion(row: index, count: x.count - 3) { [batch = x.batch, command = x.command] in
            batch.argument($0 + 3, of: command)
        }
        switch question.denial(of: user) {
        case nil: x.output.pointee.ok()
        case .command(let name):
            x.output.pointee.bulk("This user has no permissions to run the '\(name)' command")
        case .key(let key): x.output.pointee.bulk("This user has no permissions to access the '\(key)' key")
        case .tooMany: x.error(AccessQuestion.tooMany)
        }
    }

    private static let aclHelp = [
        "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CAT [<category>]", "    List all commands that belong to <category>, or all command categories",
        "    when no category is specified.",
        "DELUSER <username> [<username> ...]", "    Delete a list of users.",
        "DRYRUN <username> <command> [<arg> ...]",
        "    Returns whether the user can execute the given command without executing the command.",
        "GETUSER <username>", "    Get the user's details.",
        "GENPASS [<bits>]", "    Generate a secure 256-bit user password. The optional `bits` argument can",
        "    be used to specify a different size.",
        "LIST", "    Show users details in config file format.",
        "LOAD", "    Reload users from the ACL file.",
        "LOG [<count> | RESET]", "    Show the ACL log entries.",
        "SAVE", "    Save the current config to the ACL file.",
        "SETUSER <username> <attribute> [<attribute> ...]",
        "    Create or modify a user with the specified attributes.",
        "USERS", "    List all the registered usernames.",
        "WHOAMI", "    Return the current connection username.",
        "HELP", "    Print this help.",
    ]
}

extension Execution {
    /// An array of bulks.
    func bulks(_ texts: [String]) {
        output.pointee.arrayHeader(texts.count)
        for text in texts { output.pointee.bulk(text) }
    }
}
