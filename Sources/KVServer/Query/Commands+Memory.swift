// MEMORY: of one key, and of the process. Handlers; loop thread.

import KVBase
import KVCore
import RESP

extension Commands {
    @Sendable static func memory(_ x: inout Execution) {
        switch x.argument(1) {
        case let sub where sub.equals("HELP"): x.help(memoryHelp)
        case let sub where sub.equals("USAGE"): memoryUsage(&x)
        case let sub where sub.equals("STATS"):
            guard x.count == 2 else { return x.wrongArity("memory|stats") }
            memoryStats(&x)
        case let sub where sub.equals("DOCTOR"):
            guard x.count == 2 else { return x.wrongArity("memory|doctor") }
            let context = x.shard.context
            let used = Memory.allocatedBytes()
            context.memoryPeak.note(used)
            x.output.pointee.verbatim(
                Advice.onMemory(
                    used: used, resident: Memory.residentBytes(), peak: context.memoryPeak.bytes,
                    clients: context.connectedClients, unfinished: context.heldInput), resp3: x.resp3)
        case let sub where sub.equals("PURGE"):
            guard x.count == 2 else { return x.wrongArity("memory|purge") }
            Memory.purge()
            x.output.pointee.ok()
        default: x.unknownSubcommand(of: "MEMORY")
        }
    }

    private static func memoryUsage(_ x: inout Execution) {
        guard x.count >= 3 else { return x.wrongArity("memory|usage") }
        if x.isRefused(isWrite: false) { return }
        for k in stride(from: 3, to: x.count, by: 2) {
            guard x.argument(k, is: "SAMPLES"), k + 1 < x.count else { return x.error("ERR syntax error") }
            guard let samples = x.integer(k + 1) else {
                return x.error("ERR value is not an integer or out of range")
            }
            if samples < 0 { return x.error("ERR syntax error") }
        }
        x.storeKeys(first: 2, last: 2, step: 1)
        let key = x.argument(2)
        guard x.acceptsKey(key) else { return }
        guard let record = x.get(key) else { return x.output.pointee.null(resp3: x.resp3) }
        x.output.pointee.integer(record.allocatedBytes + x.store.indexBytes / max(1, x.store.count))
    }

    /// A number of MEMORY STATS.
    private enum Figure {
        case whole(Int)
        case part(Double)
    }

    /// Names of Redis. Memory is of the process, keys are of this actor's replica; actors share their records.
    private static func memoryStats(_ x: inout Execution) {
        let context = x.shard.context
        let (used, resident) = (Memory.allocatedBytes(), Memory.residentBytes())
        context.memoryPeak.note(used)
        let (allocator, peak) = (Memory.allocatorBytes(), context.memoryPeak.bytes)
        let start = context.memoryPeak.startBytes
        let dataset = min(used, x.store.recordBytes)
        let keys = x.store.count
        let figures: [(String, Figure)] = [
            ("peak.allocated", .whole(peak)), ("total.allocated", .whole(used)), ("startup.allocated", .whole(start)),
            ("replication.backlog", .whole(0)), ("clients.slaves", .whole(0)),
            ("clients.normal", .whole(context.heldInput)), ("cluster.links", .whole(0)), ("aof.buffer", .whole(0)),
            ("overhead.total", .whole(used - dataset)), ("keys.count", .whole(keys)),
            ("keys.bytes-per-key", .whole(keys > 0 ? max(0, used - start) / keys : 0)),
            ("dataset.bytes", .whole(dataset)), ("dataset.percentage", .part(percent(dataset, max(0, used - start)))),
            ("peak.percentage", .part(percent(used, peak))), ("allocator.allocated", .whole(used)),
            ("allocator.active", .whole(allocator.active)), ("allocator.resident", .whole(allocator.resident)),
            ("allocator-fragmentation.ratio", .part(ratio(allocator.active, used))),
            ("allocator-fragmentation.bytes", .whole(allocator.active - used)),
            ("allocator-rss.ratio", .part(ratio(allocator.resident, allocator.active))),
            ("allocator-rss.bytes", .whole(allocator.resident - allocator.active)),
            ("rss-overhead.ratio", .part(ratio(resident, allocator.resident))),
            ("rss-overhead.bytes", .whole(resident - allocator.resident)),
            ("fragmentation", .part(ratio(resident, used))), ("fragmentation.bytes", .whole(resident - used)),
        ]
        x.output.pointee.mapHeader(figures.count, resp3: x.resp3)
        for (name, figure) in figures {
            x.output.pointee.bulk(name)
            switch figure {
            case .whole(let value): x.output.pointee.integer(value)
            case .part(let value): x.output.pointee.bulk(Info.fixed(value, 4))
            }
        }
    }

    private static func percent(_ a: Int, _ b: Int) -> Double { ratio(a, b) * 100 }
    private static func ratio(_ a: Int, _ b: Int) -> Double { Double(a) / Double(max(1, b)) }

    private static let memoryHelp = [
        "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "DOCTOR", "    Return memory problems reports.",
        "PURGE", "    Attempt to purge dirty pages for reclamation by the allocator.",
        "STATS", "    Return information about the memory usage of the server.",
        "USAGE <key> [SAMPLES <count>]",
        "    Return memory in bytes used by <key>, its value and its place in the index.",
        "HELP", "    Prints this help.",
    ]
}
