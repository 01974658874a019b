// The text of INFO (docs/protocol.md 5), with Redis's names where Redis has the field. Any loop's thread.

import Glibc
import KVBase
import KVCore
import KVRuntime

enum Info {
    /// Writes the wanted sections (lower case; empty: those not on demand) in Redis's order, a blank line between two.
    static func write(sections wanted: Set<String>, shard: Shard, into text: inout OutputBuffer) {
        var isFirst = true
        for (name, body) in sections
        where wanted.contains(name.lowercased()) || wanted.isEmpty && !onDemand.contains(name.lowercased()) {
            if !isFirst { text.append("\r\n") }
            isFirst = false
            text.append("# \(name)\r\n")
            body(shard, &text)
        }
    }

    typealias Section = @Sendable (Shard, inout OutputBuffer) -> Void

    static let sections: [(String, Section)] = [
        ("Server", server), ("Clients", clients), ("Memory", memory), ("Persistence", persistence), ("Stats", stats),
        ("Replication", replication), ("CPU", processor), ("Modules", nothing), ("Commandstats", commandStatistics),
        ("Errorstats", errorStatistics), ("Latencystats", latencyStatistics), ("Cluster", cluster), ("Actors", actors),
        ("Keyspace", keyspace),
    ]

    private static func line(_ text: inout OutputBuffer, _ name: StaticString, _ value: String) {
        text.append(name)
        text.append(":")
        text.append(value)
        text.append("\r\n")
    }

    private static func line(_ text: inout OutputBuffer, _ name: StaticString, _ value: Int) {
        text.append(name)
        text.append(":")
        text.appendDecimal(value)
        text.append("\r\n")
    }

    @Sendable private static func server(_ shard: Shard, _ text: inout OutputBuffer) {
        let context = shard.context
        let uptime = Int((Machine.monotonicNanos - context.startedNanos) / 1_000_000_000)
        line(&text, "kvd_version", ServerVersion.kvd)
        line(&text, "redis_version", ServerVersion.redis)
        line(&text, "redis_mode", "standalone")
        line(&text, "server_id", hex16(context.serverID))
        line(&text, "server_name", context.config.nameText)
        line(&text, "os", operatingSystem)
        line(&text, "arch_bits", 64)
        line(&text, "io_backend", context.inputOutput)
        line(&text, "multiplexing_api", context.inputOutput)
        line(&text, "actors", context.config.actors)
        line(&text, "actor_index", shard.index)
        line(&text, "actor_uid", context.uid(shard.index).description)
        line(&text, "process_id", Int(getpid()))
        line(&text, "run_id", hex16(context.serverID))
        line(&text, "tcp_port", context.config.port + shard.index)
        line(&text, "server_time_usec", Int(Machine.wallMillis) * 1000)
        line(&text, "uptime_in_seconds", uptime)
        line(&text, "uptime_in_days", uptime / 86400)
    }

    private static let operatingSystem: String = {
        var name = utsname()
        guard uname(&name) == 0 else { return "unknown" }
        func field<T>(_ value: T) -> String {
            withUnsafeBytes(of: value) { String(decoding: $0.prefix(while: { $0 != 0 }), as: UTF8.self) }
        }
        return "\(field(name.sysname)) \(field(name.release)) \(field(name.machine))"
    }()

    @Sendable private static func clients(_ shard: Shard, _ text: inout OutputBuffer) {
        line(&text, "connected_clients", shard.context.connectedClients)
        line(&text, "connected_clients_of_actor", shard.sessions.count)
        line(&text, "maxclients", shard.context.clientsAtMost)
        line(&text, "blocked_clients", shard.context.statistics.reduce(0) { $0 + $1.blocked })
        line(&text, "cluster_connections", 0)
        line(&text, "tracking_clients", 0)
        line(&text, "monitors", shard.context.monitors.count)
    }

