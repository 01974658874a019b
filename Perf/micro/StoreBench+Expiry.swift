// Figures of deadlines: what one costs with a SET and apart from it, and what it takes when a million pass at once.

import KVBase
import KVCore

extension StoreBench {
    func expiry() {
        setWithDeadline()
        memoryOfDeadlines()
        passing()
    }

    /// Over the same records, with the same in-place overwrite.
    private func setWithDeadline() {
        let rounds = 1_000_000
        for batch in [1, 16] {
            let store = filled()
            let plain = best(rounds) { run in
                batched(store, batch, rounds, seed: run) { store.put($0, value: newValue, now: StoreBench.now) }
            }
            // A clock that moves, as every deadline is another one then.
            var now = StoreBench.now
            let inside = best(rounds) { run in
                batched(store, batch, rounds, seed: run) {
                    now += 1
                    store.put($0, value: newValue, deadline: .at(now + 3_600_000), now: now)
                }
            }
            let apart = best(rounds) { run in
                batched(store, batch, rounds, seed: run) {
                    now += 1
                    store.expire($0, at: now + 3_600_000, now: now)
                }
            }
            line("set, batches of \(batch)", plain, "ns")
            line("the same with a deadline", inside, "ns")
            line("a deadline set apart", apart, "ns")
            store.destroy()
        }
    }

    private func bytes(_ fill: (Store, HashedKey) -> Void) -> Double {
        let store = makeStore()
        defer { store.destroy() }
        for i in 0..<keys { fill(store, store.key(view(i))) }
        store.maintain()
        return Double(store.recordBytes + store.indexBytes + store.expiryBytes) / Double(keys)
    }

    private func memoryOfDeadlines() {
        for count in [58, 64] {
            let value = ByteView(self.value, count)
            let plain = bytes { $0.put($1, value: value, now: StoreBench.now) }
            let inside = bytes {
                $0.put(
                    $1, value: value, deadline: .at(StoreBench.now + Millis($1.hash & 0xFF_FFFF)), now: StoreBench.now)
            }
            line("bytes of a deadline beside a value of \(count)", inside - plain, "bytes")
            let apart = bytes {
                $0.put($1, value: value, now: StoreBench.now)
                $0.expire($1, at: StoreBench.now + 3_600_000, now: StoreBench.now)
            }
            line("bytes of a deadline set apart", apart - plain, "bytes")
        }
    }

    /// One deadline for all: every slice, and all together.
    private func passing() {
        let store = makeStore()
        defer { store.destroy() }
        let end = StoreBench.now + 60_000
        for i in 0..<keys { store.put(store.key(view(i)), value: newValue, deadline: .at(end), now: StoreBench.now) }
        store.maintain()
        slices("counting out", 128) { store.expireDue(now: end + 64, budget: 128) == 128 }
        slices("forgetting", 128) {
            store.sweepLeftovers(budget: 128) { _, _ in true }
            return store.storedCount > 0
        }
    }

    private func slices(_ name: String, _ size: Int, _ step: () -> Bool) {
        var (longest, count) = (0, 0)
        let start = monotonicNanos()
        var last = start
        var isLeft = true
        while isLeft {
            isLeft = step()
            let now = monotonicNanos()
            longest = max(longest, now - last)
            last = now
            count += 1
        }
        line("\(name), slices of \(size), longest", Double(longest) / 1_000, "us")
        line("\(name), on average", Double(last - start) / Double(count) / 1_000, "us")
        line("\(name), all", Double(last - start) / 1_000_000, "ms")
    }
}
