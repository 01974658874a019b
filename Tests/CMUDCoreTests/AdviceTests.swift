// Advice that is followed to the letter is a good way to play, alone and as a pair.

@testable import CMUDCore
import KVBase
import KVTestTraits
import Testing

/// Types what `hint` says and nothing else, three seconds after it may.
struct HintFollower {
    let player: SimPlayer
    private var queue: [String] = []
    private var due: Millis?
    static let thinkingMillis: Millis = 3_000

    init(_ player: SimPlayer) { self.player = player }

    /// The commands between backquotes that are meant to be typed now: the first one, and what follows a walk.
    static func commands(_ advice: String) -> [String] {
        let quoted = advice.split(separator: "`", omittingEmptySubsequences: false).enumerated()
            .filter { $0.offset % 2 == 1 }.map { String($0.element) }
        guard let first = quoted.first else { return [] }
        return first.hasPrefix("move") ? Array(quoted.prefix(2)) : [first]
    }

    private mutating func ask(_ world: SimWorld) {
        world.type(player, "hint")
        world.run(atMost: 5_000) { player.session.isReady }
        guard case .advice(let text)? = player.events.last?.event else { return }
        queue = HintFollower.commands(text)
    }

    mutating func turn(_ world: SimWorld) {
        guard player.session.isReady, player.session.progress == nil, !player.isOver else { return due = nil }
        guard let due else { return self.due = world.now + HintFollower.thinkingMillis }
        guard world.now >= due else { return }
        self.due = nil
        if queue.isEmpty { ask(world) }
        if !queue.isEmpty, player.session.isReady { world.type(player, queue.removeFirst()) }
    }
}

@Suite(.blocking) struct AdviceTests {
    /// Plays until `isDone`; the minutes it took, nil after two hours.
    private func play(_ world: SimWorld, _ followers: inout [HintFollower], until isDone: ([HintFollower]) -> Bool)
        -> Double?
    {
        let start = world.now
        while !isDone(followers) {
            guard world.now - start < 120 * 60_000 else { return nil }
            for index in followers.indices { followers[index].turn(world) }
            world.run(for: 500)
        }
        return Double(world.now - start) / 60_000
    }

    private func rank(_ follower: HintFollower) -> Rank { follower.player.session.rankNow }

    private func pair(_ world: SimWorld) -> (ada: SimPlayer, bob: SimPlayer) {
        let (ada, bob) = (world.join("ada", replica: 0), world.join("bob", replica: 1))
        for player in [ada, bob] { world.waitUntilIn(player) }
        world.settle(8_000)
        return (ada, bob)
    }

    // MARK: single pieces

    @Test func aWeakPartnerMinesAndBuysFirst() {
        let world = SimWorld(seed: 1, replicas: 2)
        world.character("ada", cpus: 7)
        world.settle()
        let (ada, bob) = pair(world)
        #expect(bob.session.strength >= bob.session.goodPower && bob.session.power == 1)
        #expect(bob.session.advice == "`mine 10`; with a power of 4, `solve`.", "\(bob.session.advice)")
        #expect(ada.session.advice.hasPrefix("You are strong enough: `solve`"), "\(ada.session.advice)")
        world.command(bob, "problem")
        #expect(bob.heard("With ada, start at a power of about 4"))
        world.command(bob, "mine 8")
        #expect(!bob.heard("is enough for the problem") && bob.session.advice.hasPrefix("`buy max`"))
        world.command(bob, "buy max")
        #expect(bob.session.power >= 4)
        #expect(bob.heard("With ada a power of \(8 + bob.session.power) is enough for the problem"))
        #expect(bob.session.advice.hasPrefix("Together with ada you are strong enough: `solve`"))
    }

    @Test func coinsThatBuyAQuarterMorePowerComeFirst() {
        let world = SimWorld(seed: 2)
        world.character("ada", rank: .masters, cpus: 199, earned: 2_000)
        world.character("bob", rank: .masters, cpus: 199, earned: 20)
        let (ada, bob) = (world.join("ada"), world.join("bob"))
        for player in [ada, bob] { world.waitUntilIn(player) }
        world.command(bob, "move 1")
        world.command(ada, "move 2")
        #expect(ada.session.advice.hasPrefix("`buy max`"), "\(ada.session.advice)")
        #expect(ada.heard("Hint: `buy max`; then you have power enough for `solve`."), "who comes back is told, too")
        world.command(ada, "mine")
        #expect(ada.heard("You can afford a GPU") && !ada.heard("is enough for the problem"))
        #expect(!bob.session.advice.contains("buy"), "a GPU or two of 200: \(bob.session.advice)")
    }

    /// Said to somebody whose screen has shown a power of 14 one line above.
    @Test func whatIsCalledYourPowerIsYours() {
        let world = SimWorld(seed: 3, replicas: 2)
        world.character("ada", cpus: 9)
        world.character("bob", cpus: 9, earned: 4)
        world.settle()
        let (_, bob) = pair(world)
        world.command(bob, "buy cpu 1")
        #expect(bob.heard("your power is 11") && bob.heard("Your power of 11 is enough for the problem"))
    }

