// The directory of --dir as its user meets it: made, used again, refused, full. Real processes.

import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct DirectoryTests {
    private func set(_ server: KVDProcess, _ count: Int, prefix: String = "k") throws {
        let client = try server.connect()
        for i in 0..<count { #expect(try client.command("SET", "\(prefix)\(i)", "value \(i)") == "+OK\r\n") }
    }

    private func start(_ directory: TestDirectory, _ arguments: [String] = [], actors: Int = 1) throws -> KVDProcess {
        try KVDProcess(arguments: ["--dir", directory.path("data")] + arguments, actors: actors)
    }

    @Test(arguments: backends) func dataIsThereAfterAnOrderlyStopAndSoAreDeadlines(_ backend: String) throws {
        let directory = TestDirectory()
        var server = try KVDProcess(arguments: ["--dir", directory.path("data")], actors: 2, backend: backend)
        try set(server, 100)
        let client = try server.connect()
        #expect(try client.command("DEL", "k5", "k6") == ":2\r\n")
        #expect(try client.command("SET", "later", "v", "PXAT", "4000000000000") == "+OK\r\n")
        #expect(try client.command("SET", "touched", "v") == "+OK\r\n")
        #expect(try client.command("PEXPIREAT", "touched", "4000000000001") == ":1\r\n")
        #expect(try client.command("INCRBY", "counter", "41") == ":41\r\n")
        let version = try client.command("KVD", "VERSION", "k7")
        server.signal(SIGTERM)
        #expect(server.exitCode(withinMillis: 10_000) == 0)
        server = try KVDProcess(arguments: ["--dir", directory.path("data")], actors: 3, backend: backend)
        for actor in 1...3 {
            let client = try server.connect(actor)
            #expect(try client.command("DBSIZE") == ":101\r\n")
            #expect(try client.command("GET", "k99") == "$8\r\nvalue 99\r\n")
            #expect(try client.command("GET", "k5") == "$-1\r\n")
            #expect(try client.command("PEXPIRETIME", "later") == ":4000000000000\r\n")
            #expect(try client.command("PEXPIRETIME", "touched") == ":4000000000001\r\n")
            #expect(try client.command("KVD", "VERSION", "k7") == version)
        }
        #expect(try server.connect(2).command("INCR", "counter") == ":42\r\n")
        #expect(try server.info("recovered_keys").map { Int($0)! } ?? 0 >= 103)
        #expect(try server.info("aof_enabled") == "1")
        #expect(try server.info("loading") == "0")
    }

    /// Also where the connection ends with its answer: one value keeps the log busy for many turns.
    @Test(arguments: ["QUIT", "the end of the stream"]) func aLastReplyWaitsForTheLog(_ last: String) throws {
        let directory = TestDirectory()
        var server = try start(directory)
        let value = [UInt8](repeating: 0x76, count: 48 << 20)
        let client = try server.connect()
        try client.send(Client.encode(["SET", "large", Bytes(value)]))
        last == "QUIT" ? try client.send("QUIT\r\n") : client.endSending()
        #expect(try client.rest() == (last == "QUIT" ? "+OK\r\n+OK\r\n" : "+OK\r\n"))
        _ = server.end()
        server = try start(directory)
        #expect(try server.connect().command("STRLEN", "large") == ":\(value.count)\r\n")
    }

    /// A key of which each of two actors is the home.
    private func keysOfTwoActors(_ client: Client, _ prefix: String) throws -> (here: String, there: String) {
        var found: [Bool: String] = [:]
        for k in 0..<64 where found.count < 2 {
            let key = "\(prefix)\(k)"
            #expect(try client.command("SETNX", key, "0") == ":1\r\n")
            // Who ran it is named behind its server, counted from 0.
            found[try client.command("KVD", "VERSION", key).hasSuffix("0\r\n")] = key
        }
        return (try #require(found[true]), try #require(found[false]))
    }

    /// What comes behind commands that ran at another actor, and then here, is as safe as anything else.
    @Test(arguments: backends) func whatFollowsATripIsInTheLogWhenItIsAnswered(_ backend: String) throws {
        let directory = TestDirectory()
        let arguments = ["--dir", directory.path("data"), "--appendfsync", "no"]
        for round in 0..<5 {
            var server = try KVDProcess(arguments: arguments, actors: 2, backend: backend)
            var client = try server.connect()
            let (here, there) = try keysOfTwoActors(client, "round\(round)key")
            try client.send("INCR \(there)\r\nINCR \(here)\r\nSET last \(round)\r\n")
            #expect(try client.bytes(13) == Array(":1\r\n:1\r\n+OK\r\n".utf8))
            _ = server.end()
            server = try KVDProcess(arguments: arguments, actors: 2, backend: backend)
            client = try server.connect()
            for (key, value) in [("last", "\(round)"), (here, "1"), (there, "1")] {
                #expect(try client.command("GET", key) == "$1\r\n\(value)\r\n", "\(key)")
            }
            _ = server.end()
        }
    }

    @Test func aSnapshotTakesThePlaceOfLogs() throws {
        let directory = TestDirectory()
        var server = try start(directory, actors: 2)
        let client = try server.connect()
        try set(server, 500)
        #expect(try server.info("rdb_changes_since_last_save") == "500")
        let before = try client.command("LASTSAVE")
        #expect(try client.command("SAVE") == "+OK\r\n")
        #expect(try server.info("rdb_changes_since_last_save") == "0")
        #expect(try server.info("rdb_last_bgsave_status") == "ok")
        #expect(try client.command("LASTSAVE") >= before)
        #expect(try client.command("BGSAVE", "NOW") == "-ERR syntax error\r\n")
        #expect(try client.command("BGREWRITEAOF") == "+Background append only file rewriting started\r\n")
        #expect(try client.command("CONFIG", "GET", "appendonly").contains("yes"))
        try set(server, 20, prefix: "after ")
        _ = server.end()
        #expect(directory.dataFiles.filter { $0.hasPrefix("snapshot-") }.count >= 1)
        server = try start(directory, actors: 2)
        #expect(try server.connect().command("DBSIZE") == ":520\r\n")
        // The earlier life's logs go with the next snapshot.
        #expect(try server.connect().command("SAVE") == "+OK\r\n")
        #expect(directory.dataFiles.filter { $0.hasPrefix("log-") }.count == 2, "\(directory.dataFiles)")
        _ = server.end()
        server = try start(directory)
        #expect(try server.connect(1).command("DBSIZE") == ":520\r\n")
    }

    @Test func logsThatASnapshotCoversAreRemovedWhileTheServerRuns() throws {
        let directory = TestDirectory()
        let server = try start(directory, ["--save-after-bytes", "8388608"], actors: 2)
        let client = try server.connect()
        let value = String(repeating: "v", count: 60_000)
        // 120 MB of writes to 50 keys.
        for i in 0..<2_000 { #expect(try client.command("SET", "k\(i % 50)", value) == "+OK\r\n") }
        // What a snapshot does not cover that was under way, the next one does.
        let deadline = Clock.millis() + 10_000
        while try client.command("SAVE") != "+OK\r\n", Clock.millis() < deadline { _ = poll(nil, 0, 5) }
        // The one that is written, and the next one.
        #expect(directory.dataFiles.filter { $0.hasPrefix("log-") && $0.contains("-0-") }.count <= 2)
        #expect(try server.info("rdb_last_bgsave_status") == "ok")
        _ = server.end()
        let again = try start(directory, actors: 2)
        #expect(try again.connect(2).command("DBSIZE") == ":50\r\n")
    }

    @Test func withoutADirectoryThereIsNothingToSave() throws {
        let server = try KVDProcess()
        let client = try server.connect()
        for command in ["SAVE", "BGSAVE", "BGREWRITEAOF"] {
            #expect(
                try client.command(command) == "-ERR this server keeps nothing on disk; start it with --dir DIR\r\n")
        }
        #expect(try server.info("aof_enabled") == "0")
        #expect(server.end(SIGTERM).contains("data lives in memory"))
    }

    // MARK: Refused

    /// One line, exit code 1, and nothing is changed.
    private func expectRefused(
        _ directory: TestDirectory, _ words: String, _ arguments: [String] = [], before: String = ""
    ) throws {
        let contents = directory.dataContents
        let kvd = KVDProcess.directory.appendingPathComponent("kvd").path
        let port = FreePorts.take(2)
        let line = "\(before) exec '\(kvd)' --port \(port) --actors 1 --dir '\(directory.path("data"))' "
        let (code, output, errors) = try Tool.run("/bin/sh", ["-c", line + arguments.joined(separator: " ")])
        let lines = errors.split(separator: "\n").filter { $0.hasPrefix("kvd: ") }
        #expect(code == 1 && output.isEmpty, "\(errors)")
        #expect(lines.count == 1 && errors.contains(words), "\(errors)")
        #expect(directory.dataContents == contents)
    }

    @Test func aDirectoryInUseIsRefusedAndFreeAgainWhenItsProcessIsKilled() throws {
        let directory = TestDirectory()
        let server = try start(directory)
        try set(server, 1)
        try expectRefused(directory, "the process \(server.process.processIdentifier) uses it")
        #expect(try server.connect().command("GET", "k0") == "$7\r\nvalue 0\r\n")
        _ = server.end()
        let again = try start(directory)
        #expect(try again.connect().command("GET", "k0") == "$7\r\nvalue 0\r\n")
    }

    @Test func aDirectoryOfALaterReleaseIsRefused() throws {
        let directory = TestDirectory()
        var server = try start(directory)
        try set(server, 3)
        _ = server.end()
        let manifest = try String(contentsOfFile: directory.path("data/MANIFEST"), encoding: .utf8)
        let later = manifest.replacingOccurrences(of: "kvd-directory 1 reader 1", with: "kvd-directory 7 reader 6")
        try later.write(toFile: directory.path("data/MANIFEST"), atomically: true, encoding: .utf8)
        try expectRefused(directory, "a later release of kvd wrote it (format 7)")
        try manifest.write(toFile: directory.path("data/MANIFEST"), atomically: true, encoding: .utf8)
        server = try start(directory)
        #expect(try server.connect().command("DBSIZE") == ":3\r\n")
    }

    @Test func aBackupIsHeldNoLongerThanItsConnection() throws {
        let directory = TestDirectory()
        let server = try start(directory, actors: 2)
        try set(server, 3)
        var client: Client? = try server.connect(2)
        let begun = try client!.command("KVD", "BACKUP", "BEGIN")
        #expect(begun.hasPrefix("*3\r\n:1\r\n:"), "\(begun)")
        #expect(try client!.command("KVD", "BACKUP", "READ", "1", "0").hasPrefix("$"))
        #expect(try server.info("backups_held") == "1")
        // Ended in the middle.
        client = nil
        let deadline = Clock.millis() + 20_000
        while try server.info("backups_held") != "0", Clock.millis() < deadline {}
        #expect(try server.info("backups_held") == "0")
        let none = "-ERR there is no such backup, or it cannot be read\r\n"
        #expect(try server.connect().command("KVD", "BACKUP", "READ", "1", "0") == none)
    }

    @Test func aDirectoryOfAnotherClusterOrWithForeignFilesIsRefused() throws {
        let directory = TestDirectory()
        _ = try start(directory).end()
        try expectRefused(directory, "it belongs to cluster 'kvd', not 'other'", ["--cluster", "other"])
        let foreign = TestDirectory()
        try FileManager.default.createDirectory(atPath: foreign.path("data"), withIntermediateDirectories: true)
        try "dear diary".write(toFile: foreign.path("data/diary.txt"), atomically: true, encoding: .utf8)
        try expectRefused(foreign, "it holds 'diary.txt' and was not made by kvd")
        let file = TestDirectory()
        try "text".write(toFile: file.path("data"), atomically: true, encoding: .utf8)
        try expectRefused(file, "Not a directory")
    }

    @Test func aDirectoryWithoutRightsIsRefused() throws {
        let directory = TestDirectory()
        try FileManager.default.createDirectory(atPath: directory.path("data"), withIntermediateDirectories: true)
        try FileManager.default.setAttributes([.posixPermissions: 0o500], ofItemAtPath: directory.path("data"))
        if getuid() != 0 { return try expectRefused(directory, "give the user that runs kvd the right") }
        // Nobody else but root may do everything; kvd may lie where nobody else may look.
        guard Tool.path("setpriv") != nil else { return print("skipped: setpriv is not installed") }
        let drop = "setpriv --reuid 65534 --regid 65534 --clear-groups"
        let kvd = KVDProcess.directory.appendingPathComponent("kvd").path
        guard try Tool.run("/bin/sh", ["-c", "\(drop) '\(kvd)' --version"]).code == 0 else {
            return print("skipped: another user cannot run \(kvd)")
        }
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: directory.path)
        let port = FreePorts.take(2)
        let (code, _, errors) = try Tool.run(
            "/bin/sh", ["-c", "exec \(drop) '\(kvd)' --port \(port) --actors 1 --dir '\(directory.path("data"))'"])
        #expect(code == 1 && errors.contains("Permission denied"), "\(errors)")
        #expect(directory.dataFiles.isEmpty)
    }

    @Test func aDamagedLogIsRefusedWithItsPlaceAndRepairedOnDemand() throws {
        let directory = TestDirectory()
        var server = try start(directory, ["--appendfsync", "always"])
        try set(server, 50)
        _ = server.end()
        let name = try #require(directory.dataFiles.first { $0.hasPrefix("log-") })
        var bytes = try #require(FileManager.default.contents(atPath: directory.path("data/" + name)))
        bytes[4096 + 700] ^= 1
        try bytes.write(to: URL(fileURLWithPath: directory.path("data/" + name)))
        try expectRefused(directory, "\(name): damaged at offset 4", ["--appendfsync", "always"])
        server = try start(directory, ["--appendfsync", "always", "--repair"])
        let count = try server.connect().command("DBSIZE")
        #expect(count == ":49\r\n", "one write's chunk is damaged")
    }

    // MARK: A disk that takes nothing

    /// A small file system in memory; nil where that is not allowed.
    private func smallDisk(_ directory: TestDirectory, megabytes: Int) throws -> Bool {
        try FileManager.default.createDirectory(atPath: directory.path("data"), withIntermediateDirectories: true)
        let mounted = try Tool.run(
            "/bin/sh", ["-c", "mount -t tmpfs -o size=\(megabytes)m kvd-test '\(directory.path("data"))'"])
        if mounted.code != 0 { print("skipped: mounting is not allowed here: \(mounted.errors)") }
        return mounted.code == 0
    }

    private func unmount(_ directory: TestDirectory) {
        _ = try? Tool.run("/bin/sh", ["-c", "umount -l '\(directory.path("data"))'"])
    }

    @Test func aFullDiskStopsWritesOnlyAndTheyGoOnWhenThereIsRoom() throws {
        let directory = TestDirectory()
        guard try smallDisk(directory, megabytes: 40) else { return }
        defer { unmount(directory) }
        let server = try start(directory)
        let client = try server.connect()
        let value = String(repeating: "v", count: 50_000)
        #expect(try client.command("SET", "first", "value") == "+OK\r\n")
        // Leaves no room for another file of the log.
        let ballast = directory.path("data/ballast")
        _ = try Tool.run("/bin/sh", ["-c", "head -c 60000000 /dev/zero > '\(ballast)'"])
        var (refused, written) = ("", 0)
        for i in 0..<400 where refused.isEmpty {
            let reply = try client.command("SET", "k\(i)", value)
            if reply == "+OK\r\n" { written += 1 } else { refused = reply }
        }
        #expect(refused.hasPrefix("-MISCONF ") && written > 10, "\(written) \(refused)")
        #expect(try client.command("GET", "first") == "$5\r\nvalue\r\n")
        #expect(try server.info("aof_last_write_status") == "err")
        #expect(try server.info("data_commands") == "read-only (disk)")
        #expect(Int(try server.info("aof_write_errors") ?? "") ?? 0 > 0)
        #expect(try server.info("aof_fsync_errors") == "0")
        try FileManager.default.removeItem(atPath: ballast)
        let deadline = Clock.millis() + 20_000
        var reply = ""
        while reply != "+OK\r\n", Clock.millis() < deadline {
            _ = poll(nil, 0, 20)
            reply = try client.command("SET", "again", "value")
        }
        #expect(reply == "+OK\r\n")
        #expect(try server.info("aof_last_write_status") == "ok")
        _ = server.end()
        let back = try start(directory)
        #expect(try back.connect().command("DBSIZE") == ":\(written + 2)\r\n")
        _ = back.end()
    }

    @Test func aFullDiskIsRefusedAtTheStart() throws {
        let directory = TestDirectory()
        guard try smallDisk(directory, megabytes: 1) else { return }
        defer { unmount(directory) }
        try expectRefused(directory, "No space left on device")
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path("data")).isEmpty)
    }

    @Test func aRefusedStartLeavesNoDirectoryBehindThatItMade() throws {
        let directory = TestDirectory()
        guard try smallDisk(directory, megabytes: 1) else { return }
        defer { unmount(directory) }
        let kvd = KVDProcess.directory.appendingPathComponent("kvd").path
        let (port, data) = (FreePorts.take(2), directory.path("data/sub"))
        let (code, _, errors) = try Tool.run(
            "/bin/sh", ["-c", "exec '\(kvd)' --port \(port) --actors 1 --dir '\(data)'"])
        #expect(code == 1 && errors.contains("No space left on device"), "\(errors)")
        #expect(!FileManager.default.fileExists(atPath: data))
    }

    /// Reading /proc/self/mem at 0 is an error of the disk, as far as `read` says.
    @Test func aDiskErrorAtTheStartIsOneLine() throws {
        let directory = TestDirectory()
        let server = try start(directory)
        try set(server, 3)
        _ = server.end()
        let name = try #require(directory.dataFiles.first { $0.hasPrefix("log-") })
        try FileManager.default.removeItem(atPath: directory.path("data/" + name))
        try FileManager.default.createSymbolicLink(
            atPath: directory.path("data/" + name), withDestinationPath: "/proc/self/mem")
        try expectRefused(directory, "cannot read \(name): Input/output error")
    }
}

extension TestDirectory {
    /// Names in the server's directory but its lock.
    var dataFiles: [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: path("data"))) ?? []).filter { $0 != "LOCK" }.sorted()
    }

    var dataContents: [String: Data] {
        Dictionary(
            uniqueKeysWithValues: dataFiles.map {
                ($0, FileManager.default.contents(atPath: path("data/" + $0)) ?? Data())
            })
    }
}
