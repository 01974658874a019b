// What kv offers while a line is typed, searching back and the keys of the store, and its smaller commands.

import Foundation
import KVClient
import KVTestTraits
import Testing

@testable import kv

@Suite(.blocking, .serialized) struct PromptTests {
    private func editor(history: [String] = []) -> LineEditor {
        var editor = LineEditor(completions: Request.names)
        for line in history {
            for character in line { _ = editor.press(.character(character)) }
            _ = editor.press(.enter)
        }
        return editor
    }

    private func type(_ text: String, _ editor: inout LineEditor) -> LineEditor.Action {
        var last = LineEditor.Action.none
        for character in text { last = editor.press(.character(character)) }
        return last
    }

    @Test func ctrlRFindsTheLatestLineThatContainsWhatIsTyped() {
        var editor = editor(history: ["get user/1", "put user/2 x", "list other"])
        #expect(editor.searchPrompt == nil)
        #expect(editor.press(.searchBack) == .redraw)
        #expect(editor.searchPrompt == "(search '') ")
        #expect(type("user", &editor) == .redraw)
        #expect(editor.line == "put user/2 x" && editor.searchPrompt == "(search 'user') ")
        #expect(editor.press(.searchBack) == .redraw && editor.line == "get user/1")
        _ = editor.press(.searchBack)
        #expect(editor.line == "get user/1" && editor.searchPrompt == "(no search 'user') ")
        // Another word begins at the latest line again; Enter takes the line as it is.
        for _ in 0..<4 { _ = editor.press(.backspace) }
        #expect(type("list", &editor) == .redraw && editor.line == "list other")
        #expect(editor.press(.enter) == .submit("list other") && editor.searchPrompt == nil)
    }

    @Test func aSearchEndsWithItsLineOrWithoutIt() {
        var editor = editor(history: ["get a"])
        _ = type("draft", &editor)
        _ = editor.press(.searchBack)
        _ = type("get", &editor)
        #expect(editor.press(.endSearch) == .redraw && editor.line == "draft" && editor.searchPrompt == nil)
        _ = editor.press(.searchBack)
        _ = type("get", &editor)
        // A key that moves is a key of the line found.
        #expect(editor.press(.left) == .redraw && editor.line == "get a" && editor.cursor == 4)
        #expect(editor.press(.interrupt) == .cancel && editor.line.isEmpty)
        var decoder = KeyDecoder()
        #expect(decoder.feed([18, 7]) == [.searchBack, .endSearch])
    }

    @Test func tabAsksForKeysWhereAKeyStands() {
        for (line, start) in [
            ("get us", "us"), ("get ", ""), ("delete a b", "b"), ("list user/", "user/"), ("put k", "k"),
            ("DEL x", "x"),
        ] {
            var editor = editor()
            _ = type(line, &editor)
            #expect(editor.press(.tab) == .completeKey(start), "\(line)")
        }
        for line in ["put k v", "raw GET k", "get \"a b", "frob k"] {
            var editor = editor()
            _ = type(line, &editor)
            #expect(editor.press(.tab) == LineEditor.Action.none, "\(line)")
        }
    }

    @Test func keysAreCompletedAsFarAsTheyAgree() {
        func offered(_ line: String, _ keys: [String], isAll: Bool = true) -> (String, LineEditor.Action) {
            var editor = editor()
            _ = type(line, &editor)
            let action = editor.offer(keys, isAll: isAll)
            return (editor.line, action)
        }
        #expect(offered("get us", ["user/7"]) == ("get user/7 ", .redraw))
        #expect(offered("get us", ["user/7", "user/71", "user/8"]) == ("get user/", .redraw))
        #expect(offered("get user/", ["user/7", "user/8"]) == ("get user/", .candidates(["user/7", "user/8"])))
        // There are more keys than were asked for, which may not agree so far.
        #expect(offered("get us", ["user/7", "user/8"], isAll: false).1 == .candidates(["user/7", "user/8", "…"]))
        #expect(offered("get a", ["a b\"\u{1}"]) == ("get \"a b\\\"\\x01\" ", .redraw))
        #expect(offered("get a", ["a b1", "a b2"]).1 == .candidates(["a b1", "a b2"]))
        #expect(offered("get a", []) == ("get a", LineEditor.Action.none))
        let many = (100..<250).map { "k\($0)" }
        guard case .candidates(let shown) = offered("get k", many).1 else {
            Issue.record("150 keys are not offered")
            return
        }
        #expect(shown.count == LineEditor.candidatesMax + 1 && shown.last == "…")
        // What a key is typed as is read as that key.
        #expect((try? Request(line: "get \"a b\\\"\\x01\"")) == .get("a b\"\u{1}"))
    }

