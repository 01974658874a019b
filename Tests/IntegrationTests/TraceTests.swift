// Random traces over sockets: one client against a model, several at once on keys of their own and on shared ones.

import Foundation
import KVBase
import KVTestSupport
import KVTestTraits
import Testing

@Suite(.blocking) struct TraceTests {
    @Test(arguments: backends) func severalClientsAtOnceAgreeWithTheirModels(_ backend: String) throws {
        let server = try KVDProcess(backend: backend)
        let failures = Failures()
        let port = server.clientPort
        let threads = (0..<6).map { number in
            let thread = Thread {
                do { try TraceTests.run(seed: number, port: port, failures) } catch {
                    failures.add("client \(number): \(error)")
                }
                failures.finished()
            }
            thread.start()
            return thread
        }
        failures.wait(for: threads.count)
        #expect(failures.all.isEmpty, "\(failures.all)")
    }

    /// Each client has keys of its own, so its model is exact whatever the others do; pipelines of random length.
    private static func run(seed: Int, port: Int, _ failures: Failures) throws {
        var random = PRNG(seed: UInt64(seed))
        var model: [Bytes: Bytes] = [:]
        let client = try Client(port: port)
        for step in 0..<150 {
            var requests: [UInt8] = []
            var expected: [UInt8] = []
            for _ in 0..<(1 + random.below(40)) {
                let key = Bytes("client:\(seed):\(random.below(30))")
                switch random.below(4) {
                case 0:
                    requests += Client.encode(["GET", key])
                    expected +=
                        model[key].map { Array("$\($0.count)\r\n".utf8) + $0.array + [13, 10] } ?? Array("$-1\r\n".utf8)
                case 1:
                    requests += Client.encode(["DEL", key])
                    expected += Array(":\(model.removeValue(forKey: key) == nil ? 0 : 1)\r\n".utf8)
                case 2:
                    let keys = model.keys.sorted()
                    requests += Client.encode(["LIST", Bytes("client:\(seed):")])
                    expected += Array("*\(keys.count * 2)\r\n".utf8)
                    for key in keys {
                        expected +=
                            Array("$\(key.count)\r\n".utf8) + key.array + Array("\r\n$\(model[key]!.count)\r\n".utf8)
                        expected += model[key]!.array + [13, 10]
                    }
                default:
                    let value = Bytes((0..<random.below(200)).map { _ in UInt8(truncatingIfNeeded: random.next()) })
                    model[key] = value
                    requests += Client.encode(["SET", key, value])
                    expected += Array("+OK\r\n".utf8)
                }
            }
            try client.send(requests)
            let got = try client.bytes(expected.count)
            if got != expected { return failures.add("client \(seed), step \(step): replies differ from the model") }
        }
    }
}

/// What threads found wrong. Any thread.
final class Failures: @unchecked Sendable {
    private let condition = NSCondition()
    private var messages: [String] = []
    private var done = 0

    func add(_ message: String) { condition.withLock { messages.append(message) } }

    func finished() {
        condition.withLock {
            done += 1
            condition.broadcast()
        }
    }

    func wait(for count: Int) {
        condition.withLock { while done < count { condition.wait() } }
    }

    var all: [String] { condition.withLock { messages } }
}
