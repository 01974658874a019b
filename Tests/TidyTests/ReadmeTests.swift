// The README's example is the code that a test of KVClient runs, word for word.

import KVTestTraits
import Testing

@Suite(.blocking) struct ReadmeTests {
    @Test func theExampleIsTheOneThatIsTested() throws {
        let tested = try Repository.text("Tests/KVClientTests/ReadmeSnippetTests.swift")
            .split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        let begin = try #require(tested.firstIndex { $0.contains("// README begins") })
        let end = try #require(tested.firstIndex { $0.contains("// README ends") })
        let lines = tested[(begin + 1)..<end].map { $0.hasPrefix("    ") ? String($0.dropFirst(4)) : $0 }
        #expect(lines.count > 5)
        let readme = try Repository.text("README.md")
        #expect(readme.contains(lines.joined(separator: "\n")), "README.md and ReadmeSnippetTests.swift differ")
    }
}
