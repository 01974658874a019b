// What one command sees while it runs: its arguments, the store, the client it answers. Loop thread, for one call.

import KVBase
import KVCore
import KVRuntime
import RESP

/// Passed `inout` to every handler. Holds no references that are counted: the session and the shard outlive the call.
package struct Execution {
    unowned(unsafe) let session: Session
    unowned(unsafe) let shard: Shard
    let store: Store
    let batch: CommandBatch
    let command: ParsedCommand
    let output: UnsafeMutablePointer<OutputBuffer>

    var count: Int { Int(command.argumentCount) }
    var resp3: Bool { session.state.pointee.resp3 }
    var nowMillis: Millis { shard.state.pointee.nowMillis }
    /// When a slice that begins now is over, on the monotonic clock.
    var sliceDeadline: Nanos { shard.state.pointee.budget.deadline(for: .slice, now: Machine.monotonicNanos) }

    /// Argument `k`, the command's name being argument 0.
    func argument(_ k: Int) -> ByteView { batch.argument(k, of: command) }

    /// Bytes of the command as an array of bulks, and of its arguments alone.
    var size: (bytes: Int, arguments: Int) {
        var (bytes, arguments) = (3 + String(count).utf8.count, 0)
        for k in 0..<count {
            let n = argument(k).count
            arguments += n
            bytes += n + 5 + String(n).utf8.count
        }
        return (bytes, arguments)
    }

    func text(_ k: Int) -> String { String(decoding: argument(k).bytes, as: UTF8.self) }

    /// The record that clients are shown of a stored key, or nil. O(1).
    func get(_ key: ByteView) -> Record? { get(store.key(key)) }
    func get(_ key: HashedKey) -> Record? { store.get(key, now: nowMillis) }

    /// Case-insensitive comparison with an upper-case word.
    func argument(_ k: Int, is word: StaticString) -> Bool {
        argument(k).equals(word)
    }

    /// Redis's `string2ll`: an optional minus, digits, no leading zeros, no spaces.
    func integer(_ k: Int) -> Int? { argument(k).integer }

    /// Argument `k` as the number of a database, which is a C `int` to Redis; nil when it was answered with an error.
    func database(_ k: Int) -> UInt8? {
        guard let number = integer(k) else {
            error("ERR value is not an integer or out of range")
            return nil
        }
        guard Int32(exactly: number) != nil else {
            error("ERR value is out of range, value must between -2147483648 and 2147483647")
            return nil
        }
        guard (0..<Keyspace.count).contains(number) else {
            error("ERR DB index is out of range")
            return nil
        }
        return UInt8(number)
    }

    func error(_ text: StaticString) { output.pointee.error(text) }

    /// Whether a key is short enough to be stored; writes the error when it is not.
    func acceptsKey(_ key: ByteView) -> Bool {
        let bytesMax = key.count > 0 && key.start.load(as: UInt8.self) == Store.mark ? Limits.storedKeyBytesMax : nil
        if key.count <= bytesMax ?? Limits.keyBytesMax { return true }
        error("ERR key is too long: the limit is 65536 bytes")
        return false
    }

    /// Whether a data command may not be run at the moment; writes the error then. Nothing was executed, so a client
    /// may do it elsewhere.
    /// `grows`: it takes memory, as all writes but deletes do.
    func isRefused(isWrite: Bool, grows: Bool = true) -> Bool {
        let state = shard.state
        if state.pointee.isReading {
            error(ShardState.readingError)
            return true
        }
        if state.pointee.isLoading {
            error("LOADING this server is catching up with the others; try again later or use another server")
            return true
        }
        guard isWrite else { return false }
        if state.pointee.writeRefusal != .none {
            error(state.pointee.writeRefusal.reply)
            return true
        }
        // Of a SET key and value, of other writes about as much.
        let bytes = argument(min(2, count - 1)).count + argument(count - 1).count
        guard grows, state.pointee.headroom.isShort(for: bytes) else { return false }
        guard state.pointee.headroom.shortage == .limit else {
            error("OOM this server can have no more memory (ulimit -v); DEL keys, or give it more")
            return true
        }
        if replacesLarger { return false }
        shard.context.memory.noteRefused()
        error("OOM command not allowed when used memory > 'maxmemory'.")
        return true
    }

    /// The command does nothing but put values in the place of others that are no smaller.
    private var replacesLarger: Bool {
        let first = argument(0)
        if first.equals("SET") || first.equals("PUT") || first.equals("GETSET") {
            return count >= 3 && isLarger(1, than: 2)
        }
        if first.equals("SETEX") || first.equals("PSETEX") { return count == 4 && isLarger(1, than: 3) }
        guard first.equals("MSET"), count % 2 == 1 else { return false }
        return stride(from: 1, to: count, by: 2).allSatisfy { isLarger($0, than: $0 + 1) }
    }

    /// The value of the key, as the client names it, has at least as many bytes as another argument.
    private func isLarger(_ key: Int, than value: Int) -> Bool {
        guard argument(key).count <= Limits.keyBytesMax else { return false }
        let stored = Keyspace.stored(argument(key).bytes, session.state.pointee.database)
        return stored.withBytes { bytes in
            store.get(store.key(bytes), now: nowMillis).map { $0.value.count >= argument(value).count } ?? false
        }
    }

    // Replies as Redis words them.

    func wrongArity(_ name: String) {
        output.pointee.error("ERR wrong number of arguments for '\(name)' command")
    }

    func unknownSubcommand(of parent: String) {
        let name = argument(1).printable(max: 128)
        output.pointee.error("ERR unknown subcommand '\(name)'. Try \(parent) HELP.")
    }

    func unknownCommand() {
        if count > 0, let line = RefusedCommands.reply(to: argument(0)) { return output.pointee.error(line) }
        let name = count > 0 ? argument(0).printable(max: 128) : ""
        var arguments = ""
        var written = 0
        var k = 1
        while k < count, written < 128 {
            let piece = argument(k).printable(max: 128 - written)
            arguments += "'\(piece)' "
            written += piece.utf8.count + 3
            k += 1
        }
        output.pointee.error("ERR unknown command '\(name)', with args beginning with: \(arguments)")
    }

    /// HELP of a command with subcommands: one status line each.
    func help(_ lines: [String]) {
        output.pointee.arrayHeader(lines.count)
        for line in lines { output.pointee.simple(line) }
    }
}

