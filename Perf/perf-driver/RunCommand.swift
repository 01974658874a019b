// `perf-driver run`, the default: one measured run against one or several servers. Main thread.

import ArgumentParser
import Foundation
import Histogram

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "One measured run (the default subcommand).")

    @Option(help: "[redis://|rediss://|memcached://]HOST:PORT; repeat it for several servers at once.")
    var server: [String] = ["127.0.0.1:6001"]

    @Option(help: "The server's process, for CPU, memory and context switches; one per --server, by commas.")
    var serverPid: String?

    @OptionGroup var workloadOptions: WorkloadOptions
    @OptionGroup var paceOptions: PaceOptions

    @Option(help: "Operations instead of --duration.")
    var requests: Int?

    @Option(help: "Open loop: operations per second over all connections, latency from the intended start.")
    var rate: Double?

    @Flag(help: "Open loop: random gaps (a Poisson process) instead of even ones.")
    var poisson = false

    @Option(help: "Open loop: so many operations are due at the same moment, at the same rate.")
    var burst: Int = 1

    @Option(help: "Write the result as JSON to this file; - prints it instead of the text.")
    var json: String?

    @Option(help: "Write an HdrHistogram interval log (V2) of all latencies, in nanoseconds.")
    var hdrLog: String?

    @Option(help: "Write an HdrHistogram percentile distribution (.hgrm), in microseconds.")
    var hgrm: String?

    @Option(help: "Draw latency by percentile into this SVG file.")
    var svg: String?

    func run() throws {
        let targets = try endpoints(server, pids: serverPid)
        let pace = try rate.map { try openPace($0, poisson: poisson, burst: burst) }
        let plan = try paceOptions.plan(targets, try workloadOptions.workload(), pace: pace, requests: requests)
        try tryOutputs(json, hdrLog, hgrm, svg)
        let bytesPerKey = try paceOptions.load ? Run.load(plan) : []
        var result = try Run.measure(plan)
        for (t, bytes) in bytesPerKey.enumerated() { result.servers[t].loadedBytesPerKey = bytes }
        if json != "-" { print(result.text) }
        if let json { try write(try jsonText(result), to: json) }
        if let histogram = result.histogram { try writeLatencies(result, histogram) }
        try failOnErrors(result.errors, of: result.requests, result.firstError)
    }

    private func writeLatencies(_ result: Measurement, _ histogram: Histogram<UInt64>) throws {
        if let hdrLog {
            try write(HistogramLog.text(histogram, started: result.started, seconds: result.seconds), to: hdrLog)
        }
        if let hgrm {
            var text = ""
            histogram.outputPercentileDistribution(to: &text, outputValueUnitScalingRatio: 1000)
            try write(text, to: hgrm)
        }
        if let svg {
            let curve = Plot.Series(name: "\(result.workload), \(result.pace)", points: Plot.percentiles(histogram))
            try write(Plot.latencyByPercentile([curve]), to: svg)
        }
    }
}
