// What the log of an actor asks of who owns it: the server's files and loop, or simulated ones. Its actor's thread.

package import KVBase

/// When a write that was answered is on the disk, whatever happens to the machine. In the log it is at once.
package enum AppendPolicy: String, Sendable, CaseIterable {
    /// Before it is answered.
    case always
    /// Within a second. If a sync takes longer, no more is answered until the disk has what was.
    case everysec
    /// When the kernel likes.
    case no
}

package struct LogLimits: Sendable {
    /// Files begin small, as most servers never hold much, and each is four times as large as the one before.
    package var fileBytesMin = 4 * 1024 * 1024
    package var fileBytesMax = 64 * 1024 * 1024
    /// With less room than this and no next file writes are refused: what is under way still fits.
    package var roomBytesMin = 512 * 1024
    /// What other servers sent is logged in pieces of so many bytes, and so many in a turn, unless more than
    /// `learnedBytesMax` waits.
    package var learnedPieceBytes = 32 * 1024
    package var learnedBytesPerTurn = 128 * 1024
    package var learnedBytesMax = 64 * 1024 * 1024
    package var retryMillis: Int64 = 1000
    /// Between two syncs with `everysec`.
    package var flushMillis: Int64 = 500
    /// So old is what was answered and is not on the disk, at most, when something is answered with `everysec`.
    package var unsyncedNanosMax: Nanos = 1_000_000_000
    /// A write that takes longer shows that the disk is slow: then the pen writes, and loops do not wait.
    package var slowNanos: Nanos = 1_000_000
    /// So many quick writes of the pen show that it is not any more.
    package var quickWritesMin = 64
    /// A larger chunk is the pen's, and is not copied for it.
    package var chunkBytesMax = 256 * 1024
    /// With more gathered for the pen than this, writes are refused until half of it is written.
    package var gatheredBytesMax = 64 * 1024 * 1024
    /// So many bytes of own writes are put into chunks in a turn, and of one value: what is larger takes several turns.
    /// What is smaller is put in whole, so a turn has less than twice as much.
    package var ownBytesPerTurn = 512 * 1024

    package init() {}
}

/// A file of a log, as far as it is written.
package struct LogFile: Sendable {
    package let header: DiskHeader
    /// Bytes that are set aside on the disk.
    package let capacity: Int
    /// Where the next bytes go.
    package internal(set) var end = DiskHeader.byteCount

    package init(_ header: DiskHeader, capacity: Int) { (self.header, self.capacity) = (header, capacity) }

    package var number: UInt64 { header.number }
    var room: Int { capacity - end }
}

/// What a log wants to be woken for.
package enum LogAlarm: Sendable { case prepare, retry, save }

/// What happened to a log: for figures and for people.
package enum LogNews: Sendable {
    /// A chunk of so many bytes is made.
    case grew(by: Int)
    /// Own writes up to this one are in the log.
    case logged(UInt64)
    /// Own writes up to this one are on the disk.
    case durable(UInt64)
    /// A chunk is not on the disk now; or all are.
    case unsynced(Bool)
    case syncing(Bool)
    /// A sync was due while another was under way.
    case delayedSync
    /// There is no room for the next file.
    case full
    case hasRoom
    /// A file is not trusted any more.
    case failed
    case resumed
}

/// Nothing calls the log back before it returns. What may wait is done elsewhere; its end is told by the call that each
/// one names.
package protocol LogHost: AnyObject {
    /// Others use the loop than who writes: no write is made there that could keep them waiting.
    var hasOthers: Bool { get }
    /// Of this turn; never goes back.
    var now: Nanos { get }
    /// Writes a chunk at the end of a file, into the page cache. Returns how long that took; nil if the disk does not
    /// take it.
    func append(_ chunk: UnsafeRawBufferPointer, to file: LogFile) -> Nanos?
    /// The pen: writes these elsewhere and then, if `full` is given, syncs the files that it wrote to and these:
    /// `WriteLog.wrote`. They stay as they are until then.
    func write(_ pieces: LogPieces, syncing full: [UInt64]?)
    /// Makes a file that is empty: `WriteLog.made`, in the order of the calls.
    func make(_ number: UInt64, capacity: Int)
    /// Puts these files on the disk: `WriteLog.synced`.
    func sync(_ files: [UInt64])
    /// The file is neither written nor synced any more.
    func release(_ file: UInt64)
    /// Rings after a time: `WriteLog.ring`.
    func wait(_ millis: Int64, for alarm: LogAlarm)
    /// Makes a snapshot that begins after now; if `tells`: `WriteLog.saved`.
    func save(tells: Bool)
    func requestTurn()
    /// What has taken effect at the actor, in the form for a disk.
    func vector() -> VersionVector
    /// The member table.
    func rows() -> [MemberRow]?
    /// What was learned is in the log, or is not going to be.
    func giveUp(_ segment: DeltaSegment)
    func refuseWrites(_ refuses: Bool)
    /// Replies that are held, tell of own writes up to this one, and wait for no chunk yet, wait for this one.
    func aim(at chunk: UInt64, through seq: UInt64)
    /// Replies that wait for a chunk up to this one may go.
    func letGo(through chunk: UInt64)
    /// All replies of this turn are held.
    func holdAnswered()
    /// Replies of this turn that are not held must not go: what they tell of is in no log.
    func closeAnswered()
    /// Replies that are held must not go.
    func closeHeld()
    func note(_ news: LogNews)
}
