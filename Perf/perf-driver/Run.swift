// One measured run: starts the engines, takes the server's figures at both ends, collects. Called on the main thread.

import Foundation
import Synchronization

struct RunPlan: Sendable {
    var endpoints: [Endpoint]
    var connections = 50
    var pace = Pace.closed(depth: 1)
    var workload = Workload()
    var threads = 1
    var cpus: [Int] = []
    var warmUpSeconds = 1.0
    var seconds = 10.0
    /// Operations instead of seconds.
    var operations: Int?
    var spins = false
    var isLoading = false
    /// A line about each second on standard error.
    var showsProgress = false
}

enum Run {
    /// Sets every key once on every server; returns the growth of each one's memory per key if its pid is known.
    static func load(_ plan: RunPlan) throws -> [Double?] {
        try plan.endpoints.map { endpoint in
            let memory = try load(plan, endpoint)
            return memory.map { Double($0.after - $0.before) / Double(plan.workload.keys) }
        }
    }

    /// As fast as it goes.
    private static func load(_ plan: RunPlan, _ endpoint: Endpoint) throws -> (before: Int, after: Int)? {
        var loading = plan
        loading.endpoints = [endpoint]
        loading.connections = 16
        loading.threads = 1
        loading.pace = .closed(depth: plan.workload.valueBytesMax > 16 * 1024 ? 4 : 100)
        loading.operations = plan.workload.keys
        loading.warmUpSeconds = 0
        loading.isLoading = true
        let before = endpoint.pid.flatMap { ProcessSample(pid: $0) }
        let loaded = try measure(loading)
        if let error = loaded.firstError { throw DriverError("\(endpoint.name): loading failed: \(error)") }
        guard let before, let after = endpoint.pid.flatMap({ ProcessSample(pid: $0) }) else { return nil }
        return (before.residentBytes, after.residentBytes)
    }

    static func measure(_ plan: RunPlan) throws -> Measurement {
        raiseFileLimit()
        let control = RunControl()
        let threads = min(plan.threads, plan.connections)
        var progress: [EngineProgress] = []
        var running: [Thread] = []
        let results = Mutex<[EngineResult]>([])
        let resultBox = ResultBox(results)
        for engine in 0..<threads {
            let own = EngineProgress()
            let enginePlan = plan.engine(engine, of: threads)
            let thread = Thread {
                let result = Engine.run(enginePlan, control, own)
                resultBox.append(result)
            }
            thread.stackSize = 1 << 20
            progress.append(own)
            running.append(thread)
            thread.start()
        }
        while control.connected.load(ordering: .sequentiallyConsistent) < threads { usleep(1000) }
        let measurement = try conduct(plan, control, progress)
        while !progress.allSatisfy({ $0.finished.load(ordering: .acquiring) }) { usleep(500) }
        while resultBox.count < threads { usleep(500) }
        return try measurement.completed(by: resultBox.take(), plan)
    }

    /// Engine results as they come in, from their threads.
    final class ResultBox: Sendable {
        private let results: Mutex<[EngineResult]>
        init(_ results: consuming Mutex<[EngineResult]>) { self.results = results }
        func append(_ result: EngineResult) { results.withLock { $0.append(result) } }
        var count: Int { results.withLock { $0.count } }
        func take() -> [EngineResult] { results.withLock { $0 } }
    }

    /// Both ends of the measured time.
    struct Window {
        var started = Date()
        var seconds = 0.0
        var requests = 0
        var operations = 0
        var before: [ProcessSample?] = []
        var after: [ProcessSample?] = []
        /// CPU time of this process over the measured time.
        var ownNanos = 0
        /// Of this process, at both ends.
        var own: [ProcessSample?] = []
        /// Time the hypervisor gave to others, all processors together.
        var stolenNanos = 0
    }

