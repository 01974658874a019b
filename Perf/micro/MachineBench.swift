// What the machine itself does, for judging figures of ours: gaps of a thread that only reads the clock, stalls of one
// that only reads memory, alone or beside one that takes fresh memory, prefetches that never come.

import CIntrinsics
import CSupport
import Glibc
import KVBase

enum MachineBench {
    static let usage = "gaps [SECONDS=5]|stalls [MIB=1200] [SECONDS=5] [FRESH_MIB_A_SECOND=0] [READS=2000]|prefetch"

    static func run(_ arguments: [String]) -> Bool {
        let numbers = arguments.dropFirst().compactMap { Int($0) }
        switch arguments.first {
        case "gaps": gaps(seconds: numbers.first ?? 5)
        case "stalls":
            stalls(
                mebibytes: numbers.first ?? 1200, seconds: numbers.dropFirst().first ?? 5,
                fresh: numbers.dropFirst(2).first ?? 0, reads: numbers.dropFirst(3).first ?? 2000)
        case "prefetch": prefetch()
        default: return false
        }
        return true
    }

    /// `bytes` written once, in huge pages as a store's records are. The caller frees it.
    private static func written(_ bytes: Int) -> UnsafeMutableRawPointer {
        var block: UnsafeMutableRawPointer?
        guard posix_memalign(&block, 2 << 20, bytes) == 0, let memory = block else { fatalError("out of memory") }
        madvise(memory, bytes, 14)
        memset(memory, 1, bytes)
        return memory
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
        cs_pin_thread(0)
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

    /// Reads at random from memory that was written before, by the processor time of the thread, on the first
    /// processor. With `fresh` a thread on the second is busy all the time and takes so many MiB of fresh memory a
    /// second, as a server's client and its warmer do while the server grows. 2,000 reads take a twentieth of a
    /// millisecond or so.
    private static func stalls(mebibytes: Int, seconds: Int, fresh: Int, reads: Int) {
        let bytes = mebibytes << 20
        let memory = written(bytes)
        defer { free(memory) }
        let other = fresh > 0 ? startTaking(mebibytesPerSecond: fresh, seconds: seconds) : nil
        defer { if let other { pthread_join(other, nil) } }
        cs_pin_thread(0)
        var random = PRNG(seed: 1)
        var lengths = Lengths()
        var sum: UInt64 = 0
        var batches = 0
        let start = monotonicNanos()
        while monotonicNanos() - start < seconds * 1_000_000_000 {
            let before = cs_thread_nanos()
            for _ in 0..<reads {
                sum &+= memory.load(fromByteOffset: random.below(bytes / 64) * 64, as: UInt64.self)
            }
            lengths.add(Int(cs_thread_nanos() - before))
            batches += 1
        }
        precondition(sum > 0)
        let average = Double(seconds) * 1000 / Double(batches)
        let beside = fresh > 0 ? ", beside a thread that takes \(fresh) MiB/s of fresh memory" : ""
        print(
            "\(reads) random reads of \(mebibytes) MiB written before\(beside), by the processor, \(seconds) s: "
                + "average \(Double(Int(average * 1000)) / 1000) ms, \(lengths.text)")
    }

    /// Returns when the thread is on the second processor: which that is depends on those of the first thread.
    private static func startTaking(mebibytesPerSecond: Int, seconds: Int) -> pthread_t {
        let pinned = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
        sem_init(pinned, 0, 0)
        let address = UInt(bitPattern: pinned)
        let thread = Threads.start {
            cs_pin_thread(1)
            sem_post(UnsafeMutablePointer<sem_t>(bitPattern: address)!)
            take(mebibytesPerSecond: mebibytesPerSecond, seconds: seconds)
        }
        while sem_wait(pinned) != 0 {}
        sem_destroy(pinned)
        pinned.deallocate()
        return thread
    }

    private static func take(mebibytesPerSecond: Int, seconds: Int) {
        let page = 2 << 20
        let pages = mebibytesPerSecond * seconds / 2
        let map = mmap(nil, (pages + 1) * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        defer { munmap(map, (pages + 1) * page) }
        let memory = map.alignedUp(toMultipleOf: page)
        madvise(memory, pages * page, 14)
        let start = monotonicNanos()
        for i in 0..<pages {
            memory.storeBytes(of: 1, toByteOffset: i * page, as: UInt8.self)
            wait(nanos: start + (i + 1) * seconds * 1_000_000_000 / pages - monotonicNanos())
        }
    }

    /// Random lines of 128 MiB asked for at once, each read 3 us later: how many had not come, by how long that took.
    private static func prefetch() {
        let bytes = 128 << 20
        let memory = written(bytes)
        defer { free(memory) }
        var random = PRNG(seed: 1)
        var sum: UInt64 = 0
        let places = UnsafeMutablePointer<Int>.allocate(capacity: 64)
        defer { places.deallocate() }
        for burst in [1, 4, 8, 12, 16, 20, 24, 32, 48, 64] {
            var late = 0
            let rounds = 200_000 / burst
            for _ in 0..<rounds {
                for i in 0..<burst { places[i] = random.below(bytes / 64) * 64 }
                for i in 0..<burst { ci_prefetch(memory + places[i]) }
                wait(nanos: 3000)
                for i in 0..<burst {
                    let before = monotonicNanos()
                    sum &+= memory.load(fromByteOffset: places[i], as: UInt64.self)
                    // The next reading of the clock depends on what was read.
                    if monotonicNanos() &+ Int(sum & 0) - before > 90 { late += 1 }
                }
            }
            let share = Double(late * 1000 / (rounds * burst)) / 10
            print("\(burst) lines prefetched at once: \(share) % not there 3 us later")
        }
        precondition(sum > 0)
    }

    private static func wait(nanos: Int) {
        let end = monotonicNanos() + nanos
        while monotonicNanos() < end {}
    }
}
