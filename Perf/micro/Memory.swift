// What the allocator and the system say about this process. Any thread.

import CMemory
import Glibc

enum Memory {
    private typealias Control =
        @convention(c) (
            UnsafePointer<CChar>, UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>?, UnsafeMutableRawPointer?, Int
        ) -> CInt

    /// jemalloc's mallctl, if it is linked in.
    private static let control: Control? = dlsym(nil, "mallctl").map { unsafeBitCast($0, to: Control.self) }

    private static func read(_ name: String) -> Int {
        guard let control else { return 0 }
        var epoch: UInt64 = 1
        _ = control("thread.tcache.flush", nil, nil, nil, 0)
        _ = control("epoch", nil, nil, &epoch, 8)
        var value = 0
        var size = 8
        return control(name, &value, &size, nil, 0) == 0 ? value : 0
    }

    /// Bytes in live allocations, rounded up to size classes.
    static var allocatedBytes: Int { read("stats.allocated") }

    /// Resident bytes of the process, after freed memory went back, as it does in an idle server.
    static var residentBytes: Int {
        cm_purge()
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var total = 0
        var resident = 0
        withUnsafeMutablePointer(to: &total) { t in
            withUnsafeMutablePointer(to: &resident) { r in
                withVaList([t, r]) { _ = vfscanf(file, "%ld %ld", $0) }
            }
        }
        return resident * 4096
    }
}
