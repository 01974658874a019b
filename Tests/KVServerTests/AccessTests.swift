// Users, passwords and rights: rules as Redis has them, and what they let a client do. In process.

import FuzzSupport
import Glibc
import KVBase
import KVRuntime
import KVTestTraits
import RESP
import Testing

@testable import KVServer

@Suite(.blocking) struct AccessTests {
    /// A client of a server with these users.
    private func withClient(_ users: String..., body: (LocalSession) throws -> Void) throws {
        let text = users.map { "user \($0)\n" }.joined()
        let host = LocalSession()
        host.shard.context.access.replace(try AccessFile.parse(text, "users"))
        let s = LocalSession(shard: host.shard, now: host.now)
        defer {
            s.close(shardToo: false)
            host.close()
        }
        try body(s)
    }

    private func line(_ rules: String...) throws -> String {
        var user = AccessUser("u")
        for rule in rules { try user.apply(rule) }
        return user.line
    }

    // MARK: Rules

    @Test func aNewUserMayNothing() throws {
        #expect(AccessUser("u").line == "user u off resetchannels -@all")
        #expect(AccessUser.unlimited("default").line == "user default on nopass ~* &* +@all")
    }

    @Test func rulesAreShownAsRedisShowsThem() throws {
        let digest = "30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4"
        #expect(
            try line("on", ">pw", "~a*", "%R~b*", "+get", "+set", "-@all", "+@read", "-mget", "+client|id")
                == "user u on #\(digest) ~a* %R~b* resetchannels -@all +@read -mget +client|id")
        #expect(try line("#\(digest)", "<pw") == "user u off resetchannels -@all")
        #expect(try line("nopass", "allkeys", "allchannels", "allcommands") == "user u off nopass ~* &* +@all")
        #expect(try line("+GET", "-get", "+config|get", "+config") == "user u off resetchannels -@all -get +config")
        #expect(try line("+hset", "+@hash", "&x") == "user u off resetchannels &x -@all +hset +@hash")
        #expect(try line("on", ">pw", "reset") == "user u off resetchannels -@all")
        #expect(try line("%RW~x", "~x", "%W~y") == "user u off ~x %W~y resetchannels -@all")
    }

    /// A line that was shown makes the same user again.
    @Test func whatIsShownIsReadBack() throws {
        let text = try line("on", ">a", ">b", "~k*", "%W~w", "&c", "+@read", "-get", "+config|get", "+get|x")
        #expect(try AccessFile.parse(text, "f").first?.line == text)
    }

    @Test(arguments: [
        ("+nosuch", "Unknown command or category name in ACL"), ("+@nosuch", "Unknown command or category name in ACL"),
        ("+config|nosuch", "Unknown command or category name in ACL"),
        ("-get|x", "Unknown command or category name in ACL"),
        ("+config|get|x", "Allowing first-arg of a subcommand is not supported"), ("<c", "The password you are trying"),
        ("#zz", "The password hash must be exactly 64"), ("%X~a", "Syntax error"), ("%~a", "Syntax error"),
        ("nonsense", "Syntax error"), ("", "Syntax error"), ("(+get ~x)", "Selectors are not supported by kvd"),
        ("~" + String(repeating: "a", count: 64), "Syntax error"),
    ]) func whatIsNoRuleIsSaid(rule: String, why: String) {
        var user = AccessUser("u")
        let fault = user.apply(all: ["on", rule])
        #expect(fault?.rule == rule && "\(fault!.error)".hasPrefix(why), "\(String(describing: fault))")
    }

    @Test func aFileIsTakenWholeOrNotAtAll() throws {
        for (text, fault) in [
            ("user a on\nusr b", "f:2: a line has to begin with the word user"), ("user", "f:1: the user's name"),
            ("\n\nuser a +x", "f:3: +x: Unknown command"), ("user a\nuser a", "f:2: Duplicate user 'a' found"),
            ("# comment", "f:1: a line has to begin"), ("user a >secret <other", "f:1: <…: The password you"),
        ] {
            do {
                _ = try AccessFile.parse(text, "f")
                Issue.record("\(text) is taken")
            } catch { #expect(error.description.hasPrefix(fault), "\(error)") }
        }
    }

    /// What the exporter for Prometheus asks for, and Redis's own example.
    @Test func linesOfToolsAreTaken() throws {
        for rules in [
            "-@all +@connection +memory -readonly +strlen +config|get +xinfo +pfcount -quit +zcard +type +xlen -readwrite"
                + " -command +client -wait +scard +llen +hlen +get +eval +slowlog +cluster|info +cluster|slots"
                + " +cluster|nodes -hello -echo +info +latency +scan -reset -auth -asking",
            "on >s3cr3tW0rd! ~objects:* ~items:* ~public:* +@all -@dangerous", "+@all -@scripting &* sanitize-payload",
        ] { #expect(throws: Never.self) { try AccessFile.parse("user x \(rules)", "f") } }
    }

    // MARK: Coming in

    @Test func whoMustSayWhoItIsMayDoNothingBefore() throws {
        try withClient("default on >secret ~* +@all") { s in
            for request in ["GET k", "SET k v", "PING", "INFO", "MULTI", "ACL WHOAMI", "CLIENT ID"] {
                s.expect(request, "-NOAUTH Authentication required.")
            }
            // As in Redis, what is no command is said first.
            #expect(s.command("NOSUCH").hasPrefix("-ERR unknown command"))
            s.expect("GET", "-ERR wrong number of arguments for 'get' command")
            s.expect("CLIENT SETINFO LIB-NAME x", "+OK")
            #expect(s.command("HELLO", "3").hasPrefix("-NOAUTH HELLO must be called"))
            s.expect("AUTH wrong", "-WRONGPASS invalid username-password pair or user is disabled.")
            s.expect("AUTH nobody secret", "-WRONGPASS invalid username-password pair or user is disabled.")
            s.expect("AUTH secret", "+OK")
            s.expect("SET k v", "+OK")
            s.expect("GET k", "$1\r\nv")
            s.expect("RESET", "+RESET")
            s.expect("GET k", "-NOAUTH Authentication required.")
            #expect(s.command("HELLO", "3", "AUTH", "default", "secret", "SETNAME", "n").hasPrefix("%7\r\n"))
            s.expect("CLIENT GETNAME", "$1\r\nn")
        }
    }

    @Test func withoutAPasswordAuthSaysSo() throws {
        try withClient("other on >pw +@all") { s in
            s.expect("PING", "+PONG")
            #expect(s.command("AUTH", "x").hasPrefix("-ERR AUTH <password> called without any password configured"))
            s.expect("AUTH default anything", "+OK")
            s.expect("AUTH other pw", "+OK")
            s.expect("ACL WHOAMI", "$5\r\nother")
        }
    }

    /// What is longer than a login is not kept.
    @Test func aStrangersRequestIsShort() throws {
        try withClient("default on >secret ~* +@all") { s in
            #expect(s.command("AUTH", String(repeating: "x", count: 16 * 1024 - 8)).hasPrefix("-WRONGPASS"))
            let tooLong = "*2\r\n$4\r\nAUTH\r\n$16400\r\n"
            #expect(String(decoding: s.reply(to: Array(tooLong.utf8)), as: UTF8.self).hasPrefix("-ERR Protocol error"))
            #expect(s.isClosed)
        }
        try withClient("default on >secret ~* +@all") { s in
            #expect(
                String(decoding: s.reply(to: Array("*11\r\n".utf8)), as: UTF8.self).hasPrefix("-ERR Protocol error"))
        }
        try withClient("default on >secret ~* +@all") { s in
            // In one write with the login, in full size.
            let value = String(repeating: "v", count: 20_000)
            let bytes = "AUTH secret\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$20000\r\n\(value)\r\nSTRLEN k\r\n"
            #expect(String(decoding: s.reply(to: Array(bytes.utf8)), as: UTF8.self) == "+OK\r\n+OK\r\n:20000\r\n")
        }
    }

    // MARK: Rights

    @Test func commandsAreThoseOfTheRules() throws {
        try withClient("default on nopass ~* +@read -mget +set +config|get +acl|whoami +del") { s in
            s.expect("SET k v", "+OK")
            s.expect("PUT k v", "+OK")
            s.expect("GET k", "$1\r\nv")
            s.expect("MGET k", "-NOPERM this user has no permissions to run the 'mget' command")
            s.expect("FLUSHDB", "-NOPERM this user has no permissions to run the 'flushdb' command")
            s.expect("ACL LIST", "-NOPERM this user has no permissions to run the 'acl|list' command")
            s.expect("CLIENT ID", "-NOPERM this user has no permissions to run the 'client|id' command")
            s.expect("CONFIG RESETSTAT", "-NOPERM this user has no permissions to run the 'config|resetstat' command")
            #expect(s.command("CONFIG", "GET", "port").hasPrefix("*2\r\n"))
            s.expect("DELETE k", ":1")
            s.expect("MULTI", "-NOPERM this user has no permissions to run the 'multi' command")
        }
    }

    @Test func keysAreThoseOfThePatterns() throws {
        let denied = "-NOPERM this user has no permissions to access one of the keys used as arguments"
        try withClient("default on nopass ~own:* %R~read:* %W~write:* +@all") { s in
            for request in ["SET own:1 v", "SET write:1 v", "MSET own:2 v write:2 v"] { s.expect(request, "+OK") }
            for request in [
                "GET write:1", "SET read:1 v", "GET other", "SET other v", "MGET own:1 other", "MSET own:1 v read:1 v",
                "DEL own:1 read:1", "SET write:1 v GET", "GETDEL write:1", "GETSET write:1 v", "RENAME own:1 read:1",
                "RENAME write:1 own:1", "COPY write:1 own:1", "KVD PUT read:1 v", "KVD VERSION other", "EXISTS other",
                "KVD RESTAMP read:1", "KVD RESTAMP write:1",
                "TYPE other", "OBJECT ENCODING other", "MEMORY USAGE other", "WATCH other", "DBSIZE", "RANDOMKEY",
                "KVD DIGEST",
            ] { s.expect(request, denied) }
            s.expect("GET read:1", "$-1")
            s.expect("KVD RESTAMP own:1", ":0")
            s.expect("GETRANGE read:1 0 1", "$0\r\n")
            // Whether it is there, and how long: for who may read or write it.
            s.expect("STRLEN write:1", ":1")
            s.expect("EXISTS write:1", ":1")
            s.expect("COPY own:1 write:9", ":1")
        }
    }

    @Test func listingsShowWhatTheUserMayRead() throws {
        try withClient("default on nopass ~a* %W~b* +@all") { s in
            s.expect("MSET a1 1 a2 2 b1 3", "+OK")
            s.shard.context.access.replace(try AccessFile.parse("user default on nopass ~* +@all", "f"))
            s.shard.refreshLogins()
            s.expect("MSET c1 4 c2 5", "+OK")
            s.shard.context.access.replace(try AccessFile.parse("user default on nopass ~a* %W~b* +@all", "f"))
            s.shard.refreshLogins()
            s.expect("KEYS *", "*2\r\n$2\r\na1\r\n$2\r\na2")
            s.expect("KEYS b*", "*0")
            s.expect("KEYS c1", "*0")
            s.expect("KEYS a1", "*1\r\n$2\r\na1")
            s.expect("SCAN 0", "*2\r\n$1\r\n0\r\n*2\r\n$2\r\na1\r\n$2\r\na2")
            s.expect("SCAN 0 MATCH ?1", "*2\r\n$1\r\n0\r\n*1\r\n$2\r\na1")
            s.expect("LIST", "*4\r\n$2\r\na1\r\n$1\r\n1\r\n$2\r\na2\r\n$1\r\n2")
            s.expect("LIST LIMIT 1", "*2\r\n$2\r\na1\r\n$1\r\n1")
            s.expect("LIST c", "*0")
            s.expect("MULTI", "+OK")
            for listing in ["KEYS *", "SCAN 0", "LIST"] { s.expect(listing, "+QUEUED") }
            s.expect(
                "EXEC",
                "*3\r\n*2\r\n$2\r\na1\r\n$2\r\na2\r\n*2\r\n$1\r\n0\r\n*2\r\n$2\r\na1\r\n$2\r\na2"
                    + "\r\n*4\r\n$2\r\na1\r\n$1\r\n1\r\n$2\r\na2\r\n$1\r\n2")
        }
        try withClient("default on nopass %W~a* +@all") { s in
            for request in ["KEYS *", "SCAN 0", "LIST"] {
                #expect(
                    s.run(request.split(separator: " ").map { Bytes(String($0)) }).hasPrefix("-NOPERM"), "\(request)")
            }
        }
    }

    /// Patterns are over keys as the client names them, whatever database they are in.
    @Test func patternsDoNotSeeDatabases() throws {
        try withClient("default on nopass ~a* +@all") { s in
            s.expect("SELECT 3", "+OK")
            s.expect("SET a v", "+OK")
            #expect(s.command("SET", "b", "v").hasPrefix("-NOPERM"))
            s.expect("KEYS *", "*1\r\n$1\r\na")
        }
    }

    // MARK: Changes

    @Test func aRightTakenAwayIsGoneInTheNextCommand() throws {
        try withClient("admin on nopass ~* +@all") { s in
            let other = LocalSession(shard: s.shard, now: s.now)
            defer { other.close(shardToo: false) }
            other.expect("SET k v", "+OK")
            s.expect("AUTH admin x", "+OK")
            s.expect("ACL SETUSER default -set", "+OK")
            #expect(other.command("SET", "k", "w").hasPrefix("-NOPERM"))
            other.expect("GET k", "$1\r\nv")
            // In the same write.
            let reply = s.reply(to: Array("ACL SETUSER admin -get\r\nGET k\r\n".utf8))
            #expect(String(decoding: reply, as: UTF8.self).hasPrefix("+OK\r\n-NOPERM"))
            s.expect("ACL SETUSER default +@all allkeys", "+OK")
            other.expect("SET k w", "+OK")
        }
    }

    /// Each command is looked at when it is queued, and again when it runs: with the rights of now.
    @Test func aTransactionRunsAsItsClientWithTheRightsOfNow() throws {
        try withClient("default on nopass ~a* +@all") { s in
            let other = LocalSession(shard: s.shard, now: s.now)
            defer { other.close(shardToo: false) }
            s.shard.context.access.replace(
                try AccessFile.parse("user default on nopass ~a* +@all\nuser bob on >pw ~* +@all", "f"))
            other.expect("AUTH bob pw", "+OK")
            other.expect("MULTI", "+OK")
            for request in ["ACL WHOAMI", "SET b v", "KEYS *"] { other.expect(request, "+QUEUED") }
            other.expect("EXEC", "*3\r\n$3\r\nbob\r\n+OK\r\n*1\r\n$1\r\nb")
            // Who comes next is somebody else.
            s.expect("MULTI", "+OK")
            #expect(s.command("GET", "b").hasPrefix("-NOPERM"))
            s.expect("DISCARD", "+OK")
            s.expect("MULTI", "+OK")
            for request in ["ACL WHOAMI", "SET a v", "KEYS *"] { s.expect(request, "+QUEUED") }
            other.expect("ACL SETUSER default -set", "+OK")
            s.expect(
                "EXEC",
                "*3\r\n$7\r\ndefault\r\n-NOPERM this user has no permissions to run the 'set' command\r\n*0")
            other.expect("EXISTS a", ":0")
            #expect(other.command("ACL", "LOG").contains("multi"))
            other.expect("ACL WHOAMI", "$3\r\nbob")
        }
    }

    /// Nobody becomes another one by a transaction.
    /// U+0602 and a space behind it are one character of Swift's: the rules behind it were a part of the pattern.
    @Test func wordsOfAFileEndAtSpacesWhateverStandsBeforeThem() throws {
        for pattern in ["~\u{602}", "&\u{602}", "~a\u{301}", "~\u{2028}"] {
            let line = "user u on nopass +@all \(pattern) -@all +get"
            let user = try #require(AccessFile.parse(line + "\r\nuser v off", "f").first)
            #expect(Array(user.line.utf8).suffix(11) == Array(" -@all +get".utf8)[...], "\(user.line)")
            #expect(try AccessFile.parse(user.line, "f").first?.line == user.line)
        }
    }

    @Test func nobodyLogsInWithinATransaction() throws {
        try withClient("bob on >pw ~a* +get +multi +exec") { s in
            for login in ["AUTH bob pw", "HELLO 2 AUTH bob pw"] {
                s.expect("MULTI", "+OK")
                s.expect(login, "+QUEUED")
                s.expect("EXEC", "*1\r\n-ERR AUTH is not allowed within a transaction")
            }
            s.expect("ACL WHOAMI", "$7\r\ndefault")
            s.expect("MULTI", "+OK")
            s.expect("SET k v", "+QUEUED")
            s.expect("EXEC", "*1\r\n+OK")
        }
    }

    @Test func theCommandsOfAclAnswerAsInRedis() throws {
        let s = LocalSession()
        defer { s.close() }
        s.expect("ACL WHOAMI", "$7\r\ndefault")
        s.expect("ACL USERS", "*1\r\n$7\r\ndefault")
        s.expect("ACL LIST", "*1\r\n$34\r\nuser default on nopass ~* &* +@all")
        s.expect("ACL SETUSER bob on >pw ~a* +get", "+OK")
        s.expect(
            "ACL SETUSER bob +nosuch",
            "-ERR Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL")
        s.expect(
            "ACL SETUSER bob >new <old",
            "-ERR Error in ACL SETUSER modifier '<…': The password you are trying to remove from the user does not exist"
        )
        // All or nothing: the new password was not taken.
        s.expect("AUTH bob new", "-WRONGPASS invalid username-password pair or user is disabled.")
        s.expect("ACL DRYRUN bob get a1", "+OK")
        s.expect("ACL DRYRUN bob get c", "$50\r\nThis user has no permissions to access the 'c' key")
        s.expect("ACL DRYRUN bob set a 1", "$53\r\nThis user has no permissions to run the 'set' command")
        s.expect("ACL DRYRUN nobody get c", "-ERR User 'nobody' not found")
        s.expect("ACL DRYRUN bob nosuch c", "-ERR Command 'nosuch' not found")
        s.expect("ACL GETUSER nobody", "$-1")
        s.expect("ACL DELUSER default", "-ERR The 'default' user cannot be removed")
        s.expect("ACL CAT nosuch", "-ERR Unknown category 'nosuch'")
        #expect(s.command("ACL", "CAT").hasPrefix("*21\r\n"))
        #expect(s.command("ACL", "CAT", "string").contains("\r\nget\r\n"))
        #expect(s.command("ACL", "GENPASS").hasPrefix("$64\r\n"))
        #expect(s.command("ACL", "GENPASS", "5").hasPrefix("$2\r\n"))
        #expect(s.command("ACL", "GENPASS", "5000").hasPrefix("-ERR ACL GENPASS argument must be"))
        #expect(s.command("ACL", "LOAD").hasPrefix("-ERR This Redis instance is not configured to use an ACL file."))
        #expect(s.command("ACL", "NOSUCH").hasPrefix("-ERR unknown subcommand 'NOSUCH'. Try ACL HELP."))
        s.expect("ACL GETUSER", "-ERR wrong number of arguments for 'acl|getuser' command")
        s.expect("ACL DELUSER bob nobody", ":1")
    }

    @Test func denialsAreLoggedAndNoPasswordIs() throws {
        try withClient("admin on nopass ~* +@all", "default on >secret ~a* +get +auth") { s in
            _ = s.command("AUTH", "hidden")
            _ = s.command("AUTH", "hidden")
            s.expect("AUTH secret", "+OK")
            #expect(s.command("GET", "b").hasPrefix("-NOPERM"))
            #expect(s.command("SET", "a", "b").hasPrefix("-NOPERM"))
            s.expect("AUTH admin x", "+OK")
            let log = s.command("ACL", "LOG")
            #expect(log.hasPrefix("*3\r\n*20\r\n$5\r\ncount\r\n:1\r\n$6\r\nreason\r\n$7\r\ncommand\r\n"))
            #expect(
                log.contains(
                    "$6\r\nreason\r\n$3\r\nkey\r\n$7\r\ncontext\r\n$8\r\ntoplevel\r\n$6\r\nobject\r\n$1\r\nb\r\n"))
            #expect(log.contains("$5\r\ncount\r\n:2\r\n$6\r\nreason\r\n$4\r\nauth\r\n"))
            #expect(!log.contains("hidden"))
            let info = s.command("INFO", "stats")
            for field in ["auth:2", "cmd:1", "key:1"] { #expect(info.contains("acl_access_denied_\(field)\r\n")) }
            s.expect("ACL LOG RESET", "+OK")
            s.expect("ACL LOG", "*0")
        }
    }

    // MARK: Files

    private func make(_ path: String, _ text: String) {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        #expect(file >= 0 && write(file, text, text.utf8.count) == text.utf8.count && close(file) == 0)
    }

    /// A server whose users are in one file, none of them named default, and the password of that one in another.
    private func withFiles(_ body: (ServerContext) throws -> Void) throws {
        let path = "/tmp/kvd-access-\(getpid())-\(Machine.random())"
        var config = Config()
        config.actors = 1
        (config.access.usersFile, config.access.passwordFile) = (path + ".users", path + ".password")
        for (name, text) in [("users", "user ann on >her-password ~* +@all\n"), ("password", "that-of-default\n")] {
            make("\(path).\(name)", text)
        }
        defer { for name in ["users", "password"] { unlink("\(path).\(name)") } }
        let context = ServerContext(config: config, serverID: 1, hashSeed: 1, digestKey: 1, inputOutput: "none")
        _ = try config.access.apply(to: context.access)
        try body(context)
    }

    /// Whoever comes while the files are read again needs a password, as before and after.
    @Test func nobodyComesInWhileTheFilesAreReadAgain() throws {
        try withFiles { context in
            let (book, isOver, wasOpen) = (context.access, Locked(false), Locked(false))
            var thread = pthread_t()
            let failure = SystemThread.start(&thread) {
                while !isOver.withLock({ $0 }) { if book.isOpen { wasOpen.withLock { $0 = true } } }
            }
            #expect(failure == 0)
            let before = book.generation
            for _ in 0..<2000 { _ = try context.config.access.apply(to: book) }
            isOver.withLock { $0 = true }
            pthread_join(thread, nil)
            #expect(!wasOpen.withLock { $0 })
            #expect(book.generation == before + 2000, "each time all at once")
        }
    }

    @Test func loadingTheUsersKeepsThePasswordOfDefault() throws {
        try withFiles { context in
            let shard = Shard(index: 1, context: context)
            let s = LocalSession(shard: shard, now: 1_000_000)
            defer { s.close() }
            #expect(s.command("GET", "k").hasPrefix("-NOAUTH"))
            s.expect("AUTH ann her-password", "+OK")
            s.expect("ACL LOAD", "+OK")
            #expect(!context.access.isOpen)
            let other = LocalSession(shard: shard, now: 1_000_000)
            defer { other.close(shardToo: false) }
            #expect(other.command("GET", "k").hasPrefix("-NOAUTH"))
            other.expect("AUTH that-of-default", "+OK")
            other.expect("GET k", "$-1")
        }
    }

    /// SIGHUP and ACL LOAD at once: the one takes long to read the file that was there, the other reads the next one.
    @Test func filesThatWereReadLaterCount() throws {
        try withFiles { context in
            let (book, settings) = (context.access, context.config.access)
            let path = try #require(settings.usersFile)
            make(path + ".next", "user bob on >his-password ~* +@all\n")
            #expect(unlink(path) == 0 && mkfifo(path, 0o600) == 0)
            var thread = pthread_t()
            let failure = SystemThread.start(&thread) { _ = try? settings.apply(to: book) }
            #expect(failure == 0)
            // Once the reader is there.
            let deadline = Machine.monotonicNanos + 20_000_000_000
            var fifo = open(path, O_WRONLY | O_NONBLOCK)
            while fifo < 0, Machine.monotonicNanos < deadline {
                _ = poll(nil, 0, 1)
                fifo = open(path, O_WRONLY | O_NONBLOCK)
            }
            #expect(fifo >= 0 && rename(path + ".next", path) == 0)
            _ = try settings.apply(to: book)
            let old = Array("user ann on >her-password ~* +@all\n".utf8)
            #expect(write(fifo, old, old.count) == old.count && close(fifo) == 0)
            pthread_join(thread, nil)
            #expect(book.users.map(\.name) == ["bob", "default"])
        }
    }
}
