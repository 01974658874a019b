// The fuzz target `rights`: rules and files of users, well-formed and not. In process.

import KVBase
import KVServer
package import KVTestSupport

extension FuzzTarget {
    /// No text traps, and a user that was taken is shown as a line that makes the same user again.
    package static let rights = FuzzTarget(name: "rights", about: "rules of ACL SETUSER, and files of users") {
        random, _ in
        random.below(4) == 0 ? file(&random) : rules(&random)
    }

    private static let words = [
        "on", "off", "nopass", "resetpass", "allkeys", "resetkeys", "allchannels", "resetchannels", "allcommands",
        "nocommands", "reset", "sanitize-payload", "clearselectors", ">pw", "<pw", "#", "!", "~*", "~a*", "%R~b", "%W~",
        "%RW~[a-c]?", "%~", "&x", "&*", "+get", "-get", "+@read", "-@dangerous", "+@all", "-@all", "+config|get",
        "-config|get", "+get|x", "-get|x", "+put", "+del", "+client", "+kvd|put", "(+get ~x)", "+", "-", "", "~", "%",
        "+@", "user",
    ]

    private static func word(_ random: inout PRNG) -> String {
        var bytes = Array(words[random.below(words.count)].utf8)
        for _ in 0..<(random.below(3) == 0 ? 1 + random.below(3) : 0) {
            let at = random.below(bytes.count + 1)
            switch random.below(3) {
            case 0: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: at)
            case 1: if at < bytes.count { bytes.remove(at: at) }
            default: if at < bytes.count { bytes[at] = UInt8(truncatingIfNeeded: random.next()) }
            }
        }
        if random.below(40) == 0 { bytes += [UInt8](repeating: 97, count: random.below(200)) }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func rules(_ random: inout PRNG) -> String? {
        var user = AccessUser("u")
        for _ in 0..<random.below(12) {
            let rule = word(&random)
            let before = user.line
            guard let fault = user.apply(all: [rule]) else { continue }
            if fault.rule != rule || user.line != before { return "'\(rule)' is refused, and something has changed" }
        }
        return isSame(user)
    }

    private static func isSame(_ user: AccessUser) -> String? {
        // What holds white space cannot be a word of a line.
        guard !user.line.split(separator: " ", omittingEmptySubsequences: false).contains(where: { $0.isEmpty }),
            !user.line.contains(where: { $0.isWhitespace && $0 != " " })
        else { return nil }
        do {
            let again = try AccessFile.parse(user.line, "f")
            guard again.count == 1, again[0].line == user.line else {
                return "\(user.line) is read back otherwise"
            }
            for (index, row) in CommandTable.standard.rows.enumerated() {
                for argument in ["", "get", "x"] {
                    let (a, b) = (user.rights, again[0].rights)
                    let mine = a.allows(row: index, name: row.nameText, argument: argument)
                    if mine != b.allows(row: index, name: row.nameText, argument: argument) {
                        return "\(user.line): \(row.nameText) \(argument) differs when it is read back"
                    }
                }
            }
            return nil
        } catch { return "\(user.line) is not read back: \(error.description)" }
    }

    private static func file(_ random: inout PRNG) -> String? {
        let lines = (0..<random.below(4)).map { _ in
            (["user", word(&random)] + (0..<random.below(5)).map { _ in word(&random) }).joined(separator: " ")
        }
        guard let users = try? AccessFile.parse(lines.joined(separator: "\n"), "f") else { return nil }
        return users.lazy.compactMap { isSame($0) }.first
    }
}
