// Counts what a piece of code allocates, by jemalloc's statistics, and fails a benchmark above its gate. One thread.

import Benchmark
import Glibc

enum Allocations {
    private typealias Control =
        @convention(c) (
            UnsafePointer<CChar>, UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>?, UnsafeMutableRawPointer?, Int
        ) -> CInt

    /// jemalloc's `mallctl`, looked up by name: linked in through CSupport.
    private static let control: Control? = dlsym(nil, "mallctl").map { unsafeBitCast($0, to: Control.self) }

    /// Allocations of the process since it began, in all arenas (4096 is jemalloc's index for their sum); nil without
    /// jemalloc's statistics.
    static var count: Int? {
        guard let control else { return nil }
        var epoch: UInt64 = 1
        // A thread's cache reports its allocations only when it is flushed.
        _ = control("thread.tcache.flush", nil, nil, nil, 0)
        _ = control("epoch", nil, nil, &epoch, 8)
        var sum = 0
        // Requests, not `nmalloc`, which also counts what a thread's cache takes in advance.
        for name in ["stats.arenas.4096.small.nrequests", "stats.arenas.4096.large.nrequests"] {
            var value = 0
            var size = 8
            guard control(name, &value, &size, nil, 0) == 0 else { return nil }
            sum += value
        }
        return sum
    }
}

extension BenchmarkMetric {
    /// Allocations of 1,000 operations, so that a rare one still shows in a whole number.
    static let allocations = BenchmarkMetric.custom("allocations per 1,000 operations", useScalingFactor: false)
}

/// Ends the run: a benchmark that only reports its failure leaves the exit code at 0.
private func fail(_ why: String) -> Never {
    let line = "error: \(why)\n"
    _ = line.withCString { write(2, $0, strlen($0)) }
    exit(1)
}

/// Registers a benchmark of `operations` operations per iteration that fails when 1,000 of them allocate more than
/// `gate` times. `prepare` makes the state once, outside of what is measured.
func gated<State>(
    _ name: String, operations: Int, gate: Int, prepare: @escaping () -> State, _ body: @escaping (State) -> Void
) {
    nonisolated(unsafe) let body = body
    nonisolated(unsafe) let prepare = prepare
    Benchmark(
        name,
        configuration: .init(
            metrics: [.wallClock, .allocations], warmupIterations: 1, scalingFactor: .one,
            maxDuration: .seconds(2), maxIterations: 50)
    ) { benchmark in
        let state = prepare()
        body(state)  // What is made once and kept (buffers that grow to their size) is not counted.
        guard let before = Allocations.count else { fail("\(name): jemalloc counts no allocations") }
        body(state)
        let made = (Allocations.count! - before) * 1000 / operations
        benchmark.measurement(.allocations, made)
        guard made <= gate else { fail("\(name): \(made) allocations per 1,000 operations, the gate is \(gate)") }
        benchmark.startMeasurement()
        for _ in benchmark.scaledIterations { body(state) }
        benchmark.stopMeasurement()
    }
}
