// The part of the command line that runs one fixed trial over a long and thin line. Main thread only.
import ArgumentParser
import KVBase
import KVSim

extension SimScenario.Kind: ExpressibleByArgument {}

struct ScenarioOptions: ParsableArguments {
    @Option(
        name: .long,
        help: "Run a trial over one line (join, backlog, value) and compare it with one plain connection's time.")
    var scenario: SimScenario.Kind?

    @Option(name: .long, help: "With --scenario: keys to be sent.")
    var keys: Int?

    @Option(name: .long, help: "With --scenario: bytes of each value.")
    var valueBytes: Int?

    @Option(name: .long, help: "With --scenario: query actors of each server.")
    var actors: Int?

    @Option(name: .long, help: "With --scenario: bytes a second that are left of the line after two seconds.")
    var fallsTo: Int?

    @Option(name: .long, help: "With --scenario: bytes of a scan's chunk, instead of the machine's own figure.")
    var chunkBytes: Int?

    @Option(name: .long, help: "With --scenario: bytes of a frame, instead of the machine's own figure.")
    var frameBytes: Int?

    func trial(bandwidth: Int?, latency: Int?, seed: UInt64?, ignored: [String]) -> SimScenario? {
        guard let scenario else { return nil }
        var trial = SimScenario(scenario)
        trial.keys = keys ?? trial.keys
        trial.valueBytes = valueBytes ?? trial.valueBytes
        trial.bandwidth = bandwidth ?? trial.bandwidth
        trial.oneWayMillis = latency.map { Millis($0) } ?? trial.oneWayMillis
        trial.actors = actors ?? trial.actors
        trial.fallsTo = fallsTo ?? 0
        trial.chunkBytes = chunkBytes ?? 0
        trial.frameBytes = frameBytes ?? 0
        trial.seed = seed ?? 1
        trial.ignored = ignored
        return trial
    }
}
