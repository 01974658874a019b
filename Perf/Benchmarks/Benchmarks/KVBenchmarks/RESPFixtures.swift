// Requests to parse and replies to write. One thread.

import Benchmark
import Glibc
import KVBase
import RESP

/// One receive buffer full of requests, parsed again and again.
final class RequestFixture {
    private static let requests = 100
    private var input = OutputBuffer()
    private var batch = CommandBatch()
    private var parser = RESPParser()

    init(writes: Bool) {
        for number in 0..<RequestFixture.requests {
            let key = "key:\(100_000_000_000 + number)"
            if writes {
                input.request("SET", key, String(repeating: "v", count: 64))
            } else {
                input.request("GET", key)
            }
        }
    }

    deinit {
        input.deallocate()
        batch.deallocate()
        parser.deallocate()
    }

    func parse() {
        for _ in 0..<StoreFixture.operations / RequestFixture.requests {
            batch.reset()
            let status = parser.parse(
                UnsafeRawBufferPointer(input.bytes), into: &batch, maxCommands: RequestFixture.requests)
            precondition(status != .failed && batch.count == RequestFixture.requests)
        }
    }
}

final class ReplyFixture {
    private var output = OutputBuffer(capacity: 1 << 16)
    private let value = [UInt8](repeating: 0x76, count: 64)

    deinit { output.deallocate() }

    func write() {
        value.withUnsafeBytes { bytes in
            for _ in 0..<StoreFixture.operations {
                output.bulk(bytes)
                if output.count > 60_000 { output.count = 0 }
            }
        }
        blackHole(output.count)
    }
}
