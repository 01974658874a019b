// Who may import whom: the rows of Package.swift against the import lines of the sources.

import KVTestTraits
import Testing

@Suite(.blocking) struct ImportTests {
    static func imports(of file: SourceFile) -> [String] {
        file.lines.compactMap { line in
            guard Text.has(line, "import ") else { return nil }
            let words = line.split(separator: " ")
            guard let at = words.firstIndex(of: "import"), at + 1 < words.count, at <= 2, !line.hasPrefix(" * "),
                !line.trimmingPrefix(while: { $0 == " " }).hasPrefix("//")
            else { return nil }
            let kinds: Set<Substring> = ["struct", "class", "enum", "func", "protocol", "typealias", "let", "var"]
            let name = kinds.contains(words[at + 1]) && at + 2 < words.count ? words[at + 2] : words[at + 1]
            return String(name.split(separator: ".")[0])
        }
    }

    @Test func everyTargetImportsOnlyWhatItsRowAllows() throws {
        let targets = try Repository.targets()
        #expect(targets.count > 20, "the rows of Package.swift could not be read")
        let ours = Set(targets.map(\.name))
        for file in try Repository.swiftFiles() {
            let owner = targets.filter { file.path.hasPrefix($0.path + "/") }.max { $0.path.count < $1.path.count }
            guard let owner else { continue }
            for name in Self.imports(of: file) where ours.contains(name) && name != owner.name {
                #expect(owner.imports.contains(name), "\(file) imports \(name), which the row of \(owner.name) lacks")
            }
        }
    }

    /// kvd's libraries stay free of Foundation: it costs start-up time and memory, and nothing on the request path
    /// may go through it. KVCore also must not wait, so it gets no system module at all.
    @Test func librariesOfTheServerAvoidFoundation() throws {
        let banned: [String: Set<String>] = [
            "KVBase": ["Foundation", "Dispatch", "Synchronization"],
            "RESP": ["Foundation", "Dispatch", "Glibc"],
            "KVCore": ["Foundation", "Dispatch", "CSupport", "CMemory"],
            "KVFiles": ["Foundation", "Dispatch"],
            "KVRuntime": ["Foundation", "Dispatch"],
            "KVServer": ["Foundation", "Dispatch"],
        ]
        for file in try Repository.files(under: ["Sources"], endings: ["swift"]) {
            let module = String(file.path.split(separator: "/")[1])
            for name in Self.imports(of: file) {
                #expect(banned[module]?.contains(name) != true, "\(file) imports \(name)")
            }
        }
    }

    /// KVCore decides from its arguments alone; a clock or a random source in it would break replay by seed.
    @Test func coreReadsNoClockAndNoRandomness() throws {
        let banned = [
            "Date()", "clock_gettime", "gettimeofday", "ContinuousClock", "SystemRandomNumberGenerator", ".random(",
        ]
        for file in try Repository.files(under: ["Sources/KVCore"], endings: ["swift"]) {
            for (number, line) in file.lines.enumerated()
            where !line.trimmingPrefix(while: { $0 == " " }).hasPrefix("//") {
                for word in banned { #expect(!line.contains(word), "\(file):\(number + 1) uses \(word)") }
            }
        }
    }
}
