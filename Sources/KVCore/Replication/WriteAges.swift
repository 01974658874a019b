// When own writes were made, coarsely: how long the oldest one has waited that a server has not acknowledged. A plain
// value, owned by the replica.

import KVBase

struct WriteAges {
    /// Finer is of no use: frames go each 105 ms.
    private static let stepMillis: Millis = 100
    private static let marksMax = 512

    /// Writes up to `seq` were made by `at`; ascending.
    private var marks: [(seq: UInt64, at: Millis)] = []

    /// To be called now and then with the last write made.
    mutating func note(_ seq: UInt64, _ now: Millis) {
        if let last = marks.last {
            guard seq > last.seq, now - last.at >= WriteAges.stepMillis else { return }
        } else if seq == 0 {
            return
        }
        marks.append((seq, now))
        guard marks.count > WriteAges.marksMax else { return }
        // The far past is told less finely.
        marks = marks.enumerated().filter { $0.offset % 2 == 0 || $0.offset > marks.count / 2 }.map(\.element)
    }

    /// Forgets what every server has.
    mutating func drop(through seq: UInt64) { marks.removeAll { $0.seq <= seq } }

    /// Milliseconds that the first write after `seq` has waited; 0 if there is none or it is younger than a step.
    func age(after seq: UInt64, _ now: Millis) -> Millis { marks.first { $0.seq > seq }.map { now - $0.at } ?? 0 }
}
