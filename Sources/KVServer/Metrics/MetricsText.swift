// A report as Prometheus reads it: text format 0.0.4, base units, fewer than 500 series whatever the server's size.
// Pure; any thread.

import KVBase

struct MetricsText {
    static let seriesMax = 500
    /// Beyond these many, actors are told as one, and of peers those with the largest lag.
    static let actorsMax = 16
    static let peersMax = 16
    static let commandsMax = 30
    static let errorsMax = 12
    /// Of the histograms: 2^10 ns, about a microsecond, to 2^30 ns, about a second, each four times the one before.
    static let octaves = stride(from: 10, through: 30, by: 2)

    private var text = ""
    private(set) var series = 0

    static func of(_ report: StatusReport) -> String { make(report).text }

    static func make(_ report: StatusReport) -> MetricsText {
        var text = MetricsText()
        text.server(report)
        text.clients(report)
        text.commands(report)
        text.latencies(report)
        text.actors(report)
        text.replication(report)
        text.peers(report)
        text.disk(report)
        text.process(report)
        return text
    }

    // MARK: Parts

    private mutating func server(_ r: StatusReport) {
        family("kvd_build_info", "gauge", "Which program this is; always 1.")
        add(
            "kvd_build_info",
            [("version", r.version), ("io", r.inputOutput), ("name", r.name), ("cluster", r.cluster)], 1)
        one("kvd_uptime_seconds", "gauge", "Since the start.", r.uptimeSeconds)
        one("kvd_actors", "gauge", "Query actors.", r.actorCount)
        one("kvd_actors_answering", "gauge", "Query actors that answered this scrape within a second.", r.actors.count)
        one("kvd_ready", "gauge", "1 if clients may be sent here, as /readyz says.", r.unreadiness == nil ? 1 : 0)
        family("kvd_state", "gauge", "1 for the state that the server is in.")
        for state in ["up", "loading", "syncing", "alone", "leaving"] {
            add("kvd_state", [("state", state)], r.state == state ? 1 : 0)
        }
        ratio(
            "kvd_caught_up_ratio", "How much of the data that was there has arrived.", Double(r.caughtUpPercent) / 100)
    }

    private mutating func clients(_ r: StatusReport) {
        one("kvd_clients_connected", "gauge", "Connections of clients.", r.actors.reduce(0) { $0 + $1.clients })
        one("kvd_clients_blocked", "gauge", "Clients whose command waits.", r.blockedClients)
        one("kvd_clients_max", "gauge", "Connections served at once.", r.clientsMax)
        one("kvd_connections_total", "counter", "Connections that came.", r.connections)
        one(
            "kvd_connections_rejected_total", "counter", "Connections refused as there were too many.",
            r.rejectedConnections)
        family("kvd_clients_closed_total", "counter", "Clients closed by the server, by reason.")
        for (reason, count) in r.closedClients { add("kvd_clients_closed_total", [("reason", reason)], count) }
        family("kvd_access_denied_total", "counter", "What clients were denied.")
        add("kvd_access_denied_total", [("reason", "auth")], r.denied.auth)
        add("kvd_access_denied_total", [("reason", "command")], r.denied.commands)
        add("kvd_access_denied_total", [("reason", "key")], r.denied.keys)
        one("kvd_received_bytes_total", "counter", "Bytes from clients.", r.bytesReceived)
        one("kvd_sent_bytes_total", "counter", "Bytes to clients.", r.bytesSent)
        one("kvd_keyspace_hits_total", "counter", "Reads that found their key.", r.hits)
        one("kvd_keyspace_misses_total", "counter", "Reads that did not.", r.misses)
        one("kvd_expired_keys_total", "counter", "Values whose time has come, at all actors.", r.expired)
        one("kvd_slow_commands_total", "counter", "Commands that came into the slow log.", r.slowCommands)
    }

    /// The most used by name, all others together.
    private mutating func commands(_ r: StatusReport) {
        let sorted = r.commands.sorted { ($1.calls, $0.name) < ($0.calls, $1.name) }
        var rows = Array(sorted.prefix(MetricsText.commandsMax))
        let rest = sorted.dropFirst(MetricsText.commandsMax)
        if !rest.isEmpty {
            rows.append(
                rest.reduce(CommandReport(name: "other", calls: 0, rejected: 0, failed: 0, nanos: 0)) {
                    CommandReport(
                        name: "other", calls: $0.calls + $1.calls, rejected: $0.rejected + $1.rejected,
                        failed: $0.failed + $1.failed, nanos: $0.nanos + $1.nanos)
                })
        }
        family("kvd_commands_total", "counter", "Commands run.")
        for row in rows { add("kvd_commands_total", [("command", row.name)], row.calls) }
        family("kvd_command_seconds_total", "counter", "How long they ran.")
        for row in rows { add("kvd_command_seconds_total", [("command", row.name)], seconds(row.nanos)) }
        family("kvd_command_failures_total", "counter", "Commands that ran and got an error.")
        for row in rows { add("kvd_command_failures_total", [("command", row.name)], row.failed) }
        family("kvd_command_rejections_total", "counter", "Commands that were refused before they ran.")
        for row in rows { add("kvd_command_rejections_total", [("command", row.name)], row.rejected) }
        family("kvd_errors_total", "counter", "Error replies by their first word; the most frequent.")
        for (code, count) in r.errors.prefix(MetricsText.errorsMax) { add("kvd_errors_total", [("code", code)], count) }
    }

