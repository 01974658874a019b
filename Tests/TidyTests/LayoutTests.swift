// Size and shape of files: lengths, headers, leftovers. A ratchet: it stops small things from growing.

import KVTestTraits
import Testing

@Suite(.blocking) struct LayoutTests {
    static let fileLinesMax = 600
    static let lineColumnsMax = 120
    static let functionLinesMax = 70

    @Test func filesStayShort() throws {
        for file in try Repository.allCode() {
            #expect(
                file.lines.count <= Self.fileLinesMax, "\(file) has \(file.lines.count) lines: is it still one noun?")
        }
    }

    @Test func linesFitTheColumns() throws {
        for file in try Repository.allCode() {
            for (number, line) in file.lines.enumerated() where line.count > Self.lineColumnsMax {
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
                first.hasPrefix("//") || first.hasPrefix("/*"), "\(file) does not begin with a sentence naming its job")
        }
    }

    @Test func nothingIsLeftOpen() throws {
        // Spelled in two halves so that this file does not find itself.
        let words = ["FIX" + "ME", "TO" + "DO", "X" + "XX", "fatalError(\"not " + "implemented"]
        for file in try Repository.allCode() {
            for (number, line) in file.lines.enumerated() {
                for word in words where line.contains(word) { Issue.record("\(file):\(number + 1) has \(word)") }
            }
        }
    }

    /// Counts from a `func`/`init` line to the closing brace of the same indentation.
    @Test func functionsStayReadable() throws {
        for file in try Repository.swiftFiles() {
            for (start, line) in file.lines.enumerated() {
                let trimmed = line.trimmingPrefix(while: { $0 == " " })
                guard line.hasSuffix("{"), !trimmed.hasPrefix("//"),
                    trimmed.contains("func ") || trimmed.hasPrefix("init(")
                else { continue }
                let closing = String(repeating: " ", count: line.count - trimmed.count) + "}"
                guard let end = file.lines[start...].firstIndex(where: { $0 == closing }) else { continue }
                #expect(end - start <= Self.functionLinesMax, "\(file):\(start + 1) is \(end - start) lines long")
            }
        }
    }

    @Test func noTestSleepsToWait() throws {
        for file in try Repository.files(under: ["Tests"], endings: ["swift"]) where !file.path.contains("TidyTests") {
            for (number, line) in file.lines.enumerated() where line.contains("sleep(") {
                // A poll with a deadline pauses between looks; it says so on the same line or the one above.
                let above = number > 0 ? file.lines[number - 1] : ""
                let polls =
                    (line + above).lowercased().contains("poll") || (line + above).lowercased().contains("deadline")
                #expect(polls, "\(file):\(number + 1) sleeps; poll with a deadline or use virtual time")
            }
        }
    }
}
