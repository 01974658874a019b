// Pages are wrapped, and what they and the comments of the code name exists: files, links, decisions, sections, tests.

import Foundation
import KVTestTraits
import Testing

@Suite(.blocking) struct DocumentTests {
    @Test func pagesAreWrappedAtOneWidth() throws {
        // A transcript is as the game printed it.
        let pages = try Repository.documents(withLog: true).map(\.path).filter { !$0.contains("transcript") }
        guard let ended = try Repository.run("python3", ["scripts/wrap", "--check"] + pages) else {
            return print("python3 is not installed: whether pages are wrapped is not looked at")
        }
        #expect(ended.code == 0, "not filled at 120 columns; run: scripts/wrap \(ended.output.split(separator: "\n"))")
    }

    @Test func linksLeadSomewhere() throws {
        for page in try Repository.documents(withLog: true) {
            let folder = page.path.split(separator: "/").dropLast().joined(separator: "/")
            for (number, line) in Text.prose(page) {
                for match in line.matches(of: /\]\(([^)#\s]+)(#[^)]*)?\)/) where !match.output.1.contains("://") {
                    let path = Text.resolved(String(match.output.1), in: folder)
                    #expect(
                        Repository.exists(path), "\(page):\(number) links to \(path): write the path of what you mean")
                }
            }
        }
    }

