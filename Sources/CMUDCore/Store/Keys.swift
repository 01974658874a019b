// The names of everything in the store: `cmud/1/<world>/…`, components of [a-z0-9-], prefixes end in `/`. Pure.

package struct Keys: Sendable {
    package static let version = "1"
    package static let slotCount = 8
    /// Problem instances count up from 1; their keys carry this minus the number, so that the newest lists first.
    static let instanceBase: Int64 = 999_999

    package let root: String

    package init(world: String) { root = "cmud/\(Keys.version)/\(world)/" }

    /// Whether `world` can be a component of a key.
    package static func isWorld(_ world: String) -> Bool { (1...32).contains(world.utf8.count) && isComponent(world) }

    static func isComponent(_ text: some StringProtocol) -> Bool {
        !text.isEmpty
            && text.utf8.allSatisfy {
                (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "-")
            }
    }

    package var world: String { root + "world" }
    package var fence: String { root + "fence" }
    package func claims(_ canonical: String) -> String { root + "name/\(canonical)/" }
    package func claim(_ canonical: String, _ pid: String) -> String { claims(canonical) + pid }
    package func namesBeginning(_ canonical: String) -> String { root + "name/\(canonical)" }
    package func auth(_ pid: String) -> String { root + "auth/\(pid)" }
    package func slots(_ pid: String) -> String { root + "p/\(pid)/" }
    package func slot(_ pid: String, _ slot: Int) -> String { slots(pid) + String(slot) }
    package func session(_ pid: String) -> String { root + "sess/\(pid)" }
    package var everywhere: String { root + "here/" }
    package func room(_ place: Place) -> String { root + "here/\(place.key)/" }
    package func here(_ place: Place, _ pid: String) -> String { room(place) + pid }
    package var global: String { root + "glob/" }
    package func global(_ pid: String) -> String { global + pid }
    package func tells(to pid: String) -> String { root + "tell/\(pid)/" }
    package func tell(to: String, from: String) -> String { tells(to: to) + from }
    package func problem(_ rank: Rank, _ instance: Int64) -> String {
        root + "prob/\(rank.key)/\(Keys.instanceText(instance))/"
    }
    package func share(_ rank: Rank, _ instance: Int64, _ pid: String, _ slot: Int) -> String {
        problem(rank, instance) + "\(pid)-\(slot)"
    }
    package func solvedOf(_ rank: Rank) -> String { root + "solved/\(rank.key)/" }
    package func solved(_ rank: Rank, _ instance: Int64) -> String { solvedOf(rank) + Keys.instanceText(instance) }
    package func gifts(to pid: String) -> String { root + "gift/\(pid)/" }
    package func gift(to: String, from: String, _ slot: Int) -> String { gifts(to: to) + "\(from)-\(slot)" }
    package var scores: String { root + "score/" }
    package func score(_ pid: String) -> String { scores + pid }

    static func instanceText(_ instance: Int64) -> String {
        let digits = String(instanceBase - max(0, min(instance, instanceBase)))
        return String(repeating: "0", count: 6 - digits.count) + digits
    }

    static func instance(_ text: some StringProtocol) -> Int64? {
        guard text.utf8.count == 6, let number = Int64(text), number >= 0 else { return nil }
        return instanceBase - number
    }

    // MARK: reading; nil for keys that somebody made up

    /// What follows `prefix`, when it is one well-formed component.
    package static func component(_ key: String, after prefix: String) -> String? {
        guard key.hasPrefix(prefix) else { return nil }
        let rest = key.dropFirst(prefix.count)
        return isComponent(rest) ? String(rest) : nil
    }

    package static func identifier(_ key: String, after prefix: String) -> String? {
        component(key, after: prefix).flatMap { Names.isIdentifier($0) ? $0 : nil }
    }

    package static func slot(_ key: String, after prefix: String) -> Int? {
        guard let text = component(key, after: prefix), text.utf8.count == 1, let slot = Int(text), slot < slotCount
        else { return nil }
        return slot
    }

    /// `<pid>-<slot>`, the form of shares and gifts.
    package static func identifierAndSlot(_ key: String, after prefix: String) -> (pid: String, slot: Int)? {
        guard let text = component(key, after: prefix) else { return nil }
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, Names.isIdentifier(parts[0]), parts[1].utf8.count == 1, let slot = Int(parts[1]),
            slot < slotCount
        else { return nil }
        return (String(parts[0]), slot)
    }
}
