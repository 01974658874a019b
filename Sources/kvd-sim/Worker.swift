// A worker process of the fleet: runs seeds one after another and prints one line each. Main thread only.
import Foundation
import KVSim

/// A trapped check stops the process; the "S" line printed before each seed tells the fleet which one it was.
struct Worker {
    /// Decides the worlds; planted in them only if `plants`.
    var bug: SimBug?
    var plants: Bool
    var force: SimForce

    func run(_ seeds: Range<UInt64>) {
        for seed in seeds {
            emit("S \(seed)")
            let options = bug?.options(seed: seed) ?? force.options(seed: seed)
            let outcome = SimWorld.run(options, bug: plants ? bug : nil, trace: nil)
            emit(outcome.line)
            // Hunting a bug ends at the first seed that shows it.
            if bug != nil, outcome.violation != nil { return }
        }
    }
}
