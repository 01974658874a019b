// The report a person reads. Pure formatting.

import Foundation

func fixed(_ value: Double, _ digits: Int = 1) -> String { String(format: "%.\(digits)f", value) }

private func left(_ text: String, _ width: Int) -> String {
    text.count >= width ? text : text + String(repeating: " ", count: width - text.count)
}

private func right(_ text: String, _ width: Int) -> String {
    text.count >= width ? text : String(repeating: " ", count: width - text.count) + text
}

/// Columns aligned: the first to the left, the others to the right.
func table(_ rows: [[String]]) -> String {
    let columns = rows.map(\.count).max() ?? 0
    let widths = (0..<columns).map { c in rows.map { c < $0.count ? $0[c].count : 0 }.max() ?? 0 }
    return rows.map { row in
        row.enumerated().map { c, cell in c == 0 ? left(cell, widths[c]) : right(cell, widths[c]) }
            .joined(separator: "  ")
    }.joined(separator: "\n")
}

extension Measurement {
    var text: String {
        var lines = [
            "\(workload), \(distribution) over \(grouped(keys)) keys of \(keyBytes) B, values \(valueBytes) B; "
                + "\(connections) connections, \(pace); \(fixed(seconds, 2)) s",
            "\(grouped(Int(operationsPerSecond))) operations/s, \(grouped(Int(requestsPerSecond))) requests/s"
                + (misses > 0 ? ", \(grouped(misses)) misses" : "")
                + (unanswered > 0 ? ", \(grouped(unanswered)) unanswered at the end" : ""),
        ]
        if errors > 0 { lines.append("\(grouped(errors)) ERROR REPLIES, the first: \(firstError ?? "?")") }
        for s in servers {
            guard let bytes = s.loadedBytesPerKey else { continue }
            let name = servers.count == 1 ? "" : "\(s.name) "
            lines.append("\(name)loaded: \(fixed(bytes)) resident bytes per key")
        }
        var rows = [["latency, µs", "count", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"]]
        let summaries = operationLatencies.count > 1 ? operationLatencies + [latency] : [latency]
        for l in summaries {
            rows.append(
                [l.operation, grouped(l.count)]
                    + [l.meanMicros, l.p50Micros, l.p90Micros, l.p99Micros, l.p999Micros, l.p9999Micros, l.maxMicros]
                    .map { fixed($0) })
        }
        lines.append(table(rows))
        var serverRows = [
            ["server", "requests/s", "p50 µs", "p99 µs", "CPU µs/request", "cores", "RSS MiB", "switches/request"]
        ]
        for s in servers {
            serverRows.append([
                s.name, grouped(Int(s.requestsPerSecond)), fixed(s.latency.p50Micros), fixed(s.latency.p99Micros),
                s.cpuMicrosPerRequest.map { fixed($0, 3) } ?? "-", s.cpuCores.map { fixed($0, 2) } ?? "-",
                s.residentBytes.map { fixed(Double($0) / 1_048_576) } ?? "-",
                s.contextSwitchesPerRequest.map { fixed($0, 4) } ?? "-",
            ])
        }
        lines.append(table(serverRows))
        lines.append(
            "this load generator: \(fixed(driverCores, 2)) cores, \(fixed(driverMicrosPerRequest, 3)) µs/request")
        return lines.joined(separator: "\n")
    }
}
