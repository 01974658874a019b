// What INFO says because Redis says it: sections that tools look for. Any loop's thread.

import Glibc
import KVBase
import KVRuntime

extension Info {
    /// Sections told only when they are asked for, or with `all` and `everything`.
    static let onDemand: Set<String> = ["modules", "commandstats", "errorstats", "latencystats"]

    /// The fields of a Redis with RDB and AOF, or without where nothing is kept on a disk; some of our own.
    @Sendable static func persistence(_ shard: Shard, _ text: inout OutputBuffer) {
        loading(shard.context, &text)
        guard let persistence = shard.context.persistence else {
            text.append("rdb_changes_since_last_save:0\r\nrdb_bgsave_in_progress:0\r\nrdb_last_save_time:")
            text.appendDecimal(Int(shard.context.startedMillis / 1000))
            text.append("\r\nrdb_last_bgsave_status:ok\r\naof_enabled:")
            text.append(shard.context.config.disk.directory == nil ? "0" : "1")
            text.append("\r\naof_rewrite_in_progress:0\r\n")
            return text.append("aof_last_write_status:ok\r\n")
        }
        let (save, logs) = (persistence.saveFigures, persistence.logs)
        let (isFailing, disk) = (logs.contains(where: \.isFailing), persistence.report())
        let writes = persistence.writes
        let rows: [(String, Int)] = [
            ("rdb_changes_since_last_save", Int(clamping: writes - min(writes, save.writesSaved))),
            ("rdb_bgsave_in_progress", save.isSaving ? 1 : 0),
            ("rdb_last_save_time", Int(save.savedAt / 1000)),
            ("rdb_last_bgsave_time_sec", save.seconds),
            ("rdb_last_cow_size", 0),
            ("aof_enabled", 1),
            ("aof_rewrite_in_progress", save.isSaving ? 1 : 0),
            ("aof_current_size", save.snapshotBytes + persistence.loggedBytes),
            ("aof_base_size", save.snapshotBytes),
            ("aof_pending_bio_fsync", logs.count(where: \.isSyncing)),
            ("aof_delayed_fsync", logs.reduce(0) { $0 + $1.delayedSyncs }),
            ("durable_lag_ms", Int(disk.lagMillis)),
            ("aof_write_errors", disk.writeErrors),
            ("aof_fsync_errors", disk.syncErrors),
            ("rdb_bgsave_errors", disk.snapshotErrors),
            ("quarantined_bytes", persistence.quarantinedBytes),
            ("backups_held", persistence.backups.heldCount),
            ("recovered_keys", persistence.recoveredEntries),
        ]
        for (name, value) in rows {
            text.append("\(name):")
            text.appendDecimal(value)
            text.append("\r\n")
        }
        text.append("rdb_last_bgsave_status:\(save.hasFailed ? "err" : "ok")\r\n")
        text.append("aof_last_write_status:\(isFailing ? "err" : "ok")\r\n")
        let micros = Int(persistence.recoverySeconds * 1e6)
        let fraction = String(micros % 1_000_000)
        text.append("recovery_seconds:\(micros / 1_000_000).")
        text.append(String(repeating: "0", count: 6 - fraction.count) + fraction + "\r\n")
    }

    /// How far a server that starts has read its directory.
    private static func loading(_ context: ServerContext, _ text: inout OutputBuffer) {
        guard let figures = context.loading.figures() else {
            return text.append("loading:0\r\nasync_loading:0\r\n")
        }
        text.append("loading:1\r\nasync_loading:0\r\nloading_start_time:\(figures.beganMillis / 1000)\r\n")
        text.append("loading_total_bytes:\(figures.total)\r\nloading_loaded_bytes:\(figures.loaded)\r\n")
        text.append("loading_loaded_perc:\(fixed(figures.percent, 2))\r\n")
        text.append("loading_eta_seconds:\(figures.secondsLeft)\r\n")
    }

    /// There are none.
    @Sendable static func nothing(_ shard: Shard, _ text: inout OutputBuffer) {}

    @Sendable static func cluster(_ shard: Shard, _ text: inout OutputBuffer) {
        text.append("cluster_enabled:0\r\n")
    }

