// Carries out one request and prints its result; the same for one-shot commands and the prompt. Main task.

import KVClient

struct Runner {
    /// Exit codes besides 0 and the parser's 64.
    static let failed: Int32 = 1
    static let absent: Int32 = 2

    static let pageEntries = 1000

    let client: KVClient
    let json: Bool
    /// Values and keys byte for byte, also for a person.
    var isRaw = false
    /// Whether several results follow each other, so that each needs its own lines.
    var isConversation = false

    /// Prints the result on standard output, an error in one line on standard error; the exit code.
    func run(_ request: Request) async -> Int32 {
        do {
            switch request {
            case .get(let key): return try await get(key)
            case .put(let key, let value):
                let stamp = try await client.put(key, value)
                Terminal.write(json ? "{\(Text.member("key", key)),\"stamp_ms\":\(stamp.millis)}\n" : "OK\n")
            case .putFor(let key, let value, let time, let ifAbsent):
                let isDone = try await client.put(key, value, expiresIn: time, ifAbsent: ifAbsent)
                if json {
                    Terminal.write("{\(Text.member("key", key)),\"written\":\(isDone)}\n")
                } else if isDone || isConversation {
                    Terminal.write(isDone ? "OK\n" : "(there already)\n")
                }
                return isDone ? 0 : Self.absent
            case .timeToLive(let key): return try await timeToLive(key)
            case .increment(let key, let step):
                let sum = try await client.increment(key, by: step)
                Terminal.write(json ? "{\(Text.member("key", key)),\"value\":\(sum)}\n" : "\(sum)\n")
            case .list(let prefix, let limit, let after): try await list(prefix, limit, after)
            case .delete(let keys):
                let deleted = try await delete(keys)
                Terminal.write(json ? "{\"deleted\":\(deleted)}\n" : "\(deleted)\n")
            case .ping: try await ping()
            case .status: try await status()
            case .doctor: return try await doctor()
            case .raw(let arguments):
                let reply = try await client.send(arguments)
                if isRaw, !json {
                    Terminal.write(Self.plain(reply))
                    break
                }
                let table = isConversation && PeerTable.isAsked(arguments) ? PeerTable.text(reply) : nil
                Terminal.write(json ? Self.json(reply) + "\n" : table ?? Self.lines(reply))
            case .help: Terminal.write(Request.helpText + "\n")
            case .quit: break
            }
            return 0
        } catch let error as KVError {
            Terminal.complain(Self.advice(error))
        } catch {
            Terminal.complain("\(error)")
        }
        return Self.failed
    }

