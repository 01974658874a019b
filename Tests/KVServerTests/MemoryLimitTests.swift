// What a limit of memory refuses, and what it does not. In process.

import FuzzSupport
import KVBase
import KVCore
import KVTestTraits
import Testing

@testable import KVServer

@Suite struct MemoryLimitTests {
    private let refused = "-OOM command not allowed when used memory > 'maxmemory'."

    @Test func unitsAreThoseOfRedis() {
        for (text, bytes) in [
            ("0", 0), ("17", 17), ("17b", 17), ("2k", 2000), ("2kb", 2048), ("3M", 3_000_000), ("3Mb", 3 << 20),
            ("1g", 1_000_000_000), ("1GB", 1 << 30),
        ] { #expect(MemoryLimit.parse(text) == bytes, "\(text)") }
        for text in ["", "kb", "1tb", "-1", "1.5g", "1 g", "9999999999999999999", "9999999999gb"] {
            #expect(MemoryLimit.parse(text) == nil, "\(text)")
        }
    }

    @Test func somethingIsLeftForTheProgramItself() {
        #expect(MemoryLimit.standard > 100 << 20)
        for (all, mebibytes) in [(100, 50), (300, 150), (480, 320), (1000, 800), (100_000, 80_000)] {
            #expect(MemoryLimit.standard(of: all << 20) == mebibytes << 20, "\(all)")
        }
    }

    @Test func writesThatGrowAreRefusedAboveIt() {
        let s = LocalSession()
        defer { s.close() }
        s.expect("MSET a 12345 b 12345", "+OK")
        s.expect("CONFIG SET maxmemory 1", "+OK")
        s.expect("CONFIG GET maxmemory", "*2\r\n$9\r\nmaxmemory\r\n$1\r\n1")
        for write in [
            "SET new v", "SET a 123456", "PUT a 123456", "INCR n", "MSET a 1 new 2", "SETEX new 100 v",
            "SETNX new v", "KVD PUT new v", "COPY a c", "SET gone 1",
        ] { s.expect(write, refused) }
        // What takes no more than what it replaces, deletes and reads go on.
        for write in ["SET a 54321", "PUT b 1", "SETEX a 100 12345", "MSET a 1 b 2"] { s.expect(write, "+OK") }
        s.expect("GETSET a 3", "$1\r\n1")
        s.expect("SET a 44", refused)
        s.expect("DEL a", ":1")
        s.expect("SET a 3", refused)
        s.expect("GET b", "$1\r\n2")
        s.expect("PEXPIRE b 100000", ":1")
        #expect(s.shard.context.memory.refused == 12)
        #expect(s.command("INFO", "memory").contains("maxmemory_refused_writes:12\r\n"))
        s.expect("CONFIG SET maxmemory 0", "+OK")
        s.expect("SET new v", "+OK")
        s.expect(
            "CONFIG SET maxmemory many",
            "-ERR CONFIG SET failed (possibly related to argument 'maxmemory')"
                + " - argument must be a memory value")
        s.expect("CONFIG SET maxmemory", "-ERR wrong number of arguments for 'config|set' command")
    }

    /// In another database a key is another one.
    @Test func whatIsReplacedIsOfTheSameDatabase() {
        let s = LocalSession()
        defer { s.close() }
        s.expect("SET a 12345", "+OK")
        s.expect("CONFIG SET maxmemory 1", "+OK")
        s.expect("SELECT 3", "+OK")
        s.expect("SET a 1", refused)
        s.expect("SELECT 0", "+OK")
        s.expect("SET a 1", "+OK")
    }

    @Test func theLogSaysOnceThatLittleIsLeft() {
        let limit = MemoryLimit(1000) { 500 }
        #expect(!limit.isPassed && limit.news() == nil)
        limit.set(520)
        #expect(!limit.isPassed)
        #expect(limit.news()?.contains("--maxmemory 520B") == true && limit.news() == nil)
        limit.set(499)
        #expect(limit.isPassed)
        limit.set(10_000)
        #expect(!limit.isPassed && limit.news() == nil)
        limit.set(510)
        #expect(limit.news() != nil)
        limit.set(0)
        #expect(!limit.isPassed && limit.news() == nil)
    }
}
