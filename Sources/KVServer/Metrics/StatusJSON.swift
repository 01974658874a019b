// A report as JSON, for scripts: /status.json. Pure; any thread.

import KVBase

/// Written straight into a text: there are few types, and no library for it here.
struct JSONText {
    private(set) var text = ""
    /// Whether the next member of the innermost object or array needs a comma.
    private var needsComma = [false]

    mutating func object(_ name: String? = nil, _ body: (inout JSONText) -> Void) { nest(name, "{", "}", body) }
    mutating func array(_ name: String? = nil, _ body: (inout JSONText) -> Void) { nest(name, "[", "]", body) }

    /// An array of an object for each item.
    mutating func objects<Item>(_ name: String, _ items: [Item], _ body: (inout JSONText, Item) -> Void) {
        array(name) { json in for item in items { json.object { body(&$0, item) } } }
    }

    private mutating func nest(_ name: String?, _ open: String, _ close: String, _ body: (inout JSONText) -> Void) {
        begin(name)
        text += open
        needsComma.append(false)
        body(&self)
        needsComma.removeLast()
        text += close
    }

    mutating func add(_ name: String? = nil, _ value: Int) {
        begin(name)
        text += String(value)
    }

    mutating func add(_ name: String? = nil, _ value: Double) {
        begin(name)
        text += PlainNumber.text(value)
    }

    mutating func add(_ name: String? = nil, _ value: Bool) {
        begin(name)
        text += value ? "true" : "false"
    }

    mutating func add(_ name: String? = nil, _ value: String?) {
        begin(name)
        text += value.map { JSONText.quoted($0) } ?? "null"
    }

    private mutating func begin(_ name: String?) {
        if needsComma[needsComma.count - 1] { text += "," }
        needsComma[needsComma.count - 1] = true
        if let name { text += JSONText.quoted(name) + ":" }
    }

    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case _ where scalar.value < 0x20:
                let hex = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}

extension StatusReport {
    /// One object. Times in milliseconds where the name says so; -1 where a time is not known.
    var json: String {
        var json = JSONText()
        json.object { json in
            json.add("id", id)
            json.add("name", name)
            json.add("cluster", cluster)
            json.add("version", version)
            json.add("address", address)
            json.add("io", inputOutput)
            json.add("pid", processID)
            json.add("uptime_seconds", uptimeSeconds)
            json.add("state", state)
            json.add("ready", unreadiness == nil)
            json.add("reason", unreadiness)
            json.add("caught_up_percent", caughtUpPercent)
            json.add("lag_ms", Int(lagMillis))
            json.add("commands_per_second", commandsPerSecond)
            json.add("certificate_end", certificateEnd)
            json.add("clients", actors.reduce(0) { $0 + $1.clients })
            json.add("memory_bytes", memoryBytes)
            json.add("resident_bytes", residentBytes)
            json.add("disk_write_errors", disk.writeErrors)
            json.add("disk_sync_errors", disk.syncErrors)
            json.add("snapshot_errors", disk.snapshotErrors)
            json.add("quarantined_bytes", quarantinedBytes)
            json.objects("actors", actors) { json, actor in actor.write(&json) }
            json.objects("peers", peers) { json, peer in peer.write(&json) }
            json.objects("slow_commands", slowest) { json, entry in
                json.add("at", entry.seconds)
                json.add("micros", entry.micros)
                // The name only: keys and values are nobody's business here.
                json.add("command", entry.words.first?.description.lowercased())
            }
            json.objects("findings", findings) { json, finding in
                json.add("weight", finding.weight.rawValue)
                json.add("what", finding.what)
                json.add("advice", finding.advice)
            }
        }
        return json.text + "\n"
    }
}

extension ActorReport {
    fileprivate func write(_ json: inout JSONText) {
        json.add("index", index)
        json.add("port", port)
        json.add("clients", clients)
        json.add("commands", commands)
        json.add("commands_per_second", commandsPerSecond)
        json.add("keys", keys)
        json.add("tombstones", tombstones)
        json.add("held_up_by", tombstones > 0 ? hold : nil)
        json.add("lag_ms", Int(lagMillis))
        json.add("longest_turn_micros", longestTurnMicros)
        json.add("longest_turn_work", longestTurnWork)
        json.add("data_commands", refusal)
    }
}

extension PeerRow {
    fileprivate func write(_ json: inout JSONText) {
        json.add("id", hex16(id))
        json.add("name", name)
        json.add("address", address)
        json.add("state", state.rawValue)
        json.add("encryption", encryption)
        json.add("pending", pending)
        json.add("lag_ms", Int(lagMillis))
        json.add("heard_ms", Int(heardMillisAgo))
        json.add("round_trip_ms", Int(roundTripMillis))
        json.add("clock_offset_ms", Int(clockOffsetMillis))
        json.add("backlog_bytes", backlogBytes)
    }
}
