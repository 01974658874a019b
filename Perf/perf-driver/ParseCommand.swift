// `perf-driver parse`: nanoseconds that reading requests and replies takes in process, no socket. Main thread.

import ArgumentParser
import Foundation
import KVBase
import RESP

struct ParseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "parse",
        abstract: "Speed of the request parser, the reply writer and the reply counter in process.")

    @Option(help: "Commands per pass, as a pipeline would bring them.")
    var pipeline = 100

    @Option(help: "Bytes of a value.")
    var valueSize = 64

    @Option(help: "CPU to pin to.")
    var cpu: Int?

    func run() throws {
        guard (1...65_536).contains(pipeline), (1...65_536).contains(valueSize) else {
            throw ValidationError("--pipeline and --value-size must be 1 to 65536")
        }
        if let cpu { try pin(to: cpu) }
        var workload = Workload()
        workload.valueBytesMin = valueSize
        workload.valueBytesMax = valueSize
        var rows = [["in process", "ns each, best of 9 passes"]]
        for operation in [Operation.get, .set] {
            workload.mix = [(operation, 1)]
            var writer = RequestWriter(workload, engine: 0, engines: 1)
            var output = OutputBuffer()
            defer {
                writer.deallocate()
                output.deallocate()
            }
            for _ in 0..<pipeline { _ = writer.append(.redis, to: &output) }
            var parser = RESPParser()
            var batch = CommandBatch()
            defer { batch.deallocate() }
            let parse = best {
                batch.reset()
                _ = parser.parse(output.bytes, into: &batch, maxCommands: pipeline)
                return batch.count
            }
            rows.append(["parse \(operation.text)", fixed(parse, 1)])
        }
        var replies = OutputBuffer()
        defer { replies.deallocate() }
        let value = [UInt8](repeating: 118, count: valueSize)
        let bulk = best {
            replies.count = 0
            value.withUnsafeBytes { bytes in
                for _ in 0..<pipeline { replies.bulk(bytes.baseAddress.unsafelyUnwrapped, bytes.count) }
            }
            return replies.count
        }
        var counter = RESPReplyCounter()
        let count = best { counter.count(replies.bytes) ? 1 : 0 }
        rows += [["write bulk reply", fixed(bulk, 1)], ["count bulk reply", fixed(count, 1)]]
        print(table(rows))
    }

    /// Nanoseconds per command of the fastest of nine passes of about 20 ms.
    private func best(_ pass: () -> Int) -> Double {
        var least = Double.infinity
        var sum = 0
        for _ in 0..<9 {
            let repeats = max(1, 500_000 / pipeline)
            let start = monotonicNanos()
            for _ in 0..<repeats { sum &+= pass() }
            least = min(least, Double(monotonicNanos() - start) / Double(repeats * pipeline))
        }
        return sum == 0 ? 0 : least
    }
}
