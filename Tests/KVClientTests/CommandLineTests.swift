// kv as scripts and people use it: output byte for byte, exit codes, the prompt on a pseudo-terminal.

import Foundation
import KVClient
import KVTestTraits
import Testing

@testable import kv

@Suite(.blocking, .serialized) struct CommandLineTests {
    private func kv(
        _ server: ScriptedServer, _ arguments: String..., input: String = ""
    ) async throws -> (Int32, String, String) {
        let environment = ["KV_SERVER": "\(server.address)"]
        let result = try await Task.detached {
            try Programs.kv(arguments, input: Array(input.utf8), environment: environment)
        }.value
        return (result.code, String(decoding: result.output, as: UTF8.self), result.errors)
    }

    @Test func onlyAWriteLeavesADoubtWhetherItWasExecuted() async throws {
        let server = try await ScriptedServer { $0.close() }
        let (readCode, _, read) = try await kv(server, "get", "k")
        #expect(readCode == 1 && read.contains("lost") && !read.contains("write"), "\(read)")
        let (writeCode, _, written) = try await kv(server, "put", "k", "v")
        #expect(writeCode == 1 && written.contains("a write may have been executed"), "\(written)")
        await server.stop()
    }

    /// A server says nothing while it makes a snapshot of many gigabytes.
    @Test func aSnapshotMayTakeLongerThanACall() async throws {
        let server = try await ScriptedServer { exchange in
            // That the time of a call passes is what is tested.
            DispatchQueue.global().asyncAfter(deadline: .now() + 1.5) { exchange.reply("-ERR the disk is full\r\n") }
        }
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("kv-backup-\(UUID().uuidString)").path
        let (code, _, errors) = try await kv(server, "--timeout", "0.3", "backup", path)
        #expect(code == 1 && errors.contains("the disk is full"), "\(errors)")
        #expect(server.requests == [["KVD", "BACKUP", "BEGIN"]])
        await server.stop()
    }

    @Test func oneShotCommandsPrintWhatScriptsNeed() async throws {
        try await withFakeStore { (_, server) async throws in
            #expect(try await kv(server, "put", "a", "x y") == (0, "OK\n", ""))
            #expect(try await kv(server, "get", "a") == (0, "x y", ""))
            #expect(try await kv(server, "get", "none") == (2, "", ""))
            #expect(try await kv(server, "put", "--", "b", "-5") == (0, "OK\n", ""))
            #expect(try await kv(server, "list") == (0, "a\tx y\nb\t-5\n", ""))
            #expect(try await kv(server, "list", "--limit", "1") == (0, "a\tx y\n", ""))
            #expect(try await kv(server, "list", "--after", "a") == (0, "b\t-5\n", ""))
            #expect(try await kv(server, "delete", "a", "b", "c") == (0, "2\n", ""))
        }
    }

