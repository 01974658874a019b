// Everything the game can tell a player, as data; renderers turn it into words. Values, any thread.

package import KVBase

/// What one player has to say or do that others see. Names are claimed names, never text from a message.
package enum Talk: Equatable, Sendable {
    case say(SafeText)
    case emote(SafeText)
    case shout(SafeText)
    case arrive(from: Place?)
    case leave(to: Place?)
    case paint(SafeText)
    case promoted(Rank)
    case coffee
}

package struct RoomPerson: Equatable, Sendable {
    package var name: String
    package var rank: Rank
    package var activity: Activity
    package var away: SafeText?
    package var isLinkLost = false
}

package struct RoomView: Equatable, Sendable {
    package var place: Place
    package var isBrief: Bool
    package var people: [RoomPerson]
    package var hiddenPeople = 0
    /// False when the store did not say who is here.
    package var isHeard = true
    /// The coat of paint, at the Fence only.
    package var paint: (text: SafeText, name: String)?
    /// What the place is good for; empty where work is like anywhere.
    package var terms = ""

    package static func == (a: RoomView, b: RoomView) -> Bool {
        a.place == b.place && a.people == b.people && a.paint?.text == b.paint?.text
    }
}

package enum Activity: String, Equatable, Sendable {
    case idle, mining, studying, solving, mentoring

    package var phrase: String {
        switch self {
        case .idle: "is here"
        case .mining: "is mining"
        case .studying: "is bent over a book"
        case .solving: "is at the whiteboard, solving"
        case .mentoring: "is mentoring"
        }
    }
}

package struct WhoRow: Equatable, Sendable {
    package var name: String
    package var rank: Rank
    package var place: Place
    package var activity: Activity
    package var idleSeconds: Int64
    package var away: SafeText?
    package var isLinkLost = false
    package var isSelf = false
}

package struct MapRow: Equatable, Sendable {
    package var place: Place
    package var isHere: Bool
    package var names: [String]
    package var tag = ""
    /// With `map all`: who was last seen there, and how long ago.
    package var lastSeen: [(name: String, seconds: Int64)] = []

    package static func == (a: MapRow, b: MapRow) -> Bool {
        a.place == b.place && a.isHere == b.isHere && a.names == b.names
    }
}

package struct ShopRow: Equatable, Sendable {
    package var item: Item
    package var price: Int64
    package var owned: Int64
    package var isUnlocked: Bool
    /// Mining attempts after which a unit has paid for itself.
    package var paybackTries: Int64
    package var affordable: Int64
}

package struct InventoryRow: Equatable, Sendable {
    package var item: Item
    package var count: Int64
}

package struct ProblemView: Equatable, Sendable {
    package var rank: Rank
    package var instance: Int64
    package var size: Int64
    package var remaining: Int64
    package var people: [(name: String, work: Int64)]
    package var mine: Int64
    /// The player's work for this rank, over all instances, and what the promotion asks for.
    package var credit: Int64
    package var creditNeeded: Int64
    package var steps: Int64
    package var power: Int64
    /// With whom it could be done, in how many steps each, at which power in all.
    package var together: (names: [String], steps: Int64, power: Int64)?

    package static func == (a: ProblemView, b: ProblemView) -> Bool {
        a.rank == b.rank && a.instance == b.instance && a.remaining == b.remaining && a.credit == b.credit
    }
}

package struct StatsView: Equatable, Sendable {
    package var name: String
    package var rank: Rank
    package var isSelf: Bool
    package var coins: Int64?
    package var power: Int64
    package var hardware: [InventoryRow]
    package var place: Place
    package var playSeconds: Int64
    package var share: Int64
    package var size: Int64
    package var activity: Activity?
    package var idleSeconds: Int64?
    package var goal: String?
    package var lessons: [Int64] = []
    /// Insight at hand and tries that the cup still lasts; for oneself only.
    package var insight: Int64?
    package var cupLeft: Int64 = 0
}

package struct LessonRow: Equatable, Sendable {
    package var subject: Subject
    package var had: Int64
}

package struct ScoreRow: Equatable, Sendable {
    package var place: Int
    package var name: String
    package var rank: Rank
    package var value: Int64
    package var isSelf: Bool
    package var isDoubtful: Bool
}

package enum ScoreKind: String, Sendable, CaseIterable { case rank, coins, team }