    @Sendable private static func memory(_ shard: Shard, _ text: inout OutputBuffer) {
        let used = Memory.allocatedBytes()
        let resident = Memory.residentBytes()
        let peak = shard.context.memoryPeak
        peak.note(used)
        line(&text, "used_memory", used)
        line(&text, "used_memory_human", Memory.human(used))
        line(&text, "used_memory_rss", resident)
        line(&text, "used_memory_rss_human", Memory.human(resident))
        line(&text, "used_memory_peak", peak.bytes)
        line(&text, "used_memory_peak_human", Memory.human(peak.bytes))
        line(&text, "used_memory_peak_perc", fixed(Double(used) * 100 / Double(max(1, peak.bytes)), 2) + "%")
        line(&text, "used_memory_startup", peak.startBytes)
        line(&text, "total_system_memory", Memory.machineBytes)
        line(&text, "total_system_memory_human", Memory.human(Memory.machineBytes))
        line(&text, "mem_fragmentation_ratio", fixed(Double(resident) / Double(max(1, used)), 2))
        line(&text, "mem_fragmentation_bytes", max(0, resident - used))
        let limit = shard.context.memory
        line(&text, "maxmemory", limit.bytes)
        line(&text, "maxmemory_human", Memory.human(limit.bytes))
        line(&text, "maxmemory_policy", "noeviction")
        line(&text, "maxmemory_refused_writes", limit.refused)
        line(&text, "mem_allocator", Memory.allocator)
        let all = shard.context.statistics
        line(&text, "fresh_pages_ready", all.reduce(0) { $0 + $1.freshPages.ready })
        line(&text, "fresh_pages_late", all.reduce(0) { $0 + $1.freshPages.late })
    }

    @Sendable private static func stats(_ shard: Shard, _ text: inout OutputBuffer) {
        shard.publish()
        shard.note(.info)
        let all = shard.context.statistics
        line(&text, "total_connections_received", all.reduce(0) { $0 + $1.connectionsReceived })
        line(&text, "total_commands_processed", all.reduce(0) { $0 + $1.commands })
        line(&text, "instantaneous_ops_per_sec", all.reduce(0) { $0 + $1.commandsPerSecond })
        line(&text, "total_net_input_bytes", all.reduce(0) { $0 + $1.bytesReceived })
        line(&text, "total_net_output_bytes", all.reduce(0) { $0 + $1.bytesSent })
        let (received, sent) = all.reduce((0, 0)) { ($0.0 + $1.bytesReceivedPerSecond, $0.1 + $1.bytesSentPerSecond) }
        line(&text, "instantaneous_input_kbps", fixed(Double(received) / 1024, 2))
        line(&text, "instantaneous_output_kbps", fixed(Double(sent) / 1024, 2))
        line(&text, "rejected_connections", shard.context.rejectedConnections)
        line(&text, "keyspace_hits", all.reduce(0) { $0 + $1.hits })
        line(&text, "keyspace_misses", all.reduce(0) { $0 + $1.misses })
        shard.publishStore()
        line(&text, "expired_keys", all.reduce(0) { $0 + $1.expired })
        line(&text, "evicted_keys", 0)
        line(&text, "total_error_replies", all.reduce(0) { $0 + $1.byCommand.errorTotal })
        line(&text, "unexpected_error_replies", 0)
        line(&text, "slow_commands", shard.context.slowLog.total)
        neverCounted(&text)
        closedClients(shard, &text)
        let denied = shard.context.access.denialCounts
        line(&text, "acl_access_denied_auth", denied.auth)
        line(&text, "acl_access_denied_cmd", denied.commands)
        line(&text, "acl_access_denied_key", denied.keys)
        let closed = shard.context.closedClients
        line(
            &text, "client_unauthenticated_disconnections",
            closed.count(.saysNotWho) + closed.count(.asksBeforeLogin))
        secureConnections(shard, &text)
        let byWall = all.map(\.longestTurn).max { $0.word < $1.word } ?? LongestTurn(word: 0)
        let byProcessor = all.map(\.longestTurnOnProcessor).max { $0.word < $1.word } ?? LongestTurn(word: 0)
        line(&text, "max_turn_micros", byWall.micros)
        line(&text, "max_turn_work", byWall.work.text)
        line(&text, "max_turn_cpu_micros", byProcessor.micros)
        line(&text, "max_turn_cpu_work", byProcessor.work.text)
        line(&text, "turns_over_1ms", all.reduce(0) { $0 + $1.longTurns })
    }

