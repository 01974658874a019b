// swift-tools-version:6.1
import PackageDescription

// The targets are data: one row each, with what it may import. Tests/TidyTests reads the same rows and fails when a
// source file imports more than its row allows.
//
// Two environment switches, both for development only:
//   KVD_SANITIZE=1     leave jemalloc out: sanitizers bring their own malloc
//   KVD_ONLY=A,B,…     keep only these targets and what they depend on, so that work on one module does not build SwiftNIO

let sanitized = Context.environment["KVD_SANITIZE"] != nil
let only = Context.environment["KVD_ONLY"].map { Set($0.split(separator: ",").map(String.init)) }

let swiftSettings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
/// Turns `check(…)` into a precondition (KVBase/Invariants.swift); the simulator and the tests run with it.
let checked: [SwiftSetting] = [.define("KV_CHECKS", .when(configuration: .debug))]

enum Kind { case c, library, executable, test }

struct Row {
    var name: String
    var kind: Kind
    var imports: [String]
    var packages: [(product: String, package: String)]
    var path: String

    init(_ kind: Kind, _ name: String, _ path: String, imports: [String] = [], packages: [(String, String)] = []) {
        (self.kind, self.name, self.path, self.imports) = (kind, name, path, imports)
        self.packages = packages.map { (product: $0.0, package: $0.1) }
    }
}

let nio = [("NIOCore", "swift-nio"), ("NIOPosix", "swift-nio")]
let nioTLS = [("NIOTLS", "swift-nio"), ("NIOSSL", "swift-nio-ssl")]
/// A package that needs no TLS in KVClient says `traits: []`, and builds no BoringSSL: docs/decisions/0175.
let traitOfPackage = ["swift-nio-ssl": "TLS"]
let argumentParser = ("ArgumentParser", "swift-argument-parser")
let logging = ("Logging", "swift-log")
let metrics = ("Metrics", "swift-metrics")
let lifecycle = ("ServiceLifecycle", "swift-service-lifecycle")