    @Test func filesThatPagesNameExist() throws {
        for page in try Repository.documents() {
            for (number, line) in Text.prose(page) {
                for match in line.matches(of: /`([^`\s]+)`/) {
                    guard let missing = Text.missingFile(String(match.output.1)) else { continue }
                    Issue.record("\(page):\(number) names \(missing): name what is there, or take the sentence out")
                }
            }
        }
    }

    @Test func filesThatCommentsNameExist() throws {
        for file in try Repository.allCode() {
            for (number, comment) in Text.comments(file) where Text.has(comment, ".") {
                for match in comment.matches(of: /[\w+\/-]+\.(?:swift|md|py|c)\b/) {
                    let name = String(match.output.split(separator: "/").last!)
                    #expect(
                        Repository.fileNames.contains(name) || Text.foreign.contains(name),
                        "\(file):\(number) names \(match.output), which does not exist: name what is there")
                }
            }
        }
    }

    @Test func decisionsThatAreNamedExist() throws {
        let numbers = Set(
            Repository.fileNames.compactMap { $0.prefixMatch(of: /(\d{4})-[a-z0-9-]+\.md/).map { String($0.output.1) } }
        )
        func look(_ text: Substring, _ place: String) {
            guard Text.has(text, "ecision") else { return }
            for match in text.matches(of: /[Dd]ecisions? ((?:\[?\d{4}\]?(?:\([^)]*\))?(?:, and |, | and )?)+)/) {
                for number in match.output.1.matches(of: /\b\d{4}\b/) where !numbers.contains(String(number.output)) {
                    Issue.record("\(place) names decision \(number.output), of which docs/decisions/ has no page")
                }
            }
        }
        for page in try Repository.documents(withLog: true) {
            for (number, line) in Text.prose(page) { look(line, "\(page):\(number)") }
        }
        for file in try Repository.allCode() {
            for (number, comment) in Text.comments(file) { look(comment, "\(file):\(number)") }
        }
    }

    /// `docs/replication.md 4.2` in a comment, a link with `, section 4.2` behind it on a page.
    @Test func sectionsThatAreCitedExist() throws {
        for file in try Repository.allCode() {
            for (number, comment) in Text.comments(file) where Text.has(comment, ".md") {
                for match in comment.matches(of: /(docs\/[\w\/]+\.md),? (?:section )?(\d+(?:\.\d+)?)\b/) {
                    try expectSection(String(match.output.2), of: String(match.output.1), at: "\(file):\(number)")
                }
                for match in comment.matches(of: /([\w\/]*)replication\.md(?! \d)/)
                where match.output.1 != "docs/" || !comment.hasSuffix("replication.md") {
                    Issue.record("\(file):\(number) cites the book without its section: docs/replication.md 4.2")
                }
            }
        }
        for page in try Repository.documents() {
            let folder = page.path.split(separator: "/").dropLast().joined(separator: "/")
            for (number, line) in Text.prose(page) {
                for match in line.matches(of: /\]\(([\w\/.]+\.md)\),? sections? (\d+(?:\.\d+)?)\b/) {
                    let path = Text.resolved(String(match.output.1), in: folder)
                    try expectSection(String(match.output.2), of: path, at: "\(page):\(number)")
                }
            }
        }
    }

    private func expectSection(_ section: String, of path: String, at place: String) throws {
        guard Repository.exists(path) else { return }
        let headings = try Repository.text(path).split(separator: "\n").filter { $0.hasPrefix("#") }
        let isThere = headings.contains {
            $0.drop { $0 == "#" }.hasPrefix(" \(section). ") || $0.contains(" \(section) ")
        }
        #expect(isThere, "\(place) cites section \(section) of \(path), which has none of that number")
    }

    @Test func rulesOfTheGameThatAreCitedExist() throws {
        let rules = try Repository.text("docs/cmud/design.md")
        for file in try Repository.files(under: ["Sources/CMUDCore", "Sources/cmud"], endings: ["swift"]) {
            for (number, comment) in Text.comments(file) where Text.has(comment, "rule") {
                for match in comment.matches(of: /rules? ((?:[RK]\d+(?:-|, | and )?)+)/) {
                    for rule in match.output.1.matches(of: /[RK]\d+/) {
                        if !rules.contains("| \(rule.output) |") {
                            Issue.record(
                                "\(file):\(number) cites \(rule.output), which docs/cmud/design.md does not have")
                        }
                    }
                }
            }
        }
    }

    @Test func invariantsThatTheSimulatorChecksAreInTheBook() throws {
        let book = try Repository.text("docs/replication.md")
        var found = 0
        for file in try Repository.swiftFiles() where file.path.contains("Sim") {
            for line in file.lines where Text.has(line, "\"I") {
                for match in line.matches(of: /"(I\d+)"/) {
                    found += 1
                    if !book.contains("| \(match.output.1) |") {
                        Issue.record("\(file) checks \(match.output.1): section 11 lacks it")
                    }
                }
            }
        }
        #expect(found > 30, "the simulator's invariants could not be read")
    }

    @Test func testsThatPagesNameExist() throws {
        var tests: Set<String> = []
        for file in try Repository.files(under: ["Tests"], endings: ["swift"]) {
            for line in file.lines where Text.has(line, "func ") || Text.has(line, "Tests") {
                for match in line.matches(of: /func (\w+)|(?:struct|class|enum) (\w+)/) {
                    tests.insert(String(match.output.1 ?? match.output.2!))
                }
            }
        }
        for page in try Repository.documents() {
            for (number, line) in Text.prose(page) {
                for match in line.matches(of: /`(\w+Tests)(?:\.(\w+))?`/) {
                    let name = String(match.output.2 ?? match.output.1)
                    let isTarget = Repository.exists("Tests/\(name)")
                    #expect(isTarget || tests.contains(name), "\(page):\(number) names the test \(name): there is none")
                }
            }
        }
    }

    /// Commands, INFO's fields and error texts of the server are all on the page for clients.
    @Test func theProtocolPageIsWhole() throws {
        let page = try Repository.text("docs/protocol.md")
        let table = try ["CommandRows.swift", "CommandRows+Connection.swift"]
            .map { try Repository.text("Sources/KVServer/Query/\($0)") }.joined()
        let commands = table.matches(of: /CommandRow\(\s*"(\w+)"/).map { String($0.output.1) }
        #expect(commands.count > 20, "the command table could not be read")
        for name in commands {
            if !page.contains(name.uppercased()) {
                Issue.record("docs/protocol.md does not say what \(name.uppercased()) replies")
            }
        }
        let info = try ["Info.swift", "Info+Redis.swift"].map { try Repository.text("Sources/KVServer/\($0)") }.joined()
        let fields =
            info.matches(of: /line\(&text, "(\w+)"/).map { String($0.output.1) }
            + info.matches(of: /(?:"|\\n)([a-z]\w+):(?:\d|ok|\\\()/).map { String($0.output.1) }
        #expect(fields.count > 60, "the fields of INFO could not be read")
        for field in fields {
            if !page.contains("`\(field)") { Issue.record("docs/protocol.md lacks the field \(field) of INFO") }
        }
        for file in try Repository.files(under: ["Sources/KVServer"], endings: ["swift"]) {
            for line in file.lines where Text.has(line, "\"") {
                for match in line.matches(of: /"((?:ERR|NOPROTO|WRONGPASS|LEAVING) [^'"\\(]+)/) {
                    let text = match.output.1.drop { $0 == " " }
                    let end = text.last == " " ? text.dropLast() : text
                    if !page.contains(end) { Issue.record("docs/protocol.md lacks the error \(end), of \(file)") }
                }
            }
        }
    }
}

