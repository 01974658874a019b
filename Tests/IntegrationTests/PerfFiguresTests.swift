// What perf-driver decides and draws, in process: the search for the knee, words for a workload, the plot's edges.

import Foundation
import KVTestTraits
import Testing

@testable import perf_driver

@Suite struct PerfFiguresTests {
    /// A server that keeps up with `capacity`, and a machine that disturbs the tries whose numbers are given.
    private func search(
        from: Double, capacity: Double, shortfall: Shortfall = .server, disturbed: Set<Int> = [], refine: Int = 6
    ) -> (knee: KneeSearch.Knee, tries: Int) {
        var tries = 0
        let knee = KneeSearch(from: from, rateMax: 1e9, refine: refine).run { rate in
            defer { tries += 1 }
            if disturbed.contains(tries) { return Trial(shortfall: .machine) }
            return Trial(shortfall: rate <= capacity ? nil : shortfall)
        }
        return (knee, tries)
    }

    @Test func aDisturbedTryIsRepeated() throws {
        let quiet = search(from: 10_000, capacity: 1_000_000)
        let found = try #require(quiet.knee.rate)
        #expect(found <= 1_000_000 && found > 990_000 && quiet.knee.bound == .server)
        // The first try, and one of each few later on: the same knee.
        for disturbed: Set<Int> in [[0], [5], [0, 4, 9, 14], [0, 17, 20]] {
            #expect(search(from: 10_000, capacity: 1_000_000, disturbed: disturbed).knee == quiet.knee, "\(disturbed)")
        }
    }

    @Test func aRateDisturbedTwiceIsPassedByTheNext() throws {
        // Both tries of the first rate, which once sent the search down for ever.
        let found = search(from: 10_000, capacity: 1_000_000, disturbed: [0, 1])
        #expect(found.knee.rate ?? 0 > 990_000)
    }

    @Test func aServerBelowTheFirstRateIsFoundGoingDown() throws {
        let found = search(from: 10_000, capacity: 700)
        #expect(found.knee.rate ?? 0 > 690 && found.knee.rate ?? 0 <= 700)
        #expect(search(from: 10_000, capacity: 1).knee == KneeSearch.Knee(rate: nil, bound: .server))
        // A busy server needs no look at a higher rate: twice the first, twice each of twelve below.
        #expect(search(from: 10_000, capacity: 1).tries == 2 * 13)
        #expect(search(from: 10_000, capacity: 1, shortfall: .latency).tries == 2 * 14)
    }

    @Test func aMachineThatIsAlwaysBusyIsSaid() throws {
        let found = search(from: 10_000, capacity: 1_000_000, disturbed: Set(0..<1000))
        #expect(found.knee == KneeSearch.Knee(rate: nil, bound: .machine))
        // The first rate, one above it, three below: it would be no better further down.
        #expect(found.tries == 2 * 5)
    }

    @Test func twoOfThreeDecide() {
        func decided(_ tries: [Shortfall?]) -> (Shortfall?, left: Int) {
            var rest = tries[...]
            let shortfall = KneeSearch(from: 1, rateMax: 1, refine: 0).decide { Trial(shortfall: rest.removeFirst()) }
            return (shortfall, rest.count)
        }
        #expect(decided([nil]) == (nil, 0))
        #expect(decided([.latency, nil, nil]) == (nil, 0))
        #expect(decided([.latency, nil, .machine]) == (.machine, 0))
        #expect(decided([.latency, .server, nil]) == (.server, 1))
    }

    @Test func thePlotShowsTheMedianRound() {
        #expect(CompareCommand.median([5.0, 1, 900], by: \.self) == 5)
        #expect(CompareCommand.median([4.0, 3, 2, 1], by: \.self) == 2)
        #expect(CompareCommand.median([7.0], by: \.self) == 7)
        #expect(CompareCommand.median([Double](), by: \.self) == nil)
    }

    @Test func weightsAreShownAlike() {
        func text(_ mix: String) -> String {
            var workload = Workload()
            workload.mix = Workload.mix(mix) ?? []
            return workload.mixText
        }
        #expect(text("get") == "get" && text("set:7") == "set")
        #expect(text("get:95,set:5") == "get 95 %, set 5 %")
        #expect(text("get:0.5,set:0.5") == "get 50 %, set 50 %")
        #expect(text("get:1,set:1,list:1") == "get 33.33 %, set 33.33 %, list 33.33 %")
        var ycsb = Workload()
        #expect(ycsb.setYCSB("B") && ycsb.mixText == text("get:95,set:5"))
    }

    @Test func loadingIsCalledSo() {
        var plan = RunPlan(endpoints: [])
        #expect(plan.work == "measuring")
        plan.isLoading = true
        #expect(plan.work == "loading")
    }

    /// Every label is inside the picture, taking a character for 0.62 of the size of the font.
    @Test func noLabelIsCutOff() throws {
        let points = (0...20).map { (x: Double($0) * 10_000, y: Double($0 + 1) * 100) }
        let percentiles = [0, 50, 99, 99.999].map { (x: $0, y: $0 + 1) }
        let drawings = [
            Plot.latencyByPercentile([Plot.Series(name: "kvd", points: percentiles)]),
            Plot.latencyCurve([Plot.Series(name: "p99", points: points)], title: "t", x: "operations/s"),
            Plot.curve([Plot.Series(name: "a", points: points)], title: "t", x: "connections", y: "operations/s"),
        ]
        for svg in drawings {
            let labels = svg.matches(of: /<text x="([0-9.]+)" y="[0-9.]+" text-anchor="middle">([^<]*)</)
            #expect(labels.count > 5)
            for label in labels {
                let half = Double(label.2.count) * 13 * 0.62 / 2
                let middle = try #require(Double(label.1))
                #expect(middle - half >= 0 && middle + half <= 860, "'\(label.2)' at \(middle)")
            }
        }
    }
}
