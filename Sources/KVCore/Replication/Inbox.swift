// What arrived and is not merged yet, in order of arrival. A part of `Replica`; on its actor's thread.

import KVBase

/// A frame's block being decoded and merged.
struct BlockWork {
    var bytes: [UInt8]
    var block: Block
    var decoder: EntryDecoder
    var sender: ActorUID
    /// What the maker of the block had seen.
    var cut: VersionVector
    var entries = DeltaEntries()
    var isRefused = false
    /// Of siblings, how far they must have written for its entries to be theirs, where they have not said so yet.
    var unsaid = VersionVector()

    init(bytes: [UInt8], block: Block, sender: ActorUID, cut: VersionVector) {
        (self.bytes, self.block, self.sender, self.cut) = (bytes, block, sender, cut)
        decoder = EntryDecoder(from: block.from, to: block.to, count: block.count, millisMax: block.millisMax)
    }

    /// Of a block that is over: the same before anything was decoded.
    var afresh: BlockWork { BlockWork(bytes: bytes, block: block, sender: sender, cut: cut) }
}

enum WorkItem {
    case block(BlockWork)
    /// A sibling's item, its number, and how many entries of it are merged.
    case local(LocalItem, from: Int, number: UInt64, done: Int, isRefused: Bool)
    case localChunk(LocalChunk, from: Int, done: Int, isRefused: Bool)
    case done

    var byteCount: Int {
        switch self {
        case .block(let work): work.block.to - work.block.from
        case .local(let item, _, _, _, _): item.byteCount
        case .localChunk(let chunk, _, _, _): chunk.page.payloadBytes
        case .done: 0
        }
    }
}

/// A queue with a bound in bytes. The first item may be taken out, worked on and put back.
struct Inbox {
    /// What is merged as it arrives.
    private static let littleBytesMax = 16 * 1024

    private let bytesMax: Int
    private var items: [WorkItem] = []
    private var head = 0
    private var bytes = 0
    /// Bytes of the item that was taken and is not finished.
    private var takenBytes: Int?

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    var isEmpty: Bool { head == items.count }
    var count: Int { items.count - head }
    var byteCount: Int { bytes }
    var isFull: Bool { bytes >= bytesMax }
    var isHalfFull: Bool { bytes > bytesMax / 2 }
    var isLittle: Bool { bytes <= Inbox.littleBytesMax }

    /// One frame always fits, for a single value may be larger than the bound.
    func hasRoom(for count: Int) -> Bool { bytes == 0 || bytes + count <= bytesMax }

    mutating func enqueue(_ item: WorkItem) {
        bytes += item.byteCount
        items.append(item)
    }

    /// The oldest item. `finish` must follow. O(1).
    mutating func take() -> WorkItem? {
        guard head < items.count else { return nil }
        let item = items[head]
        items[head] = .done
        takenBytes = item.byteCount
        return item
    }

    /// What is left of the item that was taken; nil if nothing is.
    mutating func finish(_ rest: WorkItem?) {
        let taken = takenBytes!
        takenBytes = nil
        if let rest {
            items[head] = rest
        } else {
            bytes -= taken
            head += 1
        }
    }

    /// Gives room back. To be called after some items were finished. O(items), seldom.
    mutating func compact() {
        if head == items.count {
            items.removeAll(keepingCapacity: items.count < 1024)
            head = 0
        } else if head > 256, head * 2 > items.count {
            items.removeFirst(head)
            head = 0
        }
    }

    /// Gives everything up.
    mutating func clear() {
        for item in items { if case .block(var work) = item { work.entries.clear() } }
        items.removeAll()
        (head, bytes, takenBytes) = (0, 0, nil)
    }

    func checkInvariants() {
        check(head <= items.count && bytes >= 0 && takenBytes == nil)
        check(!isEmpty || bytes == 0)
    }
}
