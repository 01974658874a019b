// What may go when: the log of an actor, over a host that does nothing by itself.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

/// Says what it was asked for, in order.
private final class ScriptedHost: LogHost {
    private(set) var said: [String] = []
    var takesWrites = true
    var hasOthers = false
    var now: Nanos = 0
    /// How long a write takes that the log makes itself.
    var nanos: Nanos = 0
    var seen = VersionVector()

    func take() -> [String] {
        defer { said = [] }
        return said
    }

    func append(_ chunk: UnsafeRawBufferPointer, to file: LogFile) -> Nanos? {
        said.append("write \(file.number)")
        return takesWrites ? nanos : nil
    }

    func write(_ pieces: LogPieces, syncing full: [UInt64]?) {
        said.append("pen \(pieces.files)" + (full.map { " syncs \($0)" } ?? ""))
    }

    func make(_ number: UInt64, capacity: Int) { said.append("make \(number)") }
    func sync(_ files: [UInt64]) { said.append("sync \(files)") }
    func release(_ file: UInt64) { said.append("release \(file)") }
    func wait(_ millis: Int64, for alarm: LogAlarm) { said.append("wait for \(alarm)") }
    func save(tells: Bool) { said.append("save") }
    func requestTurn() { said.append("turn") }
    func vector() -> VersionVector { seen }
    func rows() -> [MemberRow]? { [] }
    func giveUp(_ segment: DeltaSegment) { said.append("give up") }
    func refuseWrites(_ refuses: Bool) { said.append(refuses ? "refuse" : "allow") }
    func aim(at chunk: UInt64, through seq: UInt64) { said.append("aim \(chunk) to \(seq)") }
    func letGo(through chunk: UInt64) { said.append("let go \(chunk)") }
    func holdAnswered() { said.append("hold answered") }
    func closeAnswered() { said.append("close answered") }
    func closeHeld() { said.append("close held") }
    func note(_ news: LogNews) {}
}

@Suite(.blocking) struct WriteLogTests {
    /// One actor with a log.
    private final class World {
        let host = ScriptedHost()
        let store = TestLog.store(OriginTable(), server: 9)
        private(set) var log: WriteLog!
        private var written = 0

        init(_ policy: AppendPolicy, fileBytes: Int = 1 << 20, limits: LogLimits = LogLimits()) {
            var limits = limits
            (limits.fileBytesMin, limits.fileBytesMax) = (fileBytes, fileBytes)
            log = WriteLog(store, policy, file: file(1, fileBytes), host: host, limits: limits)
        }

        deinit {
            log = nil
            store.destroy()
        }

        func file(_ number: UInt64, _ capacity: Int = 1 << 20) -> LogFile {
            LogFile(
                DiskHeader(kind: .log, file: number + 40, server: 9, actor: 0, number: number), capacity: capacity)
        }

        /// A write of so many bytes, and the end of its turn.
        func write(_ bytes: Int = 10) -> [String] {
            written += 1
            let value = [UInt8](repeating: 7, count: bytes)
            Array("key \(written)".utf8).withUnsafeBytes { key in
                _ = value.withUnsafeBytes { store.put(store.key(key), value: ByteView($0), now: 1_000) }
            }
            log.turnEnded()
            return host.take()
        }

        var vector: VersionVector {
            var vector = VersionVector()
            vector.set(store.ownOrigin, store.ownSeq)
            return vector
        }
    }

    @Test(arguments: [AppendPolicy.everysec, .no]) func aReplyGoesOnceItsChunkIsInThePageCache(_ policy: AppendPolicy) {
        let world = World(policy)
        #expect(world.write() == ["aim 1 to 1", "write 1", "let go 1"])
        world.log.turnEnded()
        #expect(world.host.take() == [])
    }

