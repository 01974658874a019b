// Puts chunks of a log or a snapshot together in one buffer that is used again and again. Its owner's thread.

package import KVBase

/// What a section of a chunk is. One that is `optional` is skipped by a reader that does not know it.
enum SectionKind: UInt8 {
    /// An interval of the writes of the log's own actor, with the winners of their keys.
    case own = 1
    /// The same of another actor.
    case interval = 2
    /// Entries without an interval.
    case page = 3
    /// All pages of a scan are in this log: who had seen `asked` has now seen `start`.
    case proof = 4
    case rows = 5
    /// The last section of a snapshot.
    case end = 6
    /// How much of this log is known to be on the disk.
    case synced = 7
    /// What the log's file before this one ended with.
    case follows = 8
    /// The log's file before this one was given up when its disk failed: what it lacks, its writer knew of.
    case abandoned = 9

    static let optional: UInt8 = 0x80
}

/// Each section: 1 byte kind, 4 bytes length, content.
package struct ChunkWriter {
    private var out: OutputBuffer
    private let origins: OriginTable
    /// A planted mistake: checksums do not depend on the file.
    private let isUnsalted: Bool
    private var encoder = EntryEncoder()
    private var salt: UInt32 = 0
    private var previous: UInt32 = 0
    /// The next chunk's number.
    package private(set) var number: UInt32 = 0
    /// Greatest number of each writer among the entries since `begin(file:)`.
    package private(set) var greatest = VersionVector()
    private var sectionAt = 0
    private var countAt = 0
    /// Own writes that are not all in chunks.
    private var work: OwnWork?
    /// The chunk ends within this value: so many bytes are left of it.
    private var open: (record: Record, left: Int)?
    /// What is summed already of a chunk with such a value. Nothing in it changes any more.
    private var sum: (from: Int, to: Int, crc: UInt32)?

    package init(origins: OriginTable, planted: PlantedMistakes = []) {
        self.origins = origins
        isUnsalted = planted(.recycledChunkBelieved)
        out = OutputBuffer(capacity: 4096)
        out.count = ChunkFormat.headerBytes
    }

    package func deallocate() {
        open?.record.release()
        out.deallocate()
    }

    /// From now on chunks are for this file. What was put together stays.
    package mutating func begin(file header: DiskHeader) {
        salt = isUnsalted ? 0 : header.salt
        previous = header.encoded().withUnsafeBytes { ChunkFormat.first(of: $0) }
        number = 0
        greatest = VersionVector()
    }

    /// Nothing has been put in since the last chunk.
    package var isEmpty: Bool { out.count == ChunkFormat.headerBytes }
    /// Of the chunk so far.
    package var byteCount: Int { out.count }

    /// The whole chunk, to be written now: valid until the next call that changes the writer. O(bytes).
    package mutating func seal() -> UnsafeRawBufferPointer {
        let length = out.count - ChunkFormat.headerBytes
        precondition(length > 0 && length <= ChunkFormat.bodyBytesMax)
        put(UInt32(length), at: 0)
        put(number, at: 8)
        put(previous, at: 12)
        previous = checksum()
        put(previous, at: 4)
        number &+= 1
        return out.bytes
    }

    private func checksum() -> UInt32 {
        guard let sum else { return ChunkFormat.checksum(out.bytes, salt: salt) }
        let before = ChunkFormat.checksum(UnsafeRawBufferPointer(rebasing: out.bytes[..<sum.from]), salt: salt)
        return crc32c(
            UnsafeRawBufferPointer(rebasing: out.bytes[sum.to...]),
            continuing: crc32cJoined(before, sum.crc, bytes: sum.to - sum.from))
    }

    /// The chunk that was sealed, given away with its memory: the next one begins. Its owner deallocates it.
    package mutating func detach() -> OutputBuffer {
        let chunk = out
        out = OutputBuffer(capacity: 4096)
        out.count = ChunkFormat.headerBytes
        sum = nil
        return chunk
    }

    /// The chunk was written, or given up: the next one begins.
    package mutating func clear() {
        out.count = 0
        out.shrink(to: 1 << 20)
        out.reserve(ChunkFormat.headerBytes)
        out.count = ChunkFormat.headerBytes
        sum = nil
    }

    /// What was put together is not wanted, nor what was still to come of it.
    package mutating func giveUp() {
        open?.record.release()
        encoder.forgetPrevious()
        (open, work) = (nil, nil)
        clear()
    }

    private func put(_ word: UInt32, at place: Int) {
        out.base.storeBytes(of: word.littleEndian, toByteOffset: place, as: UInt32.self)
    }

    // MARK: Sections

    private mutating func begin(_ kind: SectionKind, isOptional: Bool = false) {
        out.append(kind.rawValue | (isOptional ? SectionKind.optional : 0))
        sectionAt = out.count
        out.appendFixed32(0)
    }

    private mutating func end() { put(UInt32(out.count - sectionAt - 4), at: sectionAt) }

    private mutating func beginEntries() {
        countAt = out.count
        out.appendFixed32(0)
    }

    private mutating func endEntries() {
        put(UInt32(encoder.count), at: countAt)
        encoder.forgetPrevious()
        end()
    }

    /// Adds an entry to the section begun.
    @inline(__always)
    private mutating func entry(_ record: Record) {
        encoder.encode(record, origins, into: &out)
        greatest.raise(record.origin, to: record.seq)
    }

    // MARK: What is more than a turn may bear

    /// The chunk cannot be sealed: it ends within a value. The call that left it so goes on with it.
    package var isOpen: Bool { open != nil }
    /// The chunk has a value that was put in piece by piece. It takes no more sections.
    package var isInPieces: Bool { sum != nil }
    /// `own` is to be called again, after whatever time.
    package var isBetween: Bool { work != nil }
    /// Own writes that have been looked at, as long as that is so.
    package var ownDone: UInt64 { work?.at ?? 0 }

    /// Adds an entry without its content, which stays as it is while the record is held.
    private mutating func beginValue(_ record: Record) {
        encoder.encode(record, origins, into: &out, isBare: true)
        open = (record.retained(), record.contentCount)
        if sum == nil { sum = (out.count, out.count, 0) }
    }

    /// Copies and sums content of the open value up to where the chunk is so long, a piece at least.
    private mutating func copyValue(to end: Int) {
        guard let (record, left) = open else { return }
        let count = min(left, max(4096, end &- out.count))
        let start = record.contentCount - left
        out.append(UnsafeRawBufferPointer(rebasing: record.content[start..<(start + count)]))
        if let (from, to, crc) = sum {
            let fresh = UnsafeRawBufferPointer(rebasing: out.bytes[to...])
            sum = (from, out.count, crc32c(fresh, continuing: crc))
        }
        if count < left { return open = (record, left - count) }
        encoder.forgetPrevious()
        record.release()
        open = nil
    }

    /// Where the chunk ends if so many bytes are added.
    private func end(after bytes: Int) -> Int { bytes > Int.max - out.count ? Int.max : out.count + bytes }

    // MARK: Own writes

    /// Own writes on their way into chunks: those behind `from`, up to `to`.
    private struct OwnWork {
        var from: UInt64
        let to: UInt64
        /// Those up to this one are in chunks.
        var at: UInt64
        /// Where the interval's length stands.
        var lengthAt = 0
        /// Greatest own number among the section's entries.
        var greatest: UInt64 = 0
    }

    /// The store's own writes after `from` up to its last one, with what they left behind: for each the winner of its
    /// key, at the last of the key's writes. O(writes).
    ///
    /// Returns the last one, or nil where there is more than fits into about `bytesMax` bytes: then the next call goes
    /// on, in the next chunk or, if this one `isOpen`, in this. The interval is claimed with its last entry only.
    @discardableResult
    package mutating func own(_ store: Store, after from: UInt64, bytesMax: Int = .max) -> UInt64? {
        let end = end(after: bytesMax)
        var current = work ?? OwnWork(from: from, to: store.ownSeq, at: from)
        if isOpen { copyValue(to: end) } else { beginOwn(store, &current) }
        // What the journal forgot meanwhile is not claimed: the next section begins behind it.
        while !isOpen, current.at < current.to, out.count < end, current.at &+ 1 >= store.journalFirstSeq {
            current.at &+= 1
            store.records(written: current.at, last: current.to) { record in
                // Of several records with one hash only the last one is copied in pieces.
                if isOpen { copyValue(to: .max) }
                if record.origin == store.ownOrigin {
                    current.greatest = max(current.greatest, record.seq)
                } else {
                    greatest.raise(record.origin, to: record.seq)
                }
                if record.contentCount > bytesMax {
                    beginValue(record)
                } else {
                    encoder.encode(record, origins, into: &out)
                }
            }
            if isOpen { copyValue(to: end) }
        }
        let isComplete = !isOpen && current.at == current.to
        if !isOpen { endOwn(store.ownOrigin, &current, isComplete) }
        work = isComplete ? nil : current
        return isComplete ? current.to : nil
    }

    private mutating func beginOwn(_ store: Store, _ work: inout OwnWork) {
        if work.at &+ 1 < store.journalFirstSeq {
            work.at = min(store.journalFirstSeq &- 1, work.to)
            work.from = work.at
        }
        begin(.own)
        out.appendVarint(work.from)
        work.lengthAt = out.count
        out.appendVarint(work.to - work.from)
        work.greatest = 0
        beginEntries()
        encoder.restart(store.ownOrigin)
    }

    private mutating func endOwn(_ own: OriginIndex, _ work: inout OwnWork, _ isComplete: Bool) {
        if !isComplete {
            // A length of 0, in as many bytes.
            for place in work.lengthAt..<countAt {
                out.base.storeBytes(of: place == countAt - 1 ? 0 : 0x80, toByteOffset: place, as: UInt8.self)
            }
        }
        greatest.raise(own, to: isComplete ? max(work.to, work.greatest) : work.greatest)
        endEntries()
    }

    // MARK: What others wrote

    /// Entries of a segment or page from `done` on, as many as `bytesMax` allows, one at least. Returns how far that
    /// is. With the last of a segment goes its interval: the entries before are in chunks before. O(entries).
    ///
    /// A value of more than `valueBytesMax` bytes is put in by pieces of so many, one a call: as long as the chunk
    /// `isOpen` the next call is to be for the same segment and place.
    ///
    /// With `winners`, entries that their interval may not cover are put in as what that store has of their keys.
    package mutating func learned(
        _ segment: DeltaSegment, from done: Int, bytesMax: Int, valueBytesMax: Int = .max, proves: Bool = true,
        winners store: Store? = nil
    ) -> Int {
        let entries = segment.entries
        if isOpen { return endLearned(after: valueBytesMax, open: done, done + 1) }
        var (end, bytes) = (done, 0)
        // An interval covers its own writer's entries.
        let covering: OriginIndex? = segment.isPage || !proves ? nil : segment.origin
        while end < entries.count, end == done || bytes < bytesMax {
            let record = winner(entries[end], store, covering)
            let isLarge = record?.contentCount ?? 0 > valueBytesMax
            if isLarge, end > done { break }
            bytes += record.map { $0.keyCount + $0.contentCount + 8 } ?? 0
            end += 1
            if isLarge { break }
        }
        let isLast = end == entries.count
        if isLast, !segment.isPage, proves {
            begin(.interval)
            let uid = origins.uid(segment.origin)
            out.appendFixed64(uid.server)
            out.appendVarint(UInt64(uid.index))
            out.appendVarint(segment.from)
            out.appendVarint(segment.to - segment.from)
            greatest.raise(segment.origin, to: segment.to)
        } else {
            guard end > done else { return end }
            begin(.page)
        }
        beginEntries()
        encoder.restart(nil)
        for i in done..<end {
            guard let record = winner(entries[i], store, covering) else { continue }
            guard record.contentCount > valueBytesMax else {
                entry(record)
                continue
            }
            beginValue(record)
            greatest.raise(record.origin, to: record.seq)
        }
        return endLearned(after: valueBytesMax, open: done, end)
    }

    /// An entry that lost has no place in a log: what beat it may stand in another one, which is given up before this
    /// one, and be collected then. Nil: it has been.
    @inline(__always)
    private func winner(_ entry: DeltaEntry, _ store: Store?, _ covering: OriginIndex?) -> Record? {
        let record = entry.record
        guard let store, record.origin != covering, !record.isCompanion else { return record }
        return store.find(HashedKey(record, hash: entry.hash))
    }

    /// Goes on with a value, if there is one, and ends the section behind it.
    private mutating func endLearned(after bytes: Int, open done: Int, _ end: Int) -> Int {
        copyValue(to: self.end(after: bytes))
        if isOpen { return done }
        endEntries()
        return end
    }

    /// A scan whose pages were all `learned` is at its end.
    package mutating func proof(asked: VersionVector, start: VersionVector, frontier: VersionVector, floor: Millis) {
        begin(.proof)
        vector(asked)
        vector(start)
        vector(frontier)
        out.appendVarint(UInt64(max(0, floor)))
        end()
        greatest.join(start.withoutRetired)
    }

    package mutating func rows(_ rows: [MemberRow]) {
        begin(.rows)
        out.appendVarint(UInt64(rows.count))
        for row in rows { self.row(row) }
        end()
    }

    /// Files of this log before number `file` are on the disk, and the first `chunks` chunks of that one.
    package mutating func synced(file: UInt64, chunks: UInt32) {
        place(.synced, isOptional: true, file: file, chunks: chunks)
    }

    /// The file before this one is number `file`, and has so many chunks.
    package mutating func follows(file: UInt64, chunks: UInt32) { place(.follows, file: file, chunks: chunks) }

    /// The file before this one is number `file`; it was given up.
    package mutating func abandoned(file: UInt64) { place(.abandoned, file: file, chunks: 0) }

    private mutating func place(_ kind: SectionKind, isOptional: Bool = false, file: UInt64, chunks: UInt32) {
        begin(kind, isOptional: isOptional)
        out.appendVarint(file)
        out.appendVarint(UInt64(chunks))
        end()
    }

    /// A snapshot's page: `add` as often as it takes, then `endPage`.
    package mutating func beginPage() {
        begin(.page)
        beginEntries()
        encoder.restart(nil)
    }

    /// Records stay until the call returns. O(bytes).
    package mutating func add(_ records: [Record]) {
        for record in records { entry(record) }
        encoder.forgetPrevious()
    }

    package mutating func endPage() { endEntries() }

    /// The end of a snapshot of `records` records: what it proves, and what was collected when its walk ended.
    package mutating func end(_ proof: SnapshotEnd) {
        begin(.end)
        vector(proof.vector)
        vector(proof.frontier)
        out.appendVarint(UInt64(max(0, proof.floor)))
        out.appendVarint(proof.records)
        end()
    }

    private mutating func vector(_ vector: VersionVector) {
        let present = vector.seqs.enumerated().filter { $1 != 0 && $1 != VersionVector.retired }
        out.appendVarint(UInt64(present.count))
        for (i, seq) in present {
            let uid = origins.uid(OriginIndex(i))
            out.appendFixed64(uid.server)
            out.appendVarint(UInt64(uid.index))
            out.appendVarint(seq)
        }
    }

    private mutating func row(_ row: MemberRow) {
        out.appendFixed64(row.server)
        out.appendVarint(UInt64(row.incarnation))
        out.append(row.status.rawValue)
        out.appendVarint(UInt64(row.actorCount))
        for text in [row.address, row.name] {
            out.appendVarint(UInt64(text.count))
            text.withBytes { out.append($0) }
        }
        out.append(row.isNamed ? 1 : 0)
    }
}

/// What the end of a snapshot says.
package struct SnapshotEnd: Equatable, Sendable {
    /// What had been seen when the walk began.
    package var vector: VersionVector
    /// What had been collected when it ended.
    package var frontier: VersionVector
    package var floor: Millis
    package var records: UInt64

    package init(vector: VersionVector, frontier: VersionVector, floor: Millis, records: UInt64) {
        (self.vector, self.frontier, self.floor, self.records) = (vector, frontier, floor, records)
    }
}

extension VersionVector {
    /// Without the entries of retired servers.
    var withoutRetired: VersionVector {
        var vector = self
        for i in 0..<count where seqs[i] == VersionVector.retired { vector.set(OriginIndex(i), 0) }
        return vector
    }
}
