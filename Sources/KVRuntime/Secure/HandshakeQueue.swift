// Whose step of a handshake comes next. A value; its owner's thread.

/// Those that have been answered before, the last one first, as most of their work is done; and those that are still to
/// begin, in the order in which they came.
struct HandshakeQueue<Waiting> {
    private var begun: [Waiting] = []
    /// Those before `head` are gone.
    private var queue: [Waiting] = []
    private var head = 0

    /// Gone ones are kept up to here, and up to as many as wait.
    private static var goneMax: Int { 1024 }

    var isEmpty: Bool { begun.isEmpty && head == queue.count }

    /// Of those that are still to begin.
    var oldest: Waiting? { head < queue.count ? queue[head] : nil }

    mutating func append(_ waiting: Waiting, hasBegun: Bool) {
        if hasBegun { begun.append(waiting) } else { queue.append(waiting) }
    }

    mutating func popBegun() -> Waiting? { begun.popLast() }

    /// Amortized O(1).
    mutating func popOldest() -> Waiting? {
        guard let oldest else { return nil }
        head += 1
        compact()
        return oldest
    }

    mutating func popNewest() -> Waiting? {
        guard head < queue.count else { return nil }
        defer { compact() }
        return queue.removeLast()
    }

    private mutating func compact() {
        if head == queue.count {
            queue.removeAll(keepingCapacity: queue.count < Self.goneMax)
            head = 0
        } else if head > Self.goneMax, head * 2 > queue.count {
            queue.removeFirst(head)
            head = 0
        }
    }
}
