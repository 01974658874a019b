// What the machine itself takes now and then, for judging the longest turns of a loop: gaps of a thread that only reads
// the clock, and stalls of one that only reads memory. One thread.

import CSupport
import Glibc
import KVBase

enum MachineBench {
    static let usage = "gaps [SECONDS=5]|stalls [MIB=1200] [SECONDS=5]"
    /// As many reads as a loop does in a twentieth of a millisecond or so.
    private static let readsPerBatch = 2000

    static func run(_ arguments: [String]) -> Bool {
        let numbers = arguments.dropFirst().compactMap { Int($0) }
        switch arguments.first {
        case "gaps": gaps(seconds: numbers.first ?? 5)
        case "stalls": stalls(mebibytes: numbers.first ?? 1200, seconds: numbers.dropFirst().first ?? 5)
        default: return false
        }
        return true
    }

    /// Lengths above some bounds, in nanoseconds.
    private struct Lengths {
        var longest = 0
        var overOne = 0
        var overThree = 0

        mutating func add(_ nanos: Int) {
            longest = max(longest, nanos)
            if nanos > 1_000_000 { overOne += 1 }
            if nanos > 3_000_000 { overThree += 1 }
        }

        var text: String {
            "longest \(Double(longest / 10_000) / 100) ms, \(overOne) above 1 ms, \(overThree) above 3 ms"
        }
    }

    /// A thread that does nothing: what is taken from it others or the hypervisor took.
    private static func gaps(seconds: Int) {
        var lengths = Lengths()
        let start = monotonicNanos()
        var last = start
        while last - start < seconds * 1_000_000_000 {
            let now = monotonicNanos()
            lengths.add(now - last)
            last = now
        }
        print("gaps of a thread that reads the clock, \(seconds) s: \(lengths.text)")
    }

    /// Reads at random from memory that was written before, by the processor time of the thread.
    private static func stalls(mebibytes: Int, seconds: Int) {
        let bytes = mebibytes << 20
        var block: UnsafeMutableRawPointer?
        guard posix_memalign(&block, 2 << 20, bytes) == 0, let memory = block else { fatalError("out of memory") }
        defer { free(memory) }
        // Huge pages, as a store's records have.
        madvise(memory, bytes, 14)
        memset(memory, 1, bytes)
        var random = PRNG(seed: 1)
        var lengths = Lengths()
        var sum: UInt64 = 0
        var batches = 0
        let start = monotonicNanos()
        while monotonicNanos() - start < seconds * 1_000_000_000 {
            let before = cs_thread_nanos()
            for _ in 0..<readsPerBatch {
                sum &+= memory.load(fromByteOffset: random.below(bytes / 64) * 64, as: UInt64.self)
            }
            lengths.add(Int(cs_thread_nanos() - before))
            batches += 1
        }
        precondition(sum > 0)
        let average = Double(seconds) * 1000 / Double(batches)
        print(
            "\(readsPerBatch) random reads of \(mebibytes) MiB written before, by the processor, \(seconds) s: average "
                + "\(Double(Int(average * 1000)) / 1000) ms, \(lengths.text)")
    }
}