    /// Of all actors.
    @Sendable static func commandStatistics(_ shard: Shard, _ text: inout OutputBuffer) {
        shard.publish()
        for (index, row) in CommandTable.standard.rows.enumerated() {
            let one = shard.context.statistics.figures(of: index)
            guard one.calls + one.rejected > 0 else { continue }
            let micros = one.calls > 0 ? Double(one.nanos) / 1000 / Double(one.calls) : 0
            text.append("cmdstat_\(row.nameText):calls=\(one.calls),usec=\(one.nanos / 1000),")
            text.append(
                "usec_per_call=\(fixed(micros, 2)),rejected_calls=\(one.rejected),failed_calls=\(one.failed)\r\n")
        }
    }

    /// Percentiles of the commands that ran, in microseconds.
    @Sendable static func latencyStatistics(_ shard: Shard, _ text: inout OutputBuffer) {
        for (index, row) in CommandTable.standard.rows.enumerated() {
            let histogram = shard.context.statistics.histogram(of: index)
            guard histogram.total > 0 else { continue }
            let parts = [("p50", 50.0), ("p99", 99), ("p99.9", 99.9)].map { name, percent in
                "\(name)=\(fixed(Double(histogram.nanos(percent: percent)!) / 1000, 3))"
            }
            text.append("latency_percentiles_usec_\(row.nameText):\(parts.joined(separator: ","))\r\n")
        }
    }

    /// With so many digits behind the point.
    static func fixed(_ value: Double, _ digits: Int) -> String {
        let scale = (0..<digits).reduce(1) { scale, _ in scale * 10 }
        let scaled = Int((value.magnitude * Double(scale)).rounded())
        if digits == 0 { return "\(value < 0 ? "-" : "")\(scaled)" }
        let fraction = String(scaled % scale)
        let zeros = String(repeating: "0", count: digits - fraction.utf8.count)
        return "\(value < 0 ? "-" : "")\(scaled / scale).\(zeros)\(fraction)"
    }

    @Sendable static func errorStatistics(_ shard: Shard, _ text: inout OutputBuffer) {
        var counts: [String: Int] = [:]
        for statistics in shard.context.statistics {
            counts.merge(statistics.byCommand.errorCounts, uniquingKeysWith: +)
        }
        for (code, count) in counts.sorted(by: { $0.key < $1.key }) {
            text.append("errorstat_\(code):count=\(count)\r\n")
        }
    }

    /// What became of connections with TLS, in `# Stats`.
    static func secureConnections(_ shard: Shard, _ text: inout OutputBuffer) {
        let (secure, files) = (shard.context.secureStatistics, shard.context.certificates)
        text.append("tls_connections:\(secure.open)\r\ntls_handshakes:\(secure.done)\r\n")
        text.append("tls_handshakes_resumed:\(secure.resumed)\r\ntls_failures:\(secure.failed)\r\n")
        text.append("tls_handshake_timeouts:\(secure.late)\r\ntls_plain_refused:\(secure.plainRefused)\r\n")
        text.append("tls_reloads:\(files.reloads)\r\ntls_reload_failures:\(files.failures)\r\n")
        text.append("tls_certificate_ends:\(files.endsAtSeconds)\r\n")
    }

    /// What Redis counts and nobody here does, because tools ask.
    static func neverCounted(_ text: inout OutputBuffer) {
        text.append("sync_full:0\r\nsync_partial_ok:0\r\nsync_partial_err:0\r\npubsub_channels:0\r\n")
        text.append("pubsub_patterns:0\r\nlatest_fork_usec:0\r\ntotal_forks:0\r\nmigrate_cached_sockets:0\r\n")
        text.append("slave_expires_tracked_keys:0\r\nactive_defrag_hits:0\r\nactive_defrag_misses:0\r\n")
        text.append("active_defrag_key_hits:0\r\nactive_defrag_key_misses:0\r\n")
    }

    /// Why clients were closed, in `# Stats`.
    static func closedClients(_ shard: Shard, _ text: inout OutputBuffer) {
        let closed = shard.context.closedClients
        text.append("client_output_buffer_limit_disconnections:\(closed.count(.leavesOutput))\r\n")
        text.append(
            "client_query_buffer_limit_disconnections:\(closed.count(.holdsTooMuch) + closed.count(.noMemory))\r\n")
        text.append("client_unfinished_request_disconnections:\(closed.count(.standsStill))\r\n")
        text.append("client_silent_reader_disconnections:\(closed.count(.readsNothing))\r\n")
        text.append("client_memory_limit_disconnections:\(closed.count(.holdsMost))\r\n")
        text.append("unsent_reply_bytes:\(shard.context.heldOutput)\r\n")
        text.append("unfinished_request_bytes:\(shard.context.heldInput)\r\n")
    }
}