extension ByteView {
    /// Case-insensitive; `word` is upper case ASCII.
    func equals(_ word: StaticString) -> Bool {
        guard count == word.utf8CodeUnitCount else { return false }
        for i in 0..<count {
            var byte = start.load(fromByteOffset: i, as: UInt8.self)
            if byte >= 97, byte <= 122 { byte &-= 32 }
            if byte != word.utf8Start[i] { return false }
        }
        return true
    }

    var integer: Int? {
        guard count > 0, count <= 20 else { return nil }
        let negative = bytes[0] == UInt8(ascii: "-")
        let digits = bytes.dropFirst(negative ? 1 : 0)
        guard let first = digits.first else { return nil }
        if first == UInt8(ascii: "0") { return digits.count == 1 && !negative ? 0 : nil }
        var value = 0
        for byte in digits {
            guard byte >= 48, byte <= 57 else { return nil }
            let digit = Int(byte) - 48
            let (scaled, overflowed) = value.multipliedReportingOverflow(by: 10)
            let (sum, overflowedToo) =
                negative ? scaled.subtractingReportingOverflow(digit) : scaled.addingReportingOverflow(digit)
            if overflowed || overflowedToo { return nil }
            value = sum
        }
        return value
    }

    /// As C's `%.*s` shows it: up to `max` bytes, ending at the first NUL.
    func printable(max: Int) -> String {
        String(decoding: bytes.prefix(max).prefix(while: { $0 != 0 }), as: UTF8.self)
    }

    /// Lower case text for error messages.
    var lowercased: String { printable(max: 128).lowercased() }
}
