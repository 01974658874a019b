// The shortest way from parsed commands to the table and back: GET and SET. Loop thread.
//
// What the sockets received in one turn is parsed into one batch (QueryReceiver.received), so that the cache misses of
// many connections' commands overlap, and run in order of arrival when there is enough of it or no more to come
// (QueryActor.executeReceived). It leaves this page as bytes in the connections' output buffers, which go to the kernel
// once per turn.

import KVBase
import KVCore
import RESP

/// Commands recognised without a table.
enum HotCommand: UInt8 { case other, get, set }

/// What one connection received in this turn, parsed into the actor's batch and waiting to be run with the others.
struct ReceivedSegment {
    var receiver: Unmanaged<QueryReceiver>
    var bytes: UnsafeRawBufferPointer
    var parsed: ParsedCommands
}

/// A run of the batch's commands, all of one session, and how its parser came out of them.
struct ParsedCommands {
    var first: Int
    var end: Int
    var status: ParseStatus
}

extension QueryState {
    /// Work of one turn, in units of about a quarter of a microsecond, after which what else arrives waits for the next
    /// and listings are put off, so that a turn stays below a millisecond however many clients ask for much at once.
    /// An argument is one unit, a KiB copied is one, three entries listed are two, a new key is four: by their cache
    /// misses at 10 M keys. Reading and overwriting single keys costs nothing here.
    static let workMax = 2048
    static func workToList(entries: Int) -> Int { entries &* 2 / 3 }
    static let workPerNewKey = 4

    /// Parses up to `max` commands from `bytes` behind those already in the batch, recognises GET and SET, hashes the
    /// first argument of each and starts loading the table's buckets.
    @inline(__always)
    mutating func parse(_ parser: inout RESPParser, _ bytes: UnsafeRawBufferPointer, max: Int) -> ParsedCommands {
        let first = batch.count
        let status = parser.parse(bytes, into: &batch, maxCommands: max)
        let end = batch.count
        for i in first..<end { recognise(i) }
        store.prepare(&ahead, to: end)
        return ParsedCommands(first: first, end: end, status: status)
    }

    /// Forgets the batch's commands.
    @inline(__always)
    mutating func resetBatch() {
        batch.reset()
        ahead.reset()
    }

    /// Runs the commands in order; returns how many were run: fewer than all when the session has to wait (output
    /// above `outputMax`, a long command in progress, QUIT, enough work for one turn).
    mutating func execute(
        _ session: Session, _ range: ParsedCommands, _ output: UnsafeMutablePointer<OutputBuffer>, outputMax: Int
    ) -> Int {
        let resp3 = session.state.pointee.resp3
        var count = HotCount()
        for i in range.first..<range.end {
            if ahead.isDue(i) { store.look(&ahead) }
            let command = batch[i]
            switch kinds[i] {
            case .get:
                if let large = get(batch.argument(1, of: command), hash: ahead.hashes[i], output, resp3: resp3) {
                    session.continuation = LargeReply([large.retained()])
                    return finish(i &- range.first &+ 1, count)
                }
            case .set:
                let value = batch.argument(2, of: command)
                if value.count >= LargeSet.valueBytesMin {
                    session.state.pointee[.beforeLongCommand] = true
                    return finish(i &- range.first, count)
                }
                set(batch.argument(1, of: command), value, hash: ahead.hashes[i], output)
                count.sets &+= 1
                if value.count >= 1024 {
                    work &+= value.count &>> 10
                    if work > QueryState.workMax { return finish(i &- range.first &+ 1, count) }
                }
            case .other:
                work &+= Int(command.argumentCount)
                session.dispatch(command, output)
                if session.isBeforeLongCommand { return finish(i &- range.first, count) }
                count.others &+= 1
                // HELLO may have changed the protocol for the commands behind it.
                if session.mustStop || session.state.pointee.resp3 != resp3 || work > QueryState.workMax {
                    return finish(i &- range.first &+ 1, count)
                }
            }
            if output.pointee.count > outputMax { return finish(i &- range.first &+ 1, count) }
        }
        return finish(range.end &- range.first, count)
    }

    /// Commands of a run that are no GETs.
    private struct HotCount {
        var sets = 0
        var others = 0
    }

    @inline(__always)
    private mutating func finish(_ executed: Int, _ count: HotCount) -> Int {
        commands &+= executed
        hotSets &+= count.sets
        hotGets &+= executed &- count.sets &- count.others
        return executed
    }

    @inline(__always)
    private func recognise(_ i: Int) {
        let command = batch[i]
        kinds[i] = .other
        ahead.keys[i].count = -1
        guard command.argumentCount >= 2 else { return }
        // The first key of nearly every command: its memory is asked for whatever the command is.
        let key = batch.argument(1, of: command)
        guard key.count <= Limits.keyBytesMax else { return }
        ahead.keys[i] = KeyView(key.start, key.count)
        guard command.argumentCount <= 3 else { return }
        let name = batch.argument(0, of: command)
        guard name.count == 3 else { return }
        let word = QueryState.upperCaseWord(name.start)
        let kind: HotCommand
        if command.argumentCount == 2, word == QueryState.getWord {
            kind = .get
        } else if command.argumentCount == 3, word == QueryState.setWord || word == QueryState.putWord, !refusesWrites {
            kind = .set
        } else {
            return
        }
        kinds[i] = kind
    }

    /// Three letters in upper case; a byte that is no letter may change too, but never into one of the names.
    @inline(__always)
    private static func upperCaseWord(_ p: UnsafeRawPointer) -> UInt32 {
        let low = UInt32(p.loadUnaligned(as: UInt16.self).littleEndian)
        let high = UInt32(p.load(fromByteOffset: 2, as: UInt8.self))
        return (low | high &<< 16) & 0x00DF_DFDF
    }

    private static let getWord: UInt32 = 0x54_4547
    private static let setWord: UInt32 = 0x54_4553
    private static let putWord: UInt32 = 0x54_5550

    /// Answers, except that a record is returned whose value is too large to be copied in one go.
    @inline(__always)
    mutating func get(
        _ key: Argument, hash: UInt64, _ output: UnsafeMutablePointer<OutputBuffer>, resp3: Bool
    ) -> Record? {
        if let record = store.get(key.start, key.count, hash) {
            hits &+= 1
            let value = record.value
            if value.count >= LargeSet.valueBytesMin { return record }
            output.pointee.bulk(value.baseAddress.unsafelyUnwrapped, value.count)
        } else {
            misses &+= 1
            output.pointee.null(resp3: resp3)
        }
        return nil
    }

    /// No storable version is left: the clock, or a version that reached us, is beyond the year 2527.
    static let clockError: StaticString = "ERR no version above the key's current one can be stored; check the clocks"

    @inline(__always)
    mutating func set(
        _ key: Argument, _ value: Argument, hash: UInt64, _ output: UnsafeMutablePointer<OutputBuffer>
    ) {
        let record = store.put(key.start, key.count, hash, value: value.start, value.count, now: nowMillis, floor: 0)
        record == nil ? output.pointee.error(QueryState.clockError) : output.pointee.ok()
    }
}
