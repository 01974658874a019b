// Replies and requests written into an OutputBuffer. Called by the server per reply, by clients per request; any
// thread.

public import KVBase

extension OutputBuffer {
    /// "$n\r\n", at most 22 bytes; room for them and `n + 2` more is made at once.
    @inlinable @inline(__always)
    package mutating func bulkHeader(_ n: Int) {
        reserve(n &+ 32)
        if n < 10 {
            storeWord(0x0A0D_0024 | UInt64(truncatingIfNeeded: 48 &+ n) &<< 8, 4)
        } else if n < 100 {
            let tens = UInt64(truncatingIfNeeded: n) / 10
            let ones = UInt64(truncatingIfNeeded: n) &- tens &* 10
            storeWord(0x0A_0D00_0024 | (48 &+ tens) &<< 8 | (48 &+ ones) &<< 16, 5)
        } else {
            append(UInt8(ascii: "$"))
            appendDecimal(n)
            crlf()
        }
    }

    /// Stores 8 bytes, keeps `n` of them; the caller has reserved 8.
    @inlinable @inline(__always)
    mutating func storeWord(_ word: UInt64, _ n: Int) {
        base.storeBytes(of: word.littleEndian, toByteOffset: count, as: UInt64.self)
        count &+= n
    }

    @inlinable @inline(__always)
    mutating func crlf() {
        reserve(2)
        base.storeBytes(of: UInt16(0x0A0D).littleEndian, toByteOffset: count, as: UInt16.self)
        count &+= 2
    }

    /// A bulk string of `n` bytes. O(n).
    @inlinable @inline(__always)
    package mutating func bulk(_ p: UnsafeRawPointer, _ n: Int) {
        bulks(1, bytes: n) { $0.bulk(p, n) }
    }

    @inlinable
    package mutating func bulk(_ bytes: UnsafeRawBufferPointer) {
        bulkHeader(bytes.count)
        append(bytes)
        crlf()
    }

    @inlinable
    package mutating func bulk(_ text: StaticString) { bulk(UnsafeRawPointer(text.utf8Start), text.utf8CodeUnitCount) }

    package mutating func bulk(_ text: String) {
        var text = text
        text.withUTF8 { bulk(UnsafeRawBufferPointer($0)) }
    }

    package mutating func bulk(_ bytes: Bytes) { bytes.withBytes { bulk($0) } }

    /// "+text\r\n"; the text holds no line end.
    @inlinable
    package mutating func simple(_ text: StaticString) {
        append(UInt8(ascii: "+"))
        append(text)
        crlf()
    }

    package mutating func simple(_ text: String) {
        append(UInt8(ascii: "+"))
        append(text)
        crlf()
    }

    /// "+OK\r\n" with one store.
    @inlinable @inline(__always)
    package mutating func ok() {
        reserve(8)
        storeWord(0x0A_0D4B_4F2B, 5)
    }

    /// "-text\r\n"; `text` begins with its code ("ERR …").
    @inlinable
    package mutating func error(_ text: StaticString) {
        append(UInt8(ascii: "-"))
        append(text)
        crlf()
    }

    /// As above; line ends inside a quoted argument become spaces, as in Redis, so that one error stays one line.
    package mutating func error(_ text: String) {
        append(UInt8(ascii: "-"))
        for byte in text.utf8 { append(byte == 13 || byte == 10 ? 32 : byte) }
        crlf()
    }

    /// ":n\r\n"
    @inlinable
    package mutating func integer(_ value: Int) { header(UInt8(ascii: ":"), value) }

    @inlinable
    mutating func header(_ type: UInt8, _ value: Int) {
        append(type)
        appendDecimal(value)
        crlf()
    }

    /// The null of a missing value: "$-1\r\n", or "_\r\n" in RESP3.
    @inlinable @inline(__always)
    package mutating func null(resp3: Bool) {
        reserve(8)
        if resp3 { storeWord(0x0A_0D5F, 3) } else { storeWord(0x0A_0D31_2D24, 5) }
    }

    /// The null of a missing array: "*-1\r\n", or "_\r\n" in RESP3.
    package mutating func nullArray(resp3: Bool) { append(resp3 ? "_\r\n" : "*-1\r\n") }

    @inlinable
    package mutating func arrayHeader(_ n: Int) { header(UInt8(ascii: "*"), n) }

    /// Header of `pairs` key-value pairs: a map in RESP3, a flat array of twice as many in RESP2.
    @inlinable
    package mutating func mapHeader(_ pairs: Int, resp3: Bool) {
        if resp3 { header(UInt8(ascii: "%"), pairs) } else { header(UInt8(ascii: "*"), pairs &* 2) }
    }

    package mutating func setHeader(_ n: Int, resp3: Bool) {
        header(resp3 ? UInt8(ascii: "~") : UInt8(ascii: "*"), n)
    }

    package mutating func pushHeader(_ n: Int, resp3: Bool) {
        header(resp3 ? UInt8(ascii: ">") : UInt8(ascii: "*"), n)
    }

    package mutating func boolean(_ value: Bool, resp3: Bool) {
        if resp3 { append(value ? "#t\r\n" : "#f\r\n") } else { integer(value ? 1 : 0) }
    }

    /// ",1.5\r\n" in RESP3, a bulk in RESP2; the shortest text that reads back as the same number.
    package mutating func double(_ value: Double, resp3: Bool) {
        let text: String
        if value.isNaN {
            text = "nan"
        } else if value.isInfinite {
            text = value < 0 ? "-inf" : "inf"
        } else if value == value.rounded(), abs(value) < 1e15 {
            text = String(Int(value))
        } else {
            text = "\(value)"
        }
        if !resp3 { return bulk(text) }
        append(UInt8(ascii: ","))
        append(text)
        crlf()
    }

    /// Text for people (INFO, CLIENT LIST): "=n\r\ntxt:…" in RESP3, a bulk in RESP2.
    package mutating func verbatim(_ text: UnsafeRawBufferPointer, resp3: Bool) {
        if !resp3 { return bulk(text) }
        header(UInt8(ascii: "="), text.count + 4)
        append("txt:")
        append(text)
        crlf()
    }

    package mutating func verbatim(_ text: String, resp3: Bool) {
        var text = text
        text.withUTF8 { verbatim(UnsafeRawBufferPointer($0), resp3: resp3) }
    }

    /// A request: an array of bulks, the only form a server accepts besides inline lines.
    package mutating func request(_ arguments: [Bytes]) {
        arrayHeader(arguments.count)
        for argument in arguments { bulk(argument) }
    }

    package mutating func request(_ arguments: String...) {
        arrayHeader(arguments.count)
        for argument in arguments { bulk(argument) }
    }
}
