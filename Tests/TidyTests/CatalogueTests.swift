// The documentation catalogues name what is public in their module.

import KVTestTraits
import Testing

@Suite(.blocking) struct CatalogueTests {
    /// Names declared public in the module, members of public protocols and cases of public enums included.
    private static func names(of module: String) throws -> Set<Substring> {
        var names: Set<Substring> = [Substring(module)]
        for file in try Repository.files(under: ["Sources/\(module)"], endings: ["swift"]) {
            for line in file.lines {
                let words = line.split(whereSeparator: { !$0.isLetter && !$0.isNumber && $0 != "_" })
                let kinds: Set<Substring> = [
                    "struct", "class", "enum", "protocol", "func", "var", "let", "case", "init", "typealias",
                ]
                guard words.contains("public") || words.first == "case" || words.first == "func",
                    let at = words.firstIndex(where: { kinds.contains($0) })
                else { continue }
                if words[at] == "init" { names.insert("init") }
                if at + 1 < words.count { names.insert(words[at + 1]) }
            }
        }
        return names
    }

    @Test func catalogueNamesExist() throws {
        let pages = try Repository.files(under: ["Sources"], endings: ["md"]).filter { $0.path.contains(".docc/") }
        #expect(pages.count >= 3, "the catalogues could not be read")
        for page in pages {
            let module = String(page.path.split(separator: "/")[1])
            let known = try Self.names(of: module)
            for line in page.lines {
                for match in line.matches(of: /``([^`]+)``/) {
                    for part in match.1.split(separator: "/") {
                        let name = part.prefix { $0 != "(" }
                        #expect(known.contains(name), "\(page): \(module) has no public \(name)")
                    }
                }
            }
        }
    }
}
