// The example in README.md, word for word between the two marks, so that it compiles and runs.

import KVClient
import Testing

@Suite struct ReadmeSnippetTests {
    @Test func runsAgainstAStore() async throws {
        try await withFakeStore { (_, server) async throws in
            try await readmeSnippet(servers: "\(server.address)")
            #expect(server.requests.map { $0[0] } == ["KVD", "GET", "LIST", "DEL", "GET", "GET"])
        }
    }
}

func readmeSnippet(servers: String = "127.0.0.1:6001,127.0.0.1:6002") async throws {
    // README begins
    let store = try KVClient(servers: servers)  // such as "127.0.0.1:6001,127.0.0.1:7001": the first, until it fails

    let stamp = try await store.put("user/7/name", "Ada")
    if let name = try await store.get("user/7/name") { print("\(name), written at \(stamp)") }

    for try await page in store.listAll(prefix: "user/7/") {
        for pair in page { print(pair.key, pair.value) }
    }
    try await store.delete("user/7/name")

    // Calls of concurrent tasks share one connection by themselves; a pipeline also keeps them together.
    let (a, b) = try await store.withPipeline { ($0.get("a"), $0.get("b")) }
    print(try a.value ?? "no a", try b.value ?? "no b")
    // README ends
    await store.close()
}
