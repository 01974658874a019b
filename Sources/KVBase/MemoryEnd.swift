// What happens where memory that must be had is not to be had. Any thread.

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Says in one line that `bytes` could not be had, and ends the process: the store's state is half changed, and other
/// servers have what was acknowledged. Takes no memory. The type lets it stand behind `??`.
package func outOfMemory(_ bytes: Int) -> UnsafeMutableRawPointer {
    func say(_ text: StaticString) { _ = write(2, text.utf8Start, text.utf8CodeUnitCount) }
    var digits: (UInt64, UInt64, UInt64) = (0, 0, 0)
    say("out of memory: no ")
    withUnsafeMutableBytes(of: &digits) { room in
        var (rest, at) = (UInt(max(0, bytes)), room.count)
        repeat {
            at -= 1
            room[at] = 48 + UInt8(rest % 10)
            rest /= 10
        } while rest > 0
        _ = write(2, room.baseAddress! + at, room.count - at)
    }
    say(" bytes more, by the limit of this process (ulimit -v) or of this machine\n")
    _exit(memoryEndCode)
}

/// EX_OSERR of sysexits.
private let memoryEndCode: Int32 = 71