    private mutating func latencies(_ r: StatusReport) {
        let name = "kvd_command_duration_seconds"
        family(name, "histogram", "How long commands took at the server.")
        for latency in r.latencies {
            for exponent in MetricsText.octaves {
                let end = PlainNumber.text(Double(1 << exponent) / 1e9)
                let count = latency.histogram.count(below: exponent)
                add(name + "_bucket", [("command", latency.name), ("le", end)], count)
            }
            let total = latency.histogram.total
            add(name + "_bucket", [("command", latency.name), ("le", "+Inf")], total)
            add(name + "_sum", [("command", latency.name)], seconds(latency.nanos))
            add(name + "_count", [("command", latency.name)], total)
        }
    }

    private mutating func actors(_ r: StatusReport) {
        let isWhole = r.actorCount <= MetricsText.actorsMax
        func rows(_ join: ([Int]) -> Int, _ field: KeyPath<ActorReport, Int>) -> [(String, Int)] {
            if isWhole { return r.actors.map { (String($0.index), $0[keyPath: field]) } }
            return [("all", join(r.actors.map { $0[keyPath: field] }))]
        }
        let (sum, most): (([Int]) -> Int, ([Int]) -> Int) = ({ $0.reduce(0, +) }, { $0.max() ?? 0 })
        for (name, type, help, values) in [
            ("kvd_actor_requests_total", "counter", "Commands that came to an actor.", rows(sum, \.commands)),
            ("kvd_actor_clients", "gauge", "Connections of an actor.", rows(sum, \.clients)),
            ("kvd_keys", "gauge", "Keys of an actor's replica, of all databases.", rows(most, \.keys)),
            ("kvd_tombstones", "gauge", "Deleted keys that an actor still keeps.", rows(most, \.tombstones)),
            ("kvd_loop_long_turns_total", "counter", "Turns of more than a millisecond.", rows(sum, \.longTurns)),
        ] as [(String, String, String, [(String, Int)])] {
            family(name, type, help)
            for (actor, value) in values { add(name, [("actor", actor)], value) }
        }
        let longest = "kvd_loop_longest_turn_seconds"
        family(longest, "gauge", "The longest turn of an actor's loop by its processor.")
        for (actor, value) in rows(most, \.longestTurnMicros) {
            add(longest, [("actor", actor)], seconds(value * 1000))
        }
        one("kvd_keys_with_deadline", "gauge", "Keys that expire.", r.actors.map(\.volatileKeys).max() ?? 0)
        one(
            "kvd_record_bytes", "gauge", "Records of a replica; actors share them.",
            r.actors.map(\.recordBytes).max() ?? 0)
    }

    private mutating func replication(_ r: StatusReport) {
        func sum(_ field: KeyPath<ActorReport, Int>) -> Int { r.actors.reduce(0) { $0 + $1[keyPath: field] } }
        one("kvd_divergence_detected_total", "counter", "Replicas with equal histories differed.", sum(\.divergences))
        one(
            "kvd_future_stamps_total", "counter", "Writes that came with timestamps of the future.", sum(\.futureStamps)
        )
        one(
            "kvd_journal_overruns_total", "counter", "A server was too far behind to be told write by write.",
            sum(\.journalOverruns))
        one(
            "kvd_certificate_end_timestamp_seconds", "gauge",
            "When the certificate for other servers ends, since 1970; 0 without one.", r.certificateEnd)
        one("kvd_clock_rejects_total", "counter", "Clocks of others that were not believed.", sum(\.clockRejects))
        one("kvd_tombstones_collected_total", "counter", "Deleted keys that are forgotten.", sum(\.tombstonesCollected))
        one(
            "kvd_tombstones_held", "gauge",
            "1 if a server keeps deleted keys from being forgotten; status.json says which.",
            r.actors.contains { $0.hold != nil && $0.tombstones > 0 } ? 1 : 0)
        one("kvd_sync_messages_total", "counter", "Messages from actor to actor.", r.messages.betweenActors)
        one("kvd_sync_bytes_sent_total", "counter", "Bytes of these.", r.messages.syncBytesSent)
        one(
            "kvd_sync_remote_bytes_received_total", "counter", "Bytes from other servers.",
            r.messages.remoteBytesReceived)
        one(
            "kvd_sync_messages_dropped_total", "counter", "Messages lost as a link was down or full.",
            r.messages.remoteDropped)
        one("kvd_sync_bad_frames_total", "counter", "Links closed for what came by them.", r.messages.badFrames)
        one(
            "kvd_sync_message_rate_max", "gauge", "Most messages of one actor to one other in a second.",
            r.messages.messageRateMax)
        ratio(
            "kvd_clock_correction_seconds", "What is added to this machine's clock, as the others agree on another.",
            Double(r.actors.first?.clockCorrectionMillis ?? 0) / 1000)
    }

