// SLOWLOG and LATENCY: what took long. Handlers; loop thread.

import KVBase
import KVRuntime
import RESP

extension Commands {
    // SLOWLOG

    @Sendable static func slowlog(_ x: inout Execution) {
        let (log, length) = (x.shard.context.slowLog, x.shard.context.live.slowLogEntries)
        switch x.argument(1) {
        case let sub where sub.equals("GET"):
            guard x.count <= 3 else { return x.wrongArity("slowlog|get") }
            var most = slowlogShown
            if x.count == 3 {
                guard let wanted = x.integer(2), wanted >= -1 else {
                    return x.error("ERR count should be greater than or equal to -1")
                }
                most = wanted == -1 ? .max : wanted
            }
            write(log.newest(most, keeping: length), &x)
        case let sub where sub.equals("LEN"):
            guard x.count == 2 else { return x.wrongArity("slowlog|len") }
            x.output.pointee.integer(log.count(keeping: length))
        case let sub where sub.equals("RESET"):
            guard x.count == 2 else { return x.wrongArity("slowlog|reset") }
            log.reset()
            x.output.pointee.ok()
        case let sub where sub.equals("HELP"): x.help(slowlogHelp)
        default: x.unknownSubcommand(of: "SLOWLOG")
        }
    }

    /// Entries of SLOWLOG GET without a number.
    private static let slowlogShown = 10

    private static func write(_ entries: [SlowLog.Entry], _ x: inout Execution) {
        x.output.pointee.arrayHeader(entries.count)
        for entry in entries {
            x.output.pointee.arrayHeader(6)
            x.output.pointee.integer(entry.id)
            x.output.pointee.integer(entry.seconds)
            x.output.pointee.integer(entry.micros)
            x.output.pointee.arrayHeader(entry.words.count)
            for word in entry.words { x.output.pointee.bulk(word) }
            x.output.pointee.bulk(entry.client)
            x.output.pointee.bulk(entry.name)
        }
    }

    private static let slowlogHelp = [
        "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GET [<count>]",
        "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
        "    Entries are made of:",
        "    id, timestamp, time in microseconds, arguments array, client IP and port,", "    client name",
        "LEN", "    Return the length of the slowlog.", "RESET", "    Reset the slowlog.",
        "HELP", "    Prints this help.",
    ]

    // LATENCY

    @Sendable static func latency(_ x: inout Execution) {
        let events = x.shard.context.latencyEvents
        switch x.argument(1) {
        case let sub where sub.equals("LATEST"):
            guard x.count == 2 else { return x.wrongArity("latency|latest") }
            let all = events.all
            x.output.pointee.arrayHeader(all.count)
            for event in all {
                x.output.pointee.arrayHeader(4)
                x.output.pointee.bulk(event.name)
                x.output.pointee.integer(event.samples.last!.seconds)
                x.output.pointee.integer(event.samples.last!.millis)
                x.output.pointee.integer(event.worstMillis)
            }
        case let sub where sub.equals("HISTORY"):
            guard x.count == 3 else { return x.wrongArity("latency|history") }
            let samples = events.event(x.text(2))?.samples ?? []
            x.output.pointee.arrayHeader(samples.count)
            for sample in samples {
                x.output.pointee.arrayHeader(2)
                x.output.pointee.integer(sample.seconds)
                x.output.pointee.integer(sample.millis)
            }
        case let sub where sub.equals("GRAPH"):
            guard x.count == 3 else { return x.wrongArity("latency|graph") }
            guard let event = events.event(x.text(2)) else {
                let name = x.argument(2).printable(max: 128)
                return x.output.pointee.error("ERR No samples available for event '\(name)'")
            }
            let now = Int(Machine.wallMillis / 1000)
            x.output.pointee.verbatim(LatencyGraph.text(of: event, now: now), resp3: x.resp3)
        case let sub where sub.equals("RESET"):
            let count = x.count == 2 ? events.reset() : (2..<x.count).count(where: { events.reset(x.text($0)) })
            x.output.pointee.integer(count)
        case let sub where sub.equals("HISTOGRAM"): latencyHistogram(&x)
        case let sub where sub.equals("DOCTOR"):
            guard x.count == 2 else { return x.wrongArity("latency|doctor") }
            x.output.pointee.verbatim(Advice.onLatency(x.shard.context), resp3: x.resp3)
        case let sub where sub.equals("HELP"): x.help(latencyHelp)
        default: x.unknownSubcommand(of: "LATENCY")
        }
    }

    /// Octaves of nanoseconds that Redis tells of: from 2^10 on.
    private static let octaves = 10...35

    /// LATENCY HISTOGRAM [command …]: of those that ran, how many took no longer than so many microseconds.
    private static func latencyHistogram(_ x: inout Execution) {
        x.shard.publish()
        let rows = CommandTable.standard.rows
        var wanted: [Int] = []
        if x.count == 2 {
            wanted = Array(rows.indices)
        } else {
            for k in 2..<x.count {
                guard let index = CommandTable.standard.find(x.argument(k)), !wanted.contains(index) else { continue }
                wanted.append(index)
            }
        }
        let found = wanted.map { (rows[$0].nameText, x.shard.context.statistics.histogram(of: $0)) }
            .filter { $0.1.total > 0 }
        x.output.pointee.mapHeader(found.count, resp3: x.resp3)
        for (name, histogram) in found {
            x.output.pointee.bulk(name)
            x.output.pointee.mapHeader(2, resp3: x.resp3)
            x.output.pointee.bulk("calls")
            x.output.pointee.integer(histogram.total)
            x.output.pointee.bulk("histogram_usec")
            var (steps, before) = ([(micros: Int, count: Int)](), 0)
            for exponent in octaves {
                let count = histogram.count(below: exponent)
                // As Redis's histogram names the bucket that begins here.
                if count > before { steps.append((((1 << exponent) + (1 << (exponent - 7)) - 1) / 1000, count)) }
                before = count
            }
            x.output.pointee.mapHeader(steps.count, resp3: x.resp3)
            for step in steps {
                x.output.pointee.integer(step.micros)
                x.output.pointee.integer(step.count)
            }
        }
    }

    private static let latencyHelp = [
        "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "DOCTOR", "    Return a human readable latency analysis report.",
        "GRAPH <event>", "    Return an ASCII latency graph for the <event> class.",
        "HISTORY <event>", "    Return time-latency samples for the <event> class.",
        "LATEST", "    Return the latest latency samples for all events.",
        "RESET [<event> ...]", "    Reset latency data of one or more <event> classes.",
        "    (default: reset all data for all event classes)",
        "HISTOGRAM [COMMAND ...]",
        "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
        "    If no commands are specified then all histograms are replied.",
        "HELP", "    Prints this help.",
    ]
}
