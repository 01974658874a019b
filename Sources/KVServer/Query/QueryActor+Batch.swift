// The shortest way from parsed commands to the table and back: GET and SET. Loop thread.
//
// A socket's bytes reach this page in one step (Session.run: parse up to 64 commands, call `execute`), and leave it as
// bytes in the connection's output buffer, which goes to the kernel once per turn.

import KVBase
import KVCore
import RESP

/// Commands recognised without a table.
enum HotCommand: UInt8 { case other, get, set }

extension QueryState {
    /// Work after which a batch is interrupted so that a turn stays below a millisecond: one per argument, and one per
    /// KiB of value copied.
    static let workMax = 4096

    /// Runs `batch` in order; returns how many commands were run: fewer than all when the session has to wait (output
    /// above `outputMax`, a long command in progress, QUIT, enough work for one turn).
    mutating func execute(_ session: Session, _ output: UnsafeMutablePointer<OutputBuffer>, outputMax: Int) -> Int {
        let count = batch.count
        let resp3 = session.state.pointee.resp3
        var work = 0
        var next = 0
        while next < count {
            let end = min(next &+ QueryState.prefetchDepth, count)
            prepare(next, end)
            for i in next..<end {
                let command = batch[i]
                let slot = i &- next
                switch kinds[slot] {
                case .get:
                    get(batch.argument(1, of: command), hash: hashes[slot], output, resp3: resp3)
                case .set:
                    let value = batch.argument(2, of: command)
                    set(batch.argument(1, of: command), value, hash: hashes[slot], output)
                    work &+= value.count &>> 10
                case .other:
                    work &+= Int(command.argumentCount)
                    session.dispatch(command, output)
                    if session.mustStop { return finish(i &+ (session.isBeforeLongCommand ? 0 : 1)) }
                    // HELLO may have changed the protocol for the commands behind it.
                    if session.state.pointee.resp3 != resp3 { return finish(i &+ 1) }
                }
                if output.pointee.count > outputMax || work > QueryState.workMax { return finish(i &+ 1) }
            }
            next = end
        }
        return finish(count)
    }

    @inline(__always)
    private mutating func finish(_ executed: Int) -> Int {
        commands &+= executed
        return executed
    }

    /// Recognises GET and SET, hashes their keys and, when there is more than one command, fetches the table's slots
    /// and then the records they point to: the two cache misses of each lookup overlap with those of the others.
    @inline(__always)
    private func prepare(_ from: Int, _ to: Int) {
        for i in from..<to {
            let command = batch[i]
            let slot = i &- from
            kinds[slot] = .other
            guard UInt32(bitPattern: command.argumentCount &- 2) < 2 else { continue }
            let name = batch.argument(0, of: command)
            guard name.count == 3 else { continue }
            let word = QueryState.upperCaseWord(name.start)
            let kind: HotCommand
            if command.argumentCount == 2, word == QueryState.getWord {
                kind = .get
            } else if command.argumentCount == 3, word == QueryState.setWord || word == QueryState.putWord {
                kind = .set
            } else {
                continue
            }
            let key = batch.argument(1, of: command)
            guard key.count <= Limits.keyBytesMax else { continue }
            kinds[slot] = kind
            let hash = store.hash(key.start, key.count)
            hashes[slot] = hash
            store.prefetchSlot(hash)
        }
        guard to &- from > 1 else { return }
        for slot in 0..<(to &- from) where kinds[slot] != .other { store.prefetchRecord(hashes[slot]) }
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

    @inline(__always)
    mutating func get(
        _ key: Argument, hash: UInt64, _ output: UnsafeMutablePointer<OutputBuffer>, resp3: Bool
    ) {
        if let record = store.get(key.start, key.count, hash) {
            hits &+= 1
            output.pointee.bulk(record.value)
        } else {
            misses &+= 1
            output.pointee.null(resp3: resp3)
        }
    }

    /// No storable version is left: the clock, or a version that reached us, is beyond the year 2500.
    static let clockError: StaticString = "ERR no version above the key's current one can be stored; check the clocks"

    @inline(__always)
    mutating func set(
        _ key: Argument, _ value: Argument, hash: UInt64, _ output: UnsafeMutablePointer<OutputBuffer>
    ) {
        let record = store.put(key.start, key.count, hash, value: value.start, value.count, now: nowMillis)
        record == nil ? output.pointee.error(QueryState.clockError) : output.pointee.ok()
    }
}
