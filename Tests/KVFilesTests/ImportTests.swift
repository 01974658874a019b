// Append-only files, files of commands, and what of their items is imported. In process.

import Foundation
import KVBase
import KVFiles
import KVTestTraits
import Testing

@Suite(.blocking) struct ImportTests {
    private static func command(_ words: [String]) -> String {
        "*\(words.count)\r\n" + words.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined()
    }

    private static func commands(_ lines: [String]) -> [UInt8] {
        Array(lines.map { command($0.split(separator: " ").map(String.init)) }.joined().utf8)
    }

    /// What is sent for the bytes of a file, as words, and the sieve behind it.
    private func sent(_ bytes: [UInt8], now: Int64 = 1000) throws -> (
        lines: [String], sieve: ImportSieve, short: FileFault?
    ) {
        var sieve = ImportSieve()
        let first = try ImportCursor(InputFile(bytes), checksOnly: true)
        while let item = try first.next() { sieve.look(item) }
        let second = try ImportCursor(InputFile(bytes))
        var lines: [String] = []
        while let item = try second.next() {
            guard let sending = sieve.take(item, now: now) else { continue }
            lines.append("\(sending.database): " + sending.arguments.map(\.description).joined(separator: " "))
        }
        return (lines, sieve, second.short)
    }

    @Test func commandsOfStringsGoOnAndOthersAreCounted() throws {
        let bytes = Self.commands([
            "SELECT 0", "SET a 1", "INCR a", "RPUSH l 1", "SELECT 2", "SET b 2 PXAT 99999", "rpush l 2", "MULTI",
            "DEL a", "EXEC", "HSET h f v", "SELECT 16", "SET c 3",
        ])
        let (lines, sieve, short) = try sent(bytes)
        #expect(lines == ["0: SET a 1", "0: INCR a", "2: SET b 2 PXAT 99999", "2: DEL a"])
        #expect(sieve.leftOut == ["RPUSH commands": 2, "HSET commands": 1, "keys of database 16": 1])
        #expect(sieve.sent == 4 && short == nil)
    }

    @Test func whatAFlushTookIsNotImportedAndNothingIsFlushed() throws {
        let bytes = Self.commands([
            "SET a 1", "SELECT 1", "SET b 1", "FLUSHDB", "SET c 1", "SELECT 0", "SET d 1",
        ])
        #expect(try sent(bytes).lines == ["0: SET a 1", "1: SET c 1", "0: SET d 1"])
        let all = try sent(bytes + Self.commands(["FLUSHALL", "SET e 1"]))
        #expect(all.lines == ["0: SET e 1"] && all.sieve.flushed == 4)
    }

    @Test func aFileThatEndsWithinACommandIsTakenUpToIt() throws {
        let bytes = Self.commands(["SET a 1", "SET b 2"])
        let whole = Self.commands(["SET a 1"]).count
        for end in (whole + 1)..<bytes.count {
            let (lines, _, short) = try sent(Array(bytes[..<end]))
            #expect(lines == ["0: SET a 1"] && short != nil, "\(end)")
        }
        for text in [
            "hello\r\n", "*1\r\n+OK\r\n", "*-1\r\n", "*1\r\n$-1\r\n", "*x\r\n", "*99999999999\r\n",
            "*1\r\n$1\r\nab\r\n",
        ] {
            #expect(throws: (any Error).self, "\(text)") { try sent(Array(text.utf8)) }
        }
        // A length that is not there takes no memory.
        #expect(try sent(Array("*1\r\n$500000000\r\nabc".utf8)).short != nil)
    }

    @Test func notesAndADatabaseInFrontAreRead() throws {
        let database = RDBTests.written([
            FilePair(database: 1, key: "x", value: "old"),
            FilePair(database: 1, key: "gone", value: "v", deadline: 999),
            FilePair(database: 1, key: "there", value: "v", deadline: 1001),
        ])
        let (lines, sieve, _) = try sent(
            database + Array("#TS:1700000000\r\n".utf8) + Self.commands(["SELECT 1", "SET x new"]))
        #expect(lines == ["1: SET x old", "1: SET there v PXAT 1001", "1: SET x new"])
        #expect(sieve.expired == 1)
        #expect(throws: FileFault.self) { try sent(database + [7]) }
    }

    @Test func partsOfAnAppendOnlyFileAreReadInTheirOrder() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("kvd-parts-\(getpid())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func write(_ name: String, _ bytes: [UInt8]) throws {
            try Data(bytes).write(to: folder.appendingPathComponent(name))
        }
        try write("a.2.base.rdb", RDBTests.written([FilePair(database: 0, key: "k", value: "base")]))
        try write("a.10.incr.aof", Self.commands(["SET k ten"]))
        try write("a.9.incr.aof", Self.commands(["SET k nine"]))
        try write("a.1.base.rdb", Array("garbage".utf8))
        let manifest = """
            file a.1.base.rdb seq 1 type h
            file a.2.base.rdb seq 2 type b
            file a.10.incr.aof seq 10 type i
            file a.9.incr.aof seq 9 type i

            """
        try write("appendonly.aof.manifest", Array(manifest.utf8))
        for path in [folder.path, folder.path + "/appendonly.aof.manifest"] {
            let file = try ImportFile(path: path)
            #expect(file.form == .appendOnly)
            let cursor = ImportCursor(file)
            var values: [String] = []
            while let item = try cursor.next() {
                switch item {
                case .pair(let pair): values.append(pair.value.description)
                case .command(let words): values.append(words.last!.description)
                case .other: Issue.record("\(item)")
                }
            }
            #expect(values == ["base", "nine", "ten"])
            #expect(cursor.bytesRead == file.bytes)
        }
        // Only the last part may end in the middle.
        try write("a.9.incr.aof", Array(Self.commands(["SET k nine"]).dropLast(3)))
        let cursor = ImportCursor(try ImportFile(path: folder.path))
        #expect(throws: FileFault.self) { while try cursor.next() != nil {} }
        try write("appendonly.aof.manifest", Array("file ../../etc/passwd seq 1 type b\n".utf8))
        #expect(throws: FileFault.self) { _ = try ImportFile(path: folder.path) }
    }
}
