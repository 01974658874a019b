// `perf-driver sweep`: the same load at rising rates, or with rising connections, and where latency gives way. Main
// thread.

import ArgumentParser
import Foundation

struct SweepCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sweep",
        abstract: "Find the knee: raise the open-loop rate until latency or throughput gives way; or vary connections.",
        discussion: """
            Rates grow by a third while the server keeps up, or shrink by a quarter until it does, twelve times at most;
            then the interval is halved --refine times. A rate is kept up with if at least 97 % of it was answered and
            its p99 is within --limit-micros. The greatest such rate is the knee; in JSON it is null if there is none.
            With --over-connections the loop is closed and the table shows throughput against connections instead; the
            JSON is an array of results.
            """)

    @Option(help: "[redis://|memcached://]HOST:PORT; repeatable.")
    var server: [String] = ["127.0.0.1:6001"]

    @Option(help: "The servers' processes, by commas.")
    var serverPid: String?

    @OptionGroup var workloadOptions: WorkloadOptions
    @OptionGroup var paceOptions: PaceOptions

    @Option(help: "First rate, operations per second.")
    var from = 10_000.0

    @Option(help: "Greatest p99 that still counts as kept up with, microseconds.")
    var limitMicros = 2000.0

    @Option(help: "Halvings of the interval between the last good and the first bad rate.")
    var refine = 3

    @Option(help: "Connections to try in a closed loop, by commas: 1,10,50,200,1000.")
    var overConnections: String?

    @Option(help: "Write knee and steps as JSON to this file; - prints them instead of the text.")
    var json: String?

    @Option(help: "Draw the curve into this SVG file.")
    var svg: String?

    struct Step: Encodable {
        var rate: Double
        var keptUp: Bool
        var result: Measurement
    }

    struct Curve: Encodable {
        /// Operations per second.
        var knee: Double?
        var limitMicros: Double
        /// By rate.
        var steps: [Step]

        private enum CodingKeys: String, CodingKey { case knee, limitMicros, steps }

        /// A knee that was not found is null, not left out.
        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(knee, forKey: .knee)
            try container.encode(limitMicros, forKey: .limitMicros)
            try container.encode(steps, forKey: .steps)
        }
    }

    private static let stepsDownMax = 12

    func run() throws {
        let targets = try endpoints(server, pids: serverPid)
        guard limitMicros > 0, limitMicros <= 1e9, (0...30).contains(refine) else {
            throw ValidationError("--limit-micros must be above 0 and at most 1000000000, --refine 0 to 30")
        }
        let counts = overConnections?.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
        guard (counts ?? []).allSatisfy({ $0 >= targets.count && $0 <= 100_000 }) else {
            throw ValidationError("--over-connections takes numbers of connections by commas")
        }
        let pace: Pace? = try counts == nil ? openPace(from, poisson: true, option: "--from") : nil
        let plan = try paceOptions.plan(targets, try workloadOptions.workload(), pace: pace)
        if paceOptions.load { _ = try Run.load(plan) }
        if let counts { try sweepConnections(plan, counts) } else { try sweepRates(plan) }
    }

    private func sweepRates(_ base: RunPlan) throws {
        var plan = base
        var steps: [Step] = []
        let knee = try findKnee { rate in
            plan.pace = .open(ratePerSecond: rate, poisson: true)
            let result = try Run.measure(plan)
            plan.workload.firstInsert = result.nextInsert
            let step = Step(rate: rate, keptUp: isKeptUp(result, rate), result: result)
            steps.append(step)
            if json != "-" { print(line(step)) }
            return step.keptUp
        }
        let curve = Curve(knee: knee, limitMicros: limitMicros, steps: steps.sorted { $0.rate < $1.rate })
        if json != "-" { print(text(curve, base.endpoints)) }
        if let json { try write(try jsonText(curve), to: json) }
        if let svg { try write(drawing(curve), to: svg) }
    }

    /// The greatest rate that `keepsUp`, or nil if there is none within twelve steps below the first.
    private func findKnee(_ keepsUp: (Double) throws -> Bool) throws -> Double? {
        var good: Double?
        var bad = from
        while bad <= Pace.rateMax, try keepsUp(bad) {
            good = bad
            bad *= 4.0 / 3
        }
        for _ in 0..<Self.stepsDownMax where good == nil {
            let lower = bad * 3 / 4
            if try keepsUp(lower) { good = lower } else { bad = lower }
        }
        for _ in 0..<refine {
            guard let known = good else { break }
            let middle = (known + bad) / 2
            if try keepsUp(middle) { good = middle } else { bad = middle }
        }
        return good
    }

    private func isKeptUp(_ result: Measurement, _ rate: Double) -> Bool {
        result.errors == 0 && result.operationsPerSecond >= 0.97 * rate && result.latency.p99Micros <= limitMicros
    }

    private func line(_ step: Step) -> String {
        "\(grouped(Int(step.rate)))/s asked, \(grouped(Int(step.result.operationsPerSecond)))/s answered, p99 "
            + "\(fixed(step.result.latency.p99Micros)) µs: \(step.keptUp ? "kept up" : "not kept up")"
    }

    private func text(_ curve: Curve, _ endpoints: [Endpoint]) -> String {
        var rows = [titles("rate/s", endpoints) + [""]]
        for step in curve.steps {
            rows.append(cells(step.result, grouped(Int(step.rate))) + [step.keptUp ? "" : "not kept up"])
        }
        let least = curve.steps.first?.rate ?? from
        let knee = curve.knee.map { grouped(Int($0)) } ?? "below \(grouped(Int(least)))"
        return table(rows) + "\nknee: \(knee) operations/s"
    }

    private func drawing(_ curve: Curve) -> String {
        func series(_ name: String, _ micros: (LatencySummary) -> Double) -> Plot.Series {
            Plot.Series(name: name, points: curve.steps.map { ($0.rate, micros($0.result.latency)) })
        }
        let all = [
            series("p50") { $0.p50Micros }, series("p99") { $0.p99Micros }, series("p99.9") { $0.p999Micros },
        ]
        return Plot.latencyCurve(all, title: "Latency against rate", x: "operations/s asked for")
    }

    private func sweepConnections(_ base: RunPlan, _ counts: [Int]) throws {
        var plan = base
        var results: [Measurement] = []
        var rows = [titles("connections", base.endpoints)]
        for count in counts {
            plan.connections = count
            let result = try Run.measure(plan)
            plan.workload.firstInsert = result.nextInsert
            results.append(result)
            rows.append(cells(result, grouped(count)))
        }
        if json != "-" { print(table(rows)) }
        if let json { try write(try jsonText(results), to: json) }
        if let svg {
            let curve = Plot.Series(
                name: "\(results.first?.workload ?? ""), pipeline \(paceOptions.pipeline)",
                points: results.map { (Double($0.connections), $0.operationsPerSecond) })
            try write(
                Plot.curve([curve], title: "Throughput against connections", x: "connections", y: "operations/s"),
                to: svg)
        }
    }

    /// One column of CPU for each server, by name if there are several.
    private func titles(_ first: String, _ endpoints: [Endpoint]) -> [String] {
        [first, "answered/s", "p50 µs", "p99 µs", "p99.9 µs"]
            + endpoints.map { endpoints.count == 1 ? "CPU µs/request" : "\($0.name) CPU µs/request" }
    }

    private func cells(_ result: Measurement, _ first: String) -> [String] {
        let l = result.latency
        return [
            first, grouped(Int(result.operationsPerSecond)), fixed(l.p50Micros), fixed(l.p99Micros),
            fixed(l.p999Micros),
        ] + result.servers.map { $0.cpuMicrosPerRequest.map { fixed($0, 3) } ?? "-" }
    }
}
