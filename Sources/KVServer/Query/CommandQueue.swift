// Commands kept for later, or for another actor: copied once, one behind the other. One thread at a time.

import KVBase
import RESP

/// What MULTI collects, and what is carried to a key's home.
final class CommandQueue {
    // One thread, and nothing calls back.
    @exclusivity(unchecked) private var bytes = OutputBuffer()
    /// Of all arguments, in order.
    @exclusivity(unchecked) private var lengths: [Int] = []
    /// Arguments of each command.
    @exclusivity(unchecked) private var counts: [Int] = []

    deinit { bytes.deallocate() }

    var count: Int { counts.count }
    /// What it holds, its own lists included.
    var byteCount: Int { bytes.count + (lengths.count + counts.count) * MemoryLayout<Int>.size }

    /// The command under way, with its arguments as they are now.
    func append(_ x: Execution) {
        append(x.count) { x.argument($0) }
    }

    /// A command of a batch.
    func append(_ command: ParsedCommand, of batch: CommandBatch) {
        append(Int(command.argumentCount)) { batch.argument($0, of: command) }
    }

    func append(_ words: [Bytes]) {
        for word in words { word.withBytes { bytes.append($0) } }
        lengths += words.map(\.count)
        counts.append(words.count)
    }

    private func append(_ n: Int, _ argument: (Int) -> ByteView) {
        for k in 0..<n {
            let argument = argument(k)
            bytes.append(argument.bytes)
            lengths.append(argument.count)
        }
        counts.append(n)
    }

    /// The first argument of each command but its name.
    func eachKey(_ visit: (ByteView) -> Void) {
        var (place, next) = (UnsafeRawPointer(bytes.base), 0)
        for count in counts {
            if count > 1 { visit(ByteView(place + lengths[next], lengths[next + 1])) }
            for k in next..<next + count { place += lengths[k] }
            next += count
        }
    }

    /// Keeps its room.
    func removeAll() {
        bytes.count = 0
        lengths.removeAll(keepingCapacity: true)
        counts.removeAll(keepingCapacity: true)
    }

    /// Appends the commands to a batch. Their arguments lie in the queue, which must outlive their use and not change
    /// meanwhile. O(arguments).
    func fill(_ batch: inout CommandBatch) {
        var (place, next) = (UnsafeRawPointer(bytes.base), 0)
        for count in counts {
            batch.append(count) { k in
                defer { place += lengths[next + k] }
                return ByteView(place, lengths[next + k])
            }
            next += count
        }
    }
}
