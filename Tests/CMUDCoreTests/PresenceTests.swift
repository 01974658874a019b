// Who is connected is shown as connected: whatever they do, wherever the observer was, and however slow the network.

@testable import CMUDCore
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct PresenceTests {
    /// Types `line` and returns what came back.
    private func answer(_ world: SimWorld, _ player: SimPlayer, _ line: String) -> [String] {
        let before = player.transcript.count
        world.command(player, line)
        return Array(player.transcript.dropFirst(before + 1))
    }

    private func isLost(_ lines: [String]) -> Bool { lines.contains { $0.contains("link lost") } }

    @Test func somebodyWhoTypesNothingStaysConnected() {
        // Idle sessions read less often; they must not be heard less often.
        let world = SimWorld(seed: 1, replicas: 2, network: SimNetwork(delayMillis: 250...900))
        let ada = world.join("ada", replica: 0)
        let bob = world.join("bob", replica: 1)
        world.waitUntilIn(ada)
        world.waitUntilIn(bob)
        world.settle()
        for _ in 0..<300 {
            world.run(for: 700)
            let shown = answer(world, ada, "look")
            #expect(shown.contains { $0.hasPrefix("bob") } && !isLost(shown), "\(world.now): \(shown)")
        }
    }

    @Test func aNetworkThatTakesItsTimeLosesNobody() {
        // The stamps of the store come a little earlier or later; the age of a session must not depend on them.
        for seed in UInt64(1)...5 {
            let world = SimWorld(seed: 20 + seed, replicas: 2)
            world.accessJitterMillis = 120
            let ada = world.join("ada", replica: 0)
            let bob = world.join("bob", replica: 1)
            world.waitUntilIn(ada)
            world.waitUntilIn(bob)
            for _ in 0..<30 {
                world.run(for: 5_000)
                world.type(bob, "say hm")
                let shown = answer(world, ada, "who")
                #expect(shown.last == "2 players online." && !isLost(shown), "seed \(seed), \(world.now): \(shown)")
            }
        }
    }

    @Test func whoComesBackSeesWhoStayed() {
        let world = SimWorld(seed: 3)
        let ada = world.join("ada")
        let bob = world.join("bob")
        world.waitUntilIn(ada)
        world.waitUntilIn(bob)
        world.settle()
        world.command(ada, "move fence")
        for away in [Millis(20_000), 55_000, 70_000] {
            world.run(for: away)
            #expect(ada.session.completions(of: "tell b").candidates == ["bob"], "not looked at is not lost")
            let shown = answer(world, ada, "move 5")
            #expect(shown.contains { $0.hasPrefix("bob (Undergraduate)") } && !isLost(shown), "\(shown)")
            world.command(ada, "move fence")
        }
    }

    @Test func anObserverWhoHeardNothingBlamesNobody() {
        // The replica of ada is down for a while; bob, on the other one, plays on.
        let world = SimWorld(seed: 4, replicas: 2)
        let ada = world.join("ada", replica: 0)
        let bob = world.join("bob", replica: 1)
        world.waitUntilIn(ada)
        world.waitUntilIn(bob)
        world.settle()
        world.store.isDown[0] = true
        world.store.cut(0, 1)
        world.run(for: 40_000)
        world.store.isDown[0] = false
        #expect(world.run(atMost: 10_000) { ada.heard("The store is back.") })
        // What the replica missed comes a moment later than its first answer.
        let early = answer(world, ada, "who")
        #expect(early.contains { $0.hasPrefix("bob") } && !isLost(early), "\(early)")
        world.store.heal()
        world.run(for: 3_000)
        let late = answer(world, ada, "look")
        #expect(late.contains { $0.hasPrefix("bob") } && !isLost(late), "\(late)")
        // Frozen by Ctrl-Z it is the same.
        ada.isFrozen = true
        world.run(for: 50_000)
        world.thaw(ada)
        let thawed = answer(world, ada, "look")
        #expect(thawed.contains { $0.hasPrefix("bob") } && !isLost(thawed), "\(thawed)")
    }

    @Test func theFirstLookAfterLoginSeesEverybody() {
        let world = SimWorld(seed: 5)
        for name in ["ada", "bob", "cyd", "dan"] { world.waitUntilIn(world.join(name)) }
        world.settle()
        let eve = world.join(nil) { $0.isBackground = false }
        world.run(for: 100)
        // As a pipe gives them: the next one the moment it is welcome.
        for line in ["eve", "look"] { world.type(eve, line) }
        world.run(for: 1_000)
        world.command(eve, "look")
        let rooms = eve.events.compactMap { output in
            if case .room(let view) = output.event { view.people.map(\.name).sorted() } else { nil }
        }
        #expect(rooms == [["ada", "bob", "cyd", "dan"], ["ada", "bob", "cyd", "dan"]])
        #expect(!eve.heard("Nobody else is here"))
    }

    @Test func aStoreThatDoesNotAnswerIsNotAnEmptyRoom() {
        let world = SimWorld(seed: 6)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.settle()
        world.store.isDown[0] = true
        let shown = answer(world, ada, "look")
        #expect(shown.contains { $0.contains("Collaborative Commons") }, "\(shown)")
        #expect(!shown.contains { $0.contains("Nobody") } && shown.contains { $0.contains("does not answer") })
    }

    @Test func whoCrashedIsShownLostAndThenNotAtAll() {
        let world = SimWorld(seed: 7)
        let ada = world.join("ada")
        let bob = world.join("bob")
        world.waitUntilIn(ada)
        world.waitUntilIn(bob)
        world.settle()
        world.crash(bob)
        world.run(for: 17_000)
        #expect(isLost(answer(world, ada, "look")))
        world.run(for: 50_000)
        #expect(answer(world, ada, "look").last == "Nobody else is here.")
        // Found crashed by somebody who was elsewhere meanwhile.
        let cyd = world.join("cyd")
        world.waitUntilIn(cyd)
        world.settle()
        world.command(ada, "move fence")
        world.command(ada, "who")
        world.crash(cyd)
        world.run(for: 80_000)
        #expect(answer(world, ada, "who").last == "1 player online.")
    }
}