    private mutating func peers(_ r: StatusReport) {
        let all = r.peers
        one("kvd_peers", "gauge", "Other servers of the cluster.", all.count)
        // The worst, in the order of their names.
        let worst = all.sorted { ($1.lagMillis, $0.id) < ($0.lagMillis, $1.id) }.prefix(MetricsText.peersMax)
        let shown = all.filter { peer in worst.contains { $0.id == peer.id } }
        for (name, help, value) in [
            ("kvd_peer_up", "1 if it is heard and has caught up.", { $0.state == .up ? 1 : 0 }),
            (
                "kvd_replication_lag_seconds", "How long the oldest write has waited that it has not acknowledged.",
                { Double($0.lagMillis) / 1000 }
            ),
            ("kvd_replication_pending_writes", "Writes that it has not acknowledged.", { Double($0.pending) }),
            ("kvd_replication_backlog_bytes", "About what is still to be sent.", { Double($0.backlogBytes) }),
            (
                "kvd_peer_silence_seconds", "Since it was heard; -1 if never.",
                { $0.heardMillisAgo < 0 ? -1 : Double($0.heardMillisAgo) / 1000 }
            ),
            (
                "kvd_peer_round_trip_seconds", "There and back; -1 if not known.",
                { $0.roundTripMillis < 0 ? -1 : Double($0.roundTripMillis) / 1000 }
            ),
            ("kvd_clock_offset_seconds", "Its clock minus this one.", { Double($0.clockOffsetMillis) / 1000 }),
        ] as [(String, String, (PeerRow) -> Double)] {
            family(name, "gauge", help)
            for peer in shown {
                add(name, [("peer", peer.name), ("id", hex16(peer.id))], PlainNumber.text(value(peer)))
            }
        }
    }

    private mutating func disk(_ r: StatusReport) {
        one("kvd_disk_write_errors_total", "counter", "Writes to a log that failed.", r.disk.writeErrors)
        one("kvd_disk_sync_errors_total", "counter", "Syncs of a log that failed.", r.disk.syncErrors)
        one("kvd_snapshot_errors_total", "counter", "Snapshots that were not made.", r.disk.snapshotErrors)
        one(
            "kvd_disk_failing", "gauge", "1 while the disk does not take the log, or the last snapshot failed.",
            r.isDiskFailing ? 1 : 0)
        ratio(
            "kvd_durable_lag_seconds", "How long the oldest write has waited that is not on the disk.",
            Double(r.disk.lagMillis) / 1000)
        one("kvd_quarantined_bytes", "gauge", "Of damaged files that were set aside.", r.quarantinedBytes)
    }

    private mutating func process(_ r: StatusReport) {
        one("kvd_memory_allocated_bytes", "gauge", "What the program has allocated.", r.memoryBytes)
        one("kvd_memory_peak_bytes", "gauge", "The most of that.", r.memoryPeakBytes)
        one("kvd_memory_machine_bytes", "gauge", "What the machine has.", r.machineBytes)
        one("process_resident_memory_bytes", "gauge", "Memory that the kernel counts as resident.", r.residentBytes)
        ratio("process_cpu_seconds_total", "Time of processors.", r.processorSeconds, type: "counter")
        one("process_open_fds", "gauge", "Open files.", r.openFiles)
        one("process_max_fds", "gauge", "Most open files.", r.openFilesMax)
        one(
            "process_start_time_seconds", "gauge", "When it started, since 1970.",
            Int(r.wallMillis / 1000) - r.uptimeSeconds)
    }

    // MARK: Lines

    private mutating func family(_ name: String, _ type: String, _ help: String) {
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
    }

    private mutating func one(_ name: String, _ type: String, _ help: String, _ value: Int) {
        family(name, type, help)
        add(name, [], value)
    }

    private mutating func ratio(_ name: String, _ help: String, _ value: Double, type: String = "gauge") {
        family(name, type, help)
        add(name, [], PlainNumber.text(value))
    }

    private mutating func add(_ name: String, _ labels: [(String, String)], _ value: Int) {
        add(name, labels, String(value))
    }

    private mutating func add(_ name: String, _ labels: [(String, String)], _ value: String) {
        series += 1
        text += name
        if !labels.isEmpty {
            text += "{"
            text += labels.map { "\($0.0)=\"\(MetricsText.escaped($0.1))\"" }.joined(separator: ",")
            text += "}"
        }
        text += " \(value)\n"
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for character in text.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }

    private func seconds(_ nanos: Int) -> String { PlainNumber.text(Double(nanos) / 1e9) }
}

/// Numbers without an exponent.
enum PlainNumber {
    /// Up to nine digits behind the point.
    static func text(_ value: Double) -> String {
        if value == value.rounded(), abs(value) < 1e15 { return String(Int(value)) }
        var text = Info.fixed(value, abs(value) < 1e9 ? 9 : 3)
        while text.hasSuffix("0") { text.removeLast() }
        if text.hasSuffix(".") { text.removeLast() }
        return text
    }
}
