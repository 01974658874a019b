// CLIENT LIST, KILL and UNBLOCK: the connections of all actors. Handlers; loop thread.

import KVBase
import RESP

/// Which connections CLIENT KILL means: those that all of its filters hold for.
struct ClientFilter: Sendable {
    var id: Int?
    var address: String?
    var localAddress: String?
    var user: String?
    /// Seconds that a connection is old at least.
    var age: Int?
    /// Only those of servers and subscribers, of which there are none.
    var isOfNone = false
    /// The connection that asks.
    var skipped: Int?

    func holds(_ session: Session) -> Bool {
        let s = session.state
        if isOfNone || s.pointee.id == skipped { return false }
        if let id, id != s.pointee.id { return false }
        if let address, address != s.pointee.peer { return false }
        if let localAddress, localAddress != s.pointee.local { return false }
        if let user, user != session.login.name { return false }
        if let age, (session.shard.state.pointee.nowMillis - s.pointee.createdMillis) / 1000 < age { return false }
        return true
    }
}

extension Commands {
    /// The clients of all query actors. `TYPE` and `ID` filters as in Redis; every client is a normal one.
    static func clientList(_ x: inout Execution) {
        var wanted: Set<Int>?
        if x.count == 4, x.argument(2, is: "TYPE") {
            guard let isNormal = isNormalType(3, &x) else { return }
            if !isNormal { wanted = [] }
        } else if x.count >= 4, x.argument(2, is: "ID") {
            var ids: Set<Int> = []
            for k in 3..<x.count {
                guard let id = x.integer(k), id > 0 else { return x.error("ERR Invalid client ID") }
                ids.insert(id)
            }
            wanted = ids
        } else if x.count != 2 {
            return x.error("ERR syntax error")
        }
        let (own, size) = (x.session.state.pointee.id, x.size)
        AskAll.run(&x) { [wanted] shard in
            var text = OutputBuffer(capacity: 4096)
            defer { text.deallocate() }
            for session in shard.sessions where wanted?.contains(session.state.pointee.id) ?? true {
                session.describe(into: &text, request: session.state.pointee.id == own ? size : nil)
            }
            return Array(text.bytes)
        } _: { x, answers in
            Array(answers.joined()).withUnsafeBytes { x.output.pointee.verbatim($0, resp3: x.resp3) }
        }
    }

    /// nil if it is no type, which has been answered.
    private static func isNormalType(_ k: Int, _ x: inout Execution) -> Bool? {
        if x.argument(k, is: "NORMAL") { return true }
        if ["MASTER", "REPLICA", "SLAVE", "PUBSUB"].contains(where: { x.argument(k, is: $0) }) { return false }
        x.output.pointee.error("ERR Unknown client type '\(x.argument(k).printable(max: 128))'")
        return nil
    }

    /// CLIENT KILL address, or with filters.
    static func clientKill(_ x: inout Execution) {
        guard x.count >= 3 else { return x.wrongArity("client|kill") }
        var filter = ClientFilter()
        let isByAddress = x.count == 3
        if isByAddress {
            filter.address = x.text(2)
        } else {
            filter.skipped = x.session.state.pointee.id
            for k in stride(from: 2, to: x.count, by: 2) {
                guard k + 1 < x.count else { return x.error("ERR syntax error") }
                guard take(k, into: &filter, &x) else { return }
            }
        }
        let (own, chosen) = (x.session.state.pointee.id, filter)
        AskAll.run(&x) { shard in
            var count = 0
            for session in shard.sessions where chosen.holds(session) {
                count += 1
                // It still gets its answer.
                if session.state.pointee.id != own { session.owner?.sessionRefused(reply: nil) }
            }
            return Array(String(count).utf8)
        } _: { x, answers in
            let count = answers.reduce(0) { $0 + (Int(String(decoding: $1, as: UTF8.self)) ?? 0) }
            if chosen.holds(x.session) { x.session.state.pointee.closing = true }
            guard isByAddress else { return x.output.pointee.integer(count) }
            count > 0 ? x.output.pointee.ok() : x.error("ERR No such client")
        }
    }

    /// CLIENT UNBLOCK id [TIMEOUT|ERROR]: whether it was one whose WAIT or WAITAOF went on, at whichever actor.
    static func clientUnblock(_ x: inout Execution) {
        guard x.count == 3 || x.count == 4 else { return x.wrongArity("client|unblock") }
        var withError = false
        if x.count == 4 {
            guard x.argument(3, is: "TIMEOUT") || x.argument(3, is: "ERROR") else {
                return x.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
            }
            withError = x.argument(3, is: "ERROR")
        }
        guard let id = x.integer(2) else { return x.error("ERR value is not an integer or out of range") }
        AskAll.run(&x) { [withError] shard in
            let isDone = shard.sessions.contains {
                $0.state.pointee.id == id && ($0.continuation as? PolledWait)?.unblock(withError: withError) ?? false
            }
            return isDone ? [1] : []
        } _: { x, answers in
            x.output.pointee.integer(answers.joined().count)
        }
    }

    /// A filter and its value; false if it was answered with an error.
    private static func take(_ k: Int, into filter: inout ClientFilter, _ x: inout Execution) -> Bool {
        switch x.argument(k) {
        case let name where name.equals("ID"):
            guard let id = x.integer(k + 1), id > 0 else {
                x.error("ERR client-id should be greater than 0")
                return false
            }
            filter.id = id
        case let name where name.equals("MAXAGE"):
            guard let age = x.integer(k + 1), age > 0 else {
                x.error("ERR maxage is not an integer or out of range")
                return false
            }
            filter.age = age
        case let name where name.equals("TYPE"):
            guard let isNormal = isNormalType(k + 1, &x) else { return false }
            filter.isOfNone = !isNormal
        case let name where name.equals("ADDR"): filter.address = x.text(k + 1)
        case let name where name.equals("LADDR"): filter.localAddress = x.text(k + 1)
        case let name where name.equals("USER"):
            guard x.shard.context.access.login(x.text(k + 1)) != nil else {
                x.output.pointee.error("ERR No such user '\(x.argument(k + 1).printable(max: 128))'")
                return false
            }
            filter.user = x.text(k + 1)
        case let name where name.equals("SKIPME"):
            guard x.argument(k + 1, is: "YES") || x.argument(k + 1, is: "NO") else {
                x.error("ERR syntax error")
                return false
            }
            filter.skipped = x.argument(k + 1, is: "YES") ? x.session.state.pointee.id : nil
        default:
            x.error("ERR syntax error")
            return false
        }
        return true
    }
}
