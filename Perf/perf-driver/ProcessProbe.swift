// What the kernel says about a server's process: CPU time, memory, context switches. Linux only, any thread.

import Foundation

struct ProcessSample: Sendable {
    /// Nanoseconds on a CPU, all threads, from schedstat: exact to the last switch or tick, not counted in clock ticks.
    var cpuNanos = 0
    /// Nanoseconds in which a thread could have run and had no processor, all threads.
    var waitNanos = 0
    /// `cpuNanos` of each thread.
    private var nanosByThread: [String: Int] = [:]
    var residentBytes = 0
    var contextSwitches = 0

    /// nil if there is no such process or it is not ours to look at.
    init?(pid: Int32) {
        guard let threads = try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task") else {
            return nil
        }
        for thread in threads {
            let statistics = readText("/proc/\(pid)/task/\(thread)/schedstat") ?? ""
            let nanos = statistics.split(separator: " ").prefix(2).compactMap { Int($0) }
            guard nanos.count == 2 else { continue }
            cpuNanos += nanos[0]
            waitNanos += nanos[1]
            nanosByThread[thread] = nanos[0]
            for line in (readText("/proc/\(pid)/task/\(thread)/status") ?? "").split(separator: "\n")
            where line.contains("ctxt_switches") {
                contextSwitches += line.split(whereSeparator: { $0 == "\t" || $0 == " " }).last.flatMap { Int($0) } ?? 0
            }
        }
        let pages = readText("/proc/\(pid)/statm")?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        residentBytes = pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    /// Nanoseconds that the thread which ran most has run since `earlier`.
    func busiestNanos(since earlier: ProcessSample) -> Int {
        nanosByThread.map { $0.value - (earlier.nanosByThread[$0.key] ?? 0) }.max() ?? 0
    }
}

/// Nanoseconds that the hypervisor gave to others since the machine started, all processors together; 0 if not told.
func stolenNanos() -> Int {
    // cpu user nice system idle iowait irq softirq steal …, in ticks.
    let all = readText("/proc/stat")?.split(separator: "\n").first?.split(separator: " ") ?? []
    guard all.count > 8, let ticks = Int(all[8]) else { return 0 }
    return ticks * (1_000_000_000 / max(1, sysconf(Int32(_SC_CLK_TCK))))
}

/// The first 4 KiB of a file of the kernel's.
private func readText(_ path: String) -> String? {
    let fd = open(path, O_RDONLY)
    guard fd >= 0 else { return nil }
    defer { close(fd) }
    var buffer = [UInt8](repeating: 0, count: 4096)
    let n = read(fd, &buffer, buffer.count)
    return n > 0 ? String(decoding: buffer[..<n], as: UTF8.self) : nil
}
