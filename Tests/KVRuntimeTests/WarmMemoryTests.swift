// Memory made ready beside a loop's thread: it is, it keeps its content, and an idle thread gives it back.

import CMemory
import CSupport
import Glibc
import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

/// Runs `body` on a thread whose memory is warmed. Nil where there is nothing to warm: builds without jemalloc.
private func onWarmedThread<R: Sendable>(_ body: @escaping @Sendable () -> R) throws -> R? {
    let loop = try Loop(choice: .auto)
    let thread = LoopThread(loop: loop, warmsMemory: true)
    let result = Locked<R?>(nil)
    let done = Locked(false)
    thread.start()
    loop.perform {
        // Once more changes nothing, and tells.
        if cm_warm_this_thread(-1) == 1 {
            let value = body()
            result.withLock { $0 = value }
        }
        done.withLock { $0 = true }
    }
    let deadline = cs_monotonic_nanos() + 60_000_000_000
    // Polls until the deadline.
    while !done.withLock({ $0 }), cs_monotonic_nanos() < deadline { usleep(1000) }
    try thread.stopAndJoin()
    #expect(done.withLock { $0 })
    return result.withLock { $0 }
}

/// Tends as a loop does until the condition holds; false after ten seconds.
private func tended(until condition: (cm_warmth) -> Bool) -> Bool {
    let deadline = cs_monotonic_nanos() + 10_000_000_000
    repeat {
        cm_tend()
        if condition(cm_read_warmth()) { return true }
        usleep(2000)  // between two polls
    } while cs_monotonic_nanos() < deadline
    return false
}

private final class Blocks: @unchecked Sendable {
    var blocks: [(UnsafeMutablePointer<UInt64>, words: Int)] = []

    /// Blocks of `bytes` each, filled with what `isIntact` looks for.
    func add(_ count: Int, bytes: Int) {
        for _ in 0..<count {
            let words = bytes / 8
            let block = UnsafeMutablePointer<UInt64>.allocate(capacity: words)
            for i in 0..<words { block[i] = UInt64(blocks.count &* 1_000_003 &+ i) }
            blocks.append((block, words))
        }
    }

    func isIntact(_ index: Int) -> Bool {
        let (block, words) = blocks[index]
        return (0..<words).allSatisfy { block[$0] == UInt64(index &* 1_000_003 &+ $0) }
    }

    func free() { for (block, _) in blocks { block.deallocate() } }
}

/// How many of the blocks are resident, by their first bytes.
private func residentShare(_ blocks: [UnsafeMutableRawPointer], _ bytes: Int) -> Double {
    let resident = blocks.filter { block in
        var state: UInt8 = 0
        mincore(UnsafeMutableRawPointer(bitPattern: UInt(bitPattern: block) & ~4095)!, 1, &state)
        return state & 1 == 1
    }
    return Double(resident.count) / Double(blocks.count)
}