    @Sendable private static func replication(_ shard: Shard, _ text: inout OutputBuffer) {
        let peers = shard.peers()
        line(&text, "role", "master")
        line(&text, "connected_slaves", 0)
        line(&text, "master_repl_offset", Int(shard.state.pointee.store.ownSeq))
        line(&text, "servers", peers.count + 1)
        let own = shard.replicator?.replica
        line(&text, "state", own?.ownState ?? "up")
        line(&text, "caught_up_percent", shard.replicator?.caughtUpPercent ?? 100)
        line(&text, "name", shard.context.config.nameText)
        line(&text, "address", own?.ownAddress ?? "?")
        line(&text, "lag_ms", Int(shard.replicator?.lagMillis ?? 0))
        line(&text, "max_lag_ms", shard.context.live.maxLagSeconds.map { String($0 * 1000) } ?? "off")
        line(&text, "data_commands", shard.dataCommands)
        line(&text, "peer_encryption", shard.context.config.trust.name)
        line(
            &text, "peer_certificate_ends",
            shard.context.certificateEndsAt == 0 ? "never" : "\(shard.context.certificateEndsAt)")
        line(&text, "future_stamps_total", futureStamps(own))
        line(&text, "rows_refused_total", Int(clamping: own?.statistics.rowsRefused ?? 0))
        line(&text, "entries_refused_total", Int(clamping: own?.statistics.entriesForged ?? 0))
        line(&text, "asks_refused_total", Int(clamping: own?.statistics.asksRefused ?? 0))
        for (index, peer) in peers.enumerated() { text.append("peer\(index + 1):\(peer.fields)\r\n") }
        line(&text, "tombstones", shard.state.pointee.store.tombstoneCount)
        line(&text, "expired_kept", shard.state.pointee.store.expiredKeptCount)
        let hold = shard.replicator.flatMap { own?.expiryHold($0.moment) }
        line(&text, "expired_held_by", hold?.text(peers) ?? "nothing")
    }

    /// By the name of the server they came from.
    private static func futureStamps(_ replica: Replica?) -> String {
        let counts = replica?.futureStampsByName ?? []
        return counts.isEmpty ? "0" : counts.map { "\($0.name)=\($0.count)" }.joined(separator: ",")
    }

    @Sendable private static func processor(_ shard: Shard, _ text: inout OutputBuffer) {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func seconds(_ t: timeval) -> String {
            let micros = String(t.tv_usec)
            return "\(t.tv_sec)." + String(repeating: "0", count: 6 - micros.count) + micros
        }
        line(&text, "used_cpu_sys", seconds(usage.ru_stime))
        line(&text, "used_cpu_user", seconds(usage.ru_utime))
        line(&text, "used_cpu_sys_children", "0.000000")
        line(&text, "used_cpu_user_children", "0.000000")
    }

    @Sendable private static func actors(_ shard: Shard, _ text: inout OutputBuffer) {
        let counters = shard.context.messageCounters()
        line(&text, "messages_sent_actor", counters.betweenActors)
        line(&text, "messages_sent_external", counters.fromReceivers)
        line(&text, "replies_sent", counters.replies)
        line(&text, "bytes_sent", counters.syncBytesSent)
        line(&text, "remote_bytes_received", counters.remoteBytesReceived)
        line(&text, "max_message_rate", counters.messageRateMax)
        line(&text, "remote_messages_dropped", counters.remoteDropped)
        line(&text, "bad_frames", counters.badFrames)
        for (place, one) in shard.context.statistics.enumerated() {
            text.append("actor\(place + 1):port=\(shard.context.config.port + place + 1),clients=\(one.clients),")
            text.append("commands=\(one.commands),ops_per_sec=\(one.commandsPerSecond),keys=\(one.keys)\r\n")
        }
    }

    @Sendable private static func keyspace(_ shard: Shard, _ text: inout OutputBuffer) {
        for number in 0..<UInt8(Keyspace.count) {
            let (store, now) = (shard.state.pointee.store, shard.state.pointee.nowMillis)
            let keyspace = Keyspace(number: number, store: store, now: now)
            guard keyspace.count > 0 else { continue }
            let expires = keyspace.volatileCount
            // The mean is of all databases.
            let mean = expires > 0 ? store.averageTimeToLive(now: now) : 0
            text.append("db\(number):keys=\(keyspace.count),expires=\(expires),avg_ttl=\(mean)\r\n")
        }
    }
}

/// Of the whole process, for `# Actors`.
package struct MessageCounters: Sendable {
    package var betweenActors = 0
    package var fromReceivers = 0
    package var replies = 0
    package var syncBytesSent = 0
    package var remoteBytesReceived = 0
    package var messageRateMax = 0
    package var remoteDropped = 0
    package var badFrames = 0

    package init() {}
}