    @Test func jsonIsOneObjectALine() async throws {
        try await withFakeStore { (_, server) async throws in
            let put = try await kv(server, "--json", "put", "a\"", "1\n2")
            #expect(put.0 == 0)
            #expect(put.1.hasPrefix("{\"key\":\"a\\\"\",\"stamp_ms\":"))
            #expect(
                try await kv(server, "get", "a\"", "--json") == (0, "{\"key\":\"a\\\"\",\"value\":\"1\\n2\"}\n", ""))
            #expect(try await kv(server, "get", "none", "--json") == (2, "{\"key\":\"none\",\"value\":null}\n", ""))
            #expect(try await kv(server, "list", "--json") == (0, "{\"key\":\"a\\\"\",\"value\":\"1\\n2\"}\n", ""))
            #expect(try await kv(server, "delete", "a\"", "--json") == (0, "{\"deleted\":1}\n", ""))
        }
    }

    /// The server is told that it need not hold what is not fetched.
    @Test(arguments: ["a piece", "the file"]) func aBackupThatFailsIsEnded(_ failing: String) async throws {
        let server = try await ScriptedServer { exchange in
            switch exchange.arguments.dropFirst().prefix(2) {
            case ["BACKUP", "BEGIN"]: exchange.reply("*3\r\n:7\r\n:5000000\r\n$3\r\nkvd\r\n")
            case ["BACKUP", "READ"]: exchange.reply("-ERR there is no such backup, or it cannot be read\r\n")
            case ["BACKUP", "END"]: exchange.reply("+OK\r\n")
            default: exchange.reply("-ERR unknown command\r\n")
            }
        }
        let folder = NSTemporaryDirectory() + (failing == "the file" ? "kvd-none-\(getpid())/none/" : "")
        let path = folder + "kvd-backup-\(getpid())"
        let (code, _, errors) = try await kv(server, "backup", path)
        #expect(code == 1 && errors.contains(failing == "the file" ? "No such file" : "no such backup"), "\(errors)")
        #expect(server.requests.last == ["KVD", "BACKUP", "END", "7"])
        #expect(!FileManager.default.fileExists(atPath: path))
        await server.stop()
    }

    @Test func valuesPassByteForByte() async throws {
        let server = try Server()
        let bytes: [UInt8] = [0xFF, 0, 1, 10, 13, 10]
        let environment = ["KV_SERVER": server.addresses]
        #expect(try Programs.kv(["put", "bin", "--stdin"], input: bytes, environment: environment).code == 0)
        #expect(try Programs.kv(["get", "bin"], environment: environment).output == bytes)
        let list = try Programs.kv(["list"], environment: environment).output
        #expect(String(decoding: list, as: UTF8.self) == "bin\t\\xFF\\x00\\x01\\n\\r\\n\n")
        let json = try Programs.kv(["get", "bin", "--json"], environment: environment).output
        #expect(String(decoding: json, as: UTF8.self) == "{\"key\":\"bin\",\"value_base64\":\"/wABCg0K\"}\n")
    }

    @Test(arguments: [
        ["frob"], ["get"], ["get", "a", "b"], ["put", "a"], ["put", "a", "b", "--stdin"], ["list", "--limit", "0"],
        ["--server", "nonsense", "get", "k"], ["get", "k", "--timeout", "0"], ["get", "k", "--server", ":1"],
        ["delete"],
    ])
    func wrongUsageIsToldInOneLineAndExits64(arguments: [String]) throws {
        let result = try Programs.kv(arguments)
        #expect(result.code == 64)
        #expect(result.output.isEmpty)
        #expect(result.errors.hasPrefix("kv: ") && result.errors.hasSuffix("; see kv --help\n"), "\(result.errors)")
        #expect(result.errors.filter { $0 == "\n" }.count == 1)
    }

    @Test func argumentsAndLinesMayBeAnyBytes() throws {
        for bytes: [UInt8] in [
            [], [0xFF], [0xC3, 0xA9, 0xC3], Array("\u{10FEFF}\u{10FFFF}é".utf8), (1...255).map { UInt8($0) },
        ] {
            #expect(ProgramArguments.bytes(ProgramArguments.text(bytes)).array == bytes)
        }
        let server = try Server()
        let environment = ["KV_SERVER": server.addresses]
        let script: [UInt8] = Array("put a".utf8) + [0xFE] + Array(" 1\r\nput a".utf8) + [0xFF] + Array(" 2\nlist".utf8)
        let result = try Programs.kv([], input: script, environment: environment)
        #expect(String(decoding: result.output, as: UTF8.self) == "OK\nOK\na\\xFE\t1\na\\xFF\t2\n")
    }

    @Test func helpAndVersionSucceed() throws {
        for arguments in [["--help"], ["get", "--help"], ["--version"]] {
            let result = try Programs.kv(arguments)
            #expect(result.code == 0)
            #expect(!result.output.isEmpty)
            #expect(result.errors.isEmpty)
        }
    }

    @Test func anUnreachableServerIsOneLineAndExits1() throws {
        let result = try Programs.kv(["--server", "127.0.0.1:1", "get", "k"])
        #expect(result.code == 1)
        #expect(result.errors.hasPrefix("kv: cannot reach 127.0.0.1:1: Connection refused"))
        #expect(result.errors.filter { $0 == "\n" }.count == 1)
    }

    @Test func aRefusalOfTheServerCannotMoveTheCursor() async throws {
        try await withServer {
            $0.reply("-ERR \u{1B}[2Jgone\r\n")
        } _: { (_, server) async throws in
            let (code, output, errors) = try await kv(server, "get", "k")
            #expect(code == 1)
            #expect(output == "")
            #expect(errors == "kv: the server refused: ERR \\x1B[2Jgone\n")
        }
    }

    @Test func linesFromAPipeAreCarriedOutInTurn() async throws {
        try await withFakeStore { (_, server) async throws in
            let script = "put a '1 2'\n\nget a\nget b\nput c \"x\\ty\"\nlist\nquit\nput never x\n"
            #expect(try await kv(server, input: script) == (2, "OK\n1 2\n(absent)\nOK\na\t1 2\nc\tx\\ty\n", ""))
            let (code, output, errors) = try await kv(server, input: "frob\nget a")
            #expect(code == 1)
            #expect(output == "1 2\n")
            #expect(errors == "kv: line 1: no command frob; help lists the commands\n")
        }
    }

    @Test func aReaderThatLeavesEarlyEndsItQuietly() async throws {
        try await withFakeStore { (client, server) async throws in
            for index in 0..<3000 { try await client.put("k\(index)", String(repeating: "v", count: 200)) }
            let command = "'\(Programs.url("kv").path)' --server \(server.address) list | head -1"
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            process.arguments = ["-c", command]
            let (output, errors) = (Pipe(), Pipe())
            (process.standardOutput, process.standardError) = (output, errors)
            try process.run()
            let text = await Task.detached { output.fileHandleForReading.readDataToEndOfFile() }.value
            #expect(text.filter { $0 == 10 }.count == 1)
            #expect(errors.fileHandleForReading.readDataToEndOfFile().isEmpty)
            process.waitUntilExit()
        }
    }

    // MARK: The prompt

    @Test func thePromptEditsCompletesAndRemembers() throws {
        let server = try Server()
        let session = try TerminalSession(["--server", server.addresses])
        #expect(session.sees("127.0.0.1:\(server.ports[0])> "))
        session.type("pu\tkey \"some value\"\r")
        #expect(session.sees("OK"))
        session.type("get keyX\u{7F}\r")
        #expect(session.sees("some value"))
        session.type("\u{1B}[A\u{1B}[A\u{15}get none\r")
        #expect(session.sees("(absent)"))
        session.type("\u{1B}[A\u{1B}[A\r")
        #expect(session.sees("some value") && session.sees("> "))
        session.type("half a line\u{3}")
        #expect(session.sees("^C"))
        session.type("frob\r")
        #expect(session.sees("no command frob"))
        session.type("\u{4}")
        #expect(session.exitCode() == 0)
        #expect(session.isSane)
    }

    @Test func ctrlCEndsAWaitingRequestNotTheProgram() async throws {
        try await withServer { _ in
        } _: { (_, server) async throws in
            let session = try TerminalSession(["--server", "\(server.address)", "--timeout", "60"])
            #expect(session.sees("> "))
            session.type("get k\r")
            try await eventually("asked") { server.requests.count == 1 }
            session.signal(SIGINT)
            #expect(session.sees("cancelled"))
            session.type("quit\r")
            #expect(session.exitCode() == 0)
            #expect(session.isSane)
        }
    }

    @Test(arguments: [SIGTERM, SIGHUP]) func theTerminalIsSaneAfterASignal(number: Int32) throws {
        let session = try TerminalSession(["--server", "127.0.0.1:1"])
        #expect(session.sees("> "))
        session.type("abc")
        #expect(session.sees("abc"))
        #expect(!session.isSane)
        session.signal(number)
        #expect(session.exitCode() == 128 + number)
        #expect(session.isSane)
    }

    @Test func aOneShotCommandDiesOfItsSignal() async throws {
        try await withServer { _ in
        } _: { (_, server) async throws in
            let session = try TerminalSession(["get", "k", "--server", "\(server.address)", "--timeout", "60"])
            try await eventually("asked") { server.requests.count == 1 }
            session.signal(SIGINT)
            #expect(session.exitCode() == -SIGINT)
        }
    }

    @Test func severalPastedLinesAreAllCarriedOut() throws {
        let server = try Server()
        let session = try TerminalSession(["--server", server.addresses])
        #expect(session.sees("> "))
        session.type("put a 1\rput b 2\rget a\rget b\r")
        #expect(session.sees("OK") && session.sees("OK"))
        #expect(session.sees("\n1\r\n"))
        #expect(session.sees("\n2\r\n"))
        session.type("\u{4}")
        #expect(session.exitCode() == 0)
    }
}

