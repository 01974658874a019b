// Lines on their way to standard error: whoever logs never waits for whoever reads. Any thread, and one that writes.

import Glibc
import KVRuntime
import Synchronization

/// A bounded queue with a thread behind it. What does not fit is dropped, counted, and told once there is room again.
package final class LogQueue: Sendable {
    /// Bytes that wait; a line that does not fit is dropped.
    package static let bytesMax = 256 * 1024

    private struct State {
        var waiting: [UInt8] = []
        /// Since the last line that says so.
        var dropped = 0
        var isWriting = false
        var isStarted = false
    }

    private let state = Mutex(State())
    private let descriptor: Int32
    /// Posted when there is something to write.
    private let wake = SystemSemaphore()

    package init(descriptor: Int32 = STDERR_FILENO) { self.descriptor = descriptor }

    /// For as long as the process lives, which the thread does too.
    package static let standardError = LogQueue()

    /// `line` without its end. The lock is held for as long as the line is copied.
    package func write(_ line: String) {
        let needsThread = state.withLock { state in
            guard state.waiting.count + line.utf8.count < LogQueue.bytesMax else {
                state.dropped += 1
                return false
            }
            state.waiting.append(contentsOf: line.utf8)
            state.waiting.append(10)
            defer { state.isStarted = true }
            return !state.isStarted
        }
        if needsThread { start() }
        wake.post()
    }

    package var droppedLines: Int { state.withLock { $0.dropped } }

    private func start() {
        // Never ends, so that the reference is never given back.
        _ = SystemThread.detach(blocksSignals: true) { self.run() }
    }

    private func run() {
        while true {
            wake.wait()
            // Lines are dropped only while what waits is full, so they came after all of it.
            var (bytes, dropped) = ([UInt8](), 0)
            state.withLock { state in
                swap(&bytes, &state.waiting)
                swap(&dropped, &state.dropped)
                state.isWriting = true
            }
            writeOut(bytes)
            if dropped > 0 { writeOut(Array(LogQueue.text(dropped: dropped).utf8)) }
            state.withLock { $0.isWriting = false }
        }
    }

    private static func text(dropped: Int) -> String {
        "kvd: \(dropped) lines of the log were dropped here: standard error took nothing for a while\n"
    }

    private func writeOut(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { bytes in
            var at = 0
            while at < bytes.count {
                let n = Glibc.write(descriptor, bytes.baseAddress! + at, bytes.count - at)
                if n > 0 {
                    at += n
                } else if n < 0, errno == EAGAIN {
                    var ready = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    _ = poll(&ready, 1, -1)
                } else if n < 0, errno == EINTR {
                    continue
                } else {
                    // Nobody will ever read it.
                    return
                }
            }
        }
    }

    /// Before the process ends: waits until everything is written, for as long as it may take.
    package func flush(withinMillis: Int = 300) {
        for _ in 0..<withinMillis {
            if state.withLock({ $0.waiting.isEmpty && $0.dropped == 0 && !$0.isWriting }) { return }
            usleep(1000)
        }
    }
}
