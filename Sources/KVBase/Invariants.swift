// Checks that cost nothing in a release build and stop the process in tests and simulation (KV_CHECKS). Any thread.

/// A torn invariant is a bug of ours, never of a user's input. Evaluated only when KV_CHECKS is defined.
@inlinable @inline(__always)
package func check(
    _ condition: @autoclosure () -> Bool, _ message: @autoclosure () -> String = "",
    file: StaticString = #fileID, line: UInt = #line
) {
    #if KV_CHECKS
        precondition(condition(), message(), file: file, line: line)
    #endif
}
