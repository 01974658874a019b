// Words for deadlines and for what commands on them did. Values, any thread.

package import KVBase

/// What a write of a value does with the key's deadline.
package enum DeadlineChoice: Equatable, Sendable {
    /// The value does not expire.
    case none
    /// It expires at this millisecond since 1970, from 1 to `RecordExtension.deadlineMax`.
    case at(Millis)
    /// It expires when the value before it would have, if there is one.
    case keep
}

/// When a key expires.
package enum Deadline: Equatable, Sendable {
    case never
    case at(Millis)
}

/// What became of a deadline set apart from its value.
package enum TouchOutcome: Equatable, Sendable {
    /// There is no such key, or none that is shown: nothing is written.
    case absent
    /// PERSIST of a key without a deadline: nothing is written.
    case unchanged
    case done
    /// The deadline has passed: the key is deleted.
    case deleted
    /// No storable version is left: nothing is written.
    case refused
}

/// What became of an increment.
package enum IncrementOutcome: Equatable, Sendable {
    /// The sum after it.
    case value(Int64)
    /// The sum would not fit 64 bits: nothing is written.
    case overflow
    /// The value is not an integer: nothing is written.
    case notAnInteger
    /// 1,024 other actors have parts of the key: nothing is written. A SET takes them, and they are collected.
    case tooManyParts
    /// No storable version is left: nothing is written.
    case refused
}
