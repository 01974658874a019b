// Which of the two event loop backends runs, and the choice between them at start. Any thread.

import CSupport
import Glibc

/// What a user may ask for with `--io`.
package enum LoopBackendChoice: String, Sendable, CaseIterable {
    case auto
    case ioUring = "io_uring"
    case epoll
}

package enum LoopBackend: String, Sendable, CaseIterable {
    case ioUring = "io_uring"
    case epoll

    var raw: UInt32 { self == .ioUring ? CS_BACKEND_URING : CS_BACKEND_EPOLL }

    /// nil if a real ring with buffers works here, else why it does not. Costs a few system calls.
    package static func ioUringRefusal() -> SocketFailure? {
        let result = cs_probe_uring()
        return result == 0 ? nil : SocketFailure("io_uring is not available", code: -result)
    }

    /// The backend for `choice`, with the reason when `auto` had to fall back (for one log line). Throws only when
    /// io_uring was asked for by name and is refused.
    package static func select(_ choice: LoopBackendChoice) throws -> (backend: LoopBackend, refusal: SocketFailure?) {
        if choice == .epoll { return (.epoll, nil) }
        guard let refusal = ioUringRefusal() else { return (.ioUring, nil) }
        if choice == .ioUring { throw refusal }
        return (.epoll, refusal)
    }
}

/// Clocks and processors, for whoever runs loops. Any thread.
package enum Machine {
    /// Milliseconds since 1970.
    package static var wallMillis: Int64 { cs_wall_millis() }
    /// Nanoseconds of a clock that never goes back.
    package static var monotonicNanos: Int64 { cs_monotonic_nanos() }
    /// Processors this process may use.
    package static var processorCount: Int { Int(cs_processor_count()) }

    /// As its user set it; empty if that fails.
    package static var hostName: String {
        var text = [CChar](repeating: 0, count: 256)
        guard gethostname(&text, text.count - 1) == 0 else { return "" }
        return text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }
    /// Raises the limit of open descriptors as far as allowed; returns it.
    package static func raiseOpenFilesLimit() -> Int { Int(cs_raise_open_files()) }
    package static func ignoreBrokenPipes() { cs_ignore_broken_pipes() }
    /// One line on standard error, written at once so that lines of several threads do not mix.
    package static func writeStandardError(_ line: String) {
        let text = line + "\n"
        _ = text.utf8.withContiguousStorageIfAvailable { Glibc.write(2, $0.baseAddress!, $0.count) }
    }
    /// What of a file is in the page cache only is on its way to the disk when this returns. No promise.
    package static func beginWriting(_ descriptor: Int32) { cs_begin_writing(descriptor) }
    /// 64 bits from the kernel's generator, for seeds and identifiers.
    package static func random() -> UInt64 { cs_random() }
}
