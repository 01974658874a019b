// What a request parser accepts. A plain value, one copy per connection; any thread.

import KVBase

/// Bounds of one connection's requests, in bytes unless the name says otherwise. The parser's fast path accepts up to 9
/// arguments of up to 999 bytes without looking at these, hence the floors in `init`.
package struct RESPLimits: Sendable {
    /// Longest bulk handed to the server; a longer one (up to `bulkBytesMax`) is skipped and its command marked
    /// oversized.
    package var valueBytesMax: Int
    /// Longest bulk a client may announce at all; beyond it the connection fails, as with Redis's proto-max-bulk-len.
    package var bulkBytesMax: Int
    /// Longest command kept in memory, all arguments together; a longer one is skipped like an oversized bulk.
    package var commandBytesMax: Int
    package var argumentsMax: Int
    /// Most arguments a client may announce at all: a command of more than `argumentsMax` is passed over as it comes
    /// and answered with an error, beyond this the connection fails, as with Redis.
    package var argumentsSkippedMax: Int
    package var inlineBytesMax: Int

    package init(
        valueBytesMax: Int = Limits.valueBytesMax, bulkBytesMax: Int = Limits.bulkBytesMax,
        commandBytesMax: Int = Limits.commandBytesMax, argumentsMax: Int = Limits.argumentsMax,
        argumentsSkippedMax: Int = Limits.argumentsSkippedMax, inlineBytesMax: Int = Limits.inlineBytesMax
    ) {
        precondition(valueBytesMax >= 1000 && bulkBytesMax >= valueBytesMax, "bulk limits below the fast path's floor")
        precondition(commandBytesMax >= 16 * 1024 && argumentsMax >= 10, "command limits below the fast path's floor")
        self.valueBytesMax = valueBytesMax
        self.bulkBytesMax = bulkBytesMax
        self.commandBytesMax = commandBytesMax
        self.argumentsMax = argumentsMax
        self.argumentsSkippedMax = max(argumentsSkippedMax, argumentsMax)
        self.inlineBytesMax = inlineBytesMax
    }
}
