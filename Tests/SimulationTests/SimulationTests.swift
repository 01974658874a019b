// Whole simulated clusters in the ordinary test run: a few fixed seeds, determinism, and a canary that must be caught.
import KVBase
import KVCore
import KVSim
import KVTestTraits
import Testing

/// Replays any failure below.
private func replay(_ outcome: SimOutcome, _ flags: String = "") -> Comment {
    "\(outcome.violation.map { "\($0)" } ?? "") replay: sh scripts/sim --seed \(outcome.seed) \(flags) --trace"
}

@Suite("Simulated clusters", .blocking)
struct SimulationTests {
    @Test("fixed seeds keep every invariant", arguments: [UInt64(1), 2, 3, 4, 5, 8])
    func fixedSeeds(seed: UInt64) {
        var options = SimOptions.swarm(seed: seed)
        options.loadMillis = min(options.loadMillis, 8_000)
        let outcome = SimWorld.run(options, bug: nil, trace: nil)
        #expect(outcome.violation == nil, replay(outcome))
        #expect(outcome.operations > 50)
    }

    @Test("one of three that lies harms nobody", arguments: [UInt64(63), 64, 68, 71, 20_156])
    func liars(seed: UInt64) {
        var options = SimOptions.swarm(seed: seed, liarPercent: 100)
        options.loadMillis = min(options.loadMillis, 6_000)
        let outcome = SimWorld.run(options, bug: nil, trace: nil)
        #expect(outcome.violation == nil, replay(outcome))
        #expect(outcome.points.count("lie: othersForgotten") > 0 && outcome.operations > 50)
    }

    @Test("servers with disks come back with what they promised", arguments: [UInt64(1), 3, 4, 5, 6, 10, 12, 14])
    func disks(seed: UInt64) {
        var options = SimOptions.swarm(seed: seed, thinPercent: 0, diskPercent: 100)
        options.loadMillis = min(options.loadMillis, 6_000)
        options.crashMeanMillis = 1_500
        let outcome = SimWorld.run(options, bug: nil, trace: nil)
        #expect(outcome.violation == nil, replay(outcome, "--thin 0 --disk 100"))
        #expect(outcome.points.count("disk: server restarts with its data") > 0 && outcome.operations > 50)
    }

    @Test("who lives and was removed is gone for who joined by it too, and nothing is left (I13)", arguments: [75_460])
    func goneForSome(seed: UInt64) {
        let outcome = SimWorld.run(SimOptions.swarm(seed: seed, thinPercent: 0), bug: nil, trace: nil)
        #expect(outcome.violation == nil, replay(outcome, "--thin 0"))
        #expect(outcome.points.count("world: newcomer told whom others have forgotten") > 0)
        #expect(outcome.points.count("end: all tombstones collected, vectors small") == 1)
    }

    @Test("one seed runs the same twice", arguments: [UInt64(3), 21], [0, 100])
    func determinism(seed: UInt64, diskPercent: Int) {
        var options = SimOptions.swarm(seed: seed, thinPercent: 0, diskPercent: diskPercent)
        options.loadMillis = 5_000
        let first = SimWorld.run(options, bug: nil, trace: nil)
        let second = SimWorld.run(options, bug: nil, trace: nil)
        #expect(first.traceHash == second.traceHash)
        #expect(first.events == second.events)
        options.seed += 1_000
        #expect(SimWorld.run(options, bug: nil, trace: nil).traceHash != first.traceHash)
    }

    @Test(
        "a planted bug is noticed",
        arguments: [
            "spacing100", "nowOnly", "forgottenAtAWord", "replyBeforeWrite", "oldManifestBelieved", "diskIdReused",
        ])
    func canary(name: String) throws {
        let bug = try #require(SimBug.named(name))
        var caught = false
        for seed in UInt64(1)...10 where !caught {
            var options = bug.options(seed: seed)
            options.loadMillis = min(options.loadMillis, 6_000)
            caught = SimWorld.run(options, bug: bug, trace: nil).violation != nil
        }
        #expect(caught, "\(name) went unnoticed for 10 seeds")
    }

    @Test("there are 78 planted bugs, each with its own name")
    func bugNames() {
        #expect(SimBug.all.count == 78)
        #expect(Set(SimBug.all.map(\.name)).count == 78)
    }
}
