// Counts complete replies in received bytes, for load generators and clients that need no values. One thread.

/// Keeps no bytes: every call takes all it is given, whatever the cuts. About 3 ns per small bulk.
package struct RESPReplyCounter {
    /// Since the start; push messages are not counted.
    package private(set) var replies = 0
    package private(set) var errors = 0
    package private(set) var nulls = 0
    private var scanner = RESPReplyScanner()

    package init() {}

    package var errorMessage: StaticString { scanner.errorMessage }

    /// Adds the replies that end in `bytes`; false if what arrived is no RESP, for good.
    package mutating func count(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var at = 0
        let end = bytes.count
        while at < end {
            if scanner.isIdle, let base = bytes.baseAddress {
                at = countFast(base, at, end)
                if at == end { break }
            }
            switch scanner.scan(bytes, from: at) {
            case .complete(let next):
                at = next
                if scanner.type == UInt8(ascii: ">") { continue }
                replies += 1
                if scanner.type == UInt8(ascii: "-") { errors += 1 }
                if scanner.isNull { nulls += 1 }
            case .incomplete: return true
            case .failed: return false
            }
        }
        return true
    }

    /// Whole bulks below 10,000 bytes and "+OK" one after another; returns where something else begins.
    private mutating func countFast(_ base: UnsafeRawPointer, _ start: Int, _ end: Int) -> Int {
        var at = start
        var n = 0
        defer { replies += n }
        while end - at >= 8 {
            let word = (base + at).loadUnaligned(as: UInt64.self).littleEndian
            if word & 0xFF_FFFF_FFFF == 0x0A_0D4B_4F2B {
                at += 5
                n += 1
                continue
            }
            guard word & 0xFF == UInt64(UInt8(ascii: "$")) else { return at }
            var length = 0
            var header = 1
            var digit = Int(truncatingIfNeeded: word &>> 8 & 0xFF) &- 48
            while digit >= 0 && digit <= 9 && header < 5 {
                length = length &* 10 &+ digit
                header &+= 1
                digit = Int(truncatingIfNeeded: word &>> (UInt64(header) &* 8) & 0xFF) &- 48
            }
            let next = at &+ header &+ length &+ 4
            guard header > 1, word &>> (UInt64(header) &* 8) & 0xFFFF == 0x0A0D, next <= end,
                (base + (next &- 2)).loadUnaligned(as: UInt16.self).littleEndian == 0x0A0D
            else { return at }
            at = next
            n &+= 1
        }
        return at
    }
}
