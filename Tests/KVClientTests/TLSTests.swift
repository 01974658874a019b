// The client and kv with TLS against a real server: who is believed, what is shown, and what is said when it fails.

import Foundation
import KVClient
import Testing

@Suite(.serialized) struct TLSTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent("kv-tls-\(UUID().uuidString)")

    init() throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for words in [["ca"], ["server", "server"], ["client", "alice"]] {
            let process = Process()
            process.executableURL = Programs.url("kvd")
            process.arguments = ["cert"] + words + ["--dir", folder.path]
            try process.run()
            process.waitUntilExit()
            #expect(process.terminationStatus == 0)
        }
    }

    private func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

    private func server(_ more: String...) throws -> Server {
        try Server(
            arguments: ["--tls-cert-file", path("server.pem"), "--tls-key-file", path("server.key")] + more)
    }

    private func client(_ server: Server, _ tls: KVTLS?, host: String = "127.0.0.1") -> KVClient {
        var configuration = KVClientConfiguration.patient
        configuration.tls = tls
        configuration.attemptsPerServerMax = 1
        configuration.callTimeout = .seconds(60)
        return KVClient(servers: [KVAddress(host: host, port: server.ports[0])], configuration: configuration)
    }

    private var trusting: KVTLS { KVTLS(authorityFile: path("ca.pem")) }

    @Test(arguments: ["127.0.0.1", "localhost"]) func callsOfAnySizePassEncrypted(host: String) async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let server = try server()
        let client = client(server, trusting, host: host)
        let large = KVBytes([UInt8](repeating: 7, count: 3_000_000))
        try await client.put("k", large)
        #expect(try await client.get("k") == large)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for i in 0..<200 {
                group.addTask {
                    try await client.put("key:\(i)", "v\(i)")
                    #expect(try await client.get("key:\(i)") == KVBytes("v\(i)"))
                }
            }
            try await group.waitForAll()
        }
        let info = "\(try await client.send(["INFO", "stats"]))"
        #expect(info.contains("tls_connections:1"), "\(info)")
        await client.close()
    }

    @Test func whoIsNotBelievedIsNotTalkedTo() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let server = try server()
        // Of another authority; none known; no TLS at all; files that are not there or something else.
        let (none, key) = (path("none.pem"), path("alice.key"))
        for (tls, why) in [
            (KVTLS(authorityFile: path("alice.pem")), "TLS failed: the server's certificate is of nobody"),
            (KVTLS(), "TLS failed: the server's certificate is of nobody"), (nil, "TLS only"),
            (KVTLS(authorityFile: none), "TLS cannot use \(none): No such file or directory"),
            (KVTLS(authorityFile: key), "TLS cannot use \(key): no certificate"),
            (KVTLS(certificateFile: path("alice.pem")), "TLS needs a certificate and its key, both or neither"),
            (KVTLS(certificateFile: path("alice.pem"), keyFile: none), "TLS cannot use \(none): No such file"),
            (
                KVTLS(certificateFile: path("alice.pem"), keyFile: path("ca.pem")),
                "TLS cannot use \(path("ca.pem")): no key, or one that needs a password"
            ),
            (
                KVTLS(certificateFile: path("alice.pem"), keyFile: path("server.key")),
                "TLS cannot use \(path("server.key")): not the key of the certificate"
            ),
        ] as [(KVTLS?, String)] {
            let client = client(server, tls)
            let error = await failure { try await client.put("k", "v") }
            #expect("\(error.map { "\($0)" } ?? "none")".contains(why), "\(why): \(String(describing: error))")
            #expect(tls == nil || error?.mayHaveExecuted == false, "nothing was sent")
            guard let tls, why.contains("TLS cannot") || why.contains("TLS needs") else { continue }
            #expect(throws: KVError.self) { try tls.check() }
            await client.close()
        }
    }

    /// The certificate has to be for the name or the address that the server is reached at.
    @Test func aCertificateOfOtherNamesIsNotBelieved() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let server = try Server(
            arguments: [
                "--host", "127.0.0.2", "--tls-cert-file", path("server.pem"), "--tls-key-file", path("server.key"),
            ])
        let client = client(server, trusting, host: "127.0.0.2")
        let error = await failure { try await client.put("k", "v") }
        #expect("\(String(describing: error))".contains("the server's certificate is for other names"))
        #expect(error?.mayHaveExecuted == false)
        await client.close()
    }

    @Test func aServerWithoutTLSIsNoSuccess() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let server = try Server()
        let client = client(server, trusting)
        let error = await failure { try await client.get("k") }
        #expect(error?.mayHaveExecuted == false, "\(String(describing: error))")
        await client.close()
    }

    @Test func aCertificateIsShown() async throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let users = path("users")
        try "user default off\nuser alice on ~* +@all\n".write(toFile: users, atomically: true, encoding: .utf8)
        let server = try server(
            "--tls-ca-file", path("ca.pem"), "--tls-auth-clients", "yes", "--tls-auth-clients-user", "CN", "--aclfile",
            users)
        let files = ["--cacert", path("ca.pem"), "--cert", path("alice.pem"), "--key", path("alice.key")]
        let put = try Programs.kv(["--server", "127.0.0.1:\(server.ports[0])"] + files + ["put", "k", "v"])
        #expect(put.code == 0, "\(put.errors)")
        let get = try Programs.kv(["get", "k", "--server", "127.0.0.1:\(server.ports[0])"] + files)
        #expect(get.code == 0 && String(decoding: get.output, as: UTF8.self).hasPrefix("v"), "\(get)")
        let without = try Programs.kv(
            ["--server", "127.0.0.1:\(server.ports[0])", "--timeout", "3"] + files[..<2] + ["get", "k"])
        #expect(without.code == 1 && without.errors.contains("certificate required"), "\(without)")
        #expect(try Programs.kv(["--cert", "x", "get", "k"]).code == 64)
        let missing = try Programs.kv(["--cacert", path("none.pem"), "get", "k"])
        let words = "kv: TLS cannot use \(path("none.pem")): No such file or directory"
        #expect(missing.code == 64 && missing.errors.hasPrefix(words), "\(missing)")
        let plain = try Programs.kv(["--server", "127.0.0.1:\(server.ports[0])", "get", "k"])
        #expect(plain.code == 1 && plain.errors.contains("--tls or --cacert FILE speaks it"), "\(plain)")
    }
}
