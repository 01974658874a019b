// Presence, talk, tells, gifts, names, passwords and the Fence, between players on several servers.

@testable import CMUDCore
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct PeopleTests {
    /// Two players on two servers with 250 ms between them.
    private func pair(_ seed: UInt64) -> (SimWorld, SimPlayer, SimPlayer) {
        let world = SimWorld(seed: seed, replicas: 2, network: SimNetwork(delayMillis: 250...250))
        let ada = world.join("ada", replica: 0)
        let bob = world.join("bob", replica: 1)
        world.waitUntilIn(ada)
        world.waitUntilIn(bob)
        world.settle()
        return (world, ada, bob)
    }

    @Test func talkIsHeardAcrossServersWithinThreeAndAHalfSeconds() {
        let (world, ada, bob) = pair(1)
        var slowest: Millis = 0
        for index in 0..<10 {
            let start = world.now
            world.type(ada, "say number \(index) to you")
            #expect(world.run(atMost: 10_000) { bob.heard("* ada says: number \(index) to you") })
            slowest = max(slowest, world.now - start)
            world.run(for: 1_500)
        }
        print("talk: slowest of 10 at 250 ms one way: \(slowest) ms")
        #expect(slowest <= 3_500)
        #expect(
            !bob.heard("missed") && bob.transcript.filter { $0.contains("number 3 to you") }.count == 1, "once each")
    }

    @Test func peopleComeAndGo() {
        let (world, ada, bob) = pair(2)
        world.command(bob, "move fence")
        #expect(world.run(atMost: 5_000) { ada.heard("* bob leaves for the Fence.") })
        world.command(ada, "move fence")
        #expect(world.run(atMost: 5_000) { bob.heard("* ada arrives from floor 5.") })
        world.command(ada, "paint EAT MORE PIE")
        #expect(world.run(atMost: 5_000) { bob.heard("ada paints the Fence: \"EAT MORE PIE\"") })
        world.command(bob, "look")
        #expect(bob.heard("The Fence reads: \"EAT MORE PIE\" - painted by ada"))
        world.command(ada, "paint AGAIN")
        #expect(ada.failures.last?.contains("wet") == true)
        world.command(bob, "quit")
        #expect(world.run(atMost: 5_000) { ada.heard("* bob leaves.") })
        world.command(ada, "who")
        #expect(ada.transcript.last == "1 player online.")
    }

    @Test func presenceSettlesWithinFifteenSecondsOfACrash() {
        let (world, ada, bob) = pair(3)
        world.crash(bob)
        world.run(for: 16_000)
        world.command(ada, "who")
        #expect(ada.transcript.contains { $0.contains("bob") && $0.contains("link lost") })
        world.run(for: 60_000)
        world.command(ada, "who")
        #expect(ada.transcript.last == "1 player online.")
    }

    @Test func aSkewedClockKeepsNobodyOffline() {
        let world = SimWorld(seed: 4, replicas: 2, network: SimNetwork(skewMillis: [0, 3_000]))
        let ada = world.join("ada", replica: 0, skew: -86_400_000)
        let bob = world.join("bob", replica: 1, skew: 7_200_000)
        world.waitUntilIn(ada)
        world.waitUntilIn(bob)
        world.settle()
        world.command(ada, "who")
        world.command(bob, "who")
        #expect(ada.transcript.last == "2 players online." && bob.transcript.last == "2 players online.")
        world.type(bob, "say hi")
        #expect(world.run(atMost: 5_000) { ada.heard("* bob says: hi") })
    }

    @Test func tellsReachThoseWhoAreAwayAndComeOnce() {
        let (world, ada, bob) = pair(5)
        world.command(bob, "quit")
        world.settle()
        world.command(ada, "tell bob the answer is 42")
        #expect(ada.heard("(offline, will see it at login)"))
        world.command(ada, "tell bo and bring milk")
        world.settle()
        let again = world.join("bob", replica: 1)
        world.waitUntilIn(again)
        #expect(world.run(atMost: 5_000) { again.heard("the answer is 42") && again.heard("bring milk") })
        world.command(again, "reply thanks")
        #expect(world.run(atMost: 5_000) { ada.heard("* bob tells you: thanks") })
        world.settle()
        world.command(again, "quit")
        world.settle(15_000)
        let third = world.join("bob", replica: 0)
        world.waitUntilIn(third)
        world.settle()
        #expect(!third.heard("the answer is 42"))
    }

    @Test func ignoringIsLocalAndStored() {
        let (world, ada, bob) = pair(6)
        world.command(ada, "ignore bob")
        world.type(bob, "say blah")
        world.type(bob, "tell ada blah")
        world.type(bob, "shout blah")
        world.settle()
        #expect(!ada.heard("blah"))
        world.command(ada, "quit")
        world.settle(12_000)
        let again = world.join("ada", replica: 1)
        world.waitUntilIn(again)
        world.type(bob, "say blah two")
        world.settle()
        #expect(!again.heard("blah"))
        world.command(again, "unignore bob")
        world.type(bob, "say hello three")
        #expect(world.run(atMost: 5_000) { again.heard("hello three") })
    }

    @Test func giftsAreDebitedOnceAndCreditedOnce() {
        let world = SimWorld(seed: 7, replicas: 2)
        world.character("ada", cpus: 9, earned: 1_000)
        let bobPid = world.character("bob")
        world.settle()
        let ada = world.join("ada", replica: 0)
        world.waitUntilIn(ada)
        world.command(ada, "gift bob 60")
        #expect(ada.session.coinsNow == 940)
        world.command(ada, "gift bob 60")
        #expect(ada.failures.last?.contains("tenth") == true)
        world.settle()
        let bob = world.join("bob", replica: 1)
        world.waitUntilIn(bob)
        #expect(bob.heard("While you were away you were given 60 coins"))
        #expect(bob.session.coinsNow == 60)
        world.command(ada, "gift bob 40")
        #expect(world.run(atMost: 10_000) { bob.heard("* ada gives you 40 coins. You have 100 coins.") })
        // A forged gift counts only as far as its giver was charged.
        let forged = #"{"v":1,"c":999999999,"name":"ada"}"#
        world.store.write(
            world.keys.gift(to: bobPid, from: ada.session.identity, ada.session.slotNow), Array(forged.utf8), at: 1)
        world.settle(12_000)
        #expect(bob.session.coinsNow == 100)
    }

    @Test func aCrashBetweenTheDebitAndTheGiftIsRepairedAtTheNextLogin() {
        for puts in 1...3 {
            let world = SimWorld(seed: UInt64(80 + puts))
            world.character("ada", earned: 1_000)
            world.character("bob")
            let ada = world.join("ada")
            world.waitUntilIn(ada)
            world.run(for: 4_900)
            ada.putsUntilCrash = puts
            world.type(ada, "gift bob 10")
            world.run(for: 20_000)
            let again = world.join("ada")
            world.waitUntilIn(again)
            let bob = world.join("bob")
            world.waitUntilIn(bob)
            world.settle()
            #expect(again.session.coinsNow + bob.session.coinsNow == 1_000)
        }
    }

    @Test func aNameHasOneOwnerAndTheOtherIsTold() {
        let world = SimWorld(seed: 9, replicas: 2, network: SimNetwork(delayMillis: 250...250))
        let first = world.join("turing", replica: 0)
        let second = world.join("turing", replica: 1)
        world.waitUntilIn(first)
        world.waitUntilIn(second)
        world.command(first, "mine 1")
        world.run(for: 30_000)
        let shown = [first.session.shownName, second.session.shownName]
        #expect(
            shown.filter { $0 == "turing" }.count == 1 && shown.filter { $0.hasPrefix("turing~") }.count == 1,
            "\(shown)")
        let loser = first.session.shownName == "turing" ? second : first
        #expect(loser.heard("`rename NEWNAME`"))
        world.command(loser, "rename turing")
        #expect(loser.failures.last?.contains("already") == true)
        world.command(loser, "rename lovelace")
        #expect(loser.session.shownName == "lovelace")
        world.settle()
        let winner = loser === first ? second : first
        world.command(winner, "who")
        #expect(winner.transcript.contains { $0.hasPrefix("lovelace") })
    }

    @Test func passwordsKeepANameAndThreeWrongOnesEndTheTry() {
        let world = SimWorld(seed: 10)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        for line in ["password", "correct horse", "correct horse"] { world.command(ada, line) }
        #expect(ada.heard("Password set") && !ada.text.contains("correct horse"))
        world.command(ada, "mine 1")
        world.command(ada, "quit")
        let thief = world.join("ada")
        for guess in ["x", "", "12345678"] {
            world.run(atMost: 5_000) { thief.session.prompt.isSecret }
            world.type(thief, guess)
        }
        world.run(for: 2_000)
        #expect(thief.session.ending == .refused)
        let owner = world.join("ada")
        world.run(atMost: 5_000) { owner.session.prompt.isSecret }
        world.type(owner, "correct horse")
        world.waitUntilIn(owner)
        #expect(owner.heard("Welcome back"))
        for line in ["password", "wrong"] { world.command(owner, line) }
        #expect(owner.failures.last?.hasPrefix("Wrong password") == true)
        for line in ["password", "correct horse", "", ""] { world.command(owner, line) }
        #expect(owner.heard("anybody who types the name"))
    }

    @Test func aPasswordFindsItsOwnClaimUnderAContestedName() {
        let world = SimWorld(seed: 11, replicas: 2)
        world.store.cut(0, 1)
        let first = world.join("ada", replica: 0)
        let second = world.join("ada", replica: 1)
        world.waitUntilIn(first)
        world.waitUntilIn(second)
        for line in ["password", "first first", "first first"] { world.command(first, line) }
        for line in ["password", "second second", "second second"] { world.command(second, line) }
        for player in [first, second] { world.command(player, "quit") }
        world.store.heal()
        world.settle(15_000)
        let again = world.join("ada", replica: 0)
        world.run(atMost: 5_000) { again.session.prompt.isSecret }
        world.type(again, "second second")
        world.waitUntilIn(again)
        #expect(again.session.identity == second.session.identity)
    }

    @Test func theTeamBonusNeedsARoomAndARank() {
        let world = SimWorld(seed: 12)
        world.character("ada", cpus: 19)
        world.character("bob", cpus: 19)
        let ada = world.join("ada")
        let bob = world.join("bob")
        world.waitUntilIn(ada)
        world.waitUntilIn(bob)
        world.command(bob, "solve")
        world.settle()
        world.command(ada, "solve 3")
        #expect(ada.heard("10 % more with bob here"))
        world.command(bob, "resign")
        world.command(bob, "move 6")
        world.settle()
        let before = ada.transcript.count
        world.command(ada, "solve 3")
        #expect(!ada.transcript[before...].contains { $0.contains("more with bob") })
    }

    @Test func floodsAreHeldBackOnTheSendersSide() {
        let world = SimWorld(seed: 13)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        for index in 0..<8 { world.type(ada, "say \(index)") }
        #expect(ada.failures.contains { $0.contains("too fast") })
        world.type(ada, "shout a")
        world.type(ada, "shout b")
        #expect(ada.failures.last?.contains("voice") == true)
        world.type(ada, (0..<30).map { "say \($0)" }.joined(separator: ";"))
        #expect(ada.failures.last?.contains("20 commands") == true)
        world.run(for: 40_000)
        world.command(ada, "say " + String(repeating: "x", count: 300))
        #expect(ada.failures.last?.contains("longer than 240") == true)
    }

    @Test func impossibleRecordsAreMarkedInTheScores() {
        let world = SimWorld(seed: 14)
        let cheat = world.character("cheat", rank: .retired, earned: 5) { $0.total.mineAttempts = 1_000_000 }
        let score = #"{"v":1,"name":"cheat","rk":5,"play":1,"con":9,"e":99999,"retired":true}"#
        world.store.write(world.keys.score(cheat), Array(score.utf8), at: 0)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.command(ada, "scores")
        #expect(ada.transcript.contains { $0.contains("cheat ?") })
        #expect(ada.transcript.contains { $0.contains("ada (you)") })
    }

    /// Play time that grows, and is a minute old for others, let each of two see the other ahead.
    @Test func everybodySeesTheSameAhead() {
        let world = SimWorld(seed: 16, replicas: 2)
        for (name, work) in [("ada", Int64(40)), ("bob", 30), ("cyd", 0)] {
            world.character(name, cpus: 9) { $0.total.work[Rank.undergraduate.rawValue] = [1: work] }
        }
        world.settle()
        let players = ["ada", "bob", "cyd"].enumerated().map { world.join($1, replica: $0 % 2) }
        for player in players { world.waitUntilIn(player) }
        world.settle(20_000)
        let order = { (player: SimPlayer) -> [String] in
            world.command(player, "scores")
            guard
                case .scores(_, let rows, _)? = player.events.last(where: {
                    if case .scores = $0.event { true } else { false }
                })?.event
            else { return [] }
            return rows.map { "\($0.place) \($0.name) \($0.value)" }
        }
        for player in players { _ = order(player) }
        world.settle()
        for player in players { #expect(order(player) == ["1 ada 40", "2 bob 30", "3 cyd 0"], "\(player.label)") }
        // What bob has done since counts for both, though the line that he publishes is still the old one.
        for player in players { world.command(player, "move 6") }
        world.solve(players[1], atMost: 20) { players[1].session.ledgerNow.work(.undergraduate) > 40 }
        let work = players[1].session.ledgerNow.work(.undergraduate)
        world.settle(3_000)
        for player in players {
            #expect(order(player) == ["1 bob \(work)", "2 ada 40", "3 cyd 0"], "\(player.label)")
        }
    }

    @Test func theRetiredAreOrderedByTime() {
        let world = SimWorld(seed: 17)
        for (name, seconds) in [("slow", Int64(9_000)), ("fast", 3_000)] {
            world.character(name, rank: .retired, cpus: 9) {
                $0.total.playSeconds = seconds
                for rank in Rank.working { $0.total.work[rank.rawValue] = [1: seconds + Balance.standard.size(rank)] }
            }
        }
        for name in ["slow", "fast"] {
            let player = world.join(name)
            world.waitUntilIn(player)
            world.command(player, "scores")
            world.command(player, "quit")
        }
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.settle()
        world.command(ada, "scores")
        let places = ["fast", "slow", "ada"].map { name in
            ada.transcript.lastIndex { $0.contains("\(name) ") && $0.contains(name == "ada" ? "(you)" : "Retired") }
                ?? -1
        }
        #expect(places == places.sorted() && places[0] >= 0, "\(ada.text)")
    }

    /// The hall of fame says after how long somebody retired, whatever they do afterwards.
    @Test func mentoringDoesNotDelayARetirement() {
        let world = SimWorld(seed: 18)
        let pid = world.character("emma", rank: .professor, cpus: 9) {
            $0.total.bought[Item.darkMatter.rawValue] = 200
            $0.total.playSeconds = 2_000
            for rank in Rank.working where rank < .professor {
                $0.total.work[rank.rawValue] = [1: Balance.standard.size(rank)]
            }
            $0.total.work[Rank.professor.rawValue] = [1: Balance.standard.size(.professor) - 1]
        }
        let emma = world.join("emma")
        world.waitUntilIn(emma)
        world.solve(emma, atMost: 20) { emma.session.rankNow == .retired }
        #expect(emma.session.rankNow == .retired)
        world.command(emma, "mine 100")
        #expect(emma.session.ledgerNow.playSeconds > 2_200)
        let hall = { (player: SimPlayer) -> String in
            world.command(player, "scores")
            return player.transcript.last ?? ""
        }
        let said = hall(emma)
        #expect(said.contains("emma, 33 min"), "\(said)")
        world.command(emma, "quit")
        world.settle(12_000)
        let again = world.join("emma")
        world.waitUntilIn(again)
        world.command(again, "mine 30")
        #expect(hall(again) == said && world.slots(pid).career / 60 == 33, "\(world.slots(pid).career)")
    }

    @Test func mentorsHelpOtherRanks() {
        let world = SimWorld(seed: 15)
        world.character("emma", rank: .retired, cpus: 199)
        let emma = world.join("emma")
        world.waitUntilIn(emma)
        world.command(emma, "solve")
        #expect(emma.failures.last?.contains("Retired") == true)
        world.command(emma, "mentor masters 10")
        #expect(world.shareSum(.masters, 1) == emma.session.ledgerNow.work(.masters))
        #expect(world.shareSum(.masters, 1) % 40 == 0 && world.shareSum(.masters, 1) > 0, "a fifth of a power of 200")
    }
}
