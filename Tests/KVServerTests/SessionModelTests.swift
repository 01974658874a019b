// A session against a model of the store: random commands, cut anywhere.

import FuzzSupport
import KVBase
import KVTestSupport
import KVCore
import KVTestTraits
import RESP
import Testing

@testable import KVServer

@Suite(.blocking) struct SessionModelTests {
    private func request(_ arguments: [Bytes]) -> [UInt8] {
        var bytes = OutputBuffer()
        defer { bytes.deallocate() }
        bytes.request(arguments)
        return Array(bytes.bytes)
    }

    @Test(arguments: 0..<8) func randomTracesAgreeWithAModel(_ seed: Int) {
        var random = PRNG(seed: UInt64(seed))
        let session = LocalSession(seed: UInt64(seed) + 1)
        defer { session.close() }
        var model = StoreModel()
        var input: [UInt8] = []
        var expected: [UInt8] = []
        for step in 0..<600 {
            session.now += Millis(random.below(3))
            let arguments = model.randomCommand(&random)
            input += request(arguments)
            expected += model.reply(to: arguments)
            // Sometimes a single command, sometimes a pipeline, cut anywhere.
            if random.chance(0.4) || step == 599 {
                var replies: [UInt8] = []
                while !input.isEmpty {
                    let n = min(input.count, 1 + random.below(200))
                    replies += session.reply(to: Array(input.prefix(n)))
                    input.removeFirst(n)
                }
                #expect(replies == expected, "seed \(seed), step \(step)")
                if replies != expected { return }
                expected = []
            }
        }
        #expect(session.shard.state.pointee.store.count == model.pairs.count)
    }
}
