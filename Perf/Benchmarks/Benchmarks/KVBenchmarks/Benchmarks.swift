// What is measured and what it may allocate: the gates of the request path. Run by `sh Perf/Benchmarks/run`.

import Benchmark
import Glibc
import KVBase
import KVCore
import RESP

let benchmarks: @Sendable () -> Void = {
    let operations = StoreFixture.operations

    gated("store get", operations: operations, gate: 0, prepare: { StoreFixture() }) { fixture in
        fixture.pass { blackHole(fixture.store.get($0, now: StoreFixture.now)) }
    }
    // The journal takes a chunk for each 1,024 writes.
    gated("store set in place", operations: operations, gate: 1, prepare: { StoreFixture() }) { fixture in
        fixture.pass { key in
            fixture.store.put(key, value: ByteView(fixture.value, StoreFixture.valueBytes), now: StoreFixture.now)
        }
    }
    gated("store set of another length", operations: operations, gate: 1000, prepare: { StoreFixture() }) { fixture in
        // Another length for the same key in each pass.
        fixture.round = (fixture.round + 8) & 63
        fixture.pass { key in
            let length = 40 + Int(truncatingIfNeeded: key.hash & 63) ^ fixture.round
            fixture.store.put(key, value: ByteView(fixture.value, length), now: StoreFixture.now)
        }
    }
    gated(
        "set of a shared record, merged by a sibling", operations: operations, gate: 1000, prepare: SiblingsFixture.init
    ) {
        $0.pass()
    }
    gated("store list of 100, per entry", operations: operations, gate: 10, prepare: { StoreFixture() }) { fixture in
        var bytes = 0
        for place in 0..<operations / 100 {
            let page = fixture.store.list(
                prefix: UnsafeRawBufferPointer(start: nil, count: 0),
                after: UnsafeRawBufferPointer(start: fixture.key(place * 37), count: 16), limit: 100,
                now: StoreFixture.now)
            for i in 0..<page.count { bytes += page[i].valueCount }
        }
        blackHole(bytes)
    }
    gated("parse GET, pipelined", operations: operations, gate: 0, prepare: { RequestFixture(writes: false) }) {
        $0.parse()
    }
    gated(
        "parse SET of 64 bytes, pipelined", operations: operations, gate: 0, prepare: { RequestFixture(writes: true) }
    ) {
        $0.parse()
    }
    gated("write a reply of 64 bytes", operations: operations, gate: 0, prepare: { ReplyFixture() }) { $0.write() }
}
