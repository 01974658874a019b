// The example of README.md, word for word, so that it compiles and runs: Tests/IntegrationTests/ReadmeTests.swift. A
// program.

import KVClient

let servers = "127.0.0.1:6001,127.0.0.1:7001"  // the first, until it fails
let store = try KVClient(servers: servers)

let stamp = try await store.put("user/7/name", "Ada")
if let name = try await store.get("user/7/name") { print("\(name), written at \(stamp)") }

for try await pair in store.listAll(prefix: "user/7/") { print(pair.key, pair.value) }
try await store.delete("user/7/name")

// Calls of concurrent tasks share one connection by themselves; a pipeline also keeps them together.
let (a, b) = try await store.withPipeline { ($0.get("a"), $0.get("b")) }
print(try a.value ?? "no a", try b.value ?? "no b")
await store.close()