    @Test func withAlwaysAReplyWaitsForASyncThatBeganBehindItsChunk() {
        let world = World(.always)
        #expect(world.write() == ["aim 1 to 1", "pen [1] syncs []"])
        #expect(world.write() == ["aim 2 to 2"], "one at a time")
        world.log.wrote(.done, nanos: 0)
        #expect(world.host.take() == ["let go 1", "pen [1] syncs []"])
        world.log.wrote(.done, nanos: 0)
        #expect(world.host.take() == ["let go 2"])
        _ = world.write()
        world.log.wrote(.notSynced, nanos: 0)
        #expect(world.host.take() == ["refuse", "close held", "wait for retry"])
    }

    @Test func aSyncThatFailedIsNotTriedAgainAndASnapshotMustHaveWhatWasLost() {
        let world = World(.everysec)
        _ = world.write()
        world.log.flushDue()
        #expect(world.host.take() == ["sync [1]"])
        world.log.synced(false)
        #expect(world.host.take() == ["refuse", "close answered", "close held", "wait for retry"])
        #expect(!world.log.isWell)
        #expect(world.write() == ["close held"], "what replication writes is in no log")
        world.log.ring(.retry)
        #expect(world.host.take() == ["make 2"])
        world.log.made(world.file(2))
        #expect(world.host.take() == ["save"])
        world.log.turnEnded()
        #expect(world.host.take() == ["aim 2 to 2", "write 2", "let go 2"], "it says that the first file was given up")
        #expect(!world.log.isWell)
        world.log.saved(false)
        #expect(world.host.take() == ["wait for save"])
        world.log.ring(.save)
        world.log.saved(true)
        #expect(world.host.take() == ["save", "allow"])
        #expect(world.log.isWell)
    }

    @Test func whatAPowerCutLeavesIsWhatASyncBeganBehind() {
        let world = World(.everysec)
        let own = world.store.ownOrigin
        _ = world.write()
        world.host.seen = world.vector
        #expect(world.log.durableVector()[own] == 0)
        world.log.flushDue()
        _ = world.write()
        world.host.seen = world.vector
        world.log.synced(true)
        #expect(world.log.durableVector()[own] == 1)
        world.log.flushDue()
        world.log.synced(true)
        #expect(world.log.durableVector()[own] == 2)
        let lax = World(.no)
        _ = lax.write()
        lax.host.seen = lax.vector
        #expect(lax.log.durableVector()[lax.store.ownOrigin] == 1, "what is in the log")
    }

    @Test func whatTheDiskDoesNotTakeIsNotAnswered() {
        let world = World(.everysec)
        world.host.takesWrites = false
        #expect(world.write() == ["aim 1 to 1", "write 1", "refuse", "close answered", "close held", "wait for retry"])
    }

    /// Two files, the first is full.
    private func filled(_ world: World) {
        #expect(world.write(5_000) == ["aim 1 to 1", "write 1", "let go 1", "make 2"])
        world.log.made(world.file(2, 16_384))
        _ = world.write(7_000)
        #expect(world.write(100) == ["aim 3 to 3", "write 2", "let go 3"])
        #expect(world.log.openFiles == [1, 2])
    }

    @Test func aFullFileStaysUntilASnapshotCoversItAndItIsOnTheDisk() {
        let world = World(.everysec, fileBytes: 16_384)
        let before = world.vector
        filled(world)
        #expect(world.log.firstNeeded(beside: before) == 1)
        #expect(world.log.firstNeeded(beside: world.vector) == 2)
        #expect(world.host.take() == [], "no manifest says so yet, and perhaps none ever does")
        world.log.flushDue()
        world.log.synced(true)
        #expect(world.host.take() == ["sync [1, 2]", "release 1", "let go 3"])
        #expect(world.log.openFiles == [2])
    }

    @Test func aFullFileThatIsOnTheDiskGoesWithTheSnapshotThatCoversIt() {
        let world = World(.everysec, fileBytes: 16_384)
        filled(world)
        world.log.flushDue()
        world.log.synced(true)
        _ = world.host.take()
        #expect(world.log.firstNeeded(beside: world.vector) == 2)
        #expect(world.host.take() == ["release 1"])
    }

