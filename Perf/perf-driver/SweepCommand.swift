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
            its p99 is within --limit-micros; a rate that was not is tried again, and two of three decide. The greatest
            rate kept up with is the knee; in JSON it is null if there is none. What bounds it is told from the
            processor time of the server (--server-pid), of this load generator, and what both waited for a processor.
            With --over-connections the loop is closed and the table shows throughput against connections instead; the
            JSON is an array of results.
            """)

    @Option(help: "[redis://|rediss://|memcached://]HOST:PORT; repeatable.")
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
        /// Tries of this rate; what follows is of the last, which decided.
        var tries: Int
        var shortfall: Shortfall?
        var result: Measurement
    }

    struct Curve: Encodable {
        /// Operations per second.
        var knee: Double?
        /// Why no rate above the knee was kept up with.
        var bound: Shortfall?
        var limitMicros: Double
        /// By rate.
        var steps: [Step]

        private enum CodingKeys: String, CodingKey { case knee, bound, limitMicros, steps }

        /// What was not found is null, not left out.
        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(knee, forKey: .knee)
            try container.encode(bound, forKey: .bound)
            try container.encode(limitMicros, forKey: .limitMicros)
            try container.encode(steps, forKey: .steps)
        }
    }

    /// A thread that runs so much of the time is busy, and one that waits so much for a processor is disturbed.
    private static let busyCores = 0.9
    private static let waitedCoresMax = 0.05

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
        try tryOutputs(json, svg)
        if paceOptions.load { _ = try Run.load(plan) }
        if let counts { try sweepConnections(plan, counts) } else { try sweepRates(plan) }
    }

    private func sweepRates(_ base: RunPlan) throws {
        var plan = base
        var steps: [Double: Step] = [:]
        var errors = (errors: 0, requests: 0, first: String?.none)
        let search = KneeSearch(from: from, rateMax: Pace.rateMax, refine: refine)
        let knee = try search.run { rate in
            plan.pace = .open(ratePerSecond: rate, poisson: true)
            let result = try Run.measure(plan)
            plan.workload.firstInsert = result.nextInsert
            errors = (
                errors.errors + result.errors, errors.requests + result.requests, errors.first ?? result.firstError
            )
            let short = shortfall(result, rate, plan)
            let step = Step(
                rate: rate, keptUp: short == nil, tries: (steps[rate]?.tries ?? 0) + 1, shortfall: short, result: result
            )
            steps[rate] = step
            if json != "-" { print(line(step)) }
            return Trial(shortfall: short)
        }
        let curve = Curve(
            knee: knee.rate, bound: knee.bound, limitMicros: limitMicros,
            steps: steps.values.sorted { $0.rate < $1.rate })
        if json != "-" { print(text(curve, base.endpoints)) }
        if let json { try write(try jsonText(curve), to: json) }
        if let svg { try write(drawing(curve), to: svg) }
        try failOnErrors(errors.errors, of: errors.requests, errors.first)
    }

    /// Nil if the rate was kept up with.
    private func shortfall(_ result: Measurement, _ rate: Double, _ plan: RunPlan) -> Shortfall? {
        if result.errors > 0 { return .errors }
        if result.operationsPerSecond >= 0.97 * rate && result.latency.p99Micros <= limitMicros { return nil }
        if result.servers.contains(where: { ($0.busiestThreadCores ?? 0) >= Self.busyCores }) { return .server }
        let threads = Double(min(plan.threads, plan.connections))
        if !plan.spins && result.driverCores >= Self.busyCores * threads { return .driver }
        let waited = result.servers.map { $0.waitedCores ?? 0 } + [result.driverWaitedCores, result.stolenCores]
        if waited.contains(where: { $0 > Self.waitedCoresMax }) { return .machine }
        return plan.endpoints.allSatisfy { $0.pid != nil } ? .latency : .unknown
    }

    private func line(_ step: Step) -> String {
        let r = step.result
        let server = r.servers.compactMap(\.busiestThreadCores).max().map { ", server's thread \(percent($0))" } ?? ""
        let waited = r.servers.compactMap(\.waitedCores).reduce(r.driverWaitedCores + r.stolenCores, +)
        return "\(grouped(Int(step.rate)))/s asked, \(grouped(Int(r.operationsPerSecond)))/s answered, p99 "
            + "\(fixed(r.latency.p99Micros)) µs\(server), this load generator \(percent(r.driverCores)), waiting for a "
            + "processor \(percent(waited)): " + (step.shortfall.map { "not kept up, \($0.text)" } ?? "kept up")
    }

    private func percent(_ cores: Double) -> String { "\(Int((cores * 100).rounded())) %" }

    private func text(_ curve: Curve, _ endpoints: [Endpoint]) -> String {
        var rows = [titles("rate/s", endpoints) + ["tries", ""]]
        for step in curve.steps {
            let verdict = step.shortfall.map { "not kept up: \($0.rawValue)" } ?? ""
            rows.append(cells(step.result, grouped(Int(step.rate))) + ["\(step.tries)", verdict])
        }
        return table(rows) + "\n" + conclusion(curve)
    }

    /// The knee, or that this machine cannot tell it.
    private func conclusion(_ curve: Curve) -> String {
        let least = grouped(Int(curve.steps.first?.rate ?? from))
        let found = curve.knee.map { grouped(Int($0)) }
        guard let bound = curve.bound else {
            return "knee: at least \(found ?? least) operations/s, the greatest asked"
        }
        switch bound {
        case .errors, .server, .latency:
            return "knee: \(found ?? "below \(least)") operations/s; above it \(bound.text)"
        case .driver:
            let known = found.map { "at least \($0) operations/s" } ?? "not known"
            return "knee: \(known); above it \(bound.text): try --threads, or --cpu"
        case .machine:
            let known = found.map { "at least \($0) operations/s; above it" } ?? "not known;"
            return "knee: \(known) this machine cannot tell: \(bound.text)"
        case .unknown:
            return "knee: \(found ?? "below \(least)") operations/s; above it \(bound.text)"
        }
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

extension Shortfall {
    /// What a person can act on.
    fileprivate var text: String {
        switch self {
        case .errors: "replies are errors"
        case .server: "a thread of the server is busy all the time"
        case .driver: "this load generator is busy all the time"
        case .machine: "others have the processors"
        case .latency: "latency gives way though nobody is busy"
        case .unknown: "this load generator is not busy, and what the server does is not known without --server-pid"
        }
    }
}
