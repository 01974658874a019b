// HdrHistogram's interval log, version 1.3 with V2 histograms, as HistogramLogProcessor and its friends read it. Pure.

import Foundation
import Histogram

enum HistogramLog {
    static func text(_ histogram: Histogram<UInt64>, started: Date, seconds: Double) -> String {
        let start = String(format: "%.3f", started.timeIntervalSince1970)
        let max = String(format: "%.3f", Double(histogram.max) / 1e6)
        return """
            #[Histogram log format version 1.3]
            #[StartTime: \(start) (seconds since epoch)]
            "StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"
            0.000,\(String(format: "%.3f", seconds)),\(max),\(compressed(histogram).base64EncodedString())
            """
    }

    private static let cookieV2: UInt32 = 0x1C84_9303 | 0x10
    private static let compressedCookieV2: UInt32 = 0x1C84_9304 | 0x10

    /// V2CompressedEncoding: cookie, length, zlib stream of the V2 encoding.
    private static func compressed(_ histogram: Histogram<UInt64>) -> Data {
        let stream = zlibStored(encoded(histogram))
        var data = Data()
        data.appendBigEndian(compressedCookieV2)
        data.appendBigEndian(UInt32(stream.count))
        return data + stream
    }

    /// V2Encoding: a header of 40 bytes, then the counts of all slots as ZigZag LEB128, runs of zeros as their negated
    /// length.
    private static func encoded(_ histogram: Histogram<UInt64>) -> Data {
        var counts = Data()
        var zeros: Int64 = 0
        // Walks every slot below the greatest value; slots are as wide as the histogram's resolution at that value.
        var value: UInt64 = 0
        let top = histogram.max
        while value <= top {
            let count = histogram.countForValue(value)
            if count == 0 {
                zeros += 1
            } else {
                if zeros > 0 { counts.appendZigZag(-zeros) }
                zeros = 0
                counts.appendZigZag(Int64(count))
            }
            value += histogram.sizeOfEquivalentRangeForValue(value)
        }
        var data = Data()
        data.appendBigEndian(cookieV2)
        data.appendBigEndian(UInt32(counts.count))
        data.appendBigEndian(UInt32(0))  // normalizing index offset
        data.appendBigEndian(UInt32(3))  // significant digits
        data.appendBigEndian(histogram.lowestDiscernibleValue)
        data.appendBigEndian(histogram.highestTrackableValue)
        data.appendBigEndian((1.0 as Double).bitPattern)  // integer to double conversion ratio
        return data + counts
    }

    /// A zlib stream (RFC 1950) of stored blocks: valid for every reader and no compressor needed here.
    private static func zlibStored(_ bytes: Data) -> Data {
        var data = Data([0x78, 0x01])
        var at = 0
        repeat {
            let n = min(65_535, bytes.count - at)
            data.append(at + n == bytes.count ? 1 : 0)
            data.append(contentsOf: [UInt8(n & 0xFF), UInt8(n >> 8), UInt8(~n & 0xFF), UInt8(~n >> 8 & 0xFF)])
            data.append(bytes[at..<at + n])
            at += n
        } while at < bytes.count
        var (a, b): (UInt32, UInt32) = (1, 0)
        for byte in bytes {
            a = (a + UInt32(byte)) % 65_521
            b = (b + a) % 65_521
        }
        data.appendBigEndian(b << 16 | a)
        return data
    }
}

extension Data {
    fileprivate mutating func appendBigEndian<T: FixedWidthInteger>(_ value: T) {
        Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
    }

    /// At most nine bytes: HdrHistogram's variant keeps eight whole bits in the ninth.
    fileprivate mutating func appendZigZag(_ value: Int64) {
        var left = UInt64(bitPattern: value << 1 ^ value >> 63)
        for _ in 0..<8 {
            if left < 0x80 {
                append(UInt8(left))
                return
            }
            append(UInt8(left & 0x7F) | 0x80)
            left >>= 7
        }
        append(UInt8(truncatingIfNeeded: left))
    }
}