    /// Beside a snapshot all of the log counts that was written before.
    @Test(arguments: [AppendPolicy.no, .everysec]) func beforeASnapshotCountsTheLogIsOnTheDisk(_ policy: AppendPolicy) {
        let world = World(policy)
        var settled = 0
        world.log.settle { settled += 1 }
        #expect(settled == 1 && world.host.take() == [], "there is nothing")
        _ = world.write()
        world.log.settle { settled += 1 }
        #expect(settled == 1 && world.host.take() == ["sync [1]"])
        _ = world.write()
        world.log.synced(true)
        #expect(settled == 2, "what is written meanwhile is not asked for")
        _ = world.host.take()
        // A sync is under way that does not have all.
        world.log.settle { settled += 1 }
        #expect(world.host.take() == ["sync [1]"])
        _ = world.write()
        world.log.settle { settled += 1 }
        world.log.synced(true)
        #expect(settled == 2)
        world.log.synced(false)
        #expect(settled == 3, "a file that is given up is not waited for")
    }

    @Test func withAlwaysNothingIsLeftToSettle() {
        let world = World(.always)
        _ = world.write()
        world.log.wrote(.done, nanos: 0)
        _ = world.host.take()
        var isSettled = false
        world.log.settle { isSettled = true }
        #expect(isSettled && world.host.take() == [])
    }

    @Test func withoutRoomForTheNextFileWritesAreRefusedUntilThereIs() {
        let world = World(.everysec, fileBytes: 16_384)
        _ = world.write(5_000)
        world.log.made(nil)
        #expect(world.host.take() == ["wait for prepare"])
        #expect(world.write(100).suffix(2) == ["make 2", "refuse"], "less than what is kept free for replication")
        world.log.made(nil)
        world.log.ring(.prepare)
        #expect(world.host.take() == ["wait for prepare", "make 2"])
        world.log.made(world.file(2, 16_384))
        #expect(world.host.take() == ["allow"])
    }

    // MARK: Who writes

    @Test func besideOthersThePenWritesFromTheNextTurnOnOneGoAtATime() {
        let world = World(.everysec)
        world.host.hasOthers = true
        #expect(world.write() == ["aim 1 to 1", "write 1", "let go 1"], "who wrote has its reply")
        #expect(world.log.isHelped)
        #expect(world.write() == ["aim 2 to 2", "pen [1]"])
        #expect(world.write() == ["aim 3 to 3"])
        #expect(world.write() == ["aim 4 to 4"])
        world.log.wrote(.done, nanos: 0)
        #expect(world.host.take() == ["let go 2", "pen [1]"])
        world.log.wrote(.done, nanos: 0)
        #expect(world.host.take() == ["let go 4"], "two turns in one go")
    }

    // MARK: More than a turn may bear

    private static var fewBytes: LogLimits {
        var limits = LogLimits()
        (limits.ownBytesPerTurn, limits.learnedBytesPerTurn) = (10_000, 10_000)
        return limits
    }

    @Test func aLargeValueIsPutInByPiecesAndWhoWritesMeanwhileWaitsForTheNextChunk() {
        let world = World(.everysec, limits: WriteLogTests.fewBytes)
        #expect(world.write(25_000) == ["turn", "hold answered"], "nothing is written yet")
        #expect(world.write(10) == ["turn"], "the second piece")
        world.log.turnEnded()
        #expect(world.host.take() == ["turn", "aim 1 to 1", "pen [1]"])
        #expect(world.log.logged == 1)
        world.log.turnEnded()
        #expect(world.host.take() == ["aim 2 to 2"])
    }

    @Test func ofAValueThatWasBeingPutInNothingIsLeftWhenTheDiskFails() {
        let world = World(.everysec, limits: WriteLogTests.fewBytes)
        _ = world.write()
        world.log.flushDue()
        _ = world.write(25_000)
        world.log.synced(false)
        #expect(!world.log.isWell)
        world.log.turnEnded()
        world.log.ring(.retry)
        world.log.made(world.file(2))
        _ = world.host.take()
        world.log.turnEnded()
        #expect(world.host.take() == ["aim 2 to 2", "pen [2]"], "it says that the first file was given up")
    }

