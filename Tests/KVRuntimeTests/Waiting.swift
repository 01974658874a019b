// How the runtime's tests wait, and on what they run. Any thread.

import Glibc
import KVRuntime

/// Polls until `condition` holds. False after `seconds`.
func eventually(seconds: Double = 60, _ condition: () -> Bool) -> Bool {
    let deadline = Machine.monotonicNanos + Int64(seconds * 1e9)
    while !condition() {
        if Machine.monotonicNanos > deadline { return false }
        usleep(500)  // poll again
    }
    return true
}

/// As `eventually` for tests that run tasks: gives their thread away between polls.
func eventuallyYielding(seconds: Double = 60, _ condition: () -> Bool) async -> Bool {
    let deadline = Machine.monotonicNanos + Int64(seconds * 1e9)
    while !condition() {
        if Machine.monotonicNanos > deadline { return false }
        try? await Task.sleep(nanoseconds: 500_000)  // poll again
    }
    return true
}

/// The backends to run every test on: io_uring only where the kernel grants it.
let backends: [LoopBackend] = LoopBackend.ioUringRefusal() == nil ? [.ioUring, .epoll] : [.epoll]