    private func get(_ key: KVBytes) async throws -> Int32 {
        let value = try await client.get(key)
        if json {
            Terminal.write(
                "{\(Text.member("key", key)),\(value.map { Text.member("value", $0) } ?? "\"value\":null")}\n")
        } else if let value {
            if isRaw {
                Terminal.write(value.array + (isConversation ? [10] : []))
            } else if isConversation || Terminal.isTerminal(1) {
                Terminal.write(Text.escaped(value, keepingLines: true) + "\n")
            } else {
                Terminal.write(value.array)
            }
        } else if isConversation {
            Terminal.write("(absent)\n")
        }
        return value == nil ? Self.absent : 0
    }

    /// Seconds with three decimals, or that there is no end.
    private func timeToLive(_ key: KVBytes) async throws -> Int32 {
        let time = try await client.timeToLive(key)
        let text: String? =
            switch time {
            case .left(let left):
                {
                    let (seconds, attoseconds) = left.components
                    let rest = String(attoseconds / 1_000_000_000_000_000)
                    return "\(seconds)." + String(repeating: "0", count: 3 - rest.count) + rest
                }()
            case .never: json ? "null" : "none"
            case nil: nil
            }
        if json {
            Terminal.write("{\(Text.member("key", key)),\"exists\":\(text != nil),\"ttl_s\":\(text ?? "null")}\n")
        } else if let text {
            Terminal.write(text + "\n")
        } else if isConversation {
            Terminal.write("(absent)\n")
        }
        return text == nil ? Self.absent : 0
    }

    /// Page by page, so that a listing of any length takes little memory and can be cut off.
    private func list(_ prefix: KVBytes, _ limit: Int?, _ after: KVBytes?) async throws {
        var (left, last) = (limit ?? .max, after)
        while left > 0 {
            let wanted = min(left, Self.pageEntries)
            let page = try await client.list(prefix: prefix, limit: wanted, after: last)
            var text: [UInt8] = []
            for pair in page {
                if json {
                    text += Array("{\(Text.member("key", pair.key)),\(Text.member("value", pair.value))}\n".utf8)
                } else if isRaw {
                    text += pair.key.array + [9] + pair.value.array + [10]
                } else {
                    text += Array("\(Text.escaped(pair.key))\t\(Text.escaped(pair.value))\n".utf8)
                }
            }
            Terminal.write(text)
            guard page.count == wanted else { return }
            left -= page.count
            last = page.last?.key
        }
    }

    /// Milliseconds until the store has answered, the connection made before.
    private func ping() async throws {
        _ = try await client.send(["PING"])
        let start = ContinuousClock.now
        _ = try await client.send(["PING"])
        let (seconds, attoseconds) = (ContinuousClock.now - start).components
        let micros = seconds * 1_000_000 + attoseconds / 1_000_000_000_000
        let rest = String(micros % 1000)
        let millis = "\(micros / 1000)." + String(repeating: "0", count: 3 - rest.count) + rest
        Terminal.write(json ? "{\"ping_ms\":\(millis)}\n" : "PONG \(millis) ms\n")
    }

    private func status() async throws {
        let reply = try await client.send(json ? ["KVD", "STATUS"] : ["KVD", "STATUS", "TABLE"])
        if json { return Terminal.write(reply.bytes?.array ?? []) }
        let rows = (reply.elements ?? []).map { line in
            (line.bytes?.description ?? "").split(separator: "\t", omittingEmptySubsequences: false).map {
                Text.escaped(KVBytes(String($0)))
            }
        }
        Terminal.write(TextTable.aligned(rows))
    }

    /// Each finding is its weight, what is wrong, and what to do.
    private func doctor() async throws -> Int32 {
        let reply = try await client.send(["KVD", "DOCTOR"])
        let findings = (reply.elements ?? []).map { finding in
            (finding.elements ?? []).map { $0.bytes?.description ?? "" }
        }
        if json {
            Terminal.write(Self.json(reply) + "\n")
        } else if findings.isEmpty {
            Terminal.write("Nothing is wrong.\n")
        }
        for finding in findings where !json && finding.count == 3 {
            let words = finding.map { Text.escaped(KVBytes($0)) }
            Terminal.write("\(words[0]): \(words[1])\n    \(words[2])\n")
        }
        return findings.contains { $0.first == "critical" } ? Self.failed : 0
    }

    private func delete(_ keys: [KVBytes]) async throws -> Int {
        var deleted = 0
        for start in stride(from: 0, to: keys.count, by: Self.pageEntries) {
            let batch = keys[start..<min(start + Self.pageEntries, keys.count)]
            let results = try await client.withPipeline { pipeline in batch.map { pipeline.delete($0) } }
            for result in results where try result.value { deleted += 1 }
        }
        return deleted
    }

    /// The error, and what to do about it where that is known. Whatever the server said is made harmless.
    static func advice(_ error: KVError) -> String {
        let text = Text.escaped(KVBytes("\(error)"))
        if case .unreachable(_, let reason) = error {
            if reason.hasPrefix("TLS failed") {
                return text + " - --cacert names who signs its certificate, --cert and --key what it may ask for"
            }
            return text + " - is kvd running there? --server or KV_SERVER names another"
        }
        if case .server(let message) = error, message.hasPrefix("ERR this port takes connections with TLS only") {
            return text + " - --tls or --cacert FILE speaks it"
        }
        if case .server(let message) = error, message.hasPrefix("NOAUTH ") || message.hasPrefix("WRONGPASS ") {
            return text + " - KV_PASSWORD is the password, and KV_USER or --user the user"
        }
        if case .timeout = error { return text + " - a longer --timeout may help" }
        return text
    }

    // MARK: Raw replies

    private static func lines(_ reply: KVReply, indent: String = "") -> String {
        switch reply {
        case .null: indent + "(absent)\n"
        case .status(let text): indent + Text.escaped(KVBytes(text)) + "\n"
        case .bytes(let bytes): indent + Text.escaped(bytes, keepingLines: true) + "\n"
        case .integer(let value): indent + "\(value)\n"
        case .double(let value): indent + "\(value)\n"
        case .boolean(let value): indent + "\(value)\n"
        case .error(let text): indent + "(error) " + Text.escaped(KVBytes(text)) + "\n"
        case .array(let elements), .map(let elements):
            elements.isEmpty
                ? indent + "(empty)\n"
                : elements.enumerated().map { indent + "\($0 + 1)) " + lines($1).trimmingLast() + "\n" }.joined()
        }
    }

    /// The reply's bytes, an element a line.
    private static func plain(_ reply: KVReply) -> [UInt8] {
        switch reply {
        case .bytes(let bytes): bytes.array + [10]
        case .status(let text): Array(text.utf8) + [10]
        case .null: [10]
        case .integer(let value): Array("\(value)\n".utf8)
        case .double(let value): Array("\(value)\n".utf8)
        case .boolean(let value): Array("\(value)\n".utf8)
        case .error(let text): Array("(error) \(text)\n".utf8)
        case .array(let elements), .map(let elements): elements.flatMap(plain)
        }
    }

    private static func json(_ reply: KVReply) -> String {
        switch reply {
        case .null: "null"
        case .status(let text): Text.json(text)
        case .bytes(let bytes): bytes.text.map(Text.json) ?? "{\"base64\":\"\(Text.base64(bytes.array))\"}"
        case .integer(let value): "\(value)"
        case .double(let value): value.isFinite ? "\(value)" : "\"\(value)\""
        case .boolean(let value): "\(value)"
        case .error(let text): "{\"error\":\(Text.json(text))}"
        case .array(let elements), .map(let elements): "[" + elements.map(json).joined(separator: ",") + "]"
        }
    }
}

extension String {
    fileprivate func trimmingLast() -> String { hasSuffix("\n") ? String(dropLast()) : self }
}