    @Test func atTheEndTheRestOfAValueIsPutIn() {
        let world = World(.everysec, limits: WriteLogTests.fewBytes)
        _ = world.write(45_000)
        world.log.close()
        #expect(world.log.logged == 1)
        #expect(world.host.take().suffix(2) == ["aim 1 to 1", "pen [1]"])
    }

    @Test func aLargeValueOfOthersIsPutInByPiecesToo() {
        let world = World(.everysec, limits: WriteLogTests.fewBytes)
        let other = TestLog(world.store.origins, server: 8)
        other.store.set("large", String(repeating: "v", count: 25_000), now: 1_000)
        world.log.learn(.segment(other.segment(), proves: true))
        #expect(world.write() == ["turn", "hold answered"], "the write is in front of the value")
        #expect(world.write() == ["turn"])
        world.log.turnEnded()
        #expect(world.host.take() == ["give up", "turn", "aim 1 to 1", "pen [1]"])
        world.log.turnEnded()
        #expect(world.host.take() == ["aim 2 to 2"])
    }

    // MARK: The pen

    @Test func aSlowDiskIsThePensUntilItWasQuickOftenEnough() {
        let world = World(.everysec)
        world.host.nanos = LogLimits().slowNanos + 1
        _ = world.write()
        #expect(world.log.isHelped)
        for slow in [true, false] {
            for _ in 1..<LogLimits().quickWritesMin {
                _ = world.write()
                world.log.wrote(.done, nanos: 0)
            }
            #expect(world.log.isHelped)
            _ = world.write()
            world.log.wrote(.done, nanos: slow ? LogLimits().slowNanos + 1 : 0)
            #expect(world.log.isHelped == slow)
        }
        world.host.nanos = 0
        _ = world.host.take()
        #expect(world.write().dropFirst() == ["write 1", "let go 130"])
    }

    @Test func aLargeChunkIsThePensAndAllWhoWereAnsweredWait() {
        var limits = LogLimits()
        limits.chunkBytesMax = 4_096
        let world = World(.everysec, limits: limits)
        #expect(world.write(5_000) == ["hold answered", "aim 1 to 1", "pen [1]"])
        world.log.wrote(.done, nanos: 0)
        #expect(world.host.take() == ["let go 1"])
    }

    @Test func whatThePenGathersIsBounded() {
        var limits = LogLimits()
        limits.gatheredBytesMax = 3_000
        let world = World(.everysec, limits: limits)
        world.host.hasOthers = true
        _ = world.write()
        #expect(world.write(1_000) == ["aim 2 to 2", "pen [1]"])
        #expect(world.write(2_000) == ["aim 3 to 3"])
        #expect(world.write(2_000) == ["aim 4 to 4", "refuse"])
        world.log.wrote(.done, nanos: 0)
        #expect(world.host.take() == ["let go 2", "pen [1]"])
        world.log.wrote(.done, nanos: 0)
        #expect(world.host.take() == ["let go 4", "allow"])
    }

    @Test func whatThePenCouldNotWriteIsNotAnsweredAndTheNextFileWaitsForIt() {
        let world = World(.everysec)
        world.host.hasOthers = true
        _ = world.write()
        _ = world.write()
        world.log.flushDue()
        #expect(world.host.take() == ["sync [1]"])
        world.log.synced(false)
        #expect(world.host.take() == ["refuse", "close held", "wait for retry"], "who wrote is held")
        world.log.ring(.retry)
        #expect(world.host.take() == ["wait for retry"], "the pen is in the middle of the old file")
        world.log.wrote(.notWritten, nanos: 0)
        #expect(world.host.take() == [])
        world.log.ring(.retry)
        #expect(world.host.take() == ["make 2"])
        world.log.made(world.file(2))
        world.log.turnEnded()
        #expect(world.host.take() == ["save", "aim 3 to 2", "pen [2]"])
    }

