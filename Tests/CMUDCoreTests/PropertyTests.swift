// Random schedules on a bad network, and what must hold when it is quiet again.

@testable import CMUDCore
import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct PropertyTests {
    /// One random world: skewed clocks and lossy links, players who do anything, partitions that come and go.
    struct Schedule {
        let world: SimWorld
        var random: PRNG
        let names = ["ada", "bob", "cyd", "dan"]
        var sessions: [SimPlayer] = []
        let replicas: Int
        let seed: UInt64

        init(seed: UInt64) {
            self.seed = seed
            var random = PRNG(seed: seed ^ 0xC0FFEE)
            let replicas = 2 + random.below(3)
            var network = SimNetwork(delayMillis: 20...(50 + random.below(700)), dropChance: 0.1)
            for _ in 0..<replicas { network.skewMillis.append(random.below(2_000) - 1_000) }
            (self.random, self.replicas) = (random, replicas)
            world = SimWorld(seed: seed, replicas: replicas, network: network)
        }

        mutating func join(_ name: String) {
            let skew = Millis(random.below(20_000) - 10_000)
            sessions.append(world.join(name, replica: random.below(replicas), skew: skew))
        }

        mutating func step() {
            switch random.below(20) {
            case 0:
                if sessions.filter({ !$0.isOver }).count < 8 { join(names[random.below(names.count)]) }
            case 1: world.store.cut(random.below(replicas), random.below(replicas))
            case 2, 3: world.store.heal()
            case 4:
                if let victim = sessions.filter({ !$0.isOver }).randomElement(using: &random), random.chance(0.3) {
                    world.type(victim, "quit")
                }
            default:
                guard let player = sessions.filter({ !$0.isOver && $0.session.isReady }).randomElement(using: &random)
                else { break }
                let lines = [
                    "mine 3", "mine 5", "buy cpu", "solve 2", "solve 4", "resign", "say hello",
                    "move \(1 + random.below(9))", "who",
                    "problem", "tell bob hi", "gift bob 1", "stop", "stats",
                    "move 4", "study 9", "learn care", "learn theory", "move 3", "coffee", "buy max",
                ]
                world.type(player, lines[random.below(lines.count)])
            }
            world.run(for: Millis(200 + random.below(4_000)))
        }

        mutating func quieten() {
            world.store.heal()
            world.run(for: 20_000)
            for player in sessions where !player.isOver { world.interrupt(player) }
            world.run(for: 10_000)
            for player in sessions where !player.isOver { world.command(player, "quit", atMost: 30_000) }
            world.run(for: 30_000)
        }
    }

    /// 12 seeds here; CMUD_SEEDS=1000 runs more. Replay one with CMUD_SEED=n.
    static var seeds: [UInt64] {
        let environment = ProcessInfo.processInfo.environment
        if let one = environment["CMUD_SEED"].flatMap(UInt64.init) { return [one] }
        return Array(1...(environment["CMUD_SEEDS"].flatMap(UInt64.init) ?? 12))
    }

    @Test func whateverHappensNothingIsLostAndNothingCountsTwice() {
        for seed in PropertyTests.seeds {
            var schedule = Schedule(seed: seed)
            for name in schedule.names { schedule.join(name) }
            for _ in 0..<60 { schedule.step() }
            schedule.quieten()
            check(schedule)
        }
    }

    private func check(_ schedule: Schedule) {
        let (world, note) = (schedule.world, "replay with CMUD_SEED=\(schedule.seed)")
        #expect(world.store.isConverged, "replicas differ; \(note)")
        let byPid = Dictionary(grouping: schedule.sessions.filter { !$0.session.identity.isEmpty }) {
            $0.session.identity
        }
        var work: [Rank: Int64] = [:]
        for (pid, sessions) in byPid.sorted(by: { $0.key < $1.key }) {
            let slots = world.slots(pid)
            let total = slots.total
            let mined = sessions.map(\.minedTold).saturatedSum
            let solved = sessions.map(\.workTold).saturatedSum
            // An attempt may be committed and its session ended before it was told; nothing else may differ.
            let open = Int64(sessions.count) * 40
            #expect(
                total.earned >= mined && total.earned <= mined + open,
                "\(pid): earned \(total.earned), told \(mined); \(note)")
            let worked = Rank.working.map { total.work($0) }.saturatedSum
            #expect(
                worked >= solved && worked <= solved + open * 2, "\(pid): worked \(worked), told \(solved); \(note)")
            for rank in Rank.working { work[rank, default: 0] += total.work(rank) }
            let ranks = sessions.flatMap {
                $0.events.compactMap { if case .promoted(let rank) = $0.event { rank } else { nil } }
            }
            #expect(slots.rank >= (ranks.max() ?? .undergraduate), "rank fell; \(note)")
            #expect(slots.records.values.allSatisfy { $0.bytes.count <= JSON.bytesMax })
            #expect(total.sips <= total.cups + 8 * Balance.cupTries, "cups were drunk twice; \(note)")
            #expect(total.insight <= total.studyTries * Balance.studyInsightMax, "insight from nowhere; \(note)")
        }
        // R1: the problem's health is exactly what the records say was contributed.
        let shares = (1...6).map { world.shareSum(.undergraduate, Int64($0)) }.saturatedSum
        #expect(shares == work[.undergraduate] ?? 0, "shares \(shares), records \(work[.undergraduate] ?? 0); \(note)")
        for name in schedule.names {
            let prefix = world.keys.claims(name)
            guard case .pairs(let pairs) = world.store.perform(.list(prefix: prefix, limit: 50), at: 0) else {
                continue
            }
            let owners = Claim.all(pairs, canonical: name, prefix: prefix)
            #expect(!owners.isEmpty, "\(name) has no owner; \(note)")
        }
    }

    @Test func everybodyEndsUpSeeingTheSameWorld() {
        let world = SimWorld(seed: 99, replicas: 4, network: SimNetwork(delayMillis: 100...900, dropChance: 0.3))
        let players = (0..<4).map { world.join("player\($0)", replica: $0) }
        for player in players { world.waitUntilIn(player) }
        world.store.cut(0, 1)
        world.store.cut(2, 3)
        for player in players { world.type(player, "mine 3") }
        world.run(for: 20_000)
        world.store.heal()
        world.run(for: 15_000)
        var seen: [[String]] = []
        for player in players {
            let before = player.transcript.count
            world.command(player, "who")
            let rows = player.transcript[(before + 1)...].filter { !$0.hasPrefix("*") }
            seen.append(rows.map { String($0.prefix(36)) }.sorted())
        }
        #expect(seen.allSatisfy { $0 == seen[0] && $0.count == 5 }, "\(seen)")
    }

    /// A best player through the real session, typing what one would type, in virtual time.
    @Test func fromLoginToRetiredThroughTheRealGame() {
        let world = SimWorld(seed: 2010)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        var player = Typist(world: world, player: ada)
        let start = world.now
        var ends: [Millis] = []
        for (rank, subject) in zip(Rank.working, [Subject.theory, .tuning, .care, .theory, .care]) {
            player.learn(subject)
            while ada.session.rankNow == rank, world.now - start < 3 * 3_600_000 { player.work() }
            ends.append(world.now)
        }
        let minutes = Double(world.now - start) / 60_000
        let spans = zip(ends, [start] + ends).map { Double($0 - $1) / 60_000 }
        let ten = fewestCommands(player.typed, until: world.now, inMinutes: 10)
        let five = fewestCommands(player.typed, until: world.now, inMinutes: 5)
        print("retired after \(minutes) min, ranks \(spans.map { ($0 * 10).rounded() / 10 }), \(ten) and \(five) words")
        #expect(ada.session.rankNow == .retired && ada.failures.isEmpty, "\(ada.failures)")
        #expect((25...60).contains(minutes), "one seed; the median of eight is checked by the balance tests")
        #expect(ten >= 6 && five >= 4, "\(ten) different commands in the poorest ten minutes, \(five) in five")
        #expect(!Balance.standard.isImpossible(world.slots(ada.session.identity)))
    }

    /// Types what a best player would: short series, a look at the result, the next.
    struct Typist {
        let world: SimWorld
        let player: SimPlayer
        var typed: [(millis: Millis, word: GameCommand)] = []

        init(world: SimWorld, player: SimPlayer) { (self.world, self.player) = (world, player) }

        private var session: GameSession { player.session }

        private mutating func type(_ line: String) {
            if case .one(let word) = GameCommand.match(String(line.prefix { $0 != " " })) {
                typed.append((world.now, word))
            }
            world.command(player, line)
        }

        private mutating func go(_ place: Place) {
            guard session.currentPlace != place else { return }
            if session.isSolving { type("resign") }
            type("move \(place.key)")
        }

        mutating func learn(_ subject: Subject) {
            go(.floor4)
            while session.ledgerNow.insightLeft < Balance.lessonInsight {
                let left = Balance.lessonInsight - session.ledgerNow.insightLeft
                type("study \((left + 3) / 4)")
            }
            type("learn \(subject.key)")
        }

        mutating func work() {
            let balance = session.balanceNow
            let price = balance.cupPrice(power: session.powerNow)
            guard session.powerNow * balance.goodSteps >= balance.size(session.rankNow) else {
                return mine(thenBuy: true)
            }
            if session.ledgerNow.cupLeft == 0 {
                guard session.coinsNow >= price else { return mine(thenBuy: false) }
                go(.floor3)
                type("coffee")
            }
            go(.floor8)
            if !session.isSolving { type("solve") }
            type("solve 10")
        }

        private mutating func mine(thenBuy: Bool) {
            go(.floor1)
            type("mine 2")
            let cheapest =
                Item.allCases.filter { $0.unlockedAt <= session.rankNow }
                .map { session.balanceNow.price($0, owned: session.ledgerNow.owned($0)) }.min() ?? 0
            if thenBuy, session.coinsNow >= cheapest { type("buy max") }
        }
    }
}
