// Size and shape of files: lengths, headers, leftovers. A ratchet: it stops small things from growing.

import KVTestTraits
import Testing

@Suite(.blocking) struct LayoutTests {
    static let fileLinesMax = 600
    static let lineColumnsMax = 120
    static let functionLinesMax = 70

    @Test func filesStayShort() throws {
        let scripts = try Repository.files(under: ["Tests", "Perf", "scripts"], endings: ["py", "cc"])
        for file in try Repository.allCode() + scripts {
            #expect(
                file.lines.count <= Self.fileLinesMax,
                "\(file) has \(file.lines.count) lines: what else than its noun is in it? That gets a file of its own")
        }
    }

    @Test func linesFitTheColumns() throws {
        for file in try Repository.allCode() {
            for (number, line) in file.lines.enumerated()
            where line.utf8.count > Self.lineColumnsMax && line.count > Self.lineColumnsMax {
                // A text that the user reads is not cut to fit.
                if line.contains("\"") && line.count <= 160 { continue }
                Issue.record("\(file):\(number + 1) has \(line.count) columns")
            }
        }
    }

    @Test func everyFileSaysItsJobFirst() throws {
        for file in try Repository.allCode() {
            let first = file.lines.first ?? ""
            #expect(
                first.hasPrefix("//") || first.hasPrefix("/*"),
                "\(file) does not begin with a sentence naming its job and who may call it")
        }
    }

    @Test func nothingIsLeftOpen() throws {
        // Spelled so that this file does not find itself.
        let words: [StaticString] = ["F\u{49}XME", "T\u{4F}DO", "X\u{58}X", "fatalError(\"n\u{6F}t implemented"]
        for file in try Repository.allCode() {
            for (number, line) in file.lines.enumerated() {
                for word in words where Text.has(line, word) { Issue.record("\(file):\(number + 1) has \(word)") }
            }
        }
    }

    /// From the line with `func` or `init`, its parameters included, to the closing brace of the same indentation.
    static func swiftFunctions(_ file: SourceFile) -> [(line: Int, length: Int)] {
        file.lines.enumerated().compactMap { start, line in
            guard Text.has(line, "func") || Text.has(line, "init") || Text.has(line, "subscript") else { return nil }
            let trimmed = line.trimmingPrefix(while: { $0 == " " })
            guard trimmed.firstMatch(of: /^(?:[@\w()]+ )*(?:func\b|init\b|deinit\b|subscript\b)/) != nil else {
                return nil
            }
            let indentation = line.prefix(line.count - trimmed.count)
            func isAligned(_ other: Substring) -> Bool {
                other.hasPrefix(indentation) && other.dropFirst(indentation.count).first != " "
            }
            let rest = file.lines[start...]
            guard let opening = rest.firstIndex(where: { $0.hasSuffix("{") && isAligned($0) || $0.isEmpty }),
                file.lines[opening].hasSuffix("{"),
                let end = file.lines[opening...].firstIndex(where: { $0 == indentation + "}" })
            else { return nil }
            return (start + 1, end - start + 1)
        }
    }

    /// From a line of C that begins a function at the margin to the brace that ends it there.
    static func cFunctions(_ file: SourceFile) -> [(line: Int, length: Int)] {
        file.lines.enumerated().compactMap { start, line in
            guard line.hasSuffix("{"), line.contains("("), let first = line.first, first.isLetter,
                let end = file.lines[start...].firstIndex(of: "}")
            else { return nil }
            return (start + 1, end - start + 1)
        }
    }

    @Test func functionsStayReadable() throws {
        var found = 0
        for file in try Repository.allCode() {
            let functions = file.path.hasSuffix(".swift") ? Self.swiftFunctions(file) : Self.cFunctions(file)
            found += functions.count
            for function in functions where function.length > Self.functionLinesMax {
                Issue.record(
                    "\(file):\(function.line) is \(function.length) lines long: name a part of it and call that")
            }
        }
        #expect(found > 3_000, "functions could not be read")
    }

    @Test func noTestSleepsToWait() throws {
        for file in try Repository.files(under: ["Tests"], endings: ["swift"]) where !file.path.contains("TidyTests") {
            for (number, line) in file.lines.enumerated() where Text.has(line, "sleep(") {
                // A poll with a deadline pauses between looks; it says so on the same line or the one above.
                let above = number > 0 ? file.lines[number - 1] : ""
                let polls =
                    (line + above).lowercased().contains("poll") || (line + above).lowercased().contains("deadline")
                #expect(polls, "\(file):\(number + 1) sleeps; poll with a deadline or use virtual time")
            }
        }
    }
}
