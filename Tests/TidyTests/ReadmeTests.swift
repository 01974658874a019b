// README's Swift program is the one that IntegrationTests run, word for word.

import Foundation
import KVTestTraits
import Testing

@Suite(.blocking) struct ReadmeTests {
    @Test func theExampleIsTheOneThatIsTested() throws {
        let tested = try Repository.text("Sources/client-example/main.swift")
        let begin = try #require(tested.range(of: "import KVClient"))
        let program = String(tested[begin.lowerBound...])
        let readme = try Repository.text("README.md")
        if !readme.contains("```swift\n" + program + "```") {
            Issue.record("README.md and Sources/client-example/main.swift differ: change both")
        }
    }
}
