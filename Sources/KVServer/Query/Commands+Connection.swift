// PING, ECHO, SELECT, HELLO, AUTH, QUIT, RESET and CLIENT. Handlers; loop thread.

import KVBase
import RESP

extension Commands {
    @Sendable static func ping(_ x: inout Execution) {
        switch x.count {
        case 1: x.output.pointee.simple("PONG")
        case 2: x.output.pointee.bulk(x.argument(1).bytes)
        default: x.wrongArity("ping")
        }
    }

    @Sendable static func echo(_ x: inout Execution) { x.output.pointee.bulk(x.argument(1).bytes) }

    @Sendable static func select(_ x: inout Execution) {
        guard let number = x.database(1) else { return }
        x.session.state.pointee.database = number
        x.output.pointee.ok()
    }

    @Sendable static func quit(_ x: inout Execution) {
        x.output.pointee.ok()
        x.session.state.pointee.closing = true
    }

    @Sendable static func reset(_ x: inout Execution) {
        x.session.state.pointee.resp3 = false
        x.session.state.pointee.database = 0
        x.session.discardTransaction()
        x.session.state.pointee.name = Bytes([])
        x.session.state.pointee.replies = .on
        x.session.watch(false)
        let (login, isAuthenticated) = x.shard.context.access.arrival()
        x.session.enter(login, isAuthenticated: isAuthenticated)
        x.output.pointee.simple("RESET")
    }

    @Sendable static func hello(_ x: inout Execution) {
        var version: Int?
        if x.count >= 2 {
            version = x.integer(1)
            if version == nil { return x.error("ERR Protocol version is not an integer or out of range") }
            if version != 2 && version != 3 { return x.error("NOPROTO unsupported protocol version") }
        }
        var (name, user, password) = (Bytes?.none, String?.none, ByteView?.none)
        var k = 2
        while k < x.count {
            if x.argument(k, is: "AUTH"), k + 2 < x.count {
                (user, password) = (x.text(k + 1), x.argument(k + 2))
                k += 3
            } else if x.argument(k, is: "SETNAME"), k + 1 < x.count {
                guard isName(x.argument(k + 1)) else { return x.error(nameError) }
                name = Bytes(x.argument(k + 1).bytes)
                k += 2
            } else {
                return x.output.pointee.error("ERR Syntax error in HELLO option '\(x.argument(k).printable(max: 128))'")
            }
        }
        if let user, let password {
            return authenticate(&x, user, password) { greet(&$0, version, name) }
        }
        guard x.session.isAuthenticated else {
            return x.error(
                """
                NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
                <user> <pass> option can be used to authenticate the client and select the RESP protocol version at \
                the same time
                """)
        }
        greet(&x, version, name)
    }

    private static func greet(_ x: inout Execution, _ version: Int?, _ name: Bytes?) {
        let session = x.session.state
        if let version { session.pointee.resp3 = version == 3 }
        if let name { session.pointee.name = name }
        let resp3 = session.pointee.resp3
        let out = x.output
        out.pointee.mapHeader(7, resp3: resp3)
        out.pointee.bulk("server")
        out.pointee.bulk("redis")
        out.pointee.bulk("version")
        out.pointee.bulk(ServerVersion.redis)
        out.pointee.bulk("proto")
        out.pointee.integer(resp3 ? 3 : 2)
        out.pointee.bulk("id")
        out.pointee.integer(session.pointee.id)
        out.pointee.bulk("mode")
        out.pointee.bulk("standalone")
        out.pointee.bulk("role")
        out.pointee.bulk("master")
        out.pointee.bulk("modules")
        out.pointee.arrayHeader(0)
    }

    private static let nameError: StaticString =
        "ERR Client names cannot contain spaces, newlines or special characters."

    /// Longer ones are refused: they are kept, and shown in one piece.
    private static let nameBytesMax = 1024

    private static func isName(_ argument: ByteView) -> Bool {
        argument.count <= nameBytesMax
            && argument.bytes.allSatisfy { $0 >= UInt8(ascii: "!") && $0 <= UInt8(ascii: "~") }
    }

    // CLIENT

