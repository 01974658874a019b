// Bounds are used, names mean one thing, and the code has the layout of the checked-in configuration.

import KVTestTraits
import Testing

@Suite(.blocking) struct LimitTests {
    /// A named bound that nothing enforces is worse than none: it promises something.
    @Test func everyLimitIsUsed() throws {
        let files = try Repository.swiftFiles()
        var uses: [Substring: Int] = [:]
        for file in files {
            for line in file.lines {
                for word in line.utf8.split(whereSeparator: { !Text.isOfName($0) }) {
                    uses[Substring(word), default: 0] += 1
                }
            }
        }
        let units = ["Max", "Min", "Millis", "Nanos", "Bytes", "Entries", "Seconds", "High", "Low", "Percent"]
        var found = 0
        for file in files where file.path.hasPrefix("Sources/") {
            for line in file.lines {
                guard Text.has(line, "static "), let match = line.firstMatch(of: /static (?:let|var) (\w+)/),
                    units.contains(where: { match.output.1.contains($0) })
                else { continue }
                found += 1
                #expect(
                    uses[match.output.1]! > 1,
                    "\(file): nothing uses \(match.output.1): enforce it where it belongs, or take it out")
            }
        }
        #expect(found > 100, "the limits could not be read")
    }

    @Test func aTypesNameMeansOneThing() throws {
        var places: [String: [String]] = [:]
        for file in try Repository.files(under: ["Sources"], endings: ["swift"]) {
            for line in file.lines {
                guard line.first != " ",
                    let match = line.prefixMatch(
                        of: /(?:@\w+ )*(?:package |public |final |indirect )*(?:struct|class|enum|protocol|actor) (\w+)/
                    )
                else { continue }
                places[String(match.output.1), default: []].append(file.path)
            }
        }
        #expect(places.count > 300, "the types could not be read")
        for (name, files) in places.sorted(by: { $0.key < $1.key }) {
            #expect(
                files.count == 1,
                "\(name) is a type in \(files.joined(separator: " and ")): give one of them a name of its own")
        }
    }

    @Test func swiftHasTheLayoutOfTheConfiguration() throws {
        let places = ["Sources", "Tests", "Perf/perf-driver", "Perf/micro", "Perf/client-bench", "Package.swift"]
        let arguments = ["lint", "--strict", "--recursive", "--parallel", "--configuration", ".swift-format"]
        guard let ended = try Repository.run("swift-format", arguments + places) else {
            return print("swift-format is not installed: the layout of the code is not looked at")
        }
        #expect(
            ended.code == 0,
            "run: swift format format -i --configuration .swift-format FILE (a line too long is cut by hand)\n\(ended.output)"
        )
    }
}
