// Units of time used throughout. Values only: nobody reads a clock here; callers pass `now` in.

/// Milliseconds since 1970-01-01T00:00:00Z, the resolution of versions.
@usableFromInline package typealias Millis = Int64

/// Nanoseconds of a monotonic clock; only differences mean anything.
@usableFromInline package typealias Nanos = Int64