    @Test func withEverysecNothingMoreIsAnsweredUntilASyncThatTakesLongHasAllThatWas() {
        let world = World(.everysec)
        _ = world.write()
        world.log.flushDue()
        #expect(world.host.take() == ["sync [1]"])
        world.host.now = 1_000_000_000
        #expect(world.write() == ["aim 2 to 2", "write 1", "let go 2"], "a second of answers is borne")
        world.host.now += 1
        #expect(world.write() == ["hold answered", "aim 3 to 3", "pen [1]"])
        world.log.wrote(.done, nanos: 0)
        #expect(world.host.take() == ["let go 0"])
        world.log.flushDue()
        #expect(world.host.take() == [], "one sync at a time")
        world.log.synced(true)
        #expect(world.host.take() == ["let go 1", "sync [1]"], "the second write was answered, and is on no disk yet")
        _ = world.write()
        world.log.wrote(.done, nanos: 0)
        _ = world.host.take()
        world.log.synced(true)
        #expect(world.host.take() == ["let go 4"])
        world.host.now += 1_000_000_000
        #expect(world.write() == ["aim 5 to 5", "pen [1]"])
        world.log.wrote(.done, nanos: 0)
        #expect(world.host.take() == ["let go 5"], "the fourth was answered just now")
        for _ in 0..<LogLimits().quickWritesMin {
            _ = world.write()
            world.log.wrote(.done, nanos: 0)
        }
        _ = world.host.take()
        #expect(world.write().contains("write 1"), "the loop writes again by itself")
    }

    @Test func aLogWhoseSyncIsLateSyncsBeforeItAnswersMore() {
        let world = World(.everysec)
        _ = world.write()
        world.host.now = 3_000_000_000
        #expect(world.write() == ["sync [1]", "hold answered", "aim 2 to 2", "pen [1]"], "the loop had no processor")
        world.log.wrote(.done, nanos: 0)
        world.log.synced(true)
        #expect(world.host.take() == ["let go 0", "let go 2"])
    }

    @Test func aSlowSyncThatFailsLeavesNobodyWaiting() {
        let world = World(.everysec)
        _ = world.write()
        world.log.flushDue()
        world.host.now = 2_000_000_000
        _ = world.write()
        _ = world.host.take()
        world.log.synced(false)
        #expect(world.host.take() == ["refuse", "close held", "wait for retry"])
        world.log.wrote(.done, nanos: 0)
        world.log.ring(.retry)
        world.log.made(world.file(2))
        world.log.saved(true)
        _ = world.host.take()
        _ = world.write()
        world.log.wrote(.done, nanos: 0)
        #expect(world.host.take().last?.hasPrefix("let go") == true)
    }

    @Test func aSyncClaimsNothingThatThePenIsAbout() {
        let world = World(.everysec, fileBytes: 16_384)
        world.host.hasOthers = true
        let own = world.store.ownOrigin
        _ = world.write(5_000)
        world.log.made(world.file(2, 16_384))
        #expect(world.write(7_000) == ["aim 2 to 2", "pen [1]"])
        world.host.seen = world.vector
        #expect(world.log.durableVector()[own] == 0)
        #expect(world.write(100) == ["aim 3 to 3"], "in the next file")
        world.log.flushDue()
        world.log.synced(true)
        #expect(world.host.take() == ["sync [1, 2]", "let go 1"])
        #expect(world.log.synced == 1)
        #expect(world.log.openFiles == [1, 2], "the end of the first is not written")
        #expect(world.log.durableVector()[own] == 0)
        world.log.wrote(.done, nanos: 0)
        world.log.flushDue()
        world.log.synced(true)
        #expect(world.host.take() == ["let go 2", "pen [2]", "sync [1, 2]", "let go 2"])
        #expect(world.log.openFiles == [2])
        #expect(world.log.durableVector()[own] == 2)
    }
}
