// What other threads have to say to the main loop: replies of the store and signals, with a pipe to wake it.

import CMUDCore
import Foundation
import KVBase
import Synchronization

enum Wakeup: Sendable {
    case reply(id: UInt64, StoreReply)
    case signal(Int32)
}

/// Filled from any thread, emptied by the main loop, which polls `readEnd`.
final class Wakeups: Sendable {
    private let waiting = Mutex<[Wakeup]>([])
    let readEnd: Int32
    private let writeEnd: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        precondition(pipe(&ends) == 0, "a pipe could not be made")
        for end in ends {
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
        }
        (readEnd, writeEnd) = (ends[0], ends[1])
    }

    func post(_ wakeup: Wakeup) {
        waiting.withLock { $0.append(wakeup) }
        var byte: UInt8 = 1
        // A full pipe is as good as a byte in it: the loop will wake.
        _ = write(writeEnd, &byte, 1)
    }

    func take() -> [Wakeup] {
        var bytes = [UInt8](repeating: 0, count: 256)
        while read(readEnd, &bytes, bytes.count) > 0 {}
        return waiting.withLock { list in
            defer { list = [] }
            return list
        }
    }
}

/// Signals as messages. Blocked in every thread before any is started, then awaited by a thread of their own, so that
/// no Swift code ever runs inside a signal handler.
enum TerminalSignals {
    static let handled: [Int32] = [SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH, SIGCONT]

    static func set() -> sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in handled { sigaddset(&set, signal) }
        return set
    }

    /// Call first in the program, on the main thread.
    static func block() {
        var blocked = set()
        pthread_sigmask(SIG_BLOCK, &blocked, nil)
        signal(SIGPIPE, SIG_IGN)
        signal(SIGTTOU, SIG_IGN)
    }

    static func forward(to wakeups: Wakeups) {
        Thread.detachNewThread {
            var awaited = set()
            while true {
                var number: Int32 = 0
                if sigwait(&awaited, &number) == 0 { wakeups.post(.signal(number)) }
            }
        }
    }
}

/// The clocks of this moment.
func momentNow() -> Moment {
    var steady = timespec()
    var wall = timespec()
    clock_gettime(CLOCK_MONOTONIC, &steady)
    clock_gettime(CLOCK_REALTIME, &wall)
    return Moment(
        wall: Int64(wall.tv_sec) * 1_000 + Int64(wall.tv_nsec) / 1_000_000,
        steady: Int64(steady.tv_sec) * 1_000 + Int64(steady.tv_nsec) / 1_000_000)
}
