// Runs many seeds in worker processes and adds up what they report. One thread per worker; results behind one lock.
import Foundation
import KVSim

/// Seeds one worker process runs before it is replaced.
private let chunkSeeds: UInt64 = 64
/// A seed that takes longer than this hangs.
private let secondsPerSeedMax = 180.0
private let violationsShownMax = 200

final class Fleet: @unchecked Sendable {
    private let seeds: Range<UInt64>
    private let jobs: Int
    private let twice: Bool
    private let printsHashes: Bool
    private let force: SimForce
    private let lock = NSLock()
    // Guarded by `lock`.
    private var next: UInt64
    private var points = SimPoints()
    private var violations: [SimOutcome] = []
    private var differing: [UInt64] = []
    private var finished = 0
    private var simulatedMillis: Int64 = 0
    private var operations = 0
    private var frames = 0
    private var lateWrites = 0
    private var countedWrites = 0
    private let started = Date()

    init(seeds: Range<UInt64>, jobs: Int, twice: Bool, printsHashes: Bool, force: SimForce) {
        self.seeds = seeds
        self.jobs = jobs
        self.twice = twice
        self.printsHashes = printsHashes
        self.force = force
        next = seeds.lowerBound
        points.expect(SimWorld.expectedPoints)
    }

    /// Runs all seeds; false when an invariant broke or a seed ran differently the second time.
    func run() -> Bool {
        DispatchQueue.concurrentPerform(iterations: jobs) { _ in
            while let chunk = takeChunk() { runChunk(chunk) }
        }
        report()
        return violations.isEmpty && differing.isEmpty
    }

    private func takeChunk() -> Range<UInt64>? {
        lock.withLock {
            guard next < seeds.upperBound, violations.count < violationsShownMax else { return nil }
            let end = min(seeds.upperBound, next + chunkSeeds)
            defer { next = end }
            return next..<end
        }
    }

    private func runChunk(_ chunk: Range<UInt64>) {
        let first = WorkerProcess.runAll(chunk, bug: nil, force: force)
        var again: [UInt64: UInt64] = [:]
        if twice {
            for outcome in WorkerProcess.runAll(chunk, bug: nil, force: force) {
                again[outcome.seed] = outcome.traceHash
            }
        }
        lock.withLock {
            for outcome in first {
                if twice, again[outcome.seed] != outcome.traceHash { differing.append(outcome.seed) }
                add(outcome)
            }
            let before = finished
            finished += first.count
            if before / 1000 != finished / 1000 { progress() }
        }
    }

    private func add(_ outcome: SimOutcome) {
        if printsHashes { emit("hash \(outcome.seed) \(String(outcome.traceHash, radix: 16))") }
        points.merge(outcome.points)
        simulatedMillis += outcome.simulatedMillis
        operations += outcome.operations
        frames += outcome.frames
        lateWrites += outcome.lateWrites
        countedWrites += outcome.countedWrites
        guard let violation = outcome.violation else { return }
        violations.append(outcome)
        emit("VIOLATION seed \(outcome.seed) at \(outcome.simulatedMillis) ms \(violation)")
        emit("  replay: kvd-sim --seed \(outcome.seed) \(force.arguments.joined(separator: " ")) --trace")
    }

    private func progress() {
        let seconds = Date().timeIntervalSince(started)
        emit("\(finished) seeds, \(Int(Double(finished) / seconds)) seeds/s, \(violations.count) violations")
    }

    private func report() {
        let seconds = Date().timeIntervalSince(started)
        emit("sometimes points:")
        for (name, count) in points.sorted {
            emit("  \(name.padding(toLength: 36, withPad: " ", startingAt: 0)) \(count)\(count == 0 ? "  never" : "")")
        }
        let hours = Double(simulatedMillis) / 3_600_000
        emit(
            String(
                format: "%d seeds in %.1f s: %.1f seeds/s, %.1f simulated hours, %d operations, %d frames, jobs %d",
                finished, seconds, Double(finished) / max(seconds, 0.001), hours, operations, frames, jobs))
        if countedWrites > 0 {
            emit("visibility promise: \(lateWrites) late of \(countedWrites) writes checked in calm and lossy worlds")
        }
        if twice { emit("determinism: \(differing.count) of \(finished) seeds differed \(differing.prefix(10))") }
        emit("\(violations.count) violations")
    }
}

/// One child process at a time, restarted behind a seed that trapped.
enum WorkerProcess {
    /// Runs the seeds and returns an outcome for each; a trap or a hang becomes a violation of its own.
    static func runAll(
        _ chunk: Range<UInt64>, bug: SimBug?, plants: Bool = true, force: SimForce = SimForce()
    ) -> [SimOutcome] {
        var outcomes: [SimOutcome] = []
        var from = chunk.lowerBound
        while from < chunk.upperBound {
            let ended = runOnce(from..<chunk.upperBound, bug, plants, force, &outcomes)
            guard let trapped = ended else { break }
            outcomes.append(trapped)
            if bug != nil { break }
            from = trapped.seed + 1
        }
        return outcomes
    }

    /// The outcome of the seed that stopped the process early, if one did.
    private static func runOnce(
        _ seeds: Range<UInt64>, _ bug: SimBug?, _ plants: Bool, _ force: SimForce, _ outcomes: inout [SimOutcome]
    ) -> SimOutcome? {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = ["--worker", "--seeds", "\(seeds.lowerBound)..<\(seeds.upperBound)"]
        process.arguments! += force.arguments
        if let bug { process.arguments! += ["--bug", bug.name] + (plants ? [] : ["--without-bug"]) }
        let output = Pipe()
        let errors = FileManager.default.temporaryDirectory
            .appendingPathComponent(
                "kvd-sim-\(ProcessInfo.processInfo.processIdentifier)-\(seeds.lowerBound)-\(UUID())")
        _ = FileManager.default.createFile(atPath: errors.path, contents: nil)
        defer { try? FileManager.default.removeItem(at: errors) }
        process.standardOutput = output
        process.standardError = try? FileHandle(forWritingTo: errors)
        do { try process.run() } catch {
            FileHandle.standardError.write(Data("kvd-sim: cannot start a worker: \(error)\n".utf8))
            exit(1)
        }
        let watchdog = DispatchWorkItem { process.terminate() }
        let limit = secondsPerSeedMax + Double(seeds.count) * 5
        DispatchQueue.global().asyncAfter(deadline: .now() + limit, execute: watchdog)
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        watchdog.cancel()
        var running: UInt64?
        for line in text.split(separator: "\n") {
            if line.hasPrefix("S ") { running = UInt64(line.dropFirst(2)) }
            if let outcome = SimOutcome(line: line) {
                outcomes.append(outcome)
                running = nil
            }
        }
        guard process.terminationStatus != 0 || process.terminationReason != .exit, let running else { return nil }
        let said = (try? String(contentsOf: errors, encoding: .utf8)) ?? ""
        let lines = said.split(separator: "\n")
        let fatal =
            lines.first { $0.contains("Fatal error") || $0.contains("rror:") }
            ?? lines.first { $0.contains(" in kvd-sim at ") }
        var outcome = SimOutcome(seed: running)
        outcome.violation = SimViolation(
            "check", fatal.map(String.init) ?? "the process ended with \(process.terminationStatus)")
        return outcome
    }
}