    private static func conduct(
        _ plan: RunPlan, _ control: RunControl, _ progress: [EngineProgress]
    ) throws -> WindowedRun {
        func sum(_ counter: (EngineProgress) -> Int) -> Int { progress.reduce(0) { $0 + counter($1) } }
        func operations() -> Int { sum { $0.operations.load(ordering: .relaxed) } }
        func requests() -> Int { sum { $0.requests.load(ordering: .relaxed) } }
        func finished() -> Bool { progress.allSatisfy { $0.finished.load(ordering: .acquiring) } }
        func samples() -> [ProcessSample?] { plan.endpoints.map { $0.pid.flatMap { ProcessSample(pid: $0) } } }
        var window = Window()
        var live = LiveLine(enabled: plan.showsProgress)
        let start = monotonicNanos()
        // Without a warm-up the load begins only when everything is read off: nothing of it may be missed.
        let warmsUp = plan.warmUpSeconds > 0
        if warmsUp { control.go.store(true, ordering: .releasing) }
        let warmUpEnd = start + Int(plan.warmUpSeconds * 1e9)
        while warmsUp && monotonicNanos() < warmUpEnd && !finished() {
            usleep(10_000)
            live.show("warm-up", operations())
        }
        window.before = samples()
        let ownBefore = ownCPUNanos()
        let stolenBefore = stolenNanos()
        window.own = [ProcessSample(pid: getpid())]
        control.phase.store(RunPhase.measuring.rawValue, ordering: .relaxed)
        window.started = Date()
        let (operationsBefore, requestsBefore, measureStart) = (operations(), requests(), monotonicNanos())
        if !warmsUp { control.go.store(true, ordering: .releasing) }
        let end = plan.operations == nil ? measureStart + Int(plan.seconds * 1e9) : Int.max
        while monotonicNanos() < end && !finished() {
            usleep(plan.operations == nil ? 10_000 : 500)
            live.show(plan.work, operations())
        }
        let measureEnd = monotonicNanos()
        window.operations = operations() - operationsBefore
        window.requests = requests() - requestsBefore
        window.after = samples()
        window.ownNanos = ownCPUNanos() - ownBefore
        window.own.append(ProcessSample(pid: getpid()))
        window.stolenNanos = stolenNanos() - stolenBefore
        window.seconds = Double(measureEnd - measureStart) / 1e9
        control.phase.store(RunPhase.stopping.rawValue, ordering: .relaxed)
        live.clear()
        return WindowedRun(window: window)
    }

    private static func ownCPUNanos() -> Int {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func nanos(_ time: timeval) -> Int { time.tv_sec * 1_000_000_000 + Int(time.tv_usec) * 1000 }
        return nanos(usage.ru_utime) + nanos(usage.ru_stime)
    }

    private static func raiseFileLimit() {
        var limit = rlimit()
        let files = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        getrlimit(files, &limit)
        limit.rlim_cur = limit.rlim_max
        setrlimit(files, &limit)
    }
}

extension RunPlan {
    /// Why this load cannot be asked of these servers at this pace, or nil.
    var problem: String? {
        let operations = workload.mix.map(\.operation)
        var isOneByOne = false
        if case .closed(depth: 1) = pace { isOneByOne = true }
        if operations.contains(.scan) && (operations.count > 1 || !isOneByOne) {
            return "scan runs alone, in a closed loop, with --pipeline 1: each step needs the cursor of the one before"
        }
        let textual: Set<Operation> = [.get, .set, .insert, .delete, .modify]
        if endpoints.contains(where: { $0.wire == .memcached }), !operations.allSatisfy(textual.contains) {
            return "memcached knows get, set, insert, delete and rmw only"
        }
        let inserts = operations.contains(.insert) ? workload.inserts(among: self.operations ?? 0) : 0
        if Double(workload.keys + workload.firstInsert) + inserts > Double(workload.keysEnd) {
            return "\(workload.keys + workload.firstInsert) keys and \(Int(inserts)) inserts do not fit in "
                + "\(workload.digits) digits: use a larger --key-size"
        }
        return nil
    }

    /// What the progress line calls it.
    var work: String { isLoading ? "loading" : "measuring" }

    func engine(_ engine: Int, of engines: Int) -> EnginePlan {
        let mine = (0..<connections).filter { $0 % engines == engine }.map { $0 / engines % endpoints.count }
        var pace = pace
        if case .open(let rate, let poisson, let burst) = pace {
            pace = .open(ratePerSecond: rate / Double(engines), poisson: poisson, burst: burst)
        }
        return EnginePlan(
            endpoints: endpoints, connections: mine, pace: pace, workload: workload, engine: engine, engines: engines,
            quota: operations.map { $0 / engines + (engine < $0 % engines ? 1 : 0) }, isLoading: isLoading,
            cpu: cpus.isEmpty ? nil : cpus[engine % cpus.count], spins: spins)
    }
}

/// The progress line on standard error, rewritten about once a second.
struct LiveLine {
    private let enabled: Bool
    private var last = monotonicNanos()
    private var lastOperations = 0

    init(enabled: Bool) { self.enabled = enabled }

    mutating func show(_ phase: String, _ operations: Int) {
        let now = monotonicNanos()
        guard enabled, now - last >= 1_000_000_000 else { return }
        let rate = Double(operations - lastOperations) / (Double(now - last) / 1e9)
        let text = "\r\(phase): \(grouped(Int(rate))) operations/s, \(grouped(operations)) so far   "
        FileHandle.standardError.write(Data(text.utf8))
        last = now
        lastOperations = operations
    }

    func clear() {
        if enabled { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) }
    }
}

/// 1234567 as "1,234,567".
func grouped(_ number: Int) -> String {
    var text = ""
    for (i, digit) in String(abs(number)).reversed().enumerated() {
        if i > 0 && i % 3 == 0 { text.append(",") }
        text.append(digit)
    }
    return (number < 0 ? "-" : "") + String(text.reversed())
}
