// How much memory the process uses, for INFO. Any thread.

import Glibc
import Synchronization

/// The most that was allocated whenever somebody looked: each second, and at each INFO.
final class MemoryPeak: Sendable {
    private let peak = Atomic<Int>(0)
    private let first = Atomic<Int>(0)

    func note(_ bytes: Int) {
        _ = first.compareExchange(expected: 0, desired: bytes, ordering: .relaxed)
        peak.max(bytes, ordering: .relaxed)
    }

    var bytes: Int { peak.load(ordering: .relaxed) }
    /// At the first look.
    var startBytes: Int { first.load(ordering: .relaxed) }
}

enum Memory {
    private typealias Control =
        @convention(c) (
            UnsafePointer<CChar>, UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>?, UnsafeMutableRawPointer?, Int
        ) -> Int32

    /// jemalloc's `mallctl` when that is the allocator: looked up by name, because sanitizer builds go without it.
    private static let control: Control? = {
        guard let symbol = dlsym(nil, "mallctl") else { return nil }
        return unsafeBitCast(symbol, to: Control.self)
    }()

    static var allocator: String { control == nil ? "libc" : "jemalloc" }

    /// Bytes the program has allocated and not freed.
    static func allocatedBytes() -> Int {
        guard let control else { return residentBytes() }
        // Statistics are refreshed when the epoch is advanced.
        var epoch: UInt64 = 1
        _ = control("epoch", nil, nil, &epoch, MemoryLayout<UInt64>.size)
        var bytes = 0
        var size = MemoryLayout<Int>.size
        return control("stats.allocated", &bytes, &size, nil, 0) == 0 ? bytes : 0
    }

    /// The allocator parts with the memory of everything that was freed, in all arenas. Takes milliseconds.
    static func purge() { _ = control?("arena.4096.purge", nil, nil, nil, 0) }

    /// Bytes of memory the kernel counts as resident.
    static func residentBytes() -> Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, Int32(line.count), file) != nil else { return 0 }
        let fields = line.prefix(while: { $0 != 0 }).split(separator: CChar(UInt8(ascii: " ")))
        guard fields.count > 1 else { return 0 }
        let pages = fields[1].reduce(0) { $0 * 10 + Int($1) - 48 }
        return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    /// Bytes in pages that the allocator uses, and that it has from the kernel.
    static func allocatorBytes() -> (active: Int, resident: Int) {
        guard control != nil else { return (residentBytes(), residentBytes()) }
        return (statistic("stats.active"), statistic("stats.resident"))
    }

    /// Of an epoch that `allocatedBytes` began.
    private static func statistic(_ name: String) -> Int {
        var (bytes, size) = (0, MemoryLayout<Int>.size)
        return control?(name, &bytes, &size, nil, 0) == 0 ? bytes : 0
    }

    /// Bytes of this machine's memory.
    static let machineBytes = Int(sysconf(Int32(_SC_PHYS_PAGES))) * Int(sysconf(Int32(_SC_PAGESIZE)))

    /// As Redis prints it: `1.50M`.
    static func human(_ bytes: Int) -> String {
        var value = Double(bytes)
        var unit = 0
        let units = ["B", "K", "M", "G", "T"]
        while value >= 1024, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        if unit == 0 { return "\(bytes)B" }
        let hundredths = Int((value * 100).rounded())
        let fraction = String(hundredths % 100)
        return "\(hundredths / 100)." + (fraction.count == 1 ? "0" : "") + fraction + units[unit]
    }
}
