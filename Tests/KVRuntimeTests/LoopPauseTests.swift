// Loops that stand still.

import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

@Suite(.blocking) struct LoopPauseTests {
    /// Touched by its loop and, while that stands still, by the test: ThreadSanitizer would tell.
    private final class Plain: @unchecked Sendable {
        var turns = 0
        var isTold = false
    }

    @Test(arguments: backends) func whatIsDoneMeanwhileIsSeenAndWhatIsToldComesAfterwards(_ backend: LoopBackend) throws
    {
        let loops = try (0..<3).map { try Loop(backend: backend, index: $0) }
        let threads = loops.map { LoopThread(loop: $0) }
        let plain = loops.map { _ in Plain() }
        for (loop, plain) in zip(loops, plain) { loop.schedule(everyMillis: 1) { plain.turns += 1 } }
        for thread in threads { thread.start() }
        for _ in 0..<20 {
            let pause = LoopPause(loops)
            for (loop, plain) in zip(loops, plain) {
                plain.turns += 1000
                plain.isTold = false
                loop.onTurnEnd { plain.turns += 0 }
                #expect(loop.perform { plain.isTold = true })
            }
            let turns = plain.map(\.turns)
            #expect(plain.allSatisfy { !$0.isTold })
            #expect(plain.map(\.turns) == turns)
            pause.end()
            let next = LoopPause(loops)
            #expect(plain.allSatisfy { $0.isTold })
            next.end()
        }
        for thread in threads { try thread.stopAndJoin() }
        #expect(plain.allSatisfy { $0.turns >= 20_000 })
    }

    @Test func aLoopThatHasEndedIsNotWaitedFor() throws {
        let loop = try Loop(choice: .auto)
        let thread = LoopThread(loop: loop)
        thread.start()
        try thread.stopAndJoin()
        LoopPause([loop]).end()
        // One that drops what it was told.
        let unstarted = try Loop(choice: .auto)
        let dropping = LoopThread(loop: unstarted)
        unstarted.stop()
        dropping.start()
        LoopPause([unstarted]).end()
        try dropping.join()
    }
}
