// The commands that read and write files: check, backup, restore, export, import. Main task.

import ArgumentParser
import KVClient
import KVFiles

/// One of them: does its work and exits with 0 or 1.
protocol FileCommand: AsyncParsableCommand {
    var outer: KV { get }
    var options: CommonOptions { get }
    /// How long the server may say nothing while it is busy; nil: as long as a call may take.
    var silence: Duration? { get }
    func work(_ client: KVClient, _ options: CommonOptions) async throws
}

extension FileCommand {
    var silence: Duration? { nil }

    func validate() throws { try options.check() }

    func run() async throws {
        let options = options.over(outer.options)
        let client = try options.client(silence: silence)
        do { try await work(client, options) } catch {
            await client.close()
            if error is ExitCode { throw error }
            Terminal.complain((error as? KVError).map { Runner.advice($0) } ?? Text.escaped(KVBytes("\(error)")))
            throw ExitCode(Runner.failed)
        }
        await client.close()
    }
}

struct Check: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Verifies every byte of a data directory or a backup.",
        discussion: """
            Names each file and, where one is damaged, the offset. Exit code 0 if all is intact, 1 if not. A server \
            may use the directory meanwhile: then the end of a log may be in the middle of a write: no damage.
            """)

    @Flag(name: .shortAndLong, help: "Print damage only.") var quiet = false
    @Argument(help: "The directory of --dir, or a backup.") var path: String

    func run() throws {
        let check: DataCheck
        do { check = try DataCheck(path) } catch {
            Terminal.complain("\(error)")
            throw ExitCode(Runner.failed)
        }
        for line in check.lines {
            if line.isDamage { Terminal.complain(line.text) } else if !quiet { Terminal.write(line.text + "\n") }
        }
        guard check.isIntact else { throw ExitCode(Runner.failed) }
        if !quiet { Terminal.write("intact: \(check.files) files, \(check.bytes) bytes\n") }
    }
}

struct Backup: FileCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes a backup of a server that keeps data on disk, while it runs.",
        discussion: """
            The server makes a snapshot, which is fetched, verified, and given its name when it is on the disk. \
            FILE is one file. DIR/, or a directory that is there and empty, becomes one that kvd --dir can use. \
            kv check verifies either, kvd --restore and kv import read them.
            """)

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions
    @Argument(help: "FILE, or DIR/.") var path: String

    var silence: Duration? { BackupFetch.snapshotTimeout }

    func work(_ client: KVClient, _ options: CommonOptions) async throws {
        let made = try await BackupFetch(client, path: path).run()
        Terminal.write(
            options.json
                ? "{\"path\":\(Text.json(path)),\"bytes\":\(made)}\n" : "\(path): \(made) bytes, verified\n")
    }
}

struct Restore: FileCommand {
    static let configuration = CommandConfiguration(
        abstract: "Brings a backup back: into a server that runs, or as a directory for one.",
        discussion: """
            Without --dir its pairs are written to the server as new writes, as kv import does. With --dir a directory \
            is made that kvd --dir starts from, and --mode says what it is: rejoin, an older state of this cluster, \
            where newer writes win; import, new writes, made now; or new-epoch, the truth from now on, and servers \
            with older data are refused.
            """)

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions
    @OptionGroup var pace: ImportPace
    @Option(help: ArgumentHelp("A new or empty directory.", valueName: "DIR")) var dir: String?
    @Option(help: ArgumentHelp("With --dir: rejoin, import or new-epoch.", valueName: "mode")) var mode: String?
    @Argument(help: "A file or directory that kv backup made.") var path: String

    func validate() throws {
        try options.check()
        try pace.check()
        guard (dir == nil) == (mode == nil) else {
            throw ValidationError(
                dir == nil ? "--mode goes with --dir" : "--dir needs --mode rejoin, import or new-epoch")
        }
        if let mode, RestoreMode(rawValue: mode) == nil {
            throw ValidationError("--mode \(mode) is not rejoin, import or new-epoch")
        }
    }

    func work(_ client: KVClient, _ options: CommonOptions) async throws {
        guard DataFolder.isOne(path) else { throw FileFault(path, "it is no backup of kvd") }
        if let dir, let mode = mode.flatMap({ RestoreMode(rawValue: $0) }) {
            let made = try DataRestore(path, into: dir, mode, nowMillis: Terminal.nowMillis) { .random(in: 1 ... .max) }
            return Terminal.write("\(dir): \(made.bytes) bytes, verified; start it with kvd --dir \(dir)\n")
        }
        try await Importer(client, options, pace).run(path)
    }
}

/// How fast, and how much is told.
struct ImportPace: ParsableArguments {
    @Option(help: ArgumentHelp("At most so many keys or commands a second.", valueName: "N")) var rate: Int?

    func check() throws {
        if let rate, rate < 1 { throw ValidationError("--rate must be at least 1") }
    }
}

struct Import: FileCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes what is in a file of Redis, or a backup of kvd, to the server.",
        discussion: """
            Reads RDB files (versions 2 to 12), append-only files, plain or as a directory or .manifest of several \
            parts, commands as redis-cli --pipe takes them (- for standard input), and backups of kvd. Strings are \
            written, with what they expire at. Keys of other types are counted and reported. A file is read to its \
            end, and its checksum verified, before the first key is written.
            """)

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions
    @OptionGroup var pace: ImportPace
    @Argument(help: "The file; - for standard input.") var path: String

    func validate() throws {
        try options.check()
        try pace.check()
    }

    func work(_ client: KVClient, _ options: CommonOptions) async throws {
        try await Importer(client, options, pace).run(path)
    }
}

struct Export: FileCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes all pairs of the server to a file.",
        discussion: """
            As commands for redis-cli --pipe and kv import, or with --rdb as an RDB file that Redis 7 loads. The file \
            has its name when all of it is on the disk.
            """)

    @ParentCommand var outer: KV
    @OptionGroup var options: CommonOptions
    @Flag(help: "As an RDB file.") var rdb = false
    @Argument(help: "The file; - for standard output.") var path: String

    func work(_ client: KVClient, _ options: CommonOptions) async throws {
        let count = try await Exporter(client, isRDB: rdb, path: path).run()
        guard path != "-" else { return }
        Terminal.write(
            options.json ? "{\"path\":\(Text.json(path)),\"keys\":\(count)}\n" : "\(path): \(count) keys\n")
    }
}
