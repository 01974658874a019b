// Reads all pairs of the server, database by database in key order, into a file. Main task.

import KVBase
import KVClient
import KVFiles

struct Exporter {
    private static let pageEntriesMax = 1000
    /// A page that is larger is followed by smaller ones.
    private static let pageBytesMax = 4 * 1024 * 1024
    private static let pageEntriesFirst = 16

    private let client: KVClient
    private let isRDB: Bool
    private let path: String

    init(_ client: KVClient, isRDB: Bool, path: String) { (self.client, self.isRDB, self.path) = (client, isRDB, path) }

    /// How many keys there were.
    func run() async throws -> Int {
        let databases = try await databases()
        let file = try OutputFile(path: path)
        do {
            let sink = PairSink(file, isRDB: isRDB, nowMillis: Terminal.nowMillis)
            for (database, hasDeadlines) in databases {
                try await export(database, hasDeadlines: hasDeadlines, to: sink)
            }
            try sink.finish()
            try file.finish()
            return sink.count
        } catch {
            file.undo()
            throw error
        }
    }

    /// Those with keys, and whether some expire.
    private func databases() async throws -> [(Int, hasDeadlines: Bool)] {
        let text = try await client.send(["INFO", "keyspace"]).bytes?.description ?? ""
        return text.split(whereSeparator: \.isNewline).compactMap { line in
            let parts = line.split(separator: ":")
            guard parts.count == 2, parts[0].hasPrefix("db"), let number = Int(parts[0].dropFirst(2)) else {
                return nil
            }
            return (number, hasDeadlines: !parts[1].contains("expires=0"))
        }
    }

    private func export(_ database: Int, hasDeadlines: Bool, to sink: PairSink) async throws {
        var (after, limit) = (KVBytes?.none, Exporter.pageEntriesFirst)
        while true {
            let pairs = try await page(database, after: after, limit: limit)
            var bytes = 0
            let deadlines = hasDeadlines ? try await deadlines(database, pairs.map(\.key)) : [:]
            for pair in pairs {
                bytes += pair.key.count + pair.value.count
                try sink.add(
                    FilePair(
                        database: database, key: Bytes(pair.key.array), value: Bytes(pair.value.array),
                        deadline: deadlines[pair.key]))
            }
            if pairs.count < limit { return }
            after = pairs.last?.key
            let isLarge = bytes > Exporter.pageBytesMax
            limit = isLarge ? max(1, limit / 4) : min(Exporter.pageEntriesMax, limit * 2)
        }
    }

    private func page(_ database: Int, after: KVBytes?, limit: Int) async throws -> [KVPair] {
        let words: [KVBytes] =
            ["LIST", "", "LIMIT", KVBytes("\(limit)")] + (after.map { ["AFTER", $0] } ?? [])
        let reply = try await ask(database, words).elements ?? []
        return stride(from: 0, to: reply.count - 1, by: 2).compactMap { place in
            guard let key = reply[place].bytes, let value = reply[place + 1].bytes else { return nil }
            return KVPair(key: key, value: value)
        }
    }

    private func ask(_ database: Int, _ words: [KVBytes]) async throws -> KVReply {
        let (before, answer) = try await client.withPipeline { pipeline in
            let before = pipeline.send(["SELECT", KVBytes("\(database)")])
            let answer = pipeline.send(words)
            pipeline.send(["SELECT", "0"])
            return (before, answer)
        }
        _ = try before.value
        return try answer.value
    }

    private func deadlines(_ database: Int, _ keys: [KVBytes]) async throws -> [KVBytes: Int64] {
        let answers = try await client.withPipeline { pipeline in
            pipeline.send(["SELECT", KVBytes("\(database)")])
            let answers = keys.map { pipeline.send(["PEXPIRETIME", $0]) }
            pipeline.send(["SELECT", "0"])
            return answers
        }
        var found: [KVBytes: Int64] = [:]
        for (key, answer) in zip(keys, answers) {
            if let millis = try answer.value.integer, millis > 0 { found[key] = millis }
        }
        return found
    }
}
