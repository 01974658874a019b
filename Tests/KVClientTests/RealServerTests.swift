// The client against kvd processes: every method, failover between query actors and servers, restart.

import Foundation
import KVClient
import Testing

@Suite(.serialized) struct RealServerTests {
    @Test func everyMethodWorks() async throws {
        let server = try Server()
        let client = try KVClient(servers: server.addresses, configuration: .patient)
        #expect(try await client.get("k") == nil)
        let first = try await client.put("k", "v")
        #expect(abs(Double(first.millis) / 1000 - Date().timeIntervalSince1970) < 60)
        let second = try await client.put("k", "w")
        #expect(second >= first)
        #expect(try await client.get("k") == "w")
        let binary = KVBytes((0...255).map { UInt8($0) })
        try await client.put(binary, binary)
        #expect(try await client.get(binary) == binary)
        #expect(try await client.delete("k"))
        #expect(try await !client.delete("k"))
        #expect(try await client.get("k") == nil)
        #expect(try await client.send(["PING"]) == .status("PONG"))
        #expect(await failure { try await client.send(["NOSUCH"]) }?.isStoreUnavailable == false)
        await client.close()
    }

    @Test func listingsPageInByteOrder() async throws {
        let server = try Server()
        let client = try KVClient(servers: server.addresses, configuration: .patient)
        let keys = (0..<2500).map { "p/\(1_000_000 + $0 * 7 % 2500)" }
        for start in stride(from: 0, to: keys.count, by: 500) {
            _ = try await client.withPipeline { pipeline in
                for key in keys[start..<start + 500] { pipeline.put(key, "v" + key) }
            }
        }
        // Words of the LIST command as prefixes and keys.
        for key in ["LIMIT", "AFTER", "LIMIT 5", "q"] { try await client.put(key, "x") }
        var seen: [String] = []
        for try await page in client.listAll(prefix: "p/", pageEntries: 300).pages {
            seen += page.map(\.key.description)
        }
        #expect(seen == keys.sorted())
        #expect(try await client.list(prefix: "LIMIT").map(\.key) == ["LIMIT", "LIMIT 5"])
        #expect(try await client.list(prefix: "LIMIT", limit: 1).map(\.key) == ["LIMIT"])
        #expect(try await client.list(prefix: "AFTER", limit: 5).map(\.key) == ["AFTER"])
        #expect(try await client.list(limit: 2).map(\.key) == ["AFTER", "LIMIT"])
        #expect(try await client.list(after: "p/9").map(\.key) == ["q"])
        await client.close()
    }

    @Test func largeValuesGoThereAndBack() async throws {
        let server = try Server()
        let client = try KVClient(servers: server.addresses, configuration: .patient).withTimeout(.seconds(30))
        let value = KVBytes((0..<8_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7 >> 2) })
        try await client.put("big", value)
        #expect(try await client.get("big") == value)
        guard
            case .server = await failure({ try await client.put(KVBytes(String(repeating: "k", count: 70_000)), "v") })
        else {
            Issue.record("a key of 70,000 bytes was not refused")
            return
        }
        #expect(try await client.get("big")?.count == value.count)
        await client.close()
    }

    @Test func hundredsOfTasksShareAConnection() async throws {
        let server = try Server()
        let client = try KVClient(servers: server.addresses, configuration: .patient)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<300 {
                group.addTask {
                    for step in 0..<5 {
                        try await client.put("t\(task)", "\(step)")
                        let value = try await client.get("t\(task)")
                        #expect(value == KVBytes("\(step)"))
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await client.list(prefix: "t").count == 300)
        await client.close()
    }

    @Test func aCrashedServerIsLeftAndLaterWritesWin() async throws {
        let first = try Server()
        let second = try Server()
        let client = try KVClient(
            servers: first.addresses.split(separator: ",")[0] + "," + second.addresses, configuration: .patient)
        let events = client.events()
        let before = try await client.put("k", "1")
        first.crash()
        try await eventually("a write was taken") { (try? await client.put("k", "2")) != nil }
        let after = try await client.put("k", "3")
        #expect(after > before)
        #expect(await nextEvent(events) { if case .failedOver = $0 { true } else { false } } != nil)
        #expect(try await client.get("k") == "3")
        await client.close()
    }

    /// With all settings as they are by default, under which a call would be given up after five seconds.
    @Test func aHungServerIsLeftInLessThanItsSilenceTakes() async throws {
        let first = try Server()
        let second = try Server()
        let servers = "\(first.addresses.split(separator: ",")[0]),\(second.addresses.split(separator: ",")[0])"
        for isConnected in [true, false] {
            let client = try KVClient(servers: servers)
            if isConnected { try await client.put("k", "1") }
            first.hang()
            let events = client.events()
            let start = ContinuousClock.now
            // Read by the second, which has no such key.
            #expect(try await client.get("k") == nil)
            #expect(ContinuousClock.now - start < .seconds(5))
            try await client.put("k", "2")
            #expect(try await client.get("k") == "2")
            let left = await nextEvent(events) { if case .failedOver = $0 { true } else { false } }
            #expect("\(String(describing: left))".contains("hangs: silent for"))
            try await client.delete("k")
            await client.close()
        }
    }

    @Test func aRestartedServerIsFoundAgain() async throws {
        let first = try Server()
        let port = first.ports[0] - 1
        let client = try KVClient(servers: "127.0.0.1:\(port + 1)", configuration: .patient)
        try await client.put("k", "v")
        first.crash()
        guard await failure({ try await client.get("k") })?.isStoreUnavailable == true else { return }
        let second = try Server(port: port)
        try await eventually("answered again") { (try? await client.get("k")) == .some(nil) }
        withExtendedLifetime(second) {}
        await client.close()
    }
}
