// client-bench: how fast KVClient is on one connection, against any RESP server. A program; loads one server.

import ArgumentParser
import Foundation
import KVClient

@main
struct ClientBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "client-bench",
        abstract: "Measures KVClient: calls per second and latency of concurrent tasks on one connection.",
        version: "client-bench \(KVClient.version)")

    enum Operation: String, CaseIterable, ExpressibleByArgument {
        /// `set` is a plain SET, which any RESP server knows; `put` is what KVClient's put sends.
        case get, set, put, pipeline
    }

    @Option(help: "HOST:PORT of the server.") var server = "127.0.0.1:6001"
    @Option(help: "Concurrent tasks, each making one call at a time.") var tasks = 64
    @Option(help: "Seconds to measure, after a tenth of that for warming up.") var seconds = 5.0
    @Option(help: "What each call does; pipeline: batches of 64 gets.") var operation = Operation.get
    @Option(help: "Bytes of each value.") var valueBytes = 16
    @Option(help: "Different keys used.") var keys = 10_000

    func run() async throws {
        let client = try KVClient(servers: server)
        let value = KVBytes([UInt8](repeating: UInt8(ascii: "v"), count: valueBytes))
        let names = (0..<keys).map { KVBytes("bench:\($0)") }
        for start in stride(from: 0, to: keys, by: 1000) {
            _ = try await client.withPipeline { pipeline in
                for name in names[start..<min(start + 1000, keys)] { pipeline.send(["SET", name, value]) }
            }
        }
        _ = try await measure(client, names, value, seconds / 10)
        let usageBefore = cpuSeconds()
        let started = ContinuousClock.now
        let histogram = try await measure(client, names, value, seconds)
        let elapsed = Double((ContinuousClock.now - started) / .nanoseconds(1)) / 1e9
        let cpu = cpuSeconds() - usageBefore
        let calls = Double(histogram.count) * (operation == .pipeline ? 64 : 1)
        print(
            "\(operation.rawValue) tasks=\(tasks) calls/s=\(Int(calls / elapsed)) "
                + "p50=\(micros(histogram.quantile(0.5)))us p99=\(micros(histogram.quantile(0.99)))us "
                + "p99.9=\(micros(histogram.quantile(0.999)))us max=\(micros(histogram.quantile(1)))us "
                + "cpu/call=\(String(format: "%.2f", cpu / calls * 1e6))us "
                + "cores=\(String(format: "%.2f", cpu / elapsed))")
        await client.close()
    }

    private func measure(
        _ client: KVClient, _ names: [KVBytes], _ value: KVBytes, _ seconds: Double
    ) async throws -> Histogram {
        let deadline = ContinuousClock.now + .seconds(seconds)
        return try await withThrowingTaskGroup(of: Histogram.self) { group in
            for task in 0..<tasks {
                group.addTask {
                    var histogram = Histogram()
                    var index = task &* 7919 % names.count
                    var before = ContinuousClock.now
                    while before < deadline {
                        switch operation {
                        case .get: _ = try await client.get(names[index])
                        case .set: _ = try await client.send(["SET", names[index], value])
                        case .put: try await client.put(names[index], value)
                        case .pipeline:
                            _ = try await client.withPipeline { pipeline in
                                for offset in 0..<64 { _ = pipeline.get(names[(index + offset) % names.count]) }
                            }
                        }
                        let after = ContinuousClock.now
                        histogram.record((after - before) / .nanoseconds(1))
                        before = after
                        index = (index + 1) % names.count
                    }
                    return histogram
                }
            }
            var all = Histogram()
            for try await part in group { all.add(part) }
            return all
        }
    }

    private func micros(_ nanos: Double) -> String { String(format: "%.1f", nanos / 1000) }

    /// User and system time of this process.
    private func cpuSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

/// Counts of durations in buckets 1/32 of a power of two wide, so quantiles are right within 3 %.
struct Histogram {
    private var buckets = [Int](repeating: 0, count: 64 * 32)
    private(set) var count = 0

    mutating func record(_ nanos: Double) {
        let value = UInt64(max(32, nanos))
        let exponent = 63 - value.leadingZeroBitCount
        buckets[exponent * 32 + Int((value >> UInt64(exponent - 5)) & 31)] += 1
        count += 1
    }

    mutating func add(_ other: Histogram) {
        for index in buckets.indices { buckets[index] += other.buckets[index] }
        count += other.count
    }

    /// Upper edge, in nanoseconds, of the bucket in which the share `q` of all durations is reached.
    func quantile(_ q: Double) -> Double {
        var left = Int((Double(count) * q).rounded(.up))
        for index in buckets.indices where buckets[index] > 0 {
            left -= buckets[index]
            if left <= 0 { return Double(UInt64(33 + index % 32) << UInt64(max(0, index / 32 - 5))) }
        }
        return 0
    }
}