    @Test func theWhiteboardIsNotSoughtWhereItIsBad() {
        let world = SimWorld(seed: 4, replicas: 2)
        for name in ["ada", "bob"] { world.character(name, cpus: 5) { $0.place = .floor1 } }
        world.character("cyd", cpus: 99) { $0.place = .fence }
        world.settle()
        let (ada, bob) = pair(world)
        let cyd = world.join("cyd")
        world.waitUntilIn(cyd)
        world.settle()
        for player in [ada, bob] {
            #expect(
                player.session.advice.contains("strong enough: `move 6`, `solve` (here"), "\(player.session.advice)")
        }
        #expect(cyd.session.advice.hasPrefix("You are strong enough: `move 8`, `solve`"), "\(cyd.session.advice)")
        // Who is already on the way counts from there.
        world.command(ada, "move 6")
        world.command(ada, "solve")
        world.settle()
        world.command(bob, "hint")
        #expect(bob.heard("Next: Together with ada you are strong enough: `move 6`, `solve`"), "\(bob.text)")
        world.command(cyd, "move 8")
        #expect(cyd.session.advice.hasPrefix("You are strong enough: `solve`"))
    }

    @Test func partnersInTheRoomShortenTheProblem() {
        let world = SimWorld(seed: 5, replicas: 2)
        for name in ["ada", "bob"] { world.character(name, cpus: 9) { $0.place = .floor6 } }
        world.settle()
        let (ada, _) = pair(world)
        world.command(ada, "problem")
        // 1,000 at 20 a step, a fifth more, 85 of 100 of which hit.
        #expect(ada.heard("About 50 steps each with bob, at a power of 20 together"), "\(ada.text)")
    }

    /// Nine steps before the end the advice was to go back to mining.
    @Test func whatIsNearlyDoneIsFinished() {
        let world = SimWorld(seed: 7)
        let size = Balance.standard.size(.undergraduate)
        for (name, mine) in [("ada", Int64(100)), ("bob", 20)] {
            let pid = world.character(name, cpus: 3) { $0.total.work[Rank.undergraduate.rawValue] = [1: mine] }
            let share = GameSession.shareBytes(mine)
            world.store.write(world.keys.share(.undergraduate, 1, pid, 0), share, at: 0)
        }
        let other = world.character("cyd")
        let rest = GameSession.shareBytes(size - 120 - 36)
        world.store.write(world.keys.share(.undergraduate, 1, other, 0), rest, at: 0)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.command(ada, "solve")
        #expect(ada.session.advice == "Nearly done: `solve 20` (about 11 steps).", "\(ada.session.advice)")
        world.command(ada, "solve 2")
        #expect(!ada.heard("Slow going"))
        world.command(ada, "quit")
        // Whose own part takes longer is better off with more power, wherever the problem stands.
        let bob = world.join("bob")
        world.waitUntilIn(bob)
        world.command(bob, "problem")
        world.command(bob, "hint")
        #expect(bob.heard("Next: `mine 10`; with a power of 8, `solve`."), "\(bob.text)")
    }

    @Test func lessonsThatWaitAreCounted() {
        let world = SimWorld(seed: 6)
        world.character("ada", rank: .masters, cpus: 6, earned: 1) { $0.total.spent = 1 }
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        #expect(ada.session.advice == "`move 4`, `study 17`: 2 lessons wait for you, and what you learn lasts.")
        world.command(ada, "move 4")
        world.command(ada, "study 20")
        world.command(ada, "learn")
        #expect(
            ada.transcript.contains { $0.contains("2 more lessons at your rank. Insight: ") && $0.contains("takes 60") }
        )
        world.command(ada, "learn care")
        #expect(ada.session.advice.contains("there is a lesson for your rank"), "\(ada.session.advice)")
    }

    // MARK: whole games

    /// To the letter, that is with 3 s before each line, by somebody who does nothing else. Before coins came first and
    /// weak partners mined, the three pairs took 38.9 minutes on average; it is 34.4 now (docs/cmud/decisions.md).
    @Test func aPairThatDoesWhatHintSaysRetiresSoonerThanOneAlone() throws {
        var minutes: [Double] = []
        for seed in UInt64(1)...3 {
            let world = SimWorld(seed: seed, replicas: 2)
            world.character("ada", cpus: 6)
            world.settle()
            var followers = ["ada", "bob"].enumerated().map { HintFollower(world.join($1, replica: $0)) }
            for follower in followers { world.waitUntilIn(follower.player) }
            let taken = play(world, &followers) { $0.allSatisfy { rank($0) == .retired } }
            minutes.append(try #require(taken, "\(followers.map { rank($0) })"))
            #expect(followers.allSatisfy { $0.player.failures.isEmpty }, "\(followers.map(\.player.failures))")
        }
        print("advice: pairs \(minutes)")
        #expect(minutes.reduce(0, +) < 3 * 38, "\(minutes)")
        var alone: [Double] = []
        for seed in UInt64(1)...3 {
            let world = SimWorld(seed: seed)
            var followers = [HintFollower(world.join("ada"))]
            world.waitUntilIn(followers[0].player)
            alone.append(try #require(play(world, &followers) { rank($0[0]) == .retired }))
            #expect(followers[0].player.failures.isEmpty, "\(followers[0].player.failures)")
        }
        print("advice: alone \(alone)")
        #expect(alone.max()! < 70 && minutes.max()! < alone.min()!, "\(alone), pairs \(minutes)")
    }
}
