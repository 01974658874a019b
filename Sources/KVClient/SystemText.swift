// The system's words for an error. Any thread.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// As `strerror`, but safe from any thread.
func systemText(_ code: CInt) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { room in
        strerror_r(code, room.baseAddress!, room.count) == 0 ? String(cString: room.baseAddress!) : "error \(code)"
    }
}

/// Why a file cannot be read; nil if it can.
func readingFault(_ path: String) -> String? { access(path, R_OK) == 0 ? nil : systemText(errno) }
