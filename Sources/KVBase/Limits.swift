// Bounds that a user or another server can meet; one that nobody else can care about is beside its only use.
// Tests/KVBaseTests checks how they relate. Bytes unless the name says otherwise. Those read for every request are
// computed, because a stored one of another module costs a call.

@usableFromInline package enum Limits {
    // What a client may send.
    @inlinable package static var keyBytesMax: Int { 64 * 1024 }
    /// A key as it is stored: with the two bytes that say which database it is of.
    @inlinable package static var storedKeyBytesMax: Int { keyBytesMax + 2 }
    package static let valueBytesMax = 64 * 1024 * 1024
    /// Arguments of one command: enough for MSET and DEL in bulk, far below Redis's million (CVE-2021-32675).
    package static let argumentsMax = 1024 * 1024
    /// Most arguments that may be announced; a command of more than `argumentsMax` gets an error, one of more than this
    /// closes the connection (as Redis).
    package static let argumentsSkippedMax = Int(Int32.max)
    package static let inlineBytesMax = 64 * 1024
    /// Longest bulk that is skipped with an error reply; a longer announcement closes the connection (as Redis).
    package static let bulkBytesMax = 512 * 1024 * 1024
    /// One command with all its arguments: a largest value and as much again beside it.
    package static let commandBytesMax = 128 * 1024 * 1024
    /// What the unfinished requests of all clients may hold together; above, the longest is given up.
    package static let heldInputMax = 1024 * 1024 * 1024
    /// Digits accepted in a RESP count or length.
    package static let lengthDigitsMax = 10

    // Connections.
    package static let clientsMax = 10_000
    /// A connection whose unsent output is above this is neither read nor executed until it drained to half.
    @inlinable package static var outputBytesHigh: Int { 1024 * 1024 }
    /// A connection whose unsent output passes this is closed (more than one largest value).
    @inlinable package static var outputBytesMax: Int { 96 * 1024 * 1024 }
    /// One that stays above this for `outputMillisLong` is closed.
    package static let outputBytesLong = 16 * 1024 * 1024
    package static let outputMillisLong: Millis = 10_000
    /// Of a client that has not said who it is.
    package static let outputBytesBeforeLogin = 64 * 1024
    /// Commands executed for one connection before others get their turn.
    @inlinable package static var commandsPerTurnMax: Int { 256 }
    /// Large output buffers that a loop keeps for the next part of a long reply; the largest kept.
    package static let spareBuffersMax = 4
    package static let spareBufferBytesMax = 2 * outputBytesHigh
    /// Entries that all unfinished listings of one actor may hold references to: 8 bytes each.
    package static let listingEntriesMax = 32 * 1024 * 1024
    /// How far ahead of the clock the FLOOR of KVD PUT may be.
    package static let floorAheadMillis: Millis = 24 * 3600 * 1000

    // Actors.
    package static let actorsMax = 128
    /// Mailbox messages one actor handles before the loop looks at its sockets again.
    package static let messagesPerTurnMax = 256
    /// Largest message between two systems. A delta frame stays near `frameBytesMax`, except that a value is never
    /// cut: a section and a page of a scan may each go over by one largest value.
    package static let messageBytesMax = 160 * 1024 * 1024
    /// What the messages that have begun to arrive may hold, of all links together: more than one largest.
    package static let unfinishedBytesMax = 256 * 1024 * 1024
    /// Bytes held for one other system whose link is down or slow, or one message if that is larger; what does not
    /// fit is dropped, and counted.
    package static let linkBytesMax = 32 * 1024 * 1024

    // Replication (docs/replication.md 12).
    /// Shortest distance of two messages of one ordered pair: 105 ms keeps at most 10 in every closed second.
    package static let pairSpacingMillis: Millis = 105
    /// The same between servers, where they leave. The queue of a path delays one more than the next: up to 100 ms of
    /// that in a second leaves ten.
    package static let linkSpacingMillis: Millis = 110
    package static let keepAliveMillis: Millis = 1000
    package static let frameBytesMax = 8 * 1024 * 1024
    package static let journalEntriesMax = 1024 * 1024
}
