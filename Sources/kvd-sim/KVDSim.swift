// The command line of kvd-sim: which seeds to run, how, and what to print. Main thread only.
import ArgumentParser
import Foundation
import KVBase
import KVCore
import KVSim

struct KVDSim: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kvd-sim",
        abstract: "Simulates whole kvd clusters deterministically and checks every invariant of the replication.",
        discussion: """
            One seed is one world: cluster, load, network, crashes, clocks. The same seed always runs the same, so a \
            failure is replayed with --seed N --trace. Exit code 1 when an invariant broke.
            """,
        version: "kvd-sim \(ProductVersion.text)")

    @Option(name: .long, help: "Run this one seed and print its options and its trace hash.")
    var seed: UInt64?

    @Option(name: .long, help: "Run the seeds A..<B.")
    var seeds: String?

    @Option(name: .long, help: "Run this many seeds from 1 (or from the start of --seeds).")
    var count: UInt64?

    @Option(name: .long, help: "Worker processes (default: the number of cores).")
    var jobs: Int?

    @Flag(name: .long, help: "With --seed: print what happens, one line each.")
    var trace = false

    @Option(
        name: .long, help: "With --trace: only lines that contain this text (may be given several times: any of them).")
    var only: [String] = []

    @Option(name: .long, help: "With --trace: tell of each change of this key's records (its number).")
    var watch: Int?

    @Flag(name: .long, help: "Run the seeds that ever broke an invariant.")
    var failed = false

    @Flag(name: .long, help: "Run every seed twice, in two processes, and compare the trace hashes.")
    var checkDeterminism = false

    @Flag(name: .long, help: "Print the trace hash of every seed, to compare two builds.")
    var hashes = false

    @Option(name: .long, help: "Plant this bug (a name of --list-bugs, or all) and report which invariant catches it.")
    var bug: String?

    @Option(name: .long, help: "With --bug: seeds tried before a planted bug counts as missed.")
    var bugSeeds: UInt64 = 5_000

    @Flag(name: .long, help: "Print the planted bugs.")
    var listBugs = false

    @Option(
        name: .long, help: "Share of the seeds, in percent, whose lines are long and thin; 100 for all, 0 for none.")
    var thin: Int = SimOptions.thinPercent

    @Option(name: .long, help: "Share of the seeds, in percent, with a member that lies; 100 for all.")
    var liars: Int = SimOptions.liarPercent

    @Option(name: .long, help: "Share of the seeds, in percent, whose servers have disks; 100 for all.")
    var disk: Int = SimOptions.diskPercent

    @Flag(name: .long, help: "With --disk: a disk may be replaced by a copy of a living server's.")
    var clones = false

    @Option(name: .long, help: "Bytes a second of thin lines, instead of what the seed draws; 0 for no limit.")
    var bandwidth: Int?

    @Option(name: .long, help: "Greatest one-way milliseconds of thin lines, instead of what the seed draws.")
    var latency: Int?

    @Option(name: .long, help: "Go on when this invariant breaks, for example I6 (may be given several times).")
    var ignore: [String] = []

    @OptionGroup(title: "One line")
    var one: ScenarioOptions

    @Flag(name: .long, help: .hidden)
    var worker = false

    @Flag(name: .long, help: "With --seed and --bug: run the bug's world without the bug.")
    var withoutBug = false

    func validate() throws {
        if let seeds, range(seeds) == nil { throw ValidationError("--seeds wants A..<B, for example 1..<2001") }
        if let jobs, jobs < 1 { throw ValidationError("--jobs must be at least 1") }
        if let bug, bug != "all", SimBug.named(bug) == nil {
            throw ValidationError("no planted bug is called \(bug); see --list-bugs")
        }
        if bug != nil, !PlantedMistakes.isPossible {
            throw ValidationError(
                "this build makes no mistakes: build it with -Xswiftc -DKV_CHECKS, as scripts/sim does")
        }
        if seed == nil, seeds == nil, count == nil, bug == nil, !listBugs, !failed, one.scenario == nil {
            throw ValidationError("say which seeds: --seed N, --seeds A..<B, --count N or --failed; or --scenario join")
        }
    }

    func run() throws {
        if listBugs {
            for bug in SimBug.all { emit(bug.name) }
            return
        }
        let hunted = bug.flatMap { $0 == "all" ? nil : SimBug.named($0) }
        if let trial = one.trial(bandwidth: bandwidth, latency: latency, seed: seed, ignored: ignore) {
            try run(trial, hunted)
        } else if failed {
            try runFailed()
        } else if let seed {
            try runOne(seed, hunted)
        } else if worker {
            Worker(bug: hunted, plants: !withoutBug, force: force).run(chosen)
        } else if let bug {
            let bugs = bug == "all" ? SimBug.all : SimBug.all.filter { $0.name == bug }
            let hunt = BugHunt(bugs: bugs, seeds: bugSeeds, jobs: jobs ?? coreCount)
            if !hunt.run() { throw ExitCode(1) }
        } else {
            let fleet = Fleet(
                seeds: chosen, jobs: jobs ?? coreCount, twice: checkDeterminism, printsHashes: hashes, force: force)
            if !fleet.run() { throw ExitCode(1) }
        }
    }

    private var force: SimForce {
        var force = SimForce()
        (force.thinPercent, force.bandwidth, force.latencyMillis) = (thin, bandwidth, latency)
        force.liarPercent = liars
        force.diskPercent = disk
        force.clones = clones
        force.ignored = ignore
        force.watched = watch
        return force
    }

    private var coreCount: Int { ProcessInfo.processInfo.activeProcessorCount }

    private var chosen: Range<UInt64> {
        let start = seeds.flatMap(range)
        guard let count else { return start ?? 1..<1 }
        let first = start?.lowerBound ?? 1
        return first..<(first + count)
    }

    private func range(_ text: String) -> Range<UInt64>? {
        let parts = text.components(separatedBy: "..<")
        guard parts.count == 2, let low = UInt64(parts[0]), let high = UInt64(parts[1]), low <= high else { return nil }
        return low..<high
    }

    private func run(_ trial: SimScenario, _ planted: SimBug?) throws {
        let report = trial.run(bug: planted, trace: printer)
        emit(report.text)
        emit("\(report.outcome.events) events, trace hash \(String(report.outcome.traceHash, radix: 16))")
        guard let violation = report.outcome.violation else { return }
        emit("VIOLATION \(violation)")
        throw ExitCode(1)
    }

    private var printer: ((String) -> Void)? {
        guard trace else { return nil }
        return { line in if only.isEmpty || only.contains(where: { line.contains($0) }) { emit(line) } }
    }

    /// One after another, in this process: a trapped check ends it, and the last line tells at which seed.
    private func runFailed() throws {
        var broken = 0
        for options in SimSeeds.worlds {
            let outcome = SimWorld.run(options, bug: nil, trace: nil)
            let thin = options.profile == .thin ? " thin" : ""
            emit("seed \(options.seed)\(thin): \(outcome.violation.map { "VIOLATION \($0)" } ?? "no violation")")
            if outcome.violation != nil { broken += 1 }
        }
        emit("\(SimSeeds.worlds.count) seeds, \(broken) violations")
        if broken > 0 { throw ExitCode(1) }
    }

    private func runOne(_ seed: UInt64, _ planted: SimBug?) throws {
        let options = planted?.options(seed: seed) ?? force.options(seed: seed)
        emit(options.description)
        let outcome = SimWorld.run(options, bug: withoutBug ? nil : planted, trace: printer)
        for (name, count) in outcome.points.sorted { emit("  \(name) \(count)") }
        emit(
            "simulated \(outcome.simulatedMillis) ms, \(outcome.events) events, \(outcome.operations) operations, "
                + "\(outcome.frames) frames, trace hash \(String(outcome.traceHash, radix: 16))")
        if let violation = outcome.violation {
            emit("VIOLATION \(violation)")
            throw ExitCode(1)
        }
        emit("no violation")
    }
}

/// Prints a line at once: a worker that traps must not take its last words with it.
func emit(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }
