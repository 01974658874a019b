// What may go when: the log of an actor, over a host that does nothing by itself.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

/// Says what it was asked for, in order.
private final class ScriptedHost: LogHost {
    private(set) var said: [String] = []
    var takesWrites = true
    var seen = VersionVector()

    func take() -> [String] {
        defer { said = [] }
        return said
    }

    func append(_ chunk: UnsafeRawBufferPointer, to file: LogFile) -> Bool {
        said.append("write \(file.number)")
        return takesWrites
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
    func aim(at chunk: UInt64) { said.append("aim \(chunk)") }
    func letGo(through chunk: UInt64) { said.append("let go \(chunk)") }
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

        init(_ policy: AppendPolicy, fileBytes: Int = 1 << 20) {
            var limits = LogLimits()
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
        #expect(world.write() == ["write 1", "aim 1", "let go 1"])
        world.log.turnEnded()
        #expect(world.host.take() == [])
    }

    @Test func withAlwaysAReplyWaitsForASyncThatBeganBehindItsChunk() {
        let world = World(.always)
        #expect(world.write() == ["write 1", "aim 1", "sync [1]"])
        #expect(world.write() == ["write 1", "aim 2"], "one sync at a time")
        world.log.synced(true)
        #expect(world.host.take() == ["let go 1", "sync [1]"])
        world.log.synced(true)
        #expect(world.host.take() == ["let go 2"])
    }

    @Test func aSyncThatFailedIsNotTriedAgainAndASnapshotMustHaveWhatWasLost() {
        let world = World(.everysec)
        _ = world.write()
        world.log.flushSecond()
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
        #expect(world.host.take() == ["write 2", "aim 2", "let go 2"], "it says that the first file was given up")
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
        world.log.flushSecond()
        _ = world.write()
        world.host.seen = world.vector
        world.log.synced(true)
        #expect(world.log.durableVector()[own] == 1)
        world.log.flushSecond()
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
        #expect(world.write() == ["write 1", "refuse", "close answered", "close held", "wait for retry"])
    }

    @Test func aFullFileStaysUntilASnapshotCoversIt() {
        let world = World(.everysec, fileBytes: 16_384)
        let before = world.vector
        #expect(world.write(5_000) == ["write 1", "aim 1", "let go 1", "make 2"])
        world.log.made(world.file(2, 16_384))
        _ = world.write(7_000)
        #expect(world.write(100) == ["write 2", "aim 3", "let go 3"])
        #expect(world.log.openFiles == [1, 2])
        #expect(world.log.firstNeeded(beside: before) == 1)
        #expect(world.host.take() == [])
        #expect(world.log.firstNeeded(beside: world.vector) == 2)
        #expect(world.host.take() == ["release 1"])
        #expect(world.log.openFiles == [2])
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
}
