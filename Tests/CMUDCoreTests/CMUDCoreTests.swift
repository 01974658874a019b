// The first walk through the game: log in, mine, buy, solve, talk, leave.

import CMUDCore
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct Walk {
    @Test func aNewPlayerMinesBuysAndSpeaks() {
        let world = SimWorld(seed: 1)
        let ada = world.join("ada") { $0.story = .fast }
        world.run(for: 1_000)
        for line in [
            "mine 5", "shop", "buy cpu", "inv", "stats", "problem", "solve", "solve 3", "say hello", "who", "map",
            "look", "quit",
        ] {
            world.command(ada, line)
        }
        #expect(ada.session.ending == .quit)
        #expect(ada.text.contains("Saved"))
    }
}
