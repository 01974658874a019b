// The command line of kvd, read by the table of settings. Main thread.

/// What stands on it.
package struct ParsedFlags: Sendable, Equatable {
    package struct Flag: Sendable, Equatable {
        package var name: String
        package var value: String
    }

    package var flags: [Flag] = []
    /// --config.
    package var file: String?
    package var wantsHelp = false
    package var wantsVersion = false

    /// For `Config.resolve`.
    package var pairs: [(name: String, value: String)] { flags.map { ($0.name, $0.value) } }
}

package enum FlagParser {
    /// `--name value`, `--name=value`, and for a flag `--name`. `words`: without the program's name. One line of error.
    package static func parse(_ words: [String]) throws(ConfigError) -> ParsedFlags {
        var (parsed, at) = (ParsedFlags(), 0)
        while at < words.count {
            let word = words[at]
            at += 1
            if word == "--help" || word == "-h" {
                parsed.wantsHelp = true
                continue
            }
            if word == "--version" {
                parsed.wantsVersion = true
                continue
            }
            guard word.hasPrefix("--"), word.count > 2 else {
                throw ConfigError("'\(word)' is no flag; settings are given as --NAME VALUE")
            }
            var (name, value) = (String(word.dropFirst(2)), String?.none)
            if let equals = name.firstIndex(of: "=") {
                value = String(name[name.index(after: equals)...])
                name = String(name[..<equals])
            }
            let isFlag = SettingText.all.contains { $0.name == name && $0.value.isEmpty }
            guard name == "config" || Config.names.contains(name) else { throw Config.unknown(name, "--\(name)") }
            if value == nil, isFlag { value = "yes" }
            if value == nil, at < words.count, !isMissing(words[at]) {
                value = words[at]
                at += 1
            }
            guard let value else { throw ConfigError("--\(name) has no value; write --\(name) VALUE") }
            if name == "config" { parsed.file = value } else { parsed.flags.append(.init(name: name, value: value)) }
        }
        return parsed
    }

    /// The next flag stands where a value should; a negative number is one.
    private static func isMissing(_ word: String) -> Bool { word.hasPrefix("--") }
}
