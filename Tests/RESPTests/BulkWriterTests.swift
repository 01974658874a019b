// Bulk strings written in a row against the same written one by one.

import KVBase
import Testing

@testable import RESP

@Suite struct BulkWriterTests {
    /// Every length at which the header or the way of copying changes, in one reply.
    @Test func writesWhatTheBufferWrites() {
        let lengths = Array(0...300) + [999, 1000, 9999, 10_000, 65_536, 123_456]
        let content = [UInt8]((0..<123_456).map { UInt8(truncatingIfNeeded: $0 &* 7) })
        var expected = OutputBuffer()
        var written = OutputBuffer()
        defer {
            expected.deallocate()
            written.deallocate()
        }
        content.withUnsafeBytes { content in
            let start = content.baseAddress!
            for n in lengths { expected.bulk(start, n) }
            written.bulks(lengths.count, bytes: lengths.reduce(0, +)) { writer in
                for n in lengths { writer.bulk(start, n) }
            }
        }
        #expect(Array(written.bytes) == Array(expected.bytes))
        #expect(written.count <= written.capacity)
    }

    /// What is written goes behind what the buffer holds, and nothing is written when there is nothing to write.
    @Test func writesBehindWhatIsThere() {
        var output = OutputBuffer()
        defer { output.deallocate() }
        output.append("*1\r\n")
        output.bulks(0, bytes: 0) { _ in }
        output.bulks(1, bytes: 2) { writer in [UInt8]("ab".utf8).withUnsafeBytes { writer.bulk($0.baseAddress!, 2) } }
        #expect(String(decoding: output.bytes, as: UTF8.self) == "*1\r\n$2\r\nab\r\n")
    }
}