@Suite(.blocking, .serialized) struct WarmMemoryTests {
    /// In a process of its own: elsewhere the arena is full of what other tests have freed, which is used first.
    @Test func growingFindsMostPagesReadyAndAnIdleThreadGivesThemBack() async {
        await #expect(processExitsWith: .success) {
            let figures = try onWarmedThread { () -> (cm_warmth, Bool, Bool, Bool) in
                let blocks = Blocks()
                cm_tend()
                var isAhead = true
                for _ in 0..<400 where cm_read_warmth().ready < 10 {
                    blocks.add(10_000, bytes: 96)
                    isAhead = tended { $0.warm >= 2 || $0.wanted <= 1 } && isAhead
                }
                let grown = cm_read_warmth()
                let isIdle = tended { $0.wanted == 1 && $0.warm == 1 }
                let intact = blocks.blocks.indices.allSatisfy(blocks.isIntact)
                blocks.free()
                return (grown, isAhead, isIdle, intact)
            }
            guard let (grown, isAhead, isIdle, intact) = figures else { return }
            #expect(isAhead)
            #expect(grown.ready >= 10, "\(grown)")
            #expect(grown.unready <= grown.ready, "\(grown)")
            #expect(isIdle)
            #expect(intact)
        }
    }

    /// In a process of its own, as above.
    @Test func manyFreedPiecesAreGivenBackFewStayAndBothAreZeroWhenUsedAgain() async {
        await #expect(processExitsWith: .success) {
            let shares = try onWarmedThread { () -> (sparse: Double, dense: Double, areZero: Bool) in
                let (count, bytes) = (6000, 12 * 1024)
                let blocks = (0..<count).map { _ -> UnsafeMutableRawPointer in
                    let block = malloc(bytes)!
                    memset(block, 0xFF, bytes)
                    return block
                }
                // Every second one of the first half, one of 64 in the second.
                let many = (0..<count / 2).filter { $0 % 2 == 0 }.map { blocks[$0] }
                let few = (count / 2..<count).filter { $0 % 64 == 0 }.map { blocks[$0] }
                for block in many + few { free(block) }
                cm_purge()
                let result = (residentShare(many, bytes), residentShare(few, bytes))
                var areZero = true
                for _ in 0..<count {
                    let words = calloc(1, bytes)!.assumingMemoryBound(to: UInt64.self)
                    areZero = (0..<bytes / 8).allSatisfy { words[$0] == 0 } && areZero
                }
                let isKept = { (block: UnsafeMutableRawPointer) in block.load(as: UInt64.self) == .max }
                let kept = (0..<count / 2).filter { $0 % 2 == 1 }.map { blocks[$0] }
                return (result.0, result.1, areZero && kept.allSatisfy(isKept))
            }
            guard let shares else { return }
            // The first and last pages, and what the thread's cache holds, are exceptions.
            #expect(shares.sparse < 0.2, "\(shares)")
            #expect(shares.dense > 0.5, "\(shares)")
            #expect(shares.areZero)
        }
    }

    /// In a process of its own, as above. Ticks are calls of `cm_tend`: a second is ten of them, however long
    /// they take.
    @Test func aGrowingThreadKeepsWhatItFreesAndGivesItBackStepByStepLater() async {
        await #expect(processExitsWith: .success) {
            let figures = try onWarmedThread { () -> (told: Bool, kept: Double, left: Double, steps: Int) in
                let (count, bytes) = (2000, 32 * 1024)
                func block(_ bytes: Int) -> UnsafeMutableRawPointer {
                    let block = malloc(bytes)!
                    memset(block, 0xFF, bytes)
                    return block
                }
                cm_tend()
                let all = (0..<count).map { _ in block(bytes) }
                var isTold = cm_tend() != 0
                // Every second one, so that what it takes next does not fit in.
                let blocks = (0..<count / 2).map { all[2 * $0] }
                for block in blocks { free(block) }
                // It goes on growing, three times as long as what a quiet thread frees is kept.
                let start = cs_monotonic_nanos()
                var fresh: [UnsafeMutableRawPointer] = []
                while cs_monotonic_nanos() - start < 3_000_000_000 {
                    usleep(20_000)  // between two polls
                    // 3 MiB, twice as much as makes it a growing one.
                    for _ in 0..<24 { fresh.append(block(4 * bytes)) }
                    isTold = isTold || cm_tend() != 0
                }
                let kept = residentShare(blocks, bytes)
                for block in fresh { free(block) }
                // As a loop does, until it has been quiet for long enough and has given most back: in its steps, and
                // what they had no time for in the ticks after them. khugepaged may make pages whole again meanwhile.
                let deadline = cs_monotonic_nanos() + 30_000_000_000
                var (steps, polls, isGivingBack, left) = (0, 0, false, 1.0)
                while steps == 0 || isGivingBack || left > 0.3, cs_monotonic_nanos() < deadline {
                    usleep(10_000)  // between two polls
                    if isGivingBack {
                        isGivingBack = cm_step() != 0
                        steps += 1
                    }
                    polls += 1
                    guard polls % 10 == 0 else { continue }
                    isGivingBack = cm_tend() != 0
                    if steps > 0 { left = min(left, residentShare(blocks, bytes)) }
                }
                return (isTold, kept, left, steps)
            }
            guard let figures else { return }
            #expect(!figures.told)
            #expect(figures.kept > 0.9, "\(figures)")
            #expect(figures.left < 0.5, "\(figures)")
            #expect(figures.steps > 400, "\(figures)")
        }
    }

    /// A few pages in all, and then nothing fresh: what a thread takes and gives in turn is busy, not growing.
    @Test func whoReusesWhatItFreedIsNotToldToStep() throws {
        let isToldToStep = try onWarmedThread { () -> Bool in
            cm_tend()
            var told: [Bool] = []
            for _ in 0..<20 {
                let block = malloc(5 << 20)!
                memset(block, 0xFF, 5 << 20)
                free(block)
                told.append(cm_tend() != 0)
            }
            return told.contains(true)
        }
        #expect(isToldToStep != true)
    }

    @Test func contentSurvivesGivingBackAndTakingAgain() throws {
        let intact = try onWarmedThread { () -> Bool in
            var generator = PRNG(seed: 7)
            var kept: [Blocks] = []
            var isIntact = true
            for round in 0..<30 {
                let blocks = Blocks()
                for _ in 0..<20 { blocks.add(1, bytes: 64 << Int(generator.next() % 16)) }
                blocks.add(1, bytes: 5 << 20)
                kept.append(blocks)
                // Freed memory goes back within a second by jemalloc's clock; now is harder.
                if round % 3 == 2 {
                    let old = kept.remove(at: Int(generator.next() % UInt64(kept.count)))
                    isIntact = old.blocks.indices.allSatisfy(old.isIntact) && isIntact
                    old.free()
                    cm_purge()
                }
                cm_tend()
                if round % 10 == 9 { isIntact = tended { $0.wanted == 1 && $0.warm == 1 } && isIntact }
                let zeroed = calloc(1, 3 << 20)!
                let words = zeroed.assumingMemoryBound(to: UInt64.self)
                isIntact = (0..<(3 << 17)).allSatisfy { words[$0] == 0 } && isIntact
                memset(zeroed, 0xFF, 3 << 20)
                free(zeroed)
            }
            for blocks in kept {
                isIntact = blocks.blocks.indices.allSatisfy(blocks.isIntact) && isIntact
                blocks.free()
            }
            return isIntact
        }
        #expect(intact ?? true)
    }

    @Test func aLargeBlockFilledFromItsBeginningKeepsItsContent() throws {
        let intact = try onWarmedThread { () -> Bool in
            let words = 64 << 17
            let block = UnsafeMutablePointer<UInt64>.allocate(capacity: words)
            defer { block.deallocate() }
            for i in 0..<words {
                if i % 8192 == 0 { Loop.willFill(block + i, (words - i) * 8) }
                block[i] = UInt64(i) &* 0x9E37_79B9_7F4A_7C15
            }
            // Beside the block, and in memory of other threads: ignored.
            Loop.willFill(block, 0)
            withUnsafeBytes(of: words) { Loop.willFill($0.baseAddress!, 1 << 30) }
            return (0..<words).allSatisfy { block[$0] == UInt64($0) &* 0x9E37_79B9_7F4A_7C15 }
        }
        #expect(intact ?? true)
    }

    @Test func threadsThatComeAndGoTakeOverFromEachOther() throws {
        for _ in 0..<20 {
            let intact = try onWarmedThread { () -> Bool in
                let blocks = Blocks()
                blocks.add(100, bytes: 32 * 1024)
                defer { blocks.free() }
                return blocks.blocks.indices.allSatisfy(blocks.isIntact)
            }
            #expect(intact ?? true)
        }
    }
}