    @Sendable static func client(_ x: inout Execution) {
        let session = x.session.state
        let out = x.output
        switch x.argument(1) {
        case let sub where sub.equals("ID"):
            guard x.count == 2 else { return x.wrongArity("client|id") }
            out.pointee.integer(session.pointee.id)
        case let sub where sub.equals("SETNAME"):
            guard x.count == 3 else { return x.wrongArity("client|setname") }
            guard isName(x.argument(2)) else { return x.error(nameError) }
            session.pointee.name = Bytes(x.argument(2).bytes)
            out.pointee.ok()
        case let sub where sub.equals("GETNAME"):
            guard x.count == 2 else { return x.wrongArity("client|getname") }
            if session.pointee.name.count == 0 {
                out.pointee.null(resp3: session.pointee.resp3)
            } else {
                out.pointee.bulk(session.pointee.name)
            }
        case let sub where sub.equals("SETINFO"): clientSetInfo(&x)
        case let sub where sub.equals("INFO"):
            guard x.count == 2 else { return x.wrongArity("client|info") }
            var text = OutputBuffer(capacity: 512)
            x.session.describe(into: &text, request: x.size)
            out.pointee.verbatim(text.bytes, resp3: session.pointee.resp3)
            text.deallocate()
        case let sub where sub.equals("LIST"): clientList(&x)
        case let sub where sub.equals("KILL"): clientKill(&x)
        case let sub where sub.equals("PAUSE"): clientPause(&x)
        case let sub where sub.equals("UNPAUSE"): clientUnpause(&x)
        case let sub where sub.equals("UNBLOCK"): clientUnblock(&x)
        case let sub where sub.equals("NO-EVICT") || sub.equals("NO-TOUCH"):
            guard x.count == 3 else { return x.wrongArity("client|\(sub.lowercased)") }
            x.argument(2, is: "ON") || x.argument(2, is: "OFF") ? out.pointee.ok() : x.error("ERR syntax error")
        case let sub where sub.equals("REPLY"):
            guard x.count == 3 else { return x.wrongArity("client|reply") }
            clientReply(&x)
        case let sub where sub.equals("TRACKING"):
            guard x.count >= 3 else { return x.wrongArity("client|tracking") }
            x.argument(2, is: "OFF") ? out.pointee.ok() : x.error("ERR client side caching is not supported")
        case let sub where sub.equals("GETREDIR"):
            guard x.count == 2 else { return x.wrongArity("client|getredir") }
            out.pointee.integer(-1)
        case let sub where sub.equals("HELP"): x.help(clientHelp)
        default: x.unknownSubcommand(of: "CLIENT")
        }
    }

    private static func clientSetInfo(_ x: inout Execution) {
        guard x.count == 4 else { return x.wrongArity("client|setinfo") }
        let value = x.argument(3)
        let isLibraryName = x.argument(2, is: "LIB-NAME")
        guard isLibraryName || x.argument(2, is: "LIB-VER") else {
            return x.output.pointee.error("ERR Unrecognized option '\(x.argument(2).printable(max: 128))'")
        }
        guard isName(value) else {
            return x.output.pointee.error(
                "ERR \(isLibraryName ? "lib-name" : "lib-ver") cannot contain spaces, newlines or special characters.")
        }
        if isLibraryName {
            x.session.state.pointee.libraryName = Bytes(value.bytes)
        } else {
            x.session.state.pointee.libraryVersion = Bytes(value.bytes)
        }
        x.output.pointee.ok()
    }

    private static let clientHelp = [
        "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GETNAME", "    Return the name of the current connection.",
        "GETREDIR", "    Return the client ID we are redirecting to when tracking is enabled.",
        "ID", "    Return the ID of the current connection.",
        "INFO", "    Return information about the current client connection.",
        "KILL <ip:port>", "    Kill connection made from <ip:port>.",
        "KILL <option> <value> [<option> <value> [...]]", "    Kill connections. Options are:",
        "    * ADDR <ip:port>, LADDR <ip:port>", "      Made from, or to, the specified address",
        "    * ID <client-id>, USER <username>, MAXAGE <seconds>, TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
        "    * SKIPME (YES|NO)", "      Skip killing current connection (default: yes).",
        "LIST [TYPE NORMAL|MASTER|REPLICA|PUBSUB] [ID id ...]",
        "    Return information about the connections of all query actors.",
        "UNBLOCK <clientid> [TIMEOUT|ERROR]", "    Unblock the specified blocked client.",
        "UNPAUSE", "    Stop the current client pause, resuming traffic.",
        "PAUSE <timeout> [WRITE|ALL]", "    Suspend all, or just write, clients for <timeout> milliseconds.",
        "NO-EVICT (ON|OFF)", "    Accepted; nothing is ever evicted.",
        "NO-TOUCH (ON|OFF)", "    Accepted; reads never change a key.",
        "REPLY (ON|OFF|SKIP)", "    Control the replies sent to the current connection.",
        "SETINFO <option> <value>", "    LIB-NAME or LIB-VER of the client's library.",
        "SETNAME <name>", "    Assign the name <name> to the current connection.",
        "HELP", "    Prints this help.",
    ]
}
