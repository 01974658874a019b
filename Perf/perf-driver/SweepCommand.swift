// `perf-driver sweep`: the same load at rising rates, or with rising connections, and where latency gives way. Main
// thread.

import ArgumentParser
import Foundation

struct SweepCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sweep",
        abstract: "Find the knee: raise the open-loop rate until latency or throughput gives way; or vary connections.",
        discussion: """
            Rates grow by a third while the server keeps up; then the interval is halved --refine times. A rate is kept
            up with if at least 97 % of it was answered and its p99 is within --limit-micros. The greatest such rate is
            the knee.
            With --over-connections the loop is closed and the table shows throughput against connections instead.
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

    @Option(help: "Write all results as JSON to this file; - prints them instead of the text.")
    var json: String?

    @Option(help: "Draw the curve into this SVG file.")
    var svg: String?

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
        if paceOptions.load { for target in targets { _ = try Run.load(plan, target) } }
        if let counts { try sweepConnections(plan, counts) } else { try sweepRates(plan) }
    }

    private func keptUp(_ result: Measurement, _ rate: Double) -> Bool {
        result.errors == 0 && result.operationsPerSecond >= 0.97 * rate && result.latency.p99Micros <= limitMicros
    }

    private func sweepRates(_ base: RunPlan) throws {
        var results: [(rate: Double, result: Measurement, good: Bool)] = []
        func attempt(_ rate: Double) throws -> Bool {
            var plan = base
            plan.pace = .open(ratePerSecond: rate, poisson: true)
            let result = try Run.measure(plan)
            let good = keptUp(result, rate)
            results.append((rate, result, good))
            if json != "-" {
                print(
                    "\(grouped(Int(rate)))/s asked, \(grouped(Int(result.operationsPerSecond)))/s answered, p99 "
                        + "\(fixed(result.latency.p99Micros)) µs: \(good ? "kept up" : "not kept up")")
            }
            return good
        }
        var good = 0.0
        var bad = from
        while try attempt(bad) {
            good = bad
            bad *= 4.0 / 3
        }
        for _ in 0..<refine where good > 0 {
            let middle = (good + bad) / 2
            if try attempt(middle) { good = middle } else { bad = middle }
        }
        results.sort { $0.rate < $1.rate }
        if json != "-" {
            var rows = [["rate/s", "answered/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs/request", ""]]
            for r in results { rows.append(cells(r.result, grouped(Int(r.rate))) + [r.good ? "" : "not kept up"]) }
            print(table(rows))
            print(
                good > 0 ? "knee: \(grouped(Int(good))) operations/s" : "knee: below \(grouped(Int(from))) operations/s"
            )
        }
        if let json { try write(try array(results.map(\.result)), to: json) }
        if let svg {
            let curves = [
                Plot.Series(name: "p50", points: results.map { ($0.rate, $0.result.latency.p50Micros) }),
                Plot.Series(name: "p99", points: results.map { ($0.rate, $0.result.latency.p99Micros) }),
                Plot.Series(name: "p99.9", points: results.map { ($0.rate, $0.result.latency.p999Micros) }),
            ]
            try write(Plot.latencyCurve(curves, title: "Latency against rate", x: "operations/s asked for"), to: svg)
        }
    }

    private func sweepConnections(_ base: RunPlan, _ counts: [Int]) throws {
        var results: [Measurement] = []
        var rows = [["connections", "answered/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs/request"]]
        for count in counts {
            var plan = base
            plan.connections = count
            let result = try Run.measure(plan)
            results.append(result)
            rows.append(cells(result, grouped(count)))
        }
        if json != "-" { print(table(rows)) }
        if let json { try write(try array(results), to: json) }
        if let svg {
            let curve = Plot.Series(
                name: "\(results.first?.workload ?? ""), pipeline \(paceOptions.pipeline)",
                points: results.map { (Double($0.connections), $0.operationsPerSecond) })
            try write(
                Plot.curve([curve], title: "Throughput against connections", x: "connections", y: "operations/s"),
                to: svg)
        }
    }

    private func cells(_ result: Measurement, _ first: String) -> [String] {
        let l = result.latency
        return [
            first, grouped(Int(result.operationsPerSecond)), fixed(l.p50Micros), fixed(l.p99Micros),
            fixed(l.p999Micros), result.servers.first?.cpuMicrosPerRequest.map { fixed($0, 3) } ?? "-",
        ]
    }

    private func array(_ results: [Measurement]) throws -> String {
        "[" + (try results.map { try $0.json() }).joined(separator: ",\n") + "]"
    }
}
