// Users of a real server: files, signals, several loops, wrong passwords that wait. Processes and sockets.

import Foundation
import KVTestTraits
import Testing

@Suite(.blocking) struct AccessProcessTests {
    private let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
        "kvd-access-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }

    private func file(_ name: String, _ text: String) throws -> String {
        let path = folder.appendingPathComponent(name).path
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        chmod(path, 0o600)
        return path
    }

    private func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
        let deadline = Clock.millis() + 20_000
        while Clock.millis() < deadline {
            if try condition() { return true }
            _ = poll(nil, 0, 20)
        }
        return false
    }

    @Test func thePasswordIsThatOfTheFileAndOfTheFileAsItIsNow() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = try file("password", "the first password\n")
        let server = try KVDProcess(arguments: ["--requirepass-file", path], actors: 2)
        let before = try server.connect(2)
        #expect(try before.command("GET", "k") == "-NOAUTH Authentication required.\r\n")
        #expect(try before.command("AUTH", "the first password") == "+OK\r\n")
        _ = try file("password", "the second password")
        server.signal(SIGHUP)
        #expect(try eventually { try server.connect().command("AUTH", "the second password") == "+OK\r\n" })
        #expect(try server.connect(2).command("AUTH", "the first password").hasPrefix("-WRONGPASS"))
        // Who is in stays in.
        #expect(try before.command("SET", "k", "v") == "+OK\r\n")
        _ = try file("password", "two\nlines")
        server.signal(SIGHUP)
        let log = { try server.connect().command("AUTH", "the second password") }
        #expect(try log() == "+OK\r\n")
        let text = server.end()
        #expect(text.contains("the files of --requirepass-file or --aclfile are read again"))
    }

    /// The other actor's loop looks before its next command.
    @Test func aRightTakenAwayIsGoneOnEveryActor() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = try file("users", "user default on nopass ~* +@all\nuser admin on >pw ~* +@all\n")
        let server = try KVDProcess(arguments: ["--aclfile", path], actors: 2)
        let (admin, other) = (try server.connect(1), try server.connect(2))
        #expect(try admin.command("AUTH", "admin", "pw") == "+OK\r\n")
        for _ in 0..<200 {
            #expect(try other.command("SET", "k", "v") == "+OK\r\n")
            #expect(try admin.command("ACL", "SETUSER", "default", "-set") == "+OK\r\n")
            #expect(try other.command("SET", "k", "v").hasPrefix("-NOPERM"))
            #expect(try admin.command("ACL", "SETUSER", "default", "+@all") == "+OK\r\n")
        }
        #expect(try admin.command("ACL", "SETUSER", "default", "-set", "-@dangerous") == "+OK\r\n")
        #expect(try admin.command("ACL", "SAVE") == "+OK\r\n")
        #expect(try String(contentsOfFile: path, encoding: .utf8).contains("user default on nopass ~* "))
        #expect(try admin.command("ACL", "SETUSER", "gone", "on", ">pw", "+@all", "~*") == "+OK\r\n")
        let gone = try server.connect(2)
        #expect(try gone.command("AUTH", "gone", "pw") == "+OK\r\n")
        #expect(try admin.command("ACL", "LOAD") == "+OK\r\n")
        #expect(throws: (any Error).self) { for _ in 0..<3 { _ = try gone.command("PING") } }
    }

    @Test func wrongPasswordsWaitASecondEachAfterTheThird() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = try file("password", "a password that is long enough")
        let server = try KVDProcess(arguments: ["--requirepass-file", path])
        let client = try server.connect()
        for _ in 0..<3 { #expect(try client.command("AUTH", "wrong").hasPrefix("-WRONGPASS")) }
        let start = Clock.millis()
        #expect(try client.command("AUTH", "wrong").hasPrefix("-WRONGPASS"))
        #expect(try client.command("AUTH", "wrong").hasPrefix("-WRONGPASS"))
        let took = Clock.millis() - start
        #expect(took >= 1900 && took < 8000, "\(took)")
        // The right one of the same address waits too, and what follows it in the same write is run after it.
        try client.send("AUTH \"a password that is long enough\"\r\nSET k v\r\n")
        #expect(String(decoding: try client.bytes(10), as: UTF8.self) == "+OK\r\n+OK\r\n")
        #expect(try server.info("acl_access_denied_auth") == nil)
        #expect(try client.command("INFO", "stats").contains("acl_access_denied_auth:5\r\n"))
    }

    @Test func ofWhoWaitsToSayWhoItIsLittleIsHeld() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = try file("password", "a password that is long enough")
        let server = try KVDProcess(arguments: ["--requirepass-file", path])
        let (client, stranger) = (try server.connect(), try server.connect())
        #expect(try client.command("AUTH", "a password that is long enough") == "+OK\r\n")
        for _ in 0..<3 { _ = try stranger.command("AUTH", "wrong") }
        func held() throws -> Int {
            let line = try client.command("INFO", "stats").split(separator: "\r\n").first {
                $0.hasPrefix("unfinished_request_bytes:")
            }
            return try #require(line.flatMap { Int($0.split(separator: ":")[1]) })
        }
        // Seven KiB wait with it.
        for _ in 0..<7 { try stranger.send(String(repeating: "AUTH wrong\r\n", count: 85)) }
        #expect(try eventually { try held() > 5_000 })
        #expect(try client.command("INFO", "stats").contains("client_unauthenticated_disconnections:0\r\n"))
        try stranger.send(String(repeating: "AUTH wrong\r\n", count: 200))
        #expect(try eventually { try held() == 0 })
        #expect(try client.command("INFO", "stats").contains("client_unauthenticated_disconnections:1\r\n"))
        let text = server.end()
        #expect(text.contains("that sent more than 8 KiB behind a login that waited"), "\(text)")
    }

    @Test(arguments: [
        ("--requirepass-file", "", "has to be one line, the password"),
        ("--aclfile", "user a on\nusr b\n", ":2: a line has to begin with the word user"),
        ("--aclfile", "user a +nosuch\n", ":1: +nosuch: Unknown command or category name in ACL"),
    ]) func aFileThatIsWrongIsNoStart(flag: String, text: String, why: String) throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = try file("file", text)
        let ended = try KVDProcess.run([flag, path, "--port", "\(FreePorts.take(2))"])
        // Beside what the log may say of the environment.
        let lines = ended.errors.split(separator: "\n").filter { $0.hasPrefix("kvd: ") }
        #expect(ended.code == 1 && lines.count == 1, "\(ended)")
        #expect(lines.allSatisfy { $0.hasPrefix("kvd: \(path)") && $0.contains(why) }, "\(ended)")
    }

    /// As root a mode keeps nobody out: a folder cannot be read by anybody.
    @Test(arguments: ["--requirepass-file", "--aclfile"]) func aFileThatCannotBeReadIsNoStart(flag: String) throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        for (path, why) in [(folder.path, "Is a directory"), (folder.path + "/none", "No such file or directory")] {
            let ended = try KVDProcess.run([flag, path, "--port", "\(FreePorts.take(2))"])
            let lines = ended.errors.split(separator: "\n").filter { $0.hasPrefix("kvd: ") }
            #expect(ended.code == 1 && lines == ["kvd: \(path): \(why)"], "\(ended)")
        }
    }

    @Test func filesThatEverybodyMayReadAreNamedInTheLog() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let password = try file("password", "a password that is long enough")
        let users = try file("users", "user alice on >another-long-password ~* +@all\n")
        let arguments = ["--requirepass-file", password, "--aclfile", users]
        #expect(!(try KVDProcess(arguments: arguments).end().contains("can be read by everyone")))
        for path in [password, users] {
            chmod(path, 0o644)
            let text = try KVDProcess(arguments: arguments).end()
            #expect(
                text.contains("\(path) can be read by everyone on this machine: chmod 600 \(path)"), "\(text)")
            chmod(path, 0o600)
        }
    }

    /// One wrong line of many changes nothing, whoever asks for the file to be read.
    @Test func aUsersFileThatBecomesWrongChangesNothing() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let good = "user default on >pw ~* +@all\nuser alice on >alices ~a* +get\n"
        let path = try file("users", good)
        let server = try KVDProcess(arguments: ["--aclfile", path])
        let client = try server.connect()
        #expect(try client.command("AUTH", "pw") == "+OK\r\n")
        _ = try file("users", "user default on >other ~* +@all\nuser alice on\nuser bob on +nosuch\n")
        let why = "\(path):3: +nosuch: Unknown command or category name in ACL"
        #expect(try client.command("ACL", "LOAD").contains(why))
        server.signal(SIGHUP)
        #expect(server.says(why))
        _ = try file("users", good + "user carol on >carols ~* +@all\n")
        server.signal(SIGHUP)
        #expect(try eventually { try server.connect().command("AUTH", "carol", "carols") == "+OK\r\n" })
        #expect(try client.command("ACL", "WHOAMI").contains("default"))
        #expect(try server.connect().command("AUTH", "other").hasPrefix("-WRONGPASS"))
    }
}
