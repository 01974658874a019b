// `perf-driver compare`: the same load on several targets in alternating rounds; ratios with their spread. Main thread.

import ArgumentParser
import Foundation

struct CompareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare",
        abstract: "The same load on two or more targets in alternating rounds.",
        discussion: """
            Every round measures each target once, one after the other, so that what disturbs the machine disturbs all.
            Each ratio is to the first target in the same round; shown are the median round, the least and the greatest.
            Inserts go on where the round before ended.
            """)

    @Option(help: "NAME=[redis://|rediss://|memcached://]HOST:PORT[,pid=PID]; at least two.")
    var target: [String] = []

    @OptionGroup var workloadOptions: WorkloadOptions
    @OptionGroup var paceOptions: PaceOptions

    @Option(help: "Rounds.")
    var rounds = 5

    @Option(help: "Open loop instead of closed: operations per second.")
    var rate: Double?

    @Option(help: "Write the result as JSON to this file; - prints it instead of the text.")
    var json: String?

    @Option(help: "Draw latency by percentile, of each target's round with the median p99, into this SVG file.")
    var svg: String?

    struct Spread: Codable {
        var median: Double
        var least: Double
        var greatest: Double

        init?(_ values: [Double?]) {
            let sorted = values.compactMap { $0 }.sorted()
            guard sorted.count == values.count, let first = sorted.first, let last = sorted.last else { return nil }
            let middle = sorted.count / 2
            median = sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
            least = first
            greatest = last
        }
    }

    struct Row: Codable {
        var name: String
        var operationsPerSecond: Spread
        var cpuMicrosPerRequest: Spread?
        /// Round by round, for ratios between any two targets.
        var cpuMicrosByRound: [Double]?
        var contextSwitchesPerRequest: Spread?
        var p50Micros: Spread
        var p99Micros: Spread
        var p999Micros: Spread
        var p9999Micros: Spread
        /// Round by round.
        var p99MicrosByRound: [Double]
        var p999MicrosByRound: [Double]
        var residentBytes: Int?
        var loadedBytesPerKey: Double?
        /// Error replies of all rounds; they are no operations.
        var errors: Int
        /// To the first target, same round.
        var operationsRatio: Spread
        var cpuRatio: Spread?
        var p99Ratio: Spread
    }

    struct Result: Codable {
        var workload: String
        var distribution: String
        var pace: String
        var connections: Int
        var keys: Int
        var valueBytes: String
        var rounds: Int
        var rows: [Row]
    }

    func run() throws {
        let targets = try target.map { text in
            guard let endpoint = Endpoint(target: text) else {
                throw ValidationError("--target '\(text)' is not NAME=HOST:PORT[,pid=PID]")
            }
            if let pid = endpoint.pid, ProcessSample(pid: pid) == nil {
                throw DriverError("there is no process \(pid) to watch")
            }
            return endpoint
        }
        guard targets.count >= 2 else { throw ValidationError("give at least two --target") }
        guard rounds >= 1 else { throw ValidationError("--rounds must be at least 1") }
        let pace = try rate.map { try openPace($0, poisson: true) }
        let plan = try paceOptions.plan(targets, try workloadOptions.workload(), pace: pace)
        try tryOutputs(json, svg)
        let notLoaded = [Double?](repeating: nil, count: targets.count)
        let bytesPerKey = try paceOptions.load ? Run.load(plan) : notLoaded
        let measured = try measure(plan)
        let result = summary(targets, measured, bytesPerKey)
        if json != "-" { print(text(result)) }
        if let json { try write(try jsonText(result), to: json) }
        if let svg {
            let curves = targets.indices.map { t in
                Plot.Series(
                    name: targets[t].name,
                    points: Self.median(measured[t], by: \.latency.p99Micros)?.histogram.map { Plot.percentiles($0) }
                        ?? [])
            }
            try write(Plot.latencyByPercentile(curves), to: svg)
        }
        let all = measured.joined()
        try failOnErrors(
            all.reduce(0) { $0 + $1.errors }, of: all.reduce(0) { $0 + $1.requests },
            all.compactMap(\.firstError).first)
    }

    /// The element whose `figure` is the median, of an even number the lower; one disturbed round is not shown.
    static func median<Element>(_ all: [Element], by figure: (Element) -> Double) -> Element? {
        guard !all.isEmpty else { return nil }
        return all.sorted { figure($0) < figure($1) }[(all.count - 1) / 2]
    }

    /// By target, then by round.
    private func measure(_ plan: RunPlan) throws -> [[Measurement]] {
        var measured = [[Measurement]](repeating: [], count: plan.endpoints.count)
        for round in 0..<rounds {
            for (t, target) in plan.endpoints.enumerated() {
                var own = plan
                own.endpoints = [target]
                own.workload.seed = plan.workload.seed &+ UInt64(round)
                own.workload.firstInsert = measured[t].last?.nextInsert ?? plan.workload.firstInsert
                measured[t].append(try Run.measure(own))
            }
        }
        return measured
    }

    private func summary(_ targets: [Endpoint], _ measured: [[Measurement]], _ bytesPerKey: [Double?]) -> Result {
        func spread(_ t: Int, _ figure: (Measurement) -> Double?) -> Spread? { Spread(measured[t].map(figure)) }
        func ratio(_ t: Int, _ figure: (Measurement) -> Double?) -> Spread? {
            Spread(
                zip(measured[t], measured[0]).map { own, first in
                    guard let a = figure(own), let b = figure(first), b > 0 else { return nil }
                    return a / b
                })
        }
        let cpu: (Measurement) -> Double? = { $0.servers.first?.cpuMicrosPerRequest }
        let switches: (Measurement) -> Double? = { $0.servers.first?.contextSwitchesPerRequest }
        func byRound(_ t: Int) -> [Double]? {
            let all = measured[t].compactMap(cpu)
            return all.count == measured[t].count ? all : nil
        }
        let rows = targets.indices.map { t in
            Row(
                name: targets[t].name, operationsPerSecond: spread(t) { $0.operationsPerSecond }!,
                cpuMicrosPerRequest: spread(t, cpu), cpuMicrosByRound: byRound(t),
                contextSwitchesPerRequest: spread(t, switches),
                p50Micros: spread(t) { $0.latency.p50Micros }!, p99Micros: spread(t) { $0.latency.p99Micros }!,
                p999Micros: spread(t) { $0.latency.p999Micros }!, p9999Micros: spread(t) { $0.latency.p9999Micros }!,
                p99MicrosByRound: measured[t].map(\.latency.p99Micros),
                p999MicrosByRound: measured[t].map(\.latency.p999Micros),
                residentBytes: measured[t].last?.servers.first?.residentBytes, loadedBytesPerKey: bytesPerKey[t],
                errors: measured[t].reduce(0) { $0 + $1.errors },
                operationsRatio: ratio(t) { $0.operationsPerSecond } ?? Spread([0])!, cpuRatio: ratio(t, cpu),
                p99Ratio: ratio(t) { $0.latency.p99Micros } ?? Spread([0])!)
        }
        let first = measured[0][0]
        return Result(
            workload: first.workload, distribution: first.distribution, pace: first.pace,
            connections: first.connections, keys: first.keys, valueBytes: first.valueBytes, rounds: rounds, rows: rows)
    }

    private func text(_ result: Result) -> String {
        func shown(_ spread: Spread?, _ digits: Int) -> String {
            spread.map { "\(fixed($0.median, digits)) [\(fixed($0.least, digits)) \(fixed($0.greatest, digits))]" }
                ?? "-"
        }
        var rows = [
            [
                "target", "operations/s", "CPU µs/request", "switches/request", "p50 µs", "p99 µs", "p99.9 µs",
                "p99.99 µs", "RSS MiB", "errors", "CPU ratio", "throughput ratio",
            ]
        ]
        for row in result.rows {
            rows.append([
                row.name, grouped(Int(row.operationsPerSecond.median)), shown(row.cpuMicrosPerRequest, 3),
                shown(row.contextSwitchesPerRequest, 4), fixed(row.p50Micros.median), fixed(row.p99Micros.median),
                fixed(row.p999Micros.median), fixed(row.p9999Micros.median),
                row.residentBytes.map { fixed(Double($0) / 1_048_576) } ?? "-", grouped(row.errors),
                shown(row.cpuRatio, 3), shown(row.operationsRatio, 3),
            ])
        }
        return
            "\(result.workload), \(result.distribution) over \(grouped(result.keys)) keys, "
            + "values \(result.valueBytes) B; "
            + "\(result.connections) connections, \(result.pace); \(rounds) rounds, median [least greatest]\n"
            + table(rows)
    }
}