let rows: [Row] = [
    Row(.c, "CIntrinsics", "CSupport/intrinsics"),
    Row(.c, "CSupport", "CSupport/io"),
    Row(.c, "CMemory", "CSupport/memory", imports: ["CSupport"]),
    Row(.c, "CTLS", "CSupport/tls"),
    Row(.c, "CScrypt", "CSupport/scrypt"),
    Row(.c, "CPerf", "Perf/support"),
    Row(.library, "KVBase", "Sources/KVBase", imports: ["CIntrinsics"]),
    Row(.library, "RESP", "Sources/RESP", imports: ["KVBase"]),
    Row(.library, "KVCore", "Sources/KVCore", imports: ["KVBase", "CIntrinsics"]),
    Row(.library, "KVRuntime", "Sources/KVRuntime", imports: ["CSupport", "CMemory", "CTLS", "KVBase"]),
    Row(
        .library, "KVServer", "Sources/KVServer",
        imports: ["CIntrinsics", "KVRuntime", "KVCore", "KVFiles", "RESP", "KVBase"],
        packages: [logging]),
    Row(.library, "KVSim", "Sources/KVSim", imports: ["KVCore", "KVBase"]),
    Row(.library, "KVFiles", "Sources/KVFiles", imports: ["KVCore", "KVBase"]),
    Row(.library, "KVClient", "Sources/KVClient", imports: ["RESP", "KVBase"], packages: nio + nioTLS),
    Row(
        .library, "KVClientExtras", "Sources/KVClientExtras", imports: ["KVClient"],
        packages: [logging, metrics, lifecycle]),
    Row(.library, "CMUDCore", "Sources/CMUDCore", imports: ["KVBase"]),
    Row(
        .executable, "kvd", "Sources/kvd", imports: ["KVServer", "KVRuntime", "KVBase"],
        packages: [argumentParser, logging]),
    Row(.executable, "kv", "Sources/kv", imports: ["KVClient", "KVFiles", "KVBase"], packages: [argumentParser]),
    Row(
        .executable, "cmud", "Sources/cmud", imports: ["CScrypt", "CMUDCore", "KVClient", "KVBase"],
        packages: [argumentParser] + nio),
    Row(.executable, "counter-example", "Sources/counter-example", imports: ["KVRuntime", "KVBase"]),
    Row(.executable, "visits-example", "Sources/visits-example", imports: ["KVRuntime"]),
    Row(.executable, "client-example", "Sources/client-example", imports: ["KVClient"]),
    Row(
        .executable, "kvd-sim", "Sources/kvd-sim", imports: ["KVSim", "KVCore", "KVBase"],
        packages: [argumentParser]),
    Row(
        .executable, "perf-driver", "Perf/perf-driver", imports: ["CPerf", "CSupport", "KVRuntime", "RESP", "KVBase"],
        packages: [argumentParser, ("Histogram", "hdrhistogram-swift")]),
    Row(
        .executable, "client-bench", "Perf/client-bench", imports: ["KVClient"],
        packages: [argumentParser]),
    Row(
        .executable, "kvd-micro", "Perf/micro",
        imports: ["CIntrinsics", "CMemory", "CSupport", "KVRuntime", "KVCore", "RESP", "KVBase"]),
    Row(
        .executable, "kv-fuzz", "Tests/Fuzz",
        imports: ["RESP", "KVCore", "KVServer", "KVFiles", "KVBase", "KVTestSupport", "FuzzSupport"]),
    Row(
        .library, "FuzzSupport", "Tests/FuzzSupport",
        imports: ["RESP", "KVCore", "KVServer", "KVFiles", "KVRuntime", "CTLS", "KVBase", "KVTestSupport"]),
    Row(.library, "KVTestSupport", "Tests/KVTestSupport", imports: ["RESP", "KVBase"]),
    Row(.library, "KVTestTraits", "Tests/KVTestTraits"),
    Row(.test, "KVBaseTests", "Tests/KVBaseTests", imports: ["KVTestTraits", "KVBase"]),
    Row(.test, "RESPTests", "Tests/RESPTests", imports: ["KVTestTraits", "RESP", "KVBase", "KVTestSupport"]),
    Row(
        .test, "KVFilesTests", "Tests/KVFilesTests",
        imports: ["KVTestTraits", "KVFiles", "KVBase", "KVTestSupport", "FuzzSupport"]),
    Row(.test, "KVCoreTests", "Tests/KVCoreTests", imports: ["KVTestTraits", "KVCore", "KVBase"]),
    Row(
        .test, "KVRuntimeTests", "Tests/KVRuntimeTests",
        imports: ["KVTestTraits", "KVRuntime", "CSupport", "CMemory", "KVBase"]),
    Row(
        .test, "StressTests", "Tests/StressTests",
        imports: ["KVTestTraits", "KVRuntime", "CSupport", "KVBase"]),
    Row(
        .test, "KVServerTests", "Tests/KVServerTests",
        imports: [
            "KVTestTraits", "KVServer", "KVRuntime", "KVCore", "RESP", "CIntrinsics", "KVBase", "KVTestSupport",
            "FuzzSupport",
        ],
        packages: [logging]),
    Row(
        .test, "KVClientTests", "Tests/KVClientTests",
        imports: ["KVTestTraits", "KVClient", "kv", "RESP", "KVBase"],
        packages: nio),
    Row(
        .test, "KVClientExtrasTests", "Tests/KVClientExtrasTests", imports: ["KVClientExtras", "KVClient"],
        packages: [logging, metrics, lifecycle, ("MetricsTestKit", "swift-metrics")]),
    Row(
        .test, "CMUDCoreTests", "Tests/CMUDCoreTests", imports: ["KVTestTraits", "CMUDCore", "CScrypt", "KVBase"]),
    Row(
        .test, "SimulationTests", "Tests/SimulationTests",
        imports: ["KVTestTraits", "KVSim", "KVCore", "KVBase"]),
    Row(
        .test, "IntegrationTests", "Tests/IntegrationTests",
        imports: ["KVTestTraits", "KVBase", "RESP", "KVTestSupport", "perf-driver"]),
    Row(.test, "ClusterTests", "Tests/ClusterTests", imports: ["KVTestTraits"]),
    Row(.test, "TidyTests", "Tests/TidyTests", imports: ["KVTestTraits", "KVBase"]),
]

