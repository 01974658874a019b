// Who a client says it is: before anything else on each connection, and what a refusal is to its calls.

import Foundation
import KVClient
import Synchronization
import Testing

@Suite struct CredentialsTests {
    private var configuration: KVClientConfiguration {
        var configuration = KVClientConfiguration.patient
        configuration.credentials = KVCredentials(user: "me", password: "a secret")
        return configuration
    }

    @Test func theyAreToldBeforeAnythingElse() async throws {
        let store = FakeStore()
        let server = try await ScriptedServer { exchange in
            if exchange.arguments[0] == "AUTH" { exchange.reply("+OK\r\n") } else { store.answer(exchange) }
        }
        let client = KVClient(servers: [server.address], configuration: configuration)
        async let put = client.put("k", "v")
        async let other = client.get("other")
        _ = try await (put, other)
        #expect(try await client.get("k") == "v")
        #expect(server.requests.first == ["AUTH", "me", "a secret"])
        #expect(server.requests.filter { $0[0] == "AUTH" }.count == 1)
        await client.close()
        await server.stop()
    }

    @Test func whatIsRefusedIsToldToEachCall() async throws {
        let server = try await ScriptedServer { exchange in
            exchange.reply(
                exchange.arguments[0] == "AUTH" ? "-WRONGPASS no\r\n" : "-NOAUTH Authentication required.\r\n")
        }
        let client = KVClient(servers: [server.address], configuration: configuration)
        for _ in 0..<3 { #expect(await failure { try await client.get("k") } == .server("WRONGPASS no")) }
        await client.close()
        await server.stop()
    }

    @Test func withoutThemTheServerSaysWhatItWants() async throws {
        let server = try await ScriptedServer { $0.reply("-NOAUTH Authentication required.\r\n") }
        let client = KVClient(servers: [server.address], configuration: .patient)
        #expect(await failure { try await client.get("k") } == .server("NOAUTH Authentication required."))
        await client.close()
        await server.stop()
    }

    @Test func theEnvironmentHasThem() {
        #expect(KVCredentials { _ in nil } == nil)
        #expect(KVCredentials { ["KV_USER": "me"][$0] } == nil)
        #expect(KVCredentials { ["KV_PASSWORD": "x"][$0] } == KVCredentials(user: "default", password: "x"))
        #expect(
            KVCredentials { ["KV_PASSWORD": "x", "KV_USER": "me"][$0] } == KVCredentials(user: "me", password: "x"))
        #expect("\(KVCredentials(user: "me", password: "hidden"))" == "user me")
    }

    @Test func kvSaysWhatToDo() throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("kv-password-\(UUID().uuidString)")
            .path
        try "a secret of a real server\n".write(toFile: path, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let server = try Server(arguments: ["--requirepass-file", path])
        let ended = try Programs.kv(["--server", server.addresses, "get", "k"])
        #expect(ended.errors.contains("NOAUTH") && ended.errors.contains("KV_PASSWORD is the password"), "\(ended)")
    }

    @Test func aRealServerTakesThem() async throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("kv-password-\(UUID().uuidString)")
            .path
        try "a secret of a real server\n".write(toFile: path, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let server = try Server(arguments: ["--requirepass-file", path])
        var configuration = KVClientConfiguration.patient
        configuration.credentials = KVCredentials(password: "a secret of a real server")
        let client = try KVClient(servers: server.addresses, configuration: configuration)
        try await client.put("k", "v")
        #expect(try await client.get("k") == "v")
        await client.close()
        configuration.credentials?.password = "another"
        let stranger = try KVClient(servers: server.addresses, configuration: configuration)
        #expect(
            await failure { try await stranger.get("k") }
                == .server("WRONGPASS invalid username-password pair or user is disabled."))
        await stranger.close()
    }
}
