// How long a snapshot is held for a client that fetches it.

import Foundation
import KVBase
import KVCore
import KVRuntime
import KVTestTraits
import Logging
import Testing

@testable import KVServer

@Suite(.blocking) struct BackupsTests {
    /// A directory with a snapshot's file of so many bytes, and nobody who makes another.
    private final class World: @unchecked Sendable {
        let path = NSTemporaryDirectory() + "kvd-backups-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
        let persistence: Persistence
        var backups: Backups { persistence.backups }
        private let number = Locked<UInt64>(0)
        /// What is asked for together is made once.
        let makesAnother = Locked(true)

        init() throws {
            let directory = try DataDirectory.open(path, cluster: "test")
            let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            persistence = Persistence(
                directory, DiskSettings(), server: 7, actors: 1,
                manifest: Manifest(cluster: "test", name: "one", isNamed: true), recovered: nil, log: log)
            persistence.saves { [unowned self] _, done in done?(make()) }
        }

        deinit {
            backups.finish()
            try? FileManager.default.removeItem(atPath: path)
        }

        private func make() -> Bool {
            guard makesAnother.withLock({ $0 }) else { return true }
            let number = number.withLock { number in
                number += 1
                return number
            }
            let bytes = Data(repeating: UInt8(number), count: 10)
            guard
                FileManager.default.createFile(atPath: path + "/" + DataDirectory.snapshotName(number), contents: bytes)
            else { return false }
            let snapshot = Manifest.Snapshot(number: number, bytes: 10, at: 0)
            return (try? persistence.change { $0.snapshot = snapshot }) != nil
        }

        /// The number of one that is held from now on.
        func begin(_ reader: BackupReader) -> UInt64? { wait { backups.begin(persistence, for: reader, $0) }?.number }

        func read(_ number: UInt64, _ reader: BackupReader) -> [UInt8]? {
            wait { backups.read(number, at: 0, for: reader, $0) }
        }

        private func wait<T: Sendable>(_ body: (@escaping @Sendable (T?) -> Void) -> Void) -> T? {
            let done = DispatchSemaphore(value: 0)
            let answer = Locked<T?>(nil)
            body { value in
                answer.withLock { $0 = value }
                done.signal()
            }
            done.wait()
            return answer.withLock { $0 }
        }
    }

    @Test func oneThatNobodyReadsIsHeldForAMinute() throws {
        let world = try World()
        let reader = BackupReader(world.backups)
        let number = try #require(world.begin(reader))
        let now = Machine.monotonicNanos
        world.backups.look(now: now + Backups.idleNanosMax / 2)
        #expect(world.read(number, reader) == [UInt8](repeating: 1, count: 10))
        #expect(world.backups.heldCount == 1)
        world.backups.look(now: Machine.monotonicNanos + Backups.idleNanosMax + 1)
        #expect(world.read(number, reader) == nil)
        #expect(world.backups.heldCount == 0)
    }

    @Test func whoIsGoneHoldsNothingUnlessAnotherReadsOn() throws {
        let world = try World()
        let (first, second, third) = (
            BackupReader(world.backups), BackupReader(world.backups), BackupReader(world.backups)
        )
        let kept = try #require(world.begin(first))
        let left = try #require(world.begin(first))
        #expect(world.read(kept, second) != nil)
        first.close()
        #expect(world.read(left, third) == nil)
        #expect(world.read(kept, second) != nil && world.backups.heldCount == 1)
        second.close()
        #expect(world.read(kept, third) == nil && world.backups.heldCount == 0)
    }

    /// Two who ask while a snapshot is being made get the same one: the faster one's end is not the other's.
    @Test func whoIsDoneLeavesTheSameSnapshotToAnother() throws {
        let world = try World()
        let (first, second) = (BackupReader(world.backups), BackupReader(world.backups))
        for ends in [true, false] {
            world.makesAnother.withLock { $0 = true }
            let number = try #require(world.begin(first))
            world.makesAnother.withLock { $0 = false }
            #expect(world.begin(second) == number)
            #expect(world.read(number, second) != nil && world.read(number, first) != nil)
            if ends { world.backups.end(number, for: first) } else { first.close() }
            #expect(world.read(number, second) != nil && world.backups.heldCount == 1)
            world.backups.end(number, for: second)
            #expect(world.read(number, second) == nil && world.backups.heldCount == 0)
        }
    }

    /// From a connection that reads nothing of it, as an operator's.
    @Test func anybodyElseMayEndIt() throws {
        let world = try World()
        let number = try #require(world.begin(BackupReader(world.backups)))
        world.backups.end(number, for: BackupReader(world.backups))
        #expect(world.read(number, BackupReader(world.backups)) == nil && world.backups.heldCount == 0)
    }

    @Test func nothingIsHeldForWhoIsGoneBeforeItIsMade() throws {
        let world = try World()
        let reader = BackupReader(world.backups)
        reader.close()
        #expect(world.begin(reader) == nil)
        #expect(world.backups.heldCount == 0)
    }

    @Test func theFifthTakesThePlaceOfTheOneUsedLongestAgo() throws {
        let world = try World()
        let reader = BackupReader(world.backups)
        let numbers = (0..<4).compactMap { _ in world.begin(reader) }
        #expect(numbers == [1, 2, 3, 4] && world.read(1, reader) != nil)
        #expect(world.begin(reader) == 5)
        #expect(numbers.map { world.read($0, reader) != nil } == [true, false, true, true])
        #expect(world.backups.heldCount == 4)
    }
}
