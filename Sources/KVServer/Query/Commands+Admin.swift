// TIME and INFO. Handlers; loop thread.

import Glibc
import KVBase
import RESP

extension Commands {
    @Sendable static func time(_ x: inout Execution) {
        var t = timespec()
        clock_gettime(CLOCK_REALTIME, &t)
        x.output.pointee.arrayHeader(2)
        x.output.pointee.bulk(String(t.tv_sec))
        x.output.pointee.bulk(String(t.tv_nsec / 1000))
    }

    // INFO

    @Sendable static func info(_ x: inout Execution) {
        var wanted: Set<String> = []
        for k in 1..<x.count { wanted.insert(x.argument(k).lowercased) }
        let all = Set(Info.sections.map { $0.0.lowercased() })
        if !wanted.isDisjoint(with: ["all", "everything"]) {
            wanted = all
        } else if wanted.contains("default") {
            wanted.formUnion(all.subtracting(Info.onDemand))
        }
        var text = OutputBuffer(capacity: 4096)
        Info.write(sections: wanted, shard: x.shard, into: &text)
        x.output.pointee.verbatim(text.bytes, resp3: x.resp3)
        text.deallocate()
    }
}