/// Pieces of pages and of code that the tests look at.
enum Text {
    /// Sources of others that comments compare ours with.
    static let foreign: Set<String> = ["networking.c", "sds.c", "util.c"]

    /// Lines of a page that are not code, with their numbers from 1.
    static func prose(_ page: SourceFile) -> [(Int, Substring)] {
        var isCode = false
        return page.lines.enumerated().compactMap { number, line in
            if line.hasPrefix("```") {
                isCode.toggle()
                return nil
            }
            return isCode || line.hasPrefix("    ") ? nil : (number + 1, line)
        }
    }

    /// A byte of a name in code.
    static func isOfName(_ byte: UInt8) -> Bool {
        byte == 0x5F || (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
    }

    /// Whether a line has a word in it; a fraction of what a pattern costs.
    static func has(_ line: Substring, _ word: StaticString) -> Bool {
        let (first, count) = (word.utf8Start[0], word.utf8CodeUnitCount)
        return line.utf8.withContiguousStorageIfAvailable { bytes in
            guard bytes.count >= count else { return false }
            for at in 0...(bytes.count - count) where bytes[at] == first {
                if memcmp(bytes.baseAddress! + at, word.utf8Start, count) == 0 { return true }
            }
            return false
        } ?? false
    }

    /// Comments of Swift or C, with the numbers of their lines. One that goes on is also given with the word before it.
    static func comments(_ file: SourceFile) -> [(Int, Substring)] {
        var found: [(Int, Substring)] = []
        var previous: Substring = ""
        for (number, line) in file.lines.enumerated() {
            guard has(line, "//") || has(line, "/*") || has(line, " * "),
                let begin = line.range(of: "//") ?? line.range(of: "/*") ?? line.range(of: " * ")
            else {
                previous = ""
                continue
            }
            let text = line[begin.upperBound...].drop { $0 == "/" || $0 == " " }
            found.append((number + 1, text))
            if let word = previous.split(separator: " ").last, !text.isEmpty {
                found.append((number + 1, Substring("\(word) \(text.prefix(40))")))
            }
            previous = text
        }
        return found
    }

    /// A path of a link in a page of `folder`, from the checkout.
    static func resolved(_ path: String, in folder: String) -> String {
        var parts = folder.split(separator: "/").map(String.init)
        for part in path.split(separator: "/") {
            if part == ".." { _ = parts.popLast() } else if part != "." { parts.append(String(part)) }
        }
        return parts.joined(separator: "/")
    }

    /// What a page names in code, if it is a path or a file and not there; nil for anything else.
    static func missingFile(_ name: String) -> String? {
        // Placeholders stand for many files.
        if name.contains("…") || name.contains("*") || name.contains("DATE") || name.contains("XTests") { return nil }
        if name.contains("/X/") || name == "X.swift" { return nil }
        if name.prefixMatch(of: /(?:Sources|Tests|Perf|CSupport|docs|scripts|\.ci)\//) != nil {
            return Repository.exists(name) ? nil : name
        }
        guard name.wholeMatch(of: /[\w+.-]+\.(?:swift|c|h|cc|py|md)/) != nil else { return nil }
        return Repository.fileNames.contains(name) || foreign.contains(name) ? nil : name
    }
}
