// What INFO says because Redis says it: sections that tools look for. Any loop's thread.

import Glibc
import KVBase
import KVRuntime

extension Info {
    /// Sections told only when they are asked for, or with `all` and `everything`.
    static let onDemand: Set<String> = ["modules", "commandstats", "errorstats", "latencystats"]

    /// Nothing is kept on a disk: the fields of a Redis without RDB and AOF.
    @Sendable static func persistence(_ shard: Shard, _ text: inout OutputBuffer) {
        text.append("loading:0\r\nasync_loading:0\r\nrdb_changes_since_last_save:0\r\nrdb_bgsave_in_progress:0\r\n")
        text.append("rdb_last_save_time:0\r\nrdb_last_bgsave_status:ok\r\naof_enabled:0\r\n")
        text.append("aof_rewrite_in_progress:0\r\naof_last_write_status:ok\r\n")
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

    /// What became of connections with TLS, in `# Stats`.
    static func secureConnections(_ shard: Shard, _ text: inout OutputBuffer) {
        let (secure, files) = (shard.context.secureStatistics, shard.context.certificates)
        text.append("tls_connections:\(secure.open)\r\ntls_handshakes:\(secure.done)\r\n")
        text.append("tls_handshakes_resumed:\(secure.resumed)\r\ntls_failures:\(secure.failed)\r\n")
        text.append("tls_handshake_timeouts:\(secure.late)\r\ntls_plain_refused:\(secure.plainRefused)\r\n")
        text.append("tls_reloads:\(files.reloads)\r\ntls_reload_failures:\(files.failures)\r\n")
        text.append("tls_certificate_ends:\(files.endsAtSeconds)\r\n")
    }

    /// Why clients were closed, in `# Stats`.
    static func closedClients(_ shard: Shard, _ text: inout OutputBuffer) {
        let closed = shard.context.closedClients
        text.append("client_output_buffer_limit_disconnections:\(closed.count(.leavesOutput))\r\n")
        text.append("client_query_buffer_limit_disconnections:\(closed.count(.holdsTooMuch))\r\n")
        text.append("client_unfinished_request_disconnections:\(closed.count(.standsStill))\r\n")
        text.append("client_silent_reader_disconnections:\(closed.count(.readsNothing))\r\n")
        text.append("client_memory_limit_disconnections:\(closed.count(.holdsMost))\r\n")
        text.append("unsent_reply_bytes:\(shard.context.heldOutput)\r\n")
        text.append("unfinished_request_bytes:\(shard.context.heldInput)\r\n")
    }
}