    @Test func thePromptCompletesKeysAndSearches() async throws {
        try await withFakeStore { (client, server) async throws in
            try await client.put("user/adam", "1")
            try await client.put("user/eve", "2")
            let session = try TerminalSession(["--server", "\(server.address)"])
            #expect(session.sees("> "))
            session.type("get u\t")
            #expect(session.sees("get user/"))
            session.type("\t")
            #expect(session.sees("user/adam  user/eve"))
            session.type("e\t\r")
            #expect(session.sees("get user/eve ") && session.sees("\r\n2"))
            #expect(server.requests.contains(["LIST", "u", "LIMIT", "101"]))
            session.type("\u{12}eve")
            #expect(session.sees("(search 'eve') get user/eve"))
            session.type("\r")
            #expect(session.sees("\r\n2"))
            session.type("ping\r")
            #expect(session.sees("PONG ") && session.sees(" ms"))
            session.type("quit\r")
            #expect(session.exitCode() == 0)
        }
    }

    /// A store that does not answer completes nothing, and does not hold the prompt.
    @Test func aCompletionOfASilentStoreEnds() async throws {
        try await withServer { _ in
        } _: { (_, server) async throws in
            let session = try TerminalSession(["--server", "\(server.address)"])
            #expect(session.sees("> "))
            session.type("get u\t")
            try await eventually("asked") { server.requests.count == 1 }
            session.type("\u{15}quit\r")
            #expect(session.exitCode() == 0)
        }
    }

    private func kv(_ server: ScriptedServer, _ arguments: String...) async throws -> (Int32, String) {
        try await kv(at: server.address, arguments)
    }

    private func kv(at address: KVAddress, _ arguments: [String]) async throws -> (Int32, String) {
        let result = try await Task.detached {
            try Programs.kv(arguments, input: [], environment: ["KV_SERVER": "\(address)"])
        }.value
        return (result.code, String(decoding: result.output, as: UTF8.self) + result.errors)
    }

    @Test func pingSaysHowLongItTook() async throws {
        try await withFakeStore { (_, server) async throws in
            let plain = try await kv(server, "ping")
            #expect(plain.0 == 0 && plain.1.wholeMatch(of: /PONG [0-9]+\.[0-9]{3} ms\n/) != nil, "\(plain.1)")
            let json = try await kv(server, "ping", "--json")
            #expect(json.0 == 0 && json.1.wholeMatch(of: /\{"ping_ms":[0-9]+\.[0-9]{3}\}\n/) != nil, "\(json.1)")
        }
        let gone = try await ScriptedServer { _ in }
        let address = gone.address
        await gone.stop()
        let refused = try await kv(at: address, ["ping"])
        #expect(refused.0 == 1 && refused.1.contains("cannot reach"))
    }

    @Test func rawIsByteForByteAndAnyCommand() async throws {
        try await withFakeStore { (client, server) async throws in
            try await client.put("a", "x\ty\u{1B}")
            #expect(try await kv(server, "list") == (0, "a\tx\\ty\\x1B\n"))
            #expect(try await kv(server, "--raw", "list") == (0, "a\tx\ty\u{1B}\n"))
            #expect(try await kv(server, "raw", "GET", "a") == (0, "x\ty\\x1B\n"))
            #expect(try await kv(server, "--raw", "raw", "GET", "a") == (0, "x\ty\u{1B}\n"))
            #expect(try await kv(server, "raw", "NOSUCH", "--flag").1.contains("unknown command"))
            #expect(server.requests.last == ["NOSUCH", "--flag"])
            #expect(try await kv(server, "raw").0 == 64)
            #expect(try await kv(server, "--raw", "--json", "get", "a").0 == 64)
            // On a terminal a value is shown harmless, and as it is when asked for.
            let session = try TerminalSession(["get", "a", "--raw", "--server", "\(server.address)"])
            #expect(session.sees("\u{1B}") && session.exitCode() == 0)
        }
    }
}
