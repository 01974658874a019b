// What INFO says because Redis says it: sections that tools look for. Any loop's thread.

import Glibc
import KVBase
import KVRuntime

extension Info {
    /// Sections told only when they are asked for, or with `all` and `everything`.
    static let onDemand: Set<String> = ["modules", "commandstats", "errorstats", "latencystats"]

    /// The fields of a Redis with RDB and AOF, or without where nothing is kept on a disk; some of our own.
    @Sendable static func persistence(_ shard: Shard, _ text: inout OutputBuffer) {
        text.append("loading:0\r\nasync_loading:0\r\n")
        guard let persistence = shard.context.persistence else {
            text.append("rdb_changes_since_last_save:0\r\nrdb_bgsave_in_progress:0\r\nrdb_last_save_time:")
            text.appendDecimal(Int(shard.context.startedMillis / 1000))
            text.append("\r\nrdb_last_bgsave_status:ok\r\naof_enabled:0\r\naof_rewrite_in_progress:0\r\n")
            return text.append("aof_last_write_status:ok\r\n")
        }
        let (save, logs) = (persistence.saveFigures, persistence.logs)
        let isFailing = logs.contains(where: \.isFailing)
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
            ("durable_lag_ms", Int(logs.reduce(0) { max($0, $1.lagMillis(now: Machine.monotonicNanos)) })),
            ("quarantined_bytes", 0),
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

    /// There are none.
    @Sendable static func nothing(_ shard: Shard, _ text: inout OutputBuffer) {}

    @Sendable static func cluster(_ shard: Shard, _ text: inout OutputBuffer) {
        text.append("cluster_enabled:0\r\n")
    }

    /// Of all actors. Times are not taken for each command: a look at the clock costs as much as the command.
    @Sendable static func commandStatistics(_ shard: Shard, _ text: inout OutputBuffer) {
        shard.publish()
        for (index, row) in CommandTable.standard.rows.enumerated() {
            var (calls, rejected, failed) = (0, 0, 0)
            for statistics in shard.context.statistics {
                let one = statistics.byCommand.of(index)
                calls += one.calls
                rejected += one.rejected
                failed += one.failed
                if row.nameText == "get" { calls += statistics.hotGets }
                if row.nameText == "set" { calls += statistics.hotSets }
            }
            guard calls + rejected > 0 else { continue }
            text.append("cmdstat_\(row.nameText):calls=\(calls),usec=0,usec_per_call=0.00,")
            text.append("rejected_calls=\(rejected),failed_calls=\(failed)\r\n")
        }
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

    /// Why clients were closed, in `# Stats`.
    static func closedClients(_ shard: Shard, _ text: inout OutputBuffer) {
        let closed = shard.context.closedClients
        text.append("client_output_buffer_limit_disconnections:\(closed.count(.readsNothing))\r\n")
        text.append("client_query_buffer_limit_disconnections:\(closed.count(.holdsTooMuch))\r\n")
        text.append("client_unfinished_request_disconnections:\(closed.count(.standsStill))\r\n")
        text.append("unfinished_request_bytes:\(shard.context.heldInput)\r\n")
    }
}
