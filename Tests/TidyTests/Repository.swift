// The checkout as the tidy tests see it: source files and the rows of Package.swift. Read-only, any thread.

import Foundation

struct SourceFile: CustomStringConvertible {
    let path: String  // relative to the checkout
    let lines: [Substring]
    var description: String { path }
}

enum Repository {
    static let root: URL = {
        var url = URL(fileURLWithPath: #filePath)
        while !FileManager.default.fileExists(atPath: url.appendingPathComponent("Package.swift").path) {
            url.deleteLastPathComponent()
        }
        return url
    }()

    static func text(_ path: String) throws -> String {
        try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
    }

    /// Every source file below `folders`, sorted by path, build folders left out.
    static func files(under folders: [String], endings: [String]) throws -> [SourceFile] {
        var found: [SourceFile] = []
        for folder in folders {
            let base = root.appendingPathComponent(folder)
            guard let walker = FileManager.default.enumerator(atPath: base.path) else { continue }
            for case let name as String in walker where endings.contains((name as NSString).pathExtension) {
                if name.contains(".build") || name.contains("/checkouts/") { continue }
                let content = try String(contentsOf: base.appendingPathComponent(name), encoding: .utf8)
                let lines = content.split(separator: "\n", omittingEmptySubsequences: false)
                found.append(SourceFile(path: "\(folder)/\(name)", lines: lines))
            }
        }
        return found.sorted { $0.path < $1.path }
    }

    static func swiftFiles() throws -> [SourceFile] {
        try files(under: ["Sources", "Tests", "Perf"], endings: ["swift"])
    }

    static func allCode() throws -> [SourceFile] { try code.get() }

    private static let code = Result {
        try swiftFiles() + files(under: ["CSupport", "Perf/support"], endings: ["c", "h"])
    }

    /// The pages that say what is true now, and those of `docs/log`, which say what was.
    static func documents(withLog: Bool = false) throws -> [SourceFile] {
        let pages = try outside.map { name in
            SourceFile(path: name, lines: try text(name).split(separator: "\n", omittingEmptySubsequences: false))
        }
        return pages + (try files(under: ["docs"], endings: ["md"]).filter { withLog || !$0.path.contains("/log/") })
    }

    /// Pages that are not in docs/.
    private static let outside = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CSupport/memory/README.md"]

    static func exists(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: root.appendingPathComponent(path).path)
    }

    /// Names of all files of the checkout, without their folders.
    static let fileNames: Set<String> = {
        var names: Set<String> = []
        for folder in ["", "Sources", "Tests", "Perf", "CSupport", "docs", "scripts", ".ci"] {
            let base = root.appendingPathComponent(folder)
            guard !folder.isEmpty else {
                names.formUnion((try? FileManager.default.contentsOfDirectory(atPath: base.path)) ?? [])
                continue
            }
            guard let walker = FileManager.default.enumerator(atPath: base.path) else { continue }
            for case let name as String in walker where !name.contains(".build") {
                names.insert((name as NSString).lastPathComponent)
            }
        }
        return names
    }()

    /// Runs a program of the checkout or of the path in the checkout's folder; nil if there is no such program.
    static func run(_ program: String, _ arguments: [String]) throws -> (code: Int32, output: String)? {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":")
        let found = folders.map { "\($0)/\(program)" }.first { FileManager.default.isExecutableFile(atPath: $0) }
        guard let found else { return nil }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: found)
        process.arguments = arguments
        process.currentDirectoryURL = root
        let output = Pipe()
        (process.standardOutput, process.standardError) = (output, output)
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }

    struct Target {
        var name: String
        var path: String
        var imports: Set<String>
    }

    /// The rows of Package.swift, read as text: `Row(.kind, "Name", "path", imports: […], …)`.
    static func targets() throws -> [Target] {
        let manifest = try text("Package.swift")
        let body = manifest[manifest.range(of: "let rows: [Row] = [")!.upperBound...]
        let rows = body.components(separatedBy: "Row(").dropFirst()
        return rows.compactMap { row in
            let row = row.components(separatedBy: "\n]\n").first!
            let quoted = quotedStrings(row)
            guard quoted.count >= 2 else { return nil }
            var imports: Set<String> = []
            if let range = row.range(of: "imports: [") {
                imports = Set(quotedStrings(String(row[range.upperBound...].prefix { $0 != "]" })))
            }
            return Target(name: quoted[0], path: quoted[1], imports: imports)
        }
    }

    private static func quotedStrings(_ text: String) -> [String] {
        text.components(separatedBy: "\"").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
    }
}
