// Where to look for other servers, in virtual time: names that stand for others each time, halves of a cluster.

import KVBase
import KVRuntime
import Testing

@testable import KVServer

@Suite struct SeedsTests {
    private func seeds(_ join: String...) -> Seeds { Seeds(join.map { Endpoint($0)! }) }
    private func found(_ addresses: String...) -> Result<[String], SocketFailure> { .success(addresses) }
    private let unknown: Result<[String], SocketFailure> = .failure(
        SocketFailure("cannot resolve seed.test", code: 6, reason: "there is no such host name"))

    private func said(_ effects: [Seeds.Effect]) -> [String] {
        effects.compactMap {
            switch $0 {
            case .tell(let line), .warn(let line): line
            default: nil
            }
        }
    }

    private func done(_ effects: [Seeds.Effect]) -> [Seeds.Effect] {
        effects.filter { said([$0]).isEmpty }
    }

    @Test func withoutJoinThereIsNothingToDo() {
        var none = Seeds([])
        #expect(none.tick(0) == [] && none.tick(1_000_000) == [] && !none.isAlone)
    }

    @Test func anAddressIsKeptUntilTheMembersTakeOver() {
        var seeds = seeds("10.0.0.1:6000")
        #expect(seeds.tick(1000) == [.tell("joining 10.0.0.1:6000"), .keep("10.0.0.1:6000")])
        #expect(seeds.tick(2000) == [] && seeds.isAlone)
        seeds.linkUp(7, at: ["10.0.0.1:6000"], 3000)
        #expect(!seeds.isAlone)
        #expect(seeds.known(7) == [.drop("10.0.0.1:6000")])
        #expect(seeds.known(7) == [] && seeds.tick(4000) == [])
        // While it is connected nobody looks there again.
        for now in stride(from: 5000, to: 200_000, by: 1000) { #expect(seeds.tick(Millis(now)) == []) }
        // Gone for good, as a member of nothing: looked at each half minute for a while, as it may come back alone.
        seeds.linkDown(7)
        var kept: [Millis] = []
        for now in stride(from: 200_000, to: 300_000, by: 1000) {
            for effect in seeds.tick(Millis(now)) {
                if effect == .keep("10.0.0.1:6000") {
                    kept.append(Millis(now))
                } else {
                    #expect(effect == .drop("10.0.0.1:6000") && Millis(now) - kept.last! == Seeds.tryMillis)
                }
            }
        }
        #expect(kept.count == 3 || kept.count == 4)
        #expect(zip(kept, kept.dropFirst()).allSatisfy { $1 - $0 == Seeds.lookMillis })
    }

    @Test func aNameIsLookedUpEachSecondUntilSomebodyAnswers() {
        var seeds = seeds("seed.test:6000")
        let look = Seeds.Effect.resolve(0, HostPort("seed.test:6000")!)
        #expect(done(seeds.tick(0)) == [look])
        // Once at a time.
        #expect(seeds.tick(5000) == [])
        #expect(
            seeds.resolved(0, unknown, 6000) == [
                .warn(
                    "cannot join at seed.test:6000: cannot resolve seed.test: there is no such host name; "
                        + "trying again until somebody answers")
            ])
        #expect(seeds.tick(6500) == [] && seeds.tick(7000) == [look])
        // Said once.
        #expect(seeds.resolved(0, unknown, 7000) == [])
        #expect(seeds.tick(8000) == [look])
        #expect(
            seeds.resolved(0, found("10.0.0.1:6000", "10.0.0.2:6000"), 8000) == [
                .keep("10.0.0.1:6000"), .keep("10.0.0.2:6000"),
            ])
        // Others than before: what it no longer stands for is left alone.
        #expect(seeds.tick(9000) == [look])
        #expect(
            seeds.resolved(0, found("10.0.0.2:6000", "10.0.0.3:6000"), 9000) == [
                .drop("10.0.0.1:6000"), .keep("10.0.0.3:6000"),
            ])
        seeds.linkUp(7, at: ["10.0.0.3:6000", "kvd-3.test:6000"], 9500)
        #expect(seeds.known(7) == [.drop("10.0.0.3:6000")])
        // The others are tried for a while.
        #expect(seeds.tick(10_000) == [] && seeds.tick(14_000) == [])
        #expect(seeds.tick(14_500) == [.drop("10.0.0.2:6000")])
    }

    /// Started apart, they find each other when the name stands for both.
    @Test func twoHalvesOfAClusterFindEachOther() {
        var seeds = seeds("kvd.test:6000")
        _ = seeds.tick(0)
        _ = seeds.resolved(0, found("10.0.0.1:6000"), 0)
        seeds.linkUp(1, at: ["10.0.0.1:6000"], 100)
        _ = seeds.known(1)
        var looks: [Millis] = []
        for now in stride(from: 1000, through: 100_000, by: 1000) {
            for effect in seeds.tick(Millis(now)) where effect == .resolve(0, HostPort("kvd.test:6000")!) {
                looks.append(Millis(now))
                #expect(seeds.resolved(0, found("10.0.0.1:6000"), Millis(now)) == [])
            }
        }
        #expect(looks.count == 3 && zip(looks, looks.dropFirst()).allSatisfy { $1 - $0 == Seeds.lookMillis })
        #expect(done(seeds.tick(130_000)) == [.resolve(0, HostPort("kvd.test:6000")!)])
        #expect(seeds.resolved(0, found("10.0.0.1:6000", "10.0.0.9:6000"), 130_000) == [.keep("10.0.0.9:6000")])
        seeds.linkUp(9, at: ["10.0.0.9:6000"], 130_100)
        #expect(seeds.known(9) == [.drop("10.0.0.9:6000")])
    }

    @Test func whoIsAloneSaysSoOnceAMinuteAndWhy() {
        var seeds = seeds("seed.test:6000", "10.0.0.1:6000")
        _ = seeds.tick(0)
        _ = seeds.resolved(0, unknown, 0)
        let (isSeed, effects) = seeds.linkFailed(
            at: ["10.0.0.1:6000"], "no connection: Connection refused", isItself: false, 10)
        #expect(isSeed)
        #expect(
            said(effects) == [
                "cannot join at 10.0.0.1:6000: no connection: Connection refused; trying again until somebody answers"
            ])
        var lines: [(Millis, String)] = []
        for now in stride(from: 1000, through: 185_000, by: 1000) {
            for effect in seeds.tick(Millis(now)) {
                if case .resolve = effect { _ = seeds.resolved(0, unknown, Millis(now)) }
                if case .warn(let line) = effect { lines.append((Millis(now), line)) }
            }
        }
        #expect(lines.map(\.0) == [60_000, 120_000, 180_000])
        #expect(
            lines[0].1
                == "alone: nobody has answered at seed.test:6000 (cannot resolve seed.test: there is no such host name),"
                + " 10.0.0.1:6000 (no connection: Connection refused); still trying")
        seeds.linkUp(1, at: ["10.0.0.1:6000"], 186_000)
        #expect(said(seeds.tick(300_000)) == [])
    }

    @Test func itselfIsLeftAlone() {
        var seeds = seeds("10.0.0.1:6000", "kvd.test:6000")
        _ = seeds.tick(0)
        let (isSeed, effects) = seeds.linkFailed(at: ["10.0.0.1:6000"], "it leads back", isItself: true, 10)
        #expect(isSeed && done(effects) == [.drop("10.0.0.1:6000")])
        // Nothing is promised that is not done.
        let advice = "give --join the address of another server, and see whether --advertise names this one"
        #expect(said(effects) == ["cannot join at 10.0.0.1:6000: it leads back; \(advice)"])
        // The name stands for this server as well as for others, and no word is made of it.
        let both = seeds.resolved(1, found("10.0.0.1:6000", "10.0.0.2:6000"), 20)
        #expect(both == [.keep("10.0.0.2:6000")])
        for now in stride(from: 1000, through: 40_000, by: 1000) {
            #expect(!seeds.tick(Millis(now)).contains(.keep("10.0.0.1:6000")))
        }
        // Nobody else was asked for: alone, and that was said.
        var lonely = self.seeds("10.0.0.1:6000")
        _ = lonely.tick(0)
        _ = lonely.linkFailed(at: ["10.0.0.1:6000"], "it leads back", isItself: true, 10)
        #expect(said(lonely.tick(60_000)) == [] && lonely.isAlone)
    }

    /// An attempt at an address that no seed stands for is somebody else's to tell.
    @Test func othersFailuresAreNotItsOwn() {
        var seeds = seeds("10.0.0.1:6000")
        _ = seeds.tick(0)
        #expect(!seeds.linkFailed(at: ["10.0.0.9:6000"], "x", isItself: false, 10).isSeed)
    }

    /// What a server prints that is bound to all addresses is of use on its own machine.
    @Test func aWildcardMeansThisMachine() {
        var seeds = seeds("0.0.0.0:6000", "[::]:6001")
        #expect(done(seeds.tick(0)) == [.keep("127.0.0.1:6000"), .keep("[::1]:6001")])
    }
}
