// Commands kept for later, or for another actor: copied once, one behind the other. One thread at a time.

import KVBase
import RESP

/// What MULTI collects, and what is carried to a key's home.
final class CommandQueue {
    // One thread, and nothing calls back.
    /// Of each command how many arguments it has and their lengths, four bytes each, and then the arguments.
    @exclusivity(unchecked) private var bytes = OutputBuffer()
    /// Where each command begins, eight bytes each.
    @exclusivity(unchecked) private var places = OutputBuffer()

    deinit {
        bytes.deallocate()
        places.deallocate()
    }

    var count: Int { places.count &>> 3 }
    /// What it holds, its own lists included.
    var byteCount: Int { bytes.count + places.count }

    /// The command under way, with its arguments as they are now.
    func append(_ x: Execution) {
        append(x.count) { x.argument($0) }
    }

    /// A command of a batch.
    func append(_ command: ParsedCommand, of batch: CommandBatch) {
        append(Int(command.argumentCount)) { batch.argument($0, of: command) }
    }

    func append(_ words: [Bytes]) {
        let joined = words.flatMap(\.array)
        joined.withUnsafeBytes { all in
            let base = all.baseAddress ?? UnsafeRawPointer(bytes.base)
            var starts = [0]
            for word in words { starts.append(starts.last! + word.count) }
            append(words.count) { ByteView(base + starts[$0], words[$0].count) }
        }
    }

    @inline(__always)
    private func append(_ n: Int, _ argument: (Int) -> ByteView) {
        var total = 4 &+ 4 &* n
        for k in 0..<n { total &+= argument(k).count }
        bytes.reserve(total)
        places.reserve(8)
        places.base.storeBytes(of: bytes.count, toByteOffset: places.count, as: Int.self)
        places.count &+= 8
        let start = bytes.base + bytes.count
        start.storeBytes(of: Int32(truncatingIfNeeded: n), as: Int32.self)
        var to = start + (4 &+ 4 &* n)
        for k in 0..<n {
            let argument = argument(k)
            start.storeBytes(of: Int32(truncatingIfNeeded: argument.count), toByteOffset: 4 &+ 4 &* k, as: Int32.self)
            to.copyMemory(from: argument.start, byteCount: argument.count)
            to += argument.count
        }
        bytes.count &+= total
    }

    @inline(__always)
    private func place(_ index: Int) -> (start: UnsafeRawPointer, count: Int) {
        let start = UnsafeRawPointer(bytes.base) + places.base.load(fromByteOffset: index &* 8, as: Int.self)
        return (start, Int(start.loadUnaligned(as: Int32.self)))
    }

    /// The first argument of a command but its name; nil if it has none.
    func key(_ index: Int) -> ByteView? {
        let (start, count) = place(index)
        guard count > 1 else { return nil }
        let name = Int(start.loadUnaligned(fromByteOffset: 4, as: Int32.self))
        return ByteView(start + (4 &+ 4 &* count &+ name), Int(start.loadUnaligned(fromByteOffset: 8, as: Int32.self)))
    }

    /// Keeps its room.
    func removeAll() { (bytes.count, places.count) = (0, 0) }

    /// Appends commands to a batch. Their arguments lie in the queue, which must outlive their use and not change
    /// meanwhile. O(their arguments).
    func fill(_ batch: inout CommandBatch, _ range: Range<Int>) {
        for i in range {
            let (start, count) = place(i)
            batch.append(count, lengths: start + 4, start + (4 &+ 4 &* count))
        }
    }

    /// All of them.
    func fill(_ batch: inout CommandBatch) { fill(&batch, 0..<count) }
}
