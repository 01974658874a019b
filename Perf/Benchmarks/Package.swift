// swift-tools-version:6.1
// Micro benchmarks of kvd's modules, a package of its own so that nobody who builds kvd fetches a benchmark library.
import PackageDescription

// kvd's modules speak to each other with `package` access, which ends at the package. So Modules/ holds links to their
// folders, and they are built here once more, as a part of this package.
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

func module(_ name: String, _ imports: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: imports, path: "Modules/\(name)", swiftSettings: settings)
}

let package = Package(
    name: "Benchmarks",
    platforms: [.macOS(.v15)],
    dependencies: [
        // Without its traits, which interpose malloc to count allocations: jemalloc, which kvd uses, counts too.
        .package(url: "https://github.com/ordo-one/benchmark", from: "1.38.1", traits: [])
    ],
    targets: [
        .target(name: "CIntrinsics", path: "Modules/CIntrinsics"),
        module("KVBase", ["CIntrinsics"]),
        module("RESP", ["KVBase"]),
        module("KVCore", ["KVBase", "CIntrinsics"]),
        .executableTarget(
            name: "KVBenchmarks",
            dependencies: [.product(name: "Benchmark", package: "benchmark"), "KVBase", "RESP", "KVCore"],
            path: "Benchmarks/KVBenchmarks",
            swiftSettings: settings,
            linkerSettings: [.linkedLibrary("jemalloc")],
            plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")]),
    ]
)
