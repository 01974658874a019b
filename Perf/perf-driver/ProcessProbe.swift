// What the kernel says about a server's process: CPU time, memory, context switches. Linux only, any thread.

import Foundation

struct ProcessSample: Sendable {
    /// Nanoseconds on a CPU, all threads, from schedstat: exact to the last switch or tick, not counted in clock ticks.
    var cpuNanos = 0
    var residentBytes = 0
    var contextSwitches = 0

    /// nil if there is no such process or it is not ours to look at.
    init?(pid: Int32) {
        guard let threads = try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task") else {
            return nil
        }
        for thread in threads {
            guard let statistics = Self.read("/proc/\(pid)/task/\(thread)/schedstat"),
                let nanos = statistics.split(separator: " ").first.flatMap({ Int($0) })
            else { continue }
            cpuNanos += nanos
            for line in (Self.read("/proc/\(pid)/task/\(thread)/status") ?? "").split(separator: "\n")
            where line.contains("ctxt_switches") {
                contextSwitches += line.split(whereSeparator: { $0 == "\t" || $0 == " " }).last.flatMap { Int($0) } ?? 0
            }
        }
        let pages = Self.read("/proc/\(pid)/statm")?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        residentBytes = pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    private static func read(_ path: String) -> String? {
        let fd = open(path, O_RDONLY)
        guard fd >= 0 else { return nil }
        defer { close(fd) }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let n = Glibc.read(fd, &buffer, buffer.count)
        return n > 0 ? String(decoding: buffer[..<n], as: UTF8.self) : nil
    }
}
