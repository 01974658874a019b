// Standard input and output, and the terminal behind them: raw mode that is left again however the program ends.

import Synchronization

#if canImport(Glibc)
    @preconcurrency import Glibc
#elseif canImport(Musl)
    @preconcurrency import Musl
#elseif canImport(Darwin)
    @preconcurrency import Darwin
#endif

enum Terminal {
    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    static func isTerminal(_ fd: Int32) -> Bool { isatty(fd) == 1 }

    static func environment(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    // MARK: Output

    static func write(_ text: String) { write(Array(text.utf8)) }

    /// All of the bytes to standard output. A reader that has gone (`kv list | head`) ends the program as SIGPIPE
    /// would; SwiftNIO ignores that signal.
    static func write(_ bytes: [UInt8]) {
        if !write(bytes, to: 1) {
            let reason = errno
            if reason != EPIPE { complain("standard output: \(message(reason))") }
            leaveRaw()
            exit(reason == EPIPE ? 128 + SIGPIPE : 1)
        }
    }

    /// One line to standard error.
    static func complain(_ text: String) { _ = write(Array("kv: \(text)\n".utf8), to: 2) }

    /// To standard error, as it is.
    static func note(_ text: String) { _ = write(Array(text.utf8), to: 2) }

    /// Milliseconds since 1970.
    static var nowMillis: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }

    private static func write(_ bytes: [UInt8], to fd: Int32) -> Bool {
        bytes.withUnsafeBytes { bytes in
            var at = 0
            while at < bytes.count {
                #if canImport(Darwin)
                    let n = Darwin.write(fd, bytes.baseAddress! + at, bytes.count - at)
                #elseif canImport(Musl)
                    let n = Musl.write(fd, bytes.baseAddress! + at, bytes.count - at)
                #else
                    let n = Glibc.write(fd, bytes.baseAddress! + at, bytes.count - at)
                #endif
                if n < 0 {
                    if errno == EINTR { continue }
                    if errno == EAGAIN {
                        var ready = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
                        _ = poll(&ready, 1, -1)
                        continue
                    }
                    return false
                }
                at += n
            }
            return true
        }
    }

    static func message(_ code: Int32) -> String { String(cString: strerror(code)) }

    // MARK: Input

    /// Bytes that are there, waiting at most `withinMillis` (-1: as long as it takes); empty at the end of input, nil
    /// when the time is over.
    static func read(withinMillis: Int32 = -1) -> [UInt8]? {
        while true {
            var ready = pollfd(fd: 0, events: Int16(POLLIN), revents: 0)
            let n = poll(&ready, 1, withinMillis)
            if n < 0 && errno == EINTR { continue }
            if n == 0 { return nil }
            var chunk = [UInt8](repeating: 0, count: 65536)
            #if canImport(Darwin)
                let got = Darwin.read(0, &chunk, chunk.count)
            #elseif canImport(Musl)
                let got = Musl.read(0, &chunk, chunk.count)
            #else
                let got = Glibc.read(0, &chunk, chunk.count)
            #endif
            if got < 0 && (errno == EINTR || errno == EAGAIN) { continue }
            return got <= 0 ? [] : Array(chunk[..<got])
        }
    }

    /// Largest value read from standard input: the server's limit is below it.
    static let inputBytesMax = 512 * 1024 * 1024

    static func readAll() throws -> [UInt8] {
        var all: [UInt8] = []
        while let chunk = read(), !chunk.isEmpty {
            all += chunk
            guard all.count <= inputBytesMax else {
                throw Failure(description: "standard input is too long for a value")
            }
        }
        return all
    }

    /// The lines of standard input as they are, valid text or not, without their ends.
    struct Lines {
        private var bytes: [UInt8] = []
        private var at = 0
        private var isOver = false

        /// Nil at the end of input.
        mutating func next() throws -> [UInt8]? {
            var seen = at
            while true {
                if let end = bytes[seen...].firstIndex(of: 10) {
                    defer { at = end + 1 }
                    let isCRLF = end > at && bytes[end - 1] == 13
                    return Array(bytes[at..<(isCRLF ? end - 1 : end)])
                }
                if isOver {
                    defer { at = bytes.count }
                    return at < bytes.count ? Array(bytes[at...]) : nil
                }
                bytes.removeFirst(at)
                at = 0
                seen = bytes.count
                guard seen <= inputBytesMax else { throw Failure(description: "a line is too long for a value") }
                let chunk = read() ?? []
                isOver = chunk.isEmpty
                bytes += chunk
            }
        }
    }

    // MARK: Raw mode

    /// All zeros at first, so no optional: of one whose nil is no zero in memory, in a static mutex, the optimiser of
    /// Swift 6.3 loses the nil.
    private struct Raw {
        var before = termios()
        var isKnown = false
        var isRaw = false
    }

    private static let raw = Mutex(Raw())

    /// Keys arrive one by one, unechoed. With `signals` Ctrl-C still interrupts, for while a request runs: what is
    /// typed ahead meanwhile is kept as it is, Ctrl-Z and Ctrl-D included. False when standard input is no terminal.
    @discardableResult
    static func enterRaw(signals: Bool = false) -> Bool {
        raw.withLock { raw in
            if !raw.isKnown {
                guard tcgetattr(0, &raw.before) == 0 else { return false }
                raw.isKnown = true
            }
            var settings = raw.before
            settings.c_lflag &= ~tcflag_t(ICANON | ECHO | IEXTEN)
            if !signals { settings.c_lflag &= ~tcflag_t(ISIG) }
            settings.c_iflag &= ~tcflag_t(ICRNL | IXON | INLCR | IGNCR)
            withUnsafeMutableBytes(of: &settings.c_cc) { $0[Int(VSUSP)] = 0 }
            raw.isRaw = tcsetattr(0, TCSADRAIN, &settings) == 0
            return raw.isRaw
        }
    }

    /// Back to how the terminal was. May be called at any time, also when it is not raw.
    static func leaveRaw() {
        raw.withLock { raw in
            guard raw.isRaw else { return }
            tcsetattr(0, TCSADRAIN, &raw.before)
            raw.isRaw = false
        }
    }

    /// Stops the program as Ctrl-Z does, with the terminal as it was; returns when it is continued.
    static func suspend() {
        leaveRaw()
        raw.withLock { $0.isKnown = false }
        kill(0, SIGTSTP)
    }

    static var columns: Int {
        var size = winsize()
        return ioctl(1, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0 ? Int(size.ws_col) : 80
    }
}
