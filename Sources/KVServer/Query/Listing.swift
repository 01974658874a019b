// LIST and KEYS beyond what one turn should produce: references to the records are collected in slices, then sent in
// slices as the client reads. Loop thread.

import KVBase
import KVCore
import KVRuntime
import RESP

/// Both RESP forms need the number of entries first, and between counting and sending keys come and go. So the listing
/// holds a reference to each record it counted: records are immutable while shared, the reply is exact, and it costs 8
/// bytes per entry besides keeping replaced values alive until they are sent.
final class Listing: Continuation {
    enum Form { case pairs, keys }

    /// Records per block of references: 32 KiB.
    private static let blockEntries = 4096
    /// Records looked at between two looks at the clock: 60 us at 10 M keys.
    private static let pageEntries = 64

    private let form: Form
    private let prefix: Bytes
    private let glob: Glob?
    private var limit: Int
    /// The key after which collecting goes on.
    private var position: OutputBuffer
    private var hasPosition: Bool

    private var blocks: [UnsafeMutablePointer<Record>] = []
    private var collected = 0
    private var sent = 0
    private var sending = false
    private let shard: Shard
    /// The record whose match with a long pattern is not finished, and how far it is.
    private var unsure: Record?
    private var progress = GlobProgress()

    /// Takes over `glob`.
    init(shard: Shard, form: Form, prefix: Bytes, after: Bytes?, limit: Int, glob: Glob?) {
        (self.shard, self.form, self.prefix, self.limit, self.glob) = (shard, form, prefix, limit, glob)
        position = OutputBuffer()
        hasPosition = after != nil
        if let after {
            for byte in after.array { position.append(byte) }
        }
    }

    override var turnWork: TurnWork { .list }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        let deadline = x.sliceDeadline
        if !sending {
            guard collect(&x, until: deadline) else { return false }
            if shard.state.pointee.listedEntries > Limits.listingEntriesMax {
                x.error("ERR too many listings in progress, try again or list with LIMIT")
                return true
            }
            sending = true
            switch form {
            case .pairs: x.output.pointee.mapHeader(collected, resp3: x.resp3)
            case .keys: x.output.pointee.arrayHeader(collected)
            }
        }
        while sent < collected {
            let record = blocks[sent / Listing.blockEntries][sent % Listing.blockEntries]
            x.output.pointee.bulk(Keyspace.shown(record.key))
            if form == .pairs { x.output.pointee.bulk(record.value) }
            record.release()
            sent += 1
            if sent % Listing.blockEntries == 0 { freeBlock(sent / Listing.blockEntries - 1) }
            if x.output.pointee.count > outputMax { break }
            if sent % Listing.pageEntries == 0, Machine.monotonicNanos > deadline { break }
        }
        return sent == collected
    }

    /// True when the range is exhausted, the limit reached or the bound of all listings passed.
    private func collect(_ x: inout Execution, until deadline: Nanos) -> Bool {
        repeat {
            if limit <= 0 || shard.state.pointee.listedEntries > Limits.listingEntriesMax { return true }
            if unsure != nil {
                guard decide(until: deadline) else { return false }
                continue
            }
            let wanted =
                glob == nil && x.session.readsEverything ? min(limit, Listing.pageEntries) : Listing.pageEntries
            let found = prefix.withBytes {
                x.keyspace.page(prefix: $0, after: hasPosition ? position.bytes : nil, limit: wanted)
            }
            let page = found.records
            for i in 0..<page.count {
                if limit == 0 { break }
                guard let matches = matches(page[i], for: x.session, until: deadline) else {
                    unsure = page[i].retained()
                    move(behind: page[i].key)
                    return false
                }
                guard matches else { continue }
                append(page[i])
                limit -= 1
            }
            guard !found.isLast, let last = found.position else { return true }
            last.withBytes { move(behind: $0) }
        } while Machine.monotonicNanos < deadline
        return false
    }

    /// Nil when a long pattern needs another slice.
    private func matches(_ record: Record, for session: Session, until deadline: Nanos) -> Bool? {
        let key = Keyspace.shown(record.key)
        guard session.mayRead(key) else { return false }
        guard let glob else { return true }
        guard glob.isLong else { return glob.matches(key) }
        progress = GlobProgress()
        return glob.resume(&progress, key, until: deadline)
    }

    /// Goes on with the record that was not decided; whether it is now.
    private func decide(until deadline: Nanos) -> Bool {
        guard let record = unsure, let matches = glob?.resume(&progress, Keyspace.shown(record.key), until: deadline)
        else {
            return false
        }
        if matches {
            append(record)
            limit -= 1
        }
        record.release()
        unsure = nil
        return true
    }

    private func move(behind key: UnsafeRawBufferPointer) {
        position.count = 0
        position.append(key)
        hasPosition = true
    }

    private func append(_ record: Record) {
        let index = collected % Listing.blockEntries
        if index == 0 { blocks.append(.allocate(capacity: Listing.blockEntries)) }
        blocks[blocks.count - 1][index] = record.retained()
        collected += 1
        shard.state.pointee.listedEntries += 1
    }

    private func freeBlock(_ index: Int) {
        blocks[index].deallocate()
        shard.state.pointee.listedEntries -= Listing.blockEntries
    }

    override func cancel() {
        unsure?.release()
        unsure = nil
        for k in sent..<collected { blocks[k / Listing.blockEntries][k % Listing.blockEntries].release() }
        let firstBlock = sent / Listing.blockEntries
        for block in blocks.dropFirst(firstBlock) { block.deallocate() }
        shard.state.pointee.listedEntries -= collected - firstBlock * Listing.blockEntries
        (sent, collected) = (0, 0)
        blocks = []
        position.deallocate()
        glob?.deallocate()
    }
}
