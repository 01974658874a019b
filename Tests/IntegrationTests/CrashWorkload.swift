// Clients that write until their server dies under them, and know what they were told. Threads of their own.

import Foundation
import KVBase
import Testing

/// One client with keys of its own. Each key is written by it alone, so what it was told last is what must be there.
final class CrashWriter: @unchecked Sendable {
    /// What was sent of a key, oldest first: the first is what was acknowledged last; nil is deleted.
    private(set) var sent: [String: [String?]] = [:]
    private(set) var acknowledged = 0
    private let name: String
    let port: Int
    private var isStopping = false
    private var counter = 0
    private let done = DispatchSemaphore(value: 0)
    /// Commands on their way.
    private let pipeline: Int
    private var random: PRNG
    private let keys: Int

    init(_ name: String, port: Int, pipeline: Int, keys: Int = 60, seed: UInt64) {
        (self.name, self.port, self.pipeline, self.keys) = (name, port, pipeline, keys)
        random = PRNG(seed: seed)
    }

    /// Writes until the connection ends.
    func start() {
        Thread.detachNewThread { [self] in
            try? write()
            done.signal()
        }
    }

    func wait() { done.wait() }

    /// Ends it where its server goes on: soon.
    func stop() { isStopping = true }

    private func write() throws {
        let client = try Client(port: port)
        var underWay: [String] = []
        while !isStopping {
            while underWay.count < pipeline {
                let key = "\(name):\(random.below(keys))"
                counter += 1
                var command = ["SET", key, "\(counter) " + String(repeating: "v", count: random.below(200))]
                if random.chance(0.2) { command = ["DEL", key] }
                if command[0] == "SET", random.chance(0.01) { command[2] += String(repeating: "w", count: 20_000) }
                // One that a log takes in over several turns.
                if command[0] == "SET", random.chance(0.001) { command[2] += String(repeating: "x", count: 1_500_000) }
                sent[key, default: [nil]].append(command[0] == "SET" ? command[2] : nil)
                underWay.append(key)
                try client.send(Client.encode(command.map { Bytes($0) }))
            }
            let reply = try client.reply()
            guard reply.first != UInt8(ascii: "-") else {
                throw ProcessError(description: String(decoding: reply, as: UTF8.self))
            }
            acknowledged += 1
            sent[underWay.removeFirst()]!.removeFirst()
        }
    }

    /// What is wrong with what a server has of the keys: lost, or come back. Then, that is what is there.
    func faults(_ client: Client) throws -> [String] {
        var faults: [String] = []
        for (key, values) in sent {
            let found = try value(key, client)
            guard values.contains(found) else {
                let told = values[0].map { "\($0.prefix(12))" } ?? "deleted"
                faults.append("\(key) is \(found.map { "\($0.prefix(12))" } ?? "absent"), not \(told)")
                continue
            }
        }
        return faults
    }

    /// What a server has now counts as acknowledged.
    func settle(_ client: Client) throws {
        for i in 0..<keys { sent["\(name):\(i)"] = [try value("\(name):\(i)", client)] }
    }

    private func value(_ key: String, _ client: Client) throws -> String? {
        let reply = String(decoding: try client.call(["GET", Bytes(key)]), as: UTF8.self)
        guard reply.hasPrefix("$"), reply != "$-1\r\n", let end = reply.range(of: "\r\n") else { return nil }
        // The end of the line is one character.
        return String(reply[end.upperBound...].dropLast())
    }
}

/// A directory for a test, removed at its end.
final class TestDirectory {
    let path: String

    init() {
        path = NSTemporaryDirectory() + "kvd-test-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func path(_ name: String) -> String { path + "/" + name }

    /// Names and contents of everything in it.
    var contents: [String: Data] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        return Dictionary(
            uniqueKeysWithValues: names.map { ($0, FileManager.default.contents(atPath: path($0)) ?? Data()) })
    }
}