/// Executables that a test target runs as child processes, so that `swift test` builds them.
let runs: [String: [String]] = [
    "IntegrationTests": ["kvd", "kv", "cmud", "counter-example", "visits-example", "client-example"],
    "ClusterTests": ["kvd"],
    "KVClientTests": ["kvd"],
]

/// What of targets is not source.
let data: [String: [String]] = [
    "kv-fuzz": ["corpus", "leaks", "races"], "CMUDCoreTests": ["Golden"], "CMemory": ["README.md"],
]

/// Libraries of the system that C targets link.
let linked: [String: [String]] = [
    "CSupport": ["uring"], "CPerf": ["uring"], "CMemory": sanitized ? [] : ["jemalloc"], "CTLS": ["ssl", "crypto"],
    "CScrypt": ["crypto"],
]

func wanted() -> Set<String>? {
    guard var names = only else { return nil }
    var frontier = Array(names)
    while let name = frontier.popLast(), let row = rows.first(where: { $0.name == name }) {
        for next in row.imports + (runs[name] ?? []) where names.insert(next).inserted { frontier.append(next) }
    }
    return names
}

let kept = wanted()

func target(_ row: Row) -> Target {
    let dependencies: [Target.Dependency] =
        (row.imports + (runs[row.name] ?? [])).map { .target(name: $0) }
        + row.packages.map { product in
            .product(
                name: product.product, package: product.package,
                condition: traitOfPackage[product.package].flatMap { .when(traits: [$0]) })
        }
    switch row.kind {
    case .c:
        return .target(
            name: row.name, dependencies: dependencies, path: row.path, exclude: data[row.name] ?? [],
            cSettings: sanitized ? [.define("KVD_NO_JEMALLOC")] : [],
            linkerSettings: (linked[row.name] ?? []).map { .linkedLibrary($0) })
    case .library:
        return .target(
            name: row.name, dependencies: dependencies, path: row.path, swiftSettings: swiftSettings + checked)
    case .executable:
        return .executableTarget(
            name: row.name, dependencies: dependencies, path: row.path,
            exclude: data[row.name] ?? [], swiftSettings: swiftSettings + checked)
    case .test:
        return .testTarget(
            name: row.name, dependencies: dependencies, path: row.path, exclude: data[row.name] ?? [],
            swiftSettings: swiftSettings + checked)
    }
}

let chosen = rows.filter { kept?.contains($0.name) ?? true }
let usedPackages = Set(chosen.flatMap { $0.packages.map(\.package) })

let external: [(name: String, dependency: Package.Dependency)] = [
    ("swift-argument-parser", .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")),
    ("swift-log", .package(url: "https://github.com/apple/swift-log", from: "1.16.2")),
    ("swift-metrics", .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0")),
    (
        "swift-service-lifecycle",
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0")
    ),
    ("swift-nio", .package(url: "https://github.com/apple/swift-nio", from: "2.101.2")),
    ("swift-nio-ssl", .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6")),
    ("hdrhistogram-swift", .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0")),
]

let package = Package(
    name: "kvd",
    platforms: [.macOS(.v15)],
    products: chosen.compactMap { row in
        switch row.name {
        case "KVClient": .library(name: "KVClient", targets: ["KVClient"])
        case "KVClientExtras": .library(name: "KVClientExtras", targets: ["KVClientExtras"])
        case "KVRuntime": .library(name: "KVRuntime", targets: ["KVRuntime"])
        default: nil
        }
    },
    traits: [
        .trait(name: "TLS", description: "KVClient speaks TLS, by swift-nio-ssl."), .default(enabledTraits: ["TLS"]),
    ],
    dependencies: external.filter { usedPackages.contains($0.name) }.map(\.dependency),
    targets: chosen.map(target)
)
