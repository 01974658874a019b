// The places of the world and what one sees there. Pure text, any thread.

/// Raw values are stored keys; the order is the one the map shows.
package enum Place: String, CaseIterable, Sendable {
    case fence, bridge
    case floor1 = "1", floor2 = "2", floor3 = "3", floor4 = "4", floor5 = "5"
    case floor6 = "6", floor7 = "7", floor8 = "8", floor9 = "9"

    package static let start = Place.floor5

    package var key: String { rawValue }
    package init?(key: String) { self.init(rawValue: key) }

    /// Accepts `fence`, `the fence`, `bridge`, `pausch`, `5`, `floor 5`, `gates 5`, `ghc5`.
    package init?(words: String) {
        var text = words.lowercased()
        for noise in ["the ", "floor", "gates", "ghc", "level", "to "] where text.hasPrefix(noise) {
            text = String(text.dropFirst(noise.count))
            text = String(text.drop { $0 == " " })
        }
        if text == "pausch" || text == "pausch bridge" { text = "bridge" }
        self.init(rawValue: text)
    }

    package var title: String {
        switch self {
        case .fence: "The Fence"
        case .bridge: "The Pausch Bridge"
        default: "Gates Center, floor \(rawValue)"
        }
    }

    /// As it reads after "to" or "at".
    package var phrase: String {
        switch self {
        case .fence: "the Fence"
        case .bridge: "the Pausch Bridge"
        default: "floor \(rawValue)"
        }
    }

    package var preposition: String { self == .fence ? "at" : "on" }

    package var text: String {
        switch self {
        case .fence:
            "A hundred coats of paint hold each other up in the shape of a fence. It is guarded overnight, "
                + "repainted before breakfast, and belongs to whoever stood here last with a brush."
        case .bridge:
            "The bridge glows underfoot in colours it picks itself. Penguins are cut into the rails. Halfway over, "
                + "everybody slows down and pretends to check their phone."
        case .floor1:
            "Loading docks, bicycles and one humming door that says MACHINE ROOM - NOT AN EXIT. Warm air comes "
                + "out of it. So does, now and then, a person with a blanket."
        case .floor2:
            "A robot has been told to deliver coffee and is stuck between two chairs. People step round it with "
                + "the tenderness usually reserved for cats."
        case .floor3:
            "The cafe closes in five minutes, whatever the time is. The queue discusses exponential backoff."
        case .floor4:
            "Lecture hall 4401 is emptying. On the board, in three hands: Lamport clocks, a pizza order and the "
                + "words DO NOT ERASE, half erased."
        case .floor5:
            "The Collaborative Commons, at the foot of the helix. Whiteboards, power sockets, the soft roar of "
                + "laptop fans. 15-440 meets here at all the hours it does not meet."
        case .floor6:
            "The helix climbs past glass walls. Behind each: a whiteboard, a screen, somebody explaining to an "
                + "empty chair why it ought to work."
        case .floor7:
            "Graduate offices. A doorplate counts the days since the last unexplained segfault. It says 0, and "
                + "somebody has framed it."
        case .floor8:
            "It is quiet here. A poster for a workshop of 2003 has become load-bearing."
        case .floor9:
            "Faculty row. Snow on the roof terrace, light under three doors, and a view of the whole campus from "
                + "the exact height at which deadlines look small."
        }
    }
}