@Suite struct PeerTableTests {
    @Test func peersStandUnderHeadings() {
        let rows: [KVReply] = [
            .bytes("0123456789abcdef 10.0.0.1:6000 up 0 12 kvd-1 none 250 -3 -"),
            .bytes("fedcba9876543210 [2001:db8::1]:6000 syncing 1200 7 a none -1 0 62%"),
        ]
        #expect(
            PeerTable.text(.array(rows))?.split(separator: "\n") == [
                "ID                ADDRESS             STATE    PENDING  HEARD MS  NAME   ENCRYPTION  RTT MS  CLOCK MS  CAUGHT UP",
                "0123456789abcdef  10.0.0.1:6000       up       0        12        kvd-1  none        250     -3        -",
                "fedcba9876543210  [2001:db8::1]:6000  syncing  1200     7         a      none        -1      0         62%",
            ])
        #expect(PeerTable.text(.array([])) == nil && PeerTable.text(.null) == nil)
        #expect(PeerTable.isAsked(["kvd", "PEERS"]) && !PeerTable.isAsked(["KVD", "DIGEST"]))
        // Of an older or a later server.
        let short = PeerTable.text(.array([.bytes("a b")]))
        #expect(short == "ID  ADDRESS\na   b\n")
        let long = PeerTable.text(.array([.bytes("0 1 2 3 4 5 6 7 8 9 10")]))
        #expect(long?.hasSuffix("9          10\n") == true)
        #expect(PeerTable.text(.array([.bytes("a\u{1B}[2J b")]))?.contains("\u{1B}") == false)
    }
}

