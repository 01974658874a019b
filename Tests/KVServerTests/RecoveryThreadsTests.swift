// Threads that merge while a directory is read.

import Glibc
import KVRuntime
import KVTestTraits
import Testing

@testable import KVServer

@Suite(.blocking) struct RecoveryThreadsTests {
    @Test func onOneProcessorThereAreNone() {
        #expect(RecoveryThreads(stores: 4, processors: 1) == nil)
        for (stores, processors, lanes) in [(1, 8, 1), (4, 2, 2), (4, 3, 3), (2, 64, 2)] {
            let threads = RecoveryThreads(stores: stores, processors: processors)
            #expect(threads?.lanes == lanes)
            threads?.finish()
        }
    }

    @Test func eachLaneGoesInOrderAndTheLastOneEndsAGo() throws {
        let threads = try #require(RecoveryThreads(stores: 3, processors: 4))
        defer { threads.finish() }
        let done = Locked<[[Int]]>([[], [], []])
        let ended = Locked<[Int]>([])
        for go in 0..<500 {
            threads.perform {
                lane in
                done.withLock { $0[lane].append(go) }
            } last: {
                let counts = done.withLock { $0.map(\.count) }
                ended.withLock { $0.append(counts.allSatisfy { $0 > go } ? go : -1) }
            }
            // No more are under way than may be.
            #expect(ended.withLock { $0.count } >= go + 1 - threads.goesMax)
        }
        threads.settle()
        #expect(done.withLock { $0 } == [[Int]](repeating: Array(0..<500), count: 3))
        #expect(ended.withLock { $0 } == Array(0..<500))
    }
}
