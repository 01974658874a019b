// What MUD clients are told as data beside the text: who you are, how you fare, where you are, who talks. Pure. A value
// owned by one connection.

package struct GMCP: Sendable {
    static let modulesMax = 64
    /// Modules the client said it understands, lower case, without version numbers.
    package private(set) var modules: Set<String> = []
    private var replies: [String] = []
    private var sent: [String: String] = [:]

    package init() {}

    // MARK: from the client

    package mutating func receive(_ bytes: [UInt8]) {
        let text = String(decoding: bytes, as: UTF8.self)
        let name = text.prefix { $0 != " " }.lowercased()
        let value = JSON.parse(Array(text.dropFirst(name.count).utf8).drop0x20)
        switch name {
        case "core.supports.set":
            modules = []
            add(value)
        case "core.supports.add": add(value)
        case "core.supports.remove":
            for module in value?.elements ?? [] { modules.remove(GMCP.bare(module.text ?? "")) }
        case "core.ping": replies.append("Core.Ping")
        default: break
        }
    }

    private mutating func add(_ value: JSON?) {
        for module in (value?.elements ?? []).prefix(GMCP.modulesMax) {
            guard let name = module.text, modules.count < GMCP.modulesMax else { continue }
            modules.insert(GMCP.bare(name))
        }
    }

    /// "Room 1" and "Char.Status 1" without the version.
    private static func bare(_ text: String) -> String { String(text.prefix { $0 != " " }).lowercased() }

    private func understands(_ message: String) -> Bool {
        let name = message.lowercased()
        return modules.contains { name == $0 || name.hasPrefix($0 + ".") }
    }

    // MARK: to the client

    /// Messages for what has changed since the last call and for `outputs`, of the modules the client understands.
    package mutating func messages(_ session: GameSession, _ outputs: [Output]) -> [String] {
        var messages = replies
        replies = []
        guard !modules.isEmpty, !session.shownName.isEmpty else { return messages }
        let name = JSON.object([("name", .string(session.shownName)), ("fullname", .string(session.shownName))])
        state("Char.Name", name, &messages)
        state(
            "Char.Status",
            .object([
                ("rank", .string(session.rankNow.title)), ("coins", .number(session.coinsNow)),
                ("power", .number(session.powerNow)),
            ]), &messages)
        let progress = session.progress
        state(
            "Char.Vitals",
            .object([
                ("busy", .string(progress?.activity.rawValue ?? "")), ("done", .number(progress?.done ?? 0)),
                ("total", .number(progress?.total ?? 0)),
            ]), &messages)
        state("Room.Info", GMCP.room(session.currentPlace), &messages)
        for output in outputs { event(output.event, &messages) }
        return messages
    }

    private mutating func state(_ name: String, _ value: JSON, _ messages: inout [String]) {
        let text = value.string
        guard understands(name), sent[name] != text else { return }
        sent[name] = text
        messages.append("\(name) \(text)")
    }

    private static func room(_ place: Place) -> JSON {
        let exits = Place.allCases.filter { $0 != place }.map { exit in
            (key: exit.key, value: JSON.number(number(exit)))
        }
        return .object([("num", .number(number(place))), ("name", .string(place.title)), ("exits", .object(exits))])
    }

    private static func number(_ place: Place) -> Int64 { Int64(Place.allCases.firstIndex(of: place)! + 1) }

    private func event(_ event: Event, _ messages: inout [String]) {
        func push(_ name: String, _ value: JSON) {
            if understands(name) { messages.append("\(name) \(value.string)") }
        }
        func player(_ name: String) -> JSON { .object([("name", .string(name)), ("fullname", .string(name))]) }
        func channel(_ channel: String, _ talker: String, _ text: SafeText) {
            push(
                "Comm.Channel.Text",
                .object([
                    ("channel", .string(channel)), ("talker", .string(talker)), ("text", .string(text.string)),
                ]))
        }
        switch event {
        case .room(let view): push("Room.Players", .array(view.people.map { player($0.name) }))
        case .talk(let name, let talk, _):
            switch talk {
            case .say(let text): channel("say", name, text)
            case .emote(let text): channel("emote", name, text)
            case .shout(let text): channel("shout", name, text)
            case .arrive: push("Room.AddPlayer", player(name))
            case .leave: push("Room.RemovePlayer", .string(name))
            case .paint, .promoted, .coffee: break
            }
        case .told(let name, let text, _): channel("tell", name, text)
        default: break
        }
    }
}

extension [UInt8] {
    fileprivate var drop0x20: [UInt8] { Array(drop { $0 == 0x20 }) }
}
