// SET with NX, XX, EX or PX, as locks, caches and sessions send it: read and carried out without the table. Loop
// thread.

import KVBase
import KVCore
import RESP

/// A SET with these options and nothing else to it. Everything unusual, errors too, goes the usual way.
struct ShortSet {
    /// Most arguments: the name, key and value, and `EX n NX`.
    static let argumentsMax: Int32 = 6
    /// Values from this size on go the usual way, which watches how long the turn is.
    private static let valueBytesMax = 1024

    /// NX or XX.
    private var isForAbsent = false
    private var isForPresent = false
    /// From now, in milliseconds; 0 if none is given.
    private var millis: Millis = 0

    /// Runs at the key's home.
    var isConditional: Bool { isForAbsent || isForPresent }

    /// Nil where it is not such a SET.
    @inline(__always)
    init?(_ command: ParsedCommand, of commands: CommandBatch) {
        let count = Int(command.argumentCount)
        guard count > 3, count <= Int(ShortSet.argumentsMax),
            commands.argument(2, of: command).count < ShortSet.valueBytesMax
        else { return nil }
        var k = 3
        while k < count {
            let word = commands.argument(k, of: command)
            guard word.count == 2 else { return nil }
            switch UInt16(littleEndian: word.start.loadUnaligned(as: UInt16.self)) & 0xDFDF {
            case 0x584E:
                if isConditional { return nil }
                isForAbsent = true
            case 0x5858:
                if isConditional { return nil }
                isForPresent = true
            case 0x5845: if !takeTime(commands, command, &k, count, scale: 1000) { return nil }
            case 0x5850: if !takeTime(commands, command, &k, count, scale: 1) { return nil }
            default: return nil
            }
            k &+= 1
        }
    }

    /// Up to nine digits behind EX or PX.
    @inline(__always)
    private mutating func takeTime(
        _ commands: CommandBatch, _ command: ParsedCommand, _ k: inout Int, _ count: Int, scale: Millis
    ) -> Bool {
        guard millis == 0, k &+ 1 < count else { return false }
        k &+= 1
        let digits = commands.argument(k, of: command)
        guard digits.count > 0, digits.count <= 9 else { return false }
        var number: Millis = 0
        for i in 0..<digits.count {
            let digit = digits.start.load(fromByteOffset: i, as: UInt8.self) &- 48
            guard digit <= 9, digit > 0 || number > 0 else { return false }
            number = number &* 10 &+ Millis(digit)
        }
        millis = number &* scale
        return true
    }

    /// Carries it out where it is to be carried out, and answers it. The key is stored as it stands there.
    @inline(__always)
    func run(
        _ key: HashedKey, _ value: ByteView, on shard: UnsafeMutablePointer<ShardState>,
        _ output: UnsafeMutablePointer<OutputBuffer>, resp3: Bool
    ) {
        let (store, now) = (shard.pointee.store, shard.pointee.nowMillis)
        if isConditional, (store.get(key, now: now) != nil) != isForPresent { return output.pointee.null(resp3: resp3) }
        let record =
            millis == 0
            ? store.put(key, value: value, now: now, floor: 0)
            : store.put(key, value: value, expiresAt: now &+ millis, now: now)
        record == nil ? output.pointee.error(ShardState.clockError) : output.pointee.ok()
    }

    /// At a key's home, for the client of another actor. False if it is no such SET, or not to be run now: then nothing
    /// was done.
    static func run(_ x: inout Execution) -> Bool {
        guard x.mayWriteAtOnce, let short = ShortSet(x.command, of: x.batch) else { return false }
        short.run(x.store.key(x.argument(1)), x.argument(2), on: x.shard.state, x.output, resp3: x.resp3)
        return true
    }
}

extension Execution {
    /// Nothing hinders a write of the key and the last argument.
    var mayWriteAtOnce: Bool {
        let (shard, bytes) = (shard.state, argument(1).count)
        return bytes > 0 && bytes <= Limits.keyBytesMax && !shard.pointee.isLoading && !shard.pointee.isReading
            && shard.pointee.writeRefusal == .none
            && !shard.pointee.headroom.isShort(for: bytes &+ argument(count > 2 ? 2 : 1).count)
    }
}