@Suite struct LineTests {
    @Test func wordsAndQuotes() throws {
        #expect(try Request.words(#"a  "b c"'d e' f"#) == ["a", "b cd e", "f"])
        #expect(try Request.words(#""\x00\xfF\n\t\"\\" ''"#) == [[0, 255, 10, 9, 34, 92], []])
        for bad in [#"""#, "'", #""\x1""#, #""\xzz""#, #""abc\"#] {
            #expect(throws: Request.Mistake.self, "\(bad)") { try Request.words(bad) }
        }
    }

    @Test func requestsAreRead() throws {
        #expect(try Request(line: "   ") == nil)
        #expect(try Request(line: "GET k") == .get("k"))
        #expect(try Request(line: "list") == .list(prefix: "", limit: nil, after: nil))
        #expect(try Request(line: "list p limit 3 AFTER p/1") == .list(prefix: "p", limit: 3, after: "p/1"))
        #expect(try Request(line: "list limit 3") == .list(prefix: "", limit: 3, after: nil))
        #expect(try Request(line: "list limit") == .list(prefix: "limit", limit: nil, after: nil))
        for bad in ["get", "get a b", "put a", "list a limit", "list limit x", "list a b c", "delete", "raw", "wat"] {
            #expect(throws: Request.Mistake.self, "\(bad)") { try Request(line: bad) }
        }
    }

    @Test func whatIsStoredCannotControlTheTerminal() {
        #expect(Text.escaped("a\u{1B}[2J\u{9B}m\u{202E}b\u{7F}") == "a\\x1B[2J\\x9Bm\\u{202e}b\\x7F")
        #expect(Text.escaped("tab\tline\n\\") == "tab\\tline\\n\\\\")
        #expect(Text.escaped("tab\tline\r\n\\", keepingLines: true) == "tab\tline\n\\")
        #expect(Text.escaped(KVBytes([0xC3, 0xA9, 0xC3, 0x41, 0xFF])) == "é\\xC3A\\xFF")
    }

