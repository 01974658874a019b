// How much memory the process may use before clients' writes are refused: `--maxmemory`. Any thread.

import Glibc
import KVBase
import KVRuntime
import Synchronization

/// Memory is counted as the allocator does. Only what clients add is refused: replication, deletes and expiry always
/// apply, as replicas would differ else.
package final class MemoryLimit: Sendable {
    /// What is measured is good for so long, near the limit and far below it: the allocator needs a tenth of a
    /// millisecond to count.
    private static let nearNanos = 10_000_000
    private static let farNanos = 250_000_000
    /// From here on nobody reaches the limit meanwhile.
    private static let farBytes = 512 << 20
    /// From here on the log says so, once.
    static let alarmPercent = 90

    private let most: Atomic<Int>
    private let measuredBytes = Atomic<Int>(0)
    private let measuredAt = Atomic<Int>(0)
    private let refusedCount = Atomic<Int>(0)
    private let alarm = Atomic<Bool>(false)
    private let measure: @Sendable () -> Int

    /// `most`: bytes; 0 for no limit. `measure`: how many are in use.
    package init(_ most: Int, measure: @escaping @Sendable () -> Int = { Memory.allocatedBytes() }) {
        self.most = Atomic(most)
        self.measure = measure
    }

    /// 0 for no limit.
    package var bytes: Int { most.load(ordering: .relaxed) }
    /// See `MemoryHeadroom.noticeLimit`.
    package func set(_ bytes: Int) { most.store(bytes, ordering: .relaxed) }

    /// Writes of clients that were refused.
    package var refused: Int { refusedCount.load(ordering: .relaxed) }
    func noteRefused() { refusedCount.add(1, ordering: .relaxed) }

    /// Whether what is in use passes the limit, as of the last look, which is not old.
    var isPassed: Bool {
        let most = self.bytes
        guard most > 0 else { return false }
        let now = Int(Machine.monotonicNanos)
        let before = measuredAt.load(ordering: .relaxed)
        let isFar = measuredBytes.load(ordering: .relaxed) < most - MemoryLimit.farBytes
        if now - before >= (isFar ? MemoryLimit.farNanos : MemoryLimit.nearNanos),
            measuredAt.compareExchange(expected: before, desired: now, ordering: .relaxed).exchanged
        {
            measuredBytes.store(measure(), ordering: .relaxed)
        }
        return measuredBytes.load(ordering: .relaxed) > most
    }

    /// A line when little is left, once until there is more again. Every tenth of a second or so, one thread.
    func news() -> String? {
        let most = self.bytes
        guard most > 0 else { return nil }
        _ = isPassed
        let used = measuredBytes.load(ordering: .relaxed)
        let isHigh = used > most / 100 * MemoryLimit.alarmPercent
        defer { alarm.store(isHigh, ordering: .relaxed) }
        guard isHigh, !alarm.load(ordering: .relaxed) else { return nil }
        return "\(Memory.human(used)) of --maxmemory \(Memory.human(most)) are in use: above it writes are refused"
    }

    /// Redis's units: b, k, kb, m, mb, g, gb, in any case; nil if `text` is none.
    package static func parse(_ text: String) -> Int? {
        let lowered = text.lowercased()
        let digits = lowered.prefix { $0.isASCII && $0.isNumber }
        let units = [
            "": 1, "b": 1, "k": 1000, "kb": 1 << 10, "m": 1_000_000, "mb": 1 << 20, "g": 1_000_000_000, "gb": 1 << 30,
        ]
        guard let number = Int(digits), let unit = units[String(lowered.dropFirst(digits.count))] else { return nil }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: unit)
        return overflow ? nil : bytes
    }

    /// Kept free at least of what there is: the program, its buffers, and what deleting everything takes meanwhile.
    private static let reserveBytesMin = 160 << 20

    /// Four fifths of `all`; less where little is left then, but half at least.
    static func standard(of all: Int) -> Int { max(all / 2, all - max(all / 5, reserveBytesMin)) }

    /// Of what the machine has, or of what the process's control group or `ulimit -v` allows. Reads some files.
    package static let standard: Int = {
        var least = Int(sysconf(Int32(_SC_PHYS_PAGES))) * Int(sysconf(Int32(_SC_PAGESIZE)))
        for limit in groupLimits where limit > 0 { least = min(least, limit) }
        var addresses = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &addresses) == 0 {
            least = min(least, Int(clamping: addresses.rlim_cur))
        }
        return standard(of: least)
    }()

    /// Of both kinds of control groups, as far as the files are there and hold a number.
    private static var groupLimits: [Int] {
        let lines = text(of: "/proc/self/cgroup").split(separator: "\n")
        var files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        for line in lines {
            let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            // Each group above may allow less.
            var path = String(parts[2])
            while path.count > 1 {
                files.append(parts[1].isEmpty ? "/sys/fs/cgroup\(path)/memory.max" : "")
                if parts[1].split(separator: ",").contains("memory") {
                    files.append("/sys/fs/cgroup/memory\(path)/memory.limit_in_bytes")
                }
                path = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
            }
        }
        return files.filter { !$0.isEmpty }.compactMap { Int(text(of: $0).prefix { $0.isNumber }) }
    }

    private static func text(of path: String) -> String {
        (try? SecretFile.contents(of: path, bytesMax: 64 * 1024)).map { String(decoding: $0, as: UTF8.self) } ?? ""
    }
}
