// What a run found, as text and as JSON. Plain values.

import Foundation
import Histogram

struct LatencySummary: Codable {
    var operation: String
    var count: Int
    var meanMicros: Double
    var p50Micros: Double
    var p90Micros: Double
    var p99Micros: Double
    var p999Micros: Double
    var p9999Micros: Double
    var maxMicros: Double

    init(_ operation: String, _ histogram: Histogram<UInt64>) {
        func micros(_ percentile: Double) -> Double { Double(histogram.valueAtPercentile(percentile)) / 1000 }
        self.operation = operation
        count = Int(histogram.totalCount)
        meanMicros = histogram.totalCount == 0 ? 0 : histogram.mean / 1000
        p50Micros = micros(50)
        p90Micros = micros(90)
        p99Micros = micros(99)
        p999Micros = micros(99.9)
        p9999Micros = micros(99.99)
        maxMicros = histogram.totalCount == 0 ? 0 : Double(histogram.max) / 1000
    }
}

/// One server's share of a run.
struct ServerRow: Codable {
    var name: String
    var requests: Int
    var requestsPerSecond: Double
    var latency: LatencySummary
    /// Of the server's process, all threads, over the measured time; nil without its pid.
    var cpuMicrosPerRequest: Double?
    var cpuCores: Double?
    /// Of its busiest thread, and how long its threads could have run and had no processor, both in cores.
    var busiestThreadCores: Double?
    var waitedCores: Double?
    var residentBytes: Int?
    var contextSwitchesPerRequest: Double?
    /// Growth of the server's resident memory when it was loaded, divided by the number of keys.
    var loadedBytesPerKey: Double?
}

struct Measurement: Codable {
    var workload: String
    var distribution: String
    var pace: String
    var connections: Int
    var keys: Int
    var keyBytes: Int
    var valueBytes: String
    var seconds: Double
    /// Those answered with an error are in `errors` alone.
    var operations: Int
    var operationsPerSecond: Double
    var requests: Int
    var requestsPerSecond: Double
    var errors: Int
    var misses: Int
    /// Open loop: requests under way or overdue at the end; their waiting so far is in the latencies.
    var unanswered: Int
    /// Inserts up to now, those before --first-insert included: what that option takes to go on.
    var nextInsert: Int
    var firstError: String?
    var latency: LatencySummary
    var operationLatencies: [LatencySummary]
    var servers: [ServerRow]
    /// CPU this load generator used itself; near one per thread, it may be what limits the throughput.
    var driverCores: Double
    var driverMicrosPerRequest: Double
    /// How long its threads could have run and had no processor, and what the hypervisor took of all, both in cores.
    var driverWaitedCores: Double
    var stolenCores: Double
    var histogram: Histogram<UInt64>?
    /// Of the measured time.
    var started = Date()

    private enum CodingKeys: String, CodingKey {
        case workload, distribution, pace, connections, keys, keyBytes, valueBytes, seconds, operations
        case operationsPerSecond, requests, requestsPerSecond, errors, misses, unanswered, nextInsert
        case firstError, latency
        case operationLatencies, servers, driverCores, driverMicrosPerRequest, driverWaitedCores, stolenCores
    }
}

struct WindowedRun {
    let window: Run.Window

