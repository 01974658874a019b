// Plants each bug in turn and finds the first seed that shows it: the proof that the invariants have teeth. One thread
// per worker; results behind one lock.
import Foundation
import KVSim

private let chunkSeeds: UInt64 = 50

final class BugHunt: @unchecked Sendable {
    private let bugs: [SimBug]
    private let seeds: UInt64
    private let jobs: Int
    private let lock = NSLock()
    // Guarded by `lock`.
    private var next = 0
    private var lines: [(order: Int, text: String, caught: Bool)] = []

    init(bugs: [SimBug], seeds: UInt64, jobs: Int) {
        self.bugs = bugs
        self.seeds = seeds
        self.jobs = jobs
    }

    /// True when every bug was caught.
    func run() -> Bool {
        DispatchQueue.concurrentPerform(iterations: jobs) { _ in
            while true {
                let taken: Int? = lock.withLock {
                    guard next < bugs.count else { return nil }
                    defer { next += 1 }
                    return next
                }
                guard let taken else { return }
                hunt(taken)
            }
        }
        for line in lines.sorted(by: { $0.order < $1.order }) { emit(line.text) }
        let caught = lines.filter(\.caught).count
        emit("\(caught) of \(bugs.count) planted bugs caught")
        return caught == bugs.count
    }

    private func hunt(_ number: Int) {
        let bug = bugs[number]
        let started = Date()
        var first: UInt64 = 1
        var tried = 0
        while first <= seeds {
            let end = min(seeds + 1, first + chunkSeeds)
            let outcomes = WorkerProcess.runAll(first..<end, bug: bug)
            tried += outcomes.count
            guard let hit = outcomes.first(where: { $0.violation != nil }), let violation = hit.violation else {
                first = end
                continue
            }
            // The same world without the bug must pass, or it says nothing about the bug.
            let plain = WorkerProcess.runAll(hit.seed..<(hit.seed + 1), bug: bug, plants: false)
            if plain.allSatisfy({ $0.violation == nil }) {
                note(
                    number, bug, "caught by \(violation.invariant) at seed \(hit.seed)", started, true, violation.detail
                )
                return
            }
            first = hit.seed + 1
        }
        note(number, bug, "MISSED by \(tried) seeds", started, false, "")
    }

    private func note(
        _ number: Int, _ bug: SimBug, _ result: String, _ started: Date, _ caught: Bool, _ detail: String
    ) {
        let seconds = String(format: "%.1f s", Date().timeIntervalSince(started))
        let name = bug.name.padding(toLength: 34, withPad: " ", startingAt: 0)
        let text = "\(name) \(result) (\(seconds))" + (detail.isEmpty ? "" : "\n    \(detail.prefix(160))")
        lock.withLock { lines.append((order: number, text: text, caught: caught)) }
    }
}