    @Test func base64() {
        #expect(
            ["", "f", "fo", "foo", "foob"].map { Text.base64(Array($0.utf8)) } == [
                "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==",
            ])
    }

    private func typed(_ keys: String, _ editor: inout LineEditor) -> [LineEditor.Action] {
        var decoder = KeyDecoder()
        return decoder.feed(Array(keys.utf8)).map { editor.press($0) }
    }

    @Test func keysEdit() {
        var editor = LineEditor(completions: ["delete", "get", "help"])
        _ = typed("hello wörld\u{1B}[D\u{1B}[D\u{7F}\u{1B}[3~", &editor)
        #expect(editor.line == "hello wöd")
        _ = typed("\u{17}X\u{1}>\u{5}<", &editor)
        #expect(editor.line == ">hello Xd<")
        _ = typed("\u{1}\u{0B}\u{19}\u{19}", &editor)
        #expect(editor.line == ">hello Xd<>hello Xd<")
        _ = typed("\u{15}a b c\u{1B}b\u{1B}[1;5DX", &editor)
        #expect(editor.line == "a Xb c")
    }

    @Test func historyKeepsTheDraft() {
        var editor = LineEditor(completions: [])
        #expect(typed("one\rtwo\r\r", &editor).last == .submit(""))
        _ = typed("dra\u{10}\u{10}\u{10}", &editor)
        #expect(editor.line == "one")
        _ = typed("\u{0E}\u{0E}", &editor)
        #expect(editor.line == "dra")
        #expect(editor.history == ["one", "two"])
    }

    @Test func tabCompletesCommandsAndAsksForKeys() {
        var editor = LineEditor(completions: ["get", "gets", "help"])
        _ = typed("h\t", &editor)
        #expect(editor.line == "help ")
        #expect(typed("\u{15}g\t", &editor).last == .redraw)
        #expect(editor.line == "get")
        #expect(typed("\t", &editor).last == .candidates(["get", "gets"]))
        #expect(typed(" x\t", &editor).last == .completeKey("x"))
    }

    @Test func theWindowFollowsTheCursor() {
        var editor = LineEditor(completions: [])
        _ = typed(String(repeating: "x", count: 200), &editor)
        for keys in ["", "\u{1}", "\u{5}", "\u{1B}[D"] {
            _ = typed(keys, &editor)
            let (text, cursor) = editor.window(columns: 40)
            #expect(text.count < 40)
            #expect(cursor < 40)
        }
        _ = typed("\u{5}\u{15}日本語", &editor)
        #expect(editor.window(columns: 40) == ("日本語", 6))
    }

    @Test func bytesThatAreNotTextAreTyped() throws {
        let inputs: [(typed: String, bytes: [UInt8])] = [
            ("put a x", Array("x".utf8) + [0xE9] + Array("yz".utf8)), ("put b ", [0xFF] + Array("hello".utf8)),
            ("put c caf", Array("caf".utf8) + [0xE9]), ("put d ", [0xE6, 0x97, 0x78, 0xC0, 0x80, 0xF5, 0xC3, 0xA9]),
        ]
        for (typed, value) in inputs {
            let command = Array(typed.prefix(6).utf8) + value
            for cut in 0...command.count {
                var decoder = KeyDecoder()
                var editor = LineEditor(completions: [])
                let keys =
                    decoder.feed(Array(command[..<cut])) + decoder.feed(Array(command[cut...]) + [13])
                let actions = keys.map { editor.press($0) }
                guard case .submit(let line) = actions.last else {
                    Issue.record("Enter was swallowed after \(typed)")
                    continue
                }
                let request = try Request(line: ProgramArguments.bytes(line).array)
                #expect(request == .put(KVBytes([typed.utf8.dropFirst(4).first!]), KVBytes(value)), "\(typed)")
            }
        }
        // Where nothing more comes, what waits is text as well; and it is shown as what it is.
        var decoder = KeyDecoder()
        var editor = LineEditor(completions: [])
        for key in decoder.feed([97, 0xE9]) + decoder.flush() { _ = editor.press(key) }
        #expect(editor.window(columns: 40) == ("a\\xE9", 5))
        _ = editor.press(.backspace)
        #expect(editor.line == "a")
    }

    @Test func keysSplitAnywhereAreTheSame() {
        let bytes = Array("é\u{1B}[1;5C日\u{1B}OH\u{1B}[3~x".utf8)
        var whole = KeyDecoder()
        let expected = whole.feed(bytes)
        for cut in 1..<bytes.count {
            var decoder = KeyDecoder()
            #expect(decoder.feed(Array(bytes[..<cut])) + decoder.feed(Array(bytes[cut...])) == expected)
        }
    }
}

extension Request {
    fileprivate static func words(_ line: String) throws(Mistake) -> [KVBytes] { try words(Array(line.utf8)) }
}