    /// Adds the engines' recorders to the figures of the measured time.
    func completed(by results: [EngineResult], _ plan: RunPlan) throws -> Measurement {
        defer { results.forEach { $0.deallocate() } }
        if let failure = results.compactMap(\.failure).first { throw failure }
        var all = Recorder()
        defer { all.deallocate() }
        var rows: [ServerRow] = []
        var kinds: [LatencySummary] = []
        let requests = plan.endpoints.indices.map { e in results.reduce(0) { $0 + $1.requests[e] } }
        for (e, endpoint) in plan.endpoints.enumerated() {
            var ofServer = Recorder()
            defer { ofServer.deallocate() }
            for result in results { result.recorders[e].forEach { ofServer.add($0) } }
            all.add(ofServer)
            // Addresses of one process share its processor time: a kvd has one for each actor.
            let served = plan.endpoints.indices.filter { $0 == e || plan.endpoints[$0].pid == endpoint.pid }
            let ofProcess = endpoint.pid == nil ? requests[e] : served.reduce(0) { $0 + requests[$1] }
            let isWhole = served.count == plan.endpoints.count
            rows.append(
                row(
                    endpoint, requests[e], ofProcess: isWhole ? window.requests : ofProcess, window.before[e],
                    window.after[e], ofServer))
        }
        for operation in Operation.allCases {
            var ofKind = Recorder()
            defer { ofKind.deallocate() }
            for result in results { result.recorders.forEach { ofKind.add($0[Int(operation.rawValue)]) } }
            if ofKind.total > 0 { kinds.append(LatencySummary(operation.text, ofKind.histogram())) }
        }
        let seconds = max(window.seconds, 1e-9)
        let nextInsert = results.map(\.nextInsert).max() ?? 0
        let workload = plan.workload
        let values =
            workload.valueBytesMin == workload.valueBytesMax
            ? "\(workload.valueBytesMax)" : "\(workload.valueBytesMin)-\(workload.valueBytesMax)"
        return Measurement(
            workload: plan.isLoading ? "load" : workload.mixText, distribution: workload.distribution.text,
            pace: plan.paceText, connections: plan.connections, keys: workload.keys, keyBytes: workload.keyBytes,
            valueBytes: values, seconds: window.seconds, operations: window.operations,
            operationsPerSecond: Double(window.operations) / seconds, requests: window.requests,
            requestsPerSecond: Double(window.requests) / seconds, errors: results.reduce(0) { $0 + $1.errors },
            misses: results.reduce(0) { $0 + $1.misses }, unanswered: results.reduce(0) { $0 + $1.unanswered },
            nextInsert: nextInsert,
            firstError: results.compactMap(\.firstError).first, latency: LatencySummary("all", all.histogram()),
            operationLatencies: kinds, servers: rows,
            driverCores: Double(window.ownNanos) / 1e9 / seconds,
            driverMicrosPerRequest: Double(window.ownNanos) / 1000 / Double(max(window.requests, 1)),
            driverWaitedCores: driverWaitedNanos / 1e9 / seconds,
            stolenCores: Double(window.stolenNanos) / 1e9 / seconds,
            histogram: all.histogram(), started: window.started)
    }

    private var driverWaitedNanos: Double {
        guard window.own.count == 2, let before = window.own[0], let after = window.own[1] else { return 0 }
        // Threads that have ended meanwhile took their waiting with them.
        return Double(max(0, after.waitNanos - before.waitNanos))
    }

    private func row(
        _ endpoint: Endpoint, _ requests: Int, ofProcess: Int, _ before: ProcessSample?, _ after: ProcessSample?,
        _ recorder: Recorder
    ) -> ServerRow {
        let seconds = max(window.seconds, 1e-9)
        // With one server the requests of exactly the measured time are known; else its share is as good.
        let exact = window.before.count == 1 ? window.requests : requests
        let divisor = Double(max(ofProcess, 1))
        var row = ServerRow(
            name: endpoint.name, requests: exact, requestsPerSecond: Double(exact) / seconds,
            latency: LatencySummary("all", recorder.histogram()))
        if let before, let after {
            let nanos = Double(after.cpuNanos - before.cpuNanos)
            row.cpuMicrosPerRequest = nanos / 1000 / divisor
            row.cpuCores = nanos / 1e9 / seconds
            row.busiestThreadCores = Double(after.busiestNanos(since: before)) / 1e9 / seconds
            row.waitedCores = Double(max(0, after.waitNanos - before.waitNanos)) / 1e9 / seconds
            row.residentBytes = after.residentBytes
            row.contextSwitchesPerRequest = Double(after.contextSwitches - before.contextSwitches) / divisor
        }
        return row
    }
}

extension RunPlan {
    var paceText: String {
        switch pace {
        case .closed(let depth): "closed, pipeline \(depth)"
        case .open(let rate, let poisson, let burst):
            "open, \(Int(rate))/s\(poisson ? " poisson" : "")\(burst > 1 ? ", \(burst) at a time" : "")"
        }
    }
}
