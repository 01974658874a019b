// Snapshots that clients fetch in pieces. They stay until they are fetched, also when newer ones take their place. Any
// thread; a thread of its own reads.

import Glibc
import KVBase
import KVCore
import KVRuntime
import Synchronization

final class Backups: Sendable {
    /// Held at a time; the one that was used longest ago gives way.
    private static let heldMax = 4
    /// Of one that nobody fetches any more.
    static let idleNanosMax: Nanos = 60_000_000_000
    /// Between two looks for such.
    static let lookMillis: Int64 = 5_000
    static let pieceBytes = 1024 * 1024

    struct Begun: Sendable {
        var number: UInt64
        var bytes: Int
    }

    private struct Held {
        var number: UInt64
        var descriptor: Int32
        var usedNanos: Nanos
        /// Who asked for something of it and is still there: several, if it was made for several.
        var readers: [BackupReader]

        func isRead(by reader: BackupReader) -> Bool { readers.contains { $0 === reader } }

        mutating func note(_ reader: BackupReader) {
            usedNanos = Machine.monotonicNanos
            if !isRead(by: reader) { readers.append(reader) }
        }
    }

    /// Its thread's.
    private final class Shelf: @unchecked Sendable { var held: [Held] = [] }

    private let shelf = Shelf()
    private let thread = DiskThread()
    private let heldNow = Atomic<Int>(0)

    /// How many are held.
    var heldCount: Int { heldNow.load(ordering: .relaxed) }

    /// Has a snapshot made that begins after now, and holds it. `done` on any thread; nil if there is none.
    func begin(_ persistence: Persistence, for reader: BackupReader, _ done: @escaping @Sendable (Begun?) -> Void) {
        persistence.save(isFresh: true) { [self] isSaved in
            guard isSaved else { return done(nil) }
            if !thread.perform({ [self] in done(hold(persistence, for: reader)) }) { done(nil) }
        }
    }

    private func hold(_ persistence: Persistence, for reader: BackupReader) -> Begun? {
        // It may have gone while the snapshot was made.
        guard !reader.isGone, let snapshot = persistence.manifestNow.snapshot else { return nil }
        let begun = Begun(number: snapshot.number, bytes: Int(snapshot.bytes))
        let now = Machine.monotonicNanos
        release { now - $0.usedNanos > Backups.idleNanosMax }
        if let place = shelf.held.firstIndex(where: { $0.number == snapshot.number }) {
            shelf.held[place].note(reader)
            return begun
        }
        let name = DataDirectory.snapshotName(snapshot.number)
        let descriptor = openat(persistence.directory.descriptor, name, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        if shelf.held.count == Backups.heldMax, let oldest = shelf.held.min(by: { $0.usedNanos < $1.usedNanos }) {
            release { $0.number == oldest.number }
        }
        shelf.held.append(
            Held(number: snapshot.number, descriptor: descriptor, usedNanos: now, readers: [reader]))
        heldNow.store(shelf.held.count, ordering: .relaxed)
        return begun
    }

    private func release(_ isGoing: (Held) -> Bool) {
        for held in shelf.held where isGoing(held) { close(held.descriptor) }
        shelf.held.removeAll(where: isGoing)
        heldNow.store(shelf.held.count, ordering: .relaxed)
    }

    /// A piece of one that is held, empty behind its end; nil if it is not held, or the disk does not give it.
    func read(
        _ number: UInt64, at offset: Int, for reader: BackupReader, _ done: @escaping @Sendable ([UInt8]?) -> Void
    ) {
        if !thread.perform({ [self] in done(piece(number, offset, for: reader)) }) { done(nil) }
    }

    private func piece(_ number: UInt64, _ offset: Int, for reader: BackupReader) -> [UInt8]? {
        guard let place = shelf.held.firstIndex(where: { $0.number == number }) else { return nil }
        shelf.held[place].note(reader)
        let descriptor = shelf.held[place].descriptor
        var failed = false
        let bytes = [UInt8](unsafeUninitializedCapacity: Backups.pieceBytes) { buffer, count in
            while count < buffer.count {
                let n = pread(descriptor, buffer.baseAddress! + count, buffer.count - count, off_t(offset + count))
                if n < 0, errno == EINTR { continue }
                failed = n < 0
                if n <= 0 { return }
                count += n
            }
        }
        return failed ? nil : bytes
    }

    /// Something else that waits for the disk, behind what is under way. False, and nothing done, if too much is.
    @discardableResult
    func perform(_ job: @escaping @Sendable () -> Void) -> Bool { thread.perform(job) }

    /// The reader wants no more of it. For somebody who has read nothing of it, it ends for all.
    func end(_ number: UInt64, for reader: BackupReader) {
        thread.perform { [self] in
            let isRead = shelf.held.contains { $0.number == number && $0.isRead(by: reader) }
            if isRead { leave(reader, number) } else { release { $0.number == number } }
        }
    }

    /// The reader's connection is gone: nobody fetches the rest.
    fileprivate func end(of reader: BackupReader) {
        thread.perform { [self] in for held in shelf.held { leave(reader, held.number) } }
    }

    private func leave(_ reader: BackupReader, _ number: UInt64) {
        for place in shelf.held.indices where shelf.held[place].number == number {
            shelf.held[place].readers.removeAll { $0 === reader }
        }
        release { $0.readers.isEmpty }
    }

    /// Ends those that were not used for too long. To be called every `lookMillis`.
    func look(now: Nanos = Machine.monotonicNanos) {
        if heldCount > 0 { thread.perform { [self] in release { now - $0.usedNanos > Backups.idleNanosMax } } }
    }

    /// When the loops have ended; waits.
    func finish() {
        thread.perform { [self] in release { _ in true } }
        thread.finish()
    }
}

/// A client's connection that fetches backups. Made and closed on its loop's thread.
final class BackupReader: Sendable {
    private let backups: Backups
    private let gone = Atomic<Bool>(false)

    init(_ backups: Backups) { self.backups = backups }

    /// Acquiring, with `close`: what is held for one that is not gone yet, that one ends behind it on the same thread.
    var isGone: Bool { gone.load(ordering: .acquiring) }

    /// What it has not fetched is not held any more.
    func close() {
        gone.store(true, ordering: .releasing)
        backups.end(of: self)
    }
}
