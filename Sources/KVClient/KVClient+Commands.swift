// Deadlines, conditional writes, counters and transactions: what Redis has beyond reading and writing. Any task.

/// How long a key is still there.
public enum KVTimeToLive: Hashable, Sendable {
    /// It does not expire.
    case never
    /// In milliseconds' steps; the server's clock decides.
    case left(Duration)
}

extension KVClient {
    /// Writes a value that vanishes after `expiresIn` (from a millisecond on, rounded up), or that does not if nil.
    ///
    /// With `ifAbsent` only if there is no value; with `ifValue` only if it is this one. False if the condition did not
    /// hold: then nothing was written. On one server all such writes of a key happen one after the other. **Across
    /// servers each decides by what it has seen**: two servers may both say true, and the later write wins. It is no
    /// lock across a partition.
    ///
    /// Unlike ``put(_:_:)`` it carries no stamp: after a change of server an earlier write of this client may win over
    /// it where clocks differ.
    @discardableResult
    public func put(
        _ key: some KVBytesConvertible, _ value: some KVBytesConvertible, expiresIn: Duration?,
        ifAbsent: Bool = false, ifValue: KVBytes? = nil
    ) async throws(KVError) -> Bool {
        if ifAbsent, ifValue != nil { throw .invalidArgument("either ifAbsent or ifValue, not both") }
        var words: [KVBytes] = ["SET", key.kvBytes, value.kvBytes]
        if ifAbsent { words.append("NX") }
        if let ifValue { words += ["IFEQ", ifValue] }
        if let expiresIn { words += ["PX", try Self.millis(expiresIn)] }
        return try await send(words) != .null
    }

    /// The same of a value that does not expire.
    @discardableResult
    public func put(
        _ key: some KVBytesConvertible, _ value: some KVBytesConvertible, ifAbsent: Bool
    ) async throws(KVError) -> Bool {
        try await put(key, value, expiresIn: nil, ifAbsent: ifAbsent)
    }

    /// The same of a value that does not expire.
    @discardableResult
    public func put(
        _ key: some KVBytesConvertible, _ value: some KVBytesConvertible, ifValue: KVBytes
    ) async throws(KVError) -> Bool {
        try await put(key, value, expiresIn: nil, ifValue: ifValue)
    }

    /// Makes a key vanish after that time; false if there is none. Across servers the later of two deadlines set at the
    /// same time counts, and neither a write nor a delete made elsewhere is undone.
    @discardableResult
    public func expire(_ key: some KVBytesConvertible, in time: Duration) async throws(KVError) -> Bool {
        try await send(["PEXPIRE", key.kvBytes, try Self.millis(time)]).asCount() > 0
    }

    /// How long a key is still there, as the server that is asked knows; nil if there is none.
    public func timeToLive(_ key: some KVBytesConvertible) async throws(KVError) -> KVTimeToLive? {
        let command = Command.custom(["PTTL", key.kvBytes], isRead: true)
        switch try await perform(command).asCount() {
        case -2: return nil
        case let millis where millis < 0: return .never
        case let millis: return .left(.milliseconds(millis))
        }
    }

    /// Takes a key's deadline away; false if it has none, or if there is no such key. Promises as
    /// ``expire(_:in:)``.
    @discardableResult
    public func persist(_ key: some KVBytesConvertible) async throws(KVError) -> Bool {
        try await send(["PERSIST", key.kvBytes]).asCount() > 0
    }

    /// Removes a key and answers its value; nil if there is none. On one server a value is answered once. Across
    /// servers two callers may both be given it.
    @discardableResult
    public func getAndDelete(_ key: some KVBytesConvertible) async throws(KVError) -> KVBytes? {
        try await send(["GETDEL", key.kvBytes]).asValue()
    }

    /// Adds to the integer that a key holds, 0 if there is none, and answers the number after it, as far as the server
    /// knows. Increments made on several servers add up, whatever is cut, and none is counted twice. Two callers at two
    /// servers may be told the same number.
    @discardableResult
    public func increment(_ key: some KVBytesConvertible, by step: Int64 = 1) async throws(KVError) -> Int64 {
        try await send(["INCRBY", key.kvBytes, KVBytes(String(step))]).asCount()
    }

    /// Runs the calls that `build` gathers in one turn of one server: none of another client of that server comes in
    /// between, and other calls of this client see all of their writes or none. At other servers the writes may appear
    /// one after the other. Returns what `build` returned when all are answered. A call that fails by itself throws at
    /// its ``KVPending/value``; if one is refused beforehand, none is run and its error is thrown here.
    public func transaction<Answer>(_ build: (inout KVPipeline) -> Answer) async throws(KVError) -> Answer {
        var pipeline = KVPipeline()
        let answer = build(&pipeline)
        guard pipeline.count > 0 else { return answer }
        let commands =
            [.custom(["MULTI"], isRead: false)] + pipeline.commands + [Command.custom(["EXEC"], isRead: false)]
        let outcomes = await perform(transaction: commands)
        // What was refused before EXEC says more than EXEC itself.
        for outcome in outcomes {
            if case .failure(let error) = outcome { throw outcomes.mayHaveWritten(commands) ? error.inDoubt : error }
        }
        let replies = try outcomes[outcomes.count - 1].get().elements ?? []
        guard replies.count == pipeline.count else { throw .server("answered EXEC with \(replies.count) replies") }
        for (taker, reply) in zip(pipeline.takers, replies) {
            if case .error(let text) = reply { taker(.failure(.server(text))) } else { taker(.success(reply)) }
        }
        return answer
    }

    /// Milliseconds as the protocol has them, rounded up.
    private static func millis(_ time: Duration) throws(KVError) -> KVBytes {
        let (seconds, attoseconds) = time.components
        let rest = (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
        let (whole, isOver) = seconds.multipliedReportingOverflow(by: 1000)
        guard !isOver, time > .zero, whole < .max - rest else {
            throw .invalidArgument("a time to live must be more than 0, and no more than 292 million years")
        }
        return KVBytes(String(whole + rest))
    }
}
