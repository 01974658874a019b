// The log: nobody waits for its reader, what was dropped is told, one place does not fill it.

import Glibc
import KVTestTraits
import Logging
import Testing

@testable import KVServer

@Suite(.blocking) struct LogTests {
    /// Everything that is in the pipe now and comes until `until` is in it, or ten seconds are over.
    private func read(_ fd: Int32, until: String) -> String {
        var text = ""
        for _ in 0..<1000 where !text.contains(until) {
            var ready = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
            guard poll(&ready, 1, 10) > 0 else { continue }
            var chunk = [UInt8](repeating: 0, count: 65536)
            let n = Glibc.read(fd, &chunk, chunk.count)
            if n <= 0 { break }
            text += String(decoding: chunk[..<n], as: UTF8.self)
        }
        return text
    }

    @Test func whoLogsDoesNotWaitForWhoReads() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        defer { close(ends[0]) }
        let queue = LogQueue(descriptor: ends[1])
        let line = String(repeating: "x", count: 99)
        let lines = 20_000
        // Far more than the pipe and the queue hold: would hang here.
        for _ in 0..<lines { queue.write(line) }
        // What was dropped is told, perhaps in several lines; with what was written it is all there was.
        var (written, dropped) = (0, 0)
        var text = ""
        for _ in 0..<1000 where written + dropped < lines {
            let more = read(ends[0], until: "\n")
            if more.isEmpty { break }
            text += more
            let whole = text.split(separator: "\n", omittingEmptySubsequences: false)
            text = String(whole.last ?? "")
            for each in whole.dropLast() {
                if each == line {
                    written += 1
                } else if each.hasPrefix("kvd: "), each.contains(" lines of the log were dropped") {
                    dropped += Int(each.dropFirst(5).prefix { $0 != " " }) ?? 0
                }
            }
        }
        #expect(written + dropped == lines && dropped > lines / 2, "\(written) written, \(dropped) dropped")
        queue.write("the end")
        #expect(read(ends[0], until: "the end") == "the end\n")
        queue.flush()
    }

    @Test func aReaderThatHasGoneCostsNothing() throws {
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        signal(SIGPIPE, SIG_IGN)
        close(ends[0])
        let queue = LogQueue(descriptor: ends[1])
        for _ in 0..<10_000 { queue.write(String(repeating: "x", count: 99)) }
        queue.flush(withinMillis: 10_000)
        // All of it was taken from the queue, or it would have stopped at its bound.
        queue.write("x")
        queue.flush(withinMillis: 10_000)
        #expect(queue.droppedLines == 0)
    }

    @Test func onePlaceWritesABurstAndThenSomeLinesASecond() {
        let rates = LogRates()
        func admitted(_ lines: Int, _ name: String, at millis: Int64) -> Int {
            (0..<lines).count { _ in rates.admit(name, atMillis: millis) != .refused }
        }
        #expect(admitted(1000, "a", at: 0) == LogRates.burst)
        #expect(admitted(1, "b", at: 0) == 1, "another place")
        #expect(rates.admit("a", atMillis: LogRates.millisPerLine) == .admitted(refused: 1000 - LogRates.burst))
        #expect(rates.admit("a", atMillis: LogRates.millisPerLine) == .refused)
        #expect(admitted(1000, "a", at: 1_000_000) == LogRates.burst)
        // The clock is set back by a day.
        #expect(admitted(1, "a", at: 1_000_000 - 86_400_000) == 1)
    }

    @Test func aLineHasMillisecondsAndNoModule() throws {
        #expect(LogTime.text(1_795_936_230_007) == "2026-11-29T07:10:30.007Z")
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        defer { close(ends[0]) }
        let queue = LogQueue(descriptor: ends[1])
        var log = Logger(label: "kvd") { ServerLogHandler(label: $0, queue: queue, rates: LogRates()) }
        log[metadataKey: "b"] = "2"
        log.notice("said", metadata: ["a": "1"])
        let line = read(ends[0], until: "\n")
        #expect(line.dropFirst(24) == " notice kvd: said a=1 b=2\n" && line.prefix(24).hasSuffix("Z"), "\(line)")
    }
}