package struct WorkSummary: Equatable, Sendable {
    package var tries: Int64 = 0
    package var hits: Int64 = 0
    /// Coins of mining, work of solving.
    package var gained: Int64 = 0
    package var broken: Int64 = 0
    package var wasStopped = false
}

package struct SessionSummary: Equatable, Sendable {
    package var name: String
    package var seconds: Int64
    package var coins: Int64
    package var earned: Int64
    package var rank: Rank
    package var rankAtStart: Rank
    package var isSaved: Bool
}

package enum Event: Sendable {
    case banner
    case askName
    case welcome(name: String, isNew: Bool)
    case returning(rank: Rank, coins: Int64, power: Int64, awaySeconds: Int64?)
    case chapterTitle(String)
    case chapterLine(String)
    case notice(String)
    case warning(String)
    /// What was wrong, then what to type.
    case failure(String, fix: String)
    case hint(String)
    /// Advice that was asked for.
    case advice(String)
    case operatorNote(SafeText)

    case mineStarted(tries: Int64)
    case progress(Activity, done: Int64, total: Int64)
    case mined(coins: Int64)
    case minedNothing
    case mineFinished(WorkSummary, coins: Int64, afford: [(item: Item, count: Int64)])
    case bought([(item: Item, count: Int64)], cost: Int64, coins: Int64, power: Int64)
    case shop([ShopRow], coins: Int64)
    case studyStarted(tries: Int64)
    case studyFinished(WorkSummary, insight: Int64)
    case lessons([LessonRow], insight: Int64, open: Int64)
    case learnt(Subject, lessons: Int64)
    case coffeeBought(price: Int64, coins: Int64, names: [String])
    case inventory([InventoryRow], coins: Int64, power: Int64)

    case problemText(Rank, instance: Int64)
    case problem(ProblemView)
    case stepHit(work: Int64, bonusPercent: Int64, team: [String], remaining: Int64, size: Int64, mine: Int64)
    case stepBroke(Item, count: Int64, left: Int64)
    case stepStuck(String)
    case solveFinished(WorkSummary, remaining: Int64, size: Int64, steps: Int64)
    case solved(Rank, instance: Int64, names: [String])
    case promoted(Rank)

    case room(RoomView)
    case map([MapRow])
    case who([WhoRow])
    case whereAbouts([WhoRow])
    case stats(StatsView)
    case person(RoomPerson, idleSeconds: Int64, onSeconds: Int64)
    case talk(name: String, Talk, isOwn: Bool)
    case told(from: String, SafeText, ageSeconds: Int64)
    case toldOwn(to: String, SafeText, isOffline: Bool)
    case repeated(name: String, count: Int)
    case missed(name: String, count: Int64)
    case gifted(to: String, amount: Int64, coins: Int64)
    case giftReceived(from: String, amount: Int64, coins: Int64)
    case history([(time: Millis, event: Event)])
    case scores(ScoreKind, [ScoreRow], hall: [String])
    case settings([(name: String, value: String)])

    case help(isSolving: Bool)
    case helpGroup(CommandGroup)
    case helpTopic(GameCommand)
    case goodbye(SessionSummary)
}

extension Event {
    var isHint: Bool { if case .hint = self { true } else { false } }
}

/// What a session hands to its front end.
package struct Output: Sendable {
    package var event: Event
    /// True for what others or the world did, false for the answer to the player's own command.
    package var isAsync: Bool
}

/// What the front end should ask the player for.
package enum PlayerPrompt: Equatable, Sendable {
    /// Nothing: a command or a chapter is running.
    case none
    case login
    case mining
    case solving
    case secret(String)
    case question(String)

    package var text: String {
        switch self {
        case .none: ""
        case .login: "> "
        case .mining: "(mining) > "
        case .solving: "(solving) > "
        case .secret(let text), .question(let text): text
        }
    }

    package var isSecret: Bool {
        if case .secret = self { return true }
        return false
    }
}

/// How a session ended; the program's exit code.
package enum Ending: Int32, Equatable, Sendable {
    case quit = 0
    case unreachable = 3
    case refused = 4
    case interrupted = 130
}

/// The running action, for a bar.
package struct ProgressView: Equatable, Sendable {
    package var activity: Activity
    package var done: Int64
    package var total: Int64
    /// Share of the whole in thousandths, with the running attempt counted by time, and the time that is left.
    package var permille: Int
    package var secondsLeft: Int64
}
