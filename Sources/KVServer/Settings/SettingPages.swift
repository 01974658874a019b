// The table of settings as pages: help, docs/configuration.md, kvd.conf, a man page, completions. Pure; any thread.

import KVBase

package enum SettingPages {
    private static func groups() -> [(group: SettingText.Group, texts: [SettingText])] {
        SettingText.Group.allCases.map { group in (group, SettingText.all.filter { $0.group == group }) }
    }

    private static let abstract =
        "An in-memory key-value store that any Redis client can use and whose servers keep each other equal."

    private static let subcommands = [
        ("secret", "Print a new key of a cluster, for --cluster-key-file."),
        ("cert", "Make certificates for --peer-tls-cert."),
        ("check-config", "Read flags, environment and file, and say what would count."),
        ("settings", "Print the settings as markdown, conf, man, bash or zsh."),
    ]

    // MARK: --help

    package static var help: String {
        var lines = ["OVERVIEW: \(abstract)", "", "USAGE: kvd [--NAME VALUE ...]", "       kvd SUBCOMMAND", ""]
        lines += filled(
            "Query actor i (from 1) serves clients on port P+i. Every setting may also come from the environment "
                + "(KVD_PORT, ...) and from --config FILE (one 'name value' a line, # comments); a flag beats the "
                + "environment, which beats the file.", indent: "")
        for (group, texts) in groups() {
            lines += ["", "\(group.rawValue.uppercased()):"]
            for text in texts { lines += helpLines(text) }
        }
        lines += ["", "OTHER:"]
        lines += entry("--config FILE", "A file of settings.")
        lines += entry("--version", "Show the version.") + entry("-h, --help", "Show this help.")
        lines += ["", "SUBCOMMANDS (each has a --help):"]
        for (name, help) in subcommands { lines += entry(name, help) }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func helpLines(_ text: SettingText) -> [String] {
        let flag = "--\(text.name)" + (text.value.isEmpty ? "" : " \(text.value)")
        return entry(flag, text.value.isEmpty ? text.help : "\(text.help) (default: \(text.byDefault))")
    }

    private static func entry(_ left: String, _ right: String) -> [String] {
        let width = 28
        var lines = filled(right, indent: String(repeating: " ", count: width))
        guard left.count + 3 <= width else { return ["  " + left] + lines }
        lines[0] = "  " + left + String(repeating: " ", count: width - 2 - left.count) + lines[0].dropFirst(width)
        return lines
    }

    private static func filled(_ text: String, indent: String) -> [String] {
        var (lines, line) = ([String](), "")
        for word in text.split(separator: " ") {
            if !line.isEmpty, indent.count + line.count + 1 + word.count > 100 {
                lines.append(indent + line)
                line = ""
            }
            line += (line.isEmpty ? "" : " ") + word
        }
        return lines + [indent + line]
    }

    // MARK: docs/configuration.md

    package static var markdown: String {
        var text = """
            # Configuration

            Each setting may be a flag (`--port 6000`), a variable of the environment (`KVD_PORT=6000`), or a line of
            the file that `--config FILE` or `KVD_CONFIG` names (`port 6000`). A flag beats the environment, which beats
            the file. `kvd check-config` reads all three and says what would count, without starting anything.

            In the file a line is a name and a value; `#` begins a comment, at the beginning of a line or behind a
            blank. A value with blanks stands in double quotes. `join` may be there more than once; in the environment
            its values are parted by commas. A name that is no setting is an error with file, line and the nearest right
            name.

            `CONFIG GET` shows what counts. Those marked *live* change with `CONFIG SET`, until the server ends; `CONFIG
            REWRITE` writes them into the file.

            This page is printed by `kvd settings markdown` from the table that reads them; a test compares the two.

            """
        for (group, texts) in groups() {
            text += "\n## \(group.rawValue)\n\n| setting | default | meaning |\n|---|---|---|\n"
            for one in texts {
                let value = one.value.isEmpty ? "" : " \(one.value)"
                let live = LiveSetting.all.contains { $0.name == one.name } ? " *Live.*" : ""
                text += "| `\(one.name)\(value)` | \(one.byDefault) | \(one.help)\(live) |\n"
            }
        }
        let (micros, entries) = (LiveSettings.slowLogMicrosDefault, LiveSettings.slowLogEntriesDefault)
        text += """

            ## Live only

            These are Redis's, have no flag, and change with `CONFIG SET`.

            | setting | default | meaning |
            |---|---|---|
            | `slowlog-log-slower-than` | \(micros) | Microseconds from which a command is in SLOWLOG; -1: none. |
            | `slowlog-max-len` | \(entries) | Commands that SLOWLOG keeps, \(SlowLog.entriesMax) at most. |
            | `latency-monitor-threshold` | 0 | Milliseconds from which a command is in LATENCY LATEST; 0: off. |
            | `loglevel` | verbose | `log-level` in Redis's words: debug, verbose, notice or warning. |

            """
        return text
    }

    // MARK: kvd.conf

    /// Every setting, commented out.
    package static var conf: String {
        var text = """
            # Settings of kvd. One "name value" a line; what is commented out has its default. See kvd.conf(5), and
            # "kvd check-config --config FILE" for what would count.

            """
        for (group, texts) in groups() {
            text += "\n# --- \(group.rawValue) ---\n"
            for one in texts {
                text += "\n" + filled(one.help, indent: "# ").joined(separator: "\n") + "\n"
                let value = one.value.isEmpty ? "yes" : one.value
                let isExample = one.byDefault == "off" || one.byDefault == "none" || one.byDefault.contains(" ")
                text +=
                    isExample || one.value.isEmpty
                    ? "# Default: \(one.byDefault)\n#\(one.name) \(value)\n" : "#\(one.name) \(one.byDefault)\n"
            }
        }
        return text
    }

    // MARK: Man page and completions

    package static var man: String {
        var text = """
            .TH KVD 8 "" "kvd \(ServerVersion.kvd)" "System administration"
            .SH NAME
            kvd \\- key-value store whose servers keep each other equal
            .SH SYNOPSIS
            .B kvd
            .RI [ \\-\\-NAME " " VALUE " ...]"
            .br
            .B kvd
            .RI secret " | " cert " | " check-config " | " settings
            .SH DESCRIPTION
            \(abstract)
            Query actor i (from 1) serves clients on port P+i. Every setting may also come from the environment
            (KVD_PORT, ...) and from a file, see
            .BR kvd.conf (5).
            A flag beats the environment, which beats the file.
            When it is ready, kvd prints one line about itself on standard output. The log goes to standard error.
            .SH OPTIONS

            """
        for (group, texts) in groups() {
            text += ".SS \(group.rawValue)\n"
            for one in texts {
                text += ".TP\n.B \\-\\-\(dashed(one.name))\(one.value.isEmpty ? "" : " \\fI\(dashed(one.value))\\fR")\n"
                text += "\(dashed(one.help))\nDefault: \(dashed(one.byDefault)).\n"
            }
        }
        text += """
            .SH SIGNALS
            TERM and INT: leave the cluster, hand over what was acknowledged, and end. A second one ends it at once.
            .br
            HUP: read files of keys, certificates, passwords and users again.
            .SH EXIT STATUS
            0: ended in order. 1: could not start, or ended with writes that no other server has. 64: a setting cannot
            be used.
            .SH SEE ALSO
            .BR kvd.conf (5),
            .BR kv (1)

            """
        return text
    }

    private static func dashed(_ text: String) -> String {
        text.map { $0 == "-" ? "\\-" : String($0) }.joined()
    }

    package static var bash: String {
        let flags = (SettingText.all.map { "--\($0.name)" } + ["--config", "--help", "--version"]).joined(
            separator: " ")
        let subcommands = subcommands.map(\.0).joined(separator: " ")
        var cases = ""
        for one in SettingText.all where !one.choices.isEmpty && !one.value.isEmpty {
            cases +=
                "        --\(one.name)) COMPREPLY=($(compgen -W \"\(one.choices.joined(separator: " "))\" -- \"$word\")) ;;\n"
        }
        let paths = (SettingText.all.filter(\.isPath).map { "--\($0.name)" } + ["--config"]).joined(separator: "|")
        return """
            # Completions of kvd for bash; printed by "kvd settings bash".
            _kvd() {
                local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
                COMPREPLY=()
                case $before in
            \(cases)        \(paths)) COMPREPLY=($(compgen -f -- "$word")) ;;
                    *) COMPREPLY=($(compgen -W "\(flags) \(subcommands)" -- "$word")) ;;
                esac
            }
            complete -o filenames -F _kvd kvd

            """
    }

    package static var zsh: String {
        var text = "#compdef kvd\n# Completions of kvd for zsh; printed by \"kvd settings zsh\".\n_arguments \\\n"
        for one in SettingText.all {
            let help = one.help.filter { !"[]'\":".contains($0) }
            let kind =
                one.isPath
                ? ":file:_files" : one.choices.isEmpty ? ":value:" : ":value:(\(one.choices.joined(separator: " ")))"
            text += "    '--\(one.name)[\(help)]\(one.value.isEmpty ? "" : kind)' \\\n"
        }
        text += "    '--config[A file of settings]:file:_files' '--help[Show help]' '--version[Show the version]' \\\n"
        return text + "    '1:subcommand:(\(subcommands.map(\.0).joined(separator: " ")))'\n"
    }

    /// By the name that `kvd settings` takes.
    package static let byName: [(name: String, text: @Sendable () -> String)] = [
        ("markdown", { markdown }), ("conf", { conf }), ("man", { man }), ("bash", { bash }), ("zsh", { zsh }),
    ]
}
