// One user: passwords, commands, keys. A value that rules change; any thread.

import KVBase
import KVRuntime

/// As Redis 7 has them, but for selectors, which are refused by name. Channels are kept and shown: there are none here.
package struct AccessUser: Sendable {
    /// Passwords, key patterns and channels of one user, each.
    static let itemsMax = 256
    static let nameBytesMax = 256
    /// Shorter ones are warned about.
    static let passwordBytesAdvised = 16

    package let name: String
    private(set) var isOn = false
    /// `nopass`: any password will do.
    private(set) var needsNoPassword = false
    /// SHA-256 of each. A slow hash would hold the loop for whoever asks.
    private(set) var passwords: [[UInt8]] = []
    package private(set) var rights = AccessRights.none
    private(set) var keys: [KeyPattern] = []
    private var channels: [String] = []
    private var hasAllChannels = false
    /// `sanitize-payload`, which has no meaning here and is shown as it was said.
    private var sanitizes: Bool?

    /// With no rights, and off.
    package init(_ name: String) { self.name = name }

    /// The one that Redis has from the start: everything without a password.
    static func unlimited(_ name: String) -> AccessUser {
        var user = AccessUser(name)
        (user.isOn, user.needsNoPassword, user.rights, user.hasAllChannels) = (true, true, .all, true)
        user.keys = [KeyPattern("*", reads: true, writes: true)!]
        return user
    }

    var hasAllKeys: Bool { keys.contains { $0.isEverything && $0.reads && $0.writes } }
    /// Nothing has to be looked at when it runs a command.
    var isUnlimited: Bool { rights.isUnlimited && hasAllKeys }

    // MARK: Questions

    /// In a time that does not tell how near a wrong one is.
    func accepts(digest: [UInt8]) -> Bool {
        passwords.reduce(false) { SecureHash.equal($1, digest) || $0 } || needsNoPassword
    }

    /// One pattern must give all that is wanted of the key. O(patterns x key).
    func mayUse(_ key: UnsafeRawBufferPointer, reading: Bool, writing: Bool) -> Bool {
        keys.contains { ($0.reads || !reading) && ($0.writes || !writing) && ($0.isEverything || $0.matches(key)) }
    }

    var readsSomething: Bool { keys.contains(where: \.reads) }
    var readsEverything: Bool { keys.contains { $0.isEverything && $0.reads } }

    // MARK: Rules

    /// All, up to the first that is none: that one is returned, and why.
    package mutating func apply(all rules: [String]) -> (rule: String, error: AccessRuleError)? {
        for rule in rules {
            do throws(AccessRuleError) { try apply(rule) } catch { return (rule, error) }
        }
        return nil
    }

    mutating func apply(_ rule: String) throws(AccessRuleError) {
        switch rule.lowercased() {
        case "on": isOn = true
        case "off": isOn = false
        case "nopass": (needsNoPassword, passwords) = (true, [])
        case "resetpass": (needsNoPassword, passwords) = (false, [])
        case "allkeys", "~*": keys = [KeyPattern("*", reads: true, writes: true)!]
        case "resetkeys": keys = []
        case "allchannels", "&*": (hasAllChannels, channels) = (true, [])
        case "resetchannels": (hasAllChannels, channels) = (false, [])
        case "allcommands": try rights.apply("@all", isGiven: true)
        case "nocommands": try rights.apply("@all", isGiven: false)
        case "sanitize-payload": sanitizes = true
        case "skip-sanitize-payload": sanitizes = false
        case "reset": self = AccessUser(name)
        case "clearselectors": break
        default: try applySigned(rule)
        }
    }

    private mutating func applySigned(_ rule: String) throws(AccessRuleError) {
        guard [">", "<", "("].contains(rule.first) || AccessUser.isWord(rule) else { throw .syntax }
        let rest = String(rule.dropFirst())
        switch rule.first {
        case "+": try rights.apply(rest, isGiven: true)
        case "-": try rights.apply(rest, isGiven: false)
        case ">": try addPassword(AccessUser.digest(rest))
        case "<": try removePassword(AccessUser.digest(rest))
        case "#": try addPassword(AccessUser.hash(rest))
        case "!": try removePassword(AccessUser.hash(rest))
        case "~": try addKeys(rest, reads: true, writes: true)
        case "%": try addKeysOfPart(rest)
        case "&":
            if hasAllChannels { throw .afterAllChannels }
            guard channels.count < AccessUser.itemsMax else { throw .tooMany }
            if !channels.contains(rest) { channels.append(rest) }
        case "(": throw .selector
        default: throw .syntax
        }
    }

    static func digest(_ password: String) -> [UInt8] {
        var password = password
        return password.withUTF8 { SecureHash.sha256(UnsafeRawBufferPointer($0)) }
    }

    private static func hash(_ digits: String) throws(AccessRuleError) -> [UInt8] {
        guard let bytes = SecureHash.bytes(digits), bytes.count == SecureHash.byteCount else { throw .hash }
        return bytes
    }

    private mutating func addPassword(_ digest: [UInt8]) throws(AccessRuleError) {
        needsNoPassword = false
        guard !passwords.contains(digest) else { return }
        guard passwords.count < AccessUser.itemsMax else { throw .tooMany }
        passwords.append(digest)
    }

    private mutating func removePassword(_ digest: [UInt8]) throws(AccessRuleError) {
        guard let index = passwords.firstIndex(of: digest) else { throw .noPassword }
        passwords.remove(at: index)
    }

    /// It can be a word of a file's line: by bytes, as the file is read.
    private static func isWord(_ text: String) -> Bool {
        !text.utf8.contains { AccessFile.isSpace($0) || $0 == 0 }
    }

    private mutating func addKeysOfPart(_ rule: String) throws(AccessRuleError) {
        guard let tilde = rule.firstIndex(of: "~") else { throw .syntax }
        let part = rule[..<tilde].uppercased()
        guard ["R", "W", "RW", "WR"].contains(part) else { throw .syntax }
        try addKeys(
            String(rule[rule.index(after: tilde)...]), reads: part.contains("R"), writes: part.contains("W"))
    }

    private mutating func addKeys(_ pattern: String, reads: Bool, writes: Bool) throws(AccessRuleError) {
        if hasAllKeys { throw .afterAllKeys }
        if pattern == "*", reads, writes { return keys = [KeyPattern("*", reads: true, writes: true)!] }
        guard keys.count < AccessUser.itemsMax else { throw .tooMany }
        guard let new = KeyPattern(pattern, reads: reads, writes: writes) else { throw .syntax }
        if !keys.contains(where: { $0.rule == new.rule }) { keys.append(new) }
    }

    // MARK: Texts

    /// A rule as an error names it: never a password.
    static func shown(_ rule: String) -> String {
        rule.hasPrefix(">") || rule.hasPrefix("<") ? "\(rule.prefix(1))…" : rule
    }

    /// As Redis's ACL GETUSER has them.
    var flags: [String] {
        [isOn ? "on" : "off"] + (needsNoPassword ? ["nopass"] : [])
            + (sanitizes.map { [$0 ? "sanitize-payload" : "skip-sanitize-payload"] } ?? [])
    }

    var keysText: String { hasAllKeys ? "~*" : keys.map(\.rule).joined(separator: " ") }
    var channelsText: String { hasAllChannels ? "&*" : channels.map { "&" + $0 }.joined(separator: " ") }

    /// A line of ACL LIST and of the file: rules that make this user of a new one.
    package var line: String {
        let secrets = passwords.map { "#" + SecureHash.hexadecimal($0) }
        let channelRules = hasAllChannels ? ["&*"] : ["resetchannels"] + channels.map { "&" + $0 }
        let words =
            ["user", name] + flags + secrets + (keys.isEmpty ? [] : [keysText]) + channelRules + [rights.text]
        return words.joined(separator: " ")
    }
}
