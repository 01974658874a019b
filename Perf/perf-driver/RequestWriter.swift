// Writes requests from templates: one copy and a few digits each. One engine's thread.

import Foundation
import KVBase
import RESP

/// Encodes the operations of a workload for one engine. About 20 ns for a GET with a uniform key.
struct RequestWriter {
    let workload: Workload
    var random: PRNG
    var chooser: KeyChooser
    private let single: Operation?
    private let thresholds: [(operation: Operation, below: UInt64)]
    private let values: UnsafeMutableRawPointer
    private let digits: Int
    private let keyHeader: [UInt8]
    private let fixedValueHeader: [UInt8]
    private let listDigits: Int

    private static let valuePool = 256 * 1024

    init(_ workload: Workload, engine: Int, engines: Int) {
        self.workload = workload
        random = PRNG(seed: workload.seed &+ UInt64(engine) &* 0x9E37_79B9)
        chooser = KeyChooser(workload.distribution, keys: workload.keys, engine: engine, engines: engines)
        single = workload.mix.count == 1 ? workload.mix[0].operation : nil
        let total = workload.mix.reduce(0) { $0 + $1.weight }
        var sum = 0.0
        thresholds = workload.mix.map { part in
            sum += part.weight
            return (part.operation, UInt64(min(sum / total, 1) * 0x1p63) &* 2 &- 1)
        }
        digits = workload.digits
        keyHeader = Array("$\(workload.keyBytes)\r\n\(workload.keyPrefix)".utf8)
        fixedValueHeader = Array("$\(workload.valueBytesMax)\r\n".utf8)
        listDigits = workload.digits - Int(log10(Double(workload.listKeys)).rounded())
        let bytes = Self.valuePool + workload.valueBytesMax
        values = .allocate(byteCount: bytes, alignment: 8)
        var fill = PRNG(seed: workload.seed)
        // Letters only: no '*' (the null responder counts those), nothing that needs escaping in a log.
        for i in 0..<bytes { values.storeBytes(of: 97 + UInt8(fill.below(26)), toByteOffset: i, as: UInt8.self) }
    }

    func deallocate() { values.deallocate() }

    /// Appends one operation; for a read-modify-write that is two requests. Returns its kind.
    @inline(__always)
    mutating func append(_ wire: WireProtocol, to output: inout OutputBuffer) -> Operation {
        let operation = single ?? pick()
        if wire == .redis {
            if operation == .get {
                get(chooser.existing(&random), &output)
            } else if operation == .set {
                set(chooser.existing(&random), &output)
            } else {
                appendOther(operation, &output)
            }
        } else {
            appendMemcached(operation, &output)
        }
        return operation
    }

    /// The SET that loads key `index`.
    mutating func appendLoad(_ index: Int, _ wire: WireProtocol, to output: inout OutputBuffer) {
        if wire == .redis { set(index, &output) } else { memcachedSet(index, &output) }
    }

    private mutating func pick() -> Operation {
        let draw = random.next()
        for part in thresholds where draw <= part.below { return part.operation }
        return thresholds[thresholds.count - 1].operation
    }

    @inline(__always)
    private func key(_ index: Int, _ output: inout OutputBuffer) {
        keyHeader.withUnsafeBytes { output.append($0) }
        number(index, digits, &output)
        output.append("\r\n")
    }

    /// `width` decimal digits, zeros in front.
    @inline(__always)
    private func number(_ value: Int, _ width: Int, _ output: inout OutputBuffer) {
        output.reserve(width)
        let start = output.base + output.count
        var left = UInt64(truncatingIfNeeded: value)
        var at = width &- 1
        while at >= 0 {
            if left == 0 {
                start.storeBytes(of: 48, toByteOffset: at, as: UInt8.self)
            } else {
                let quotient = left / 10
                let digit = UInt8(truncatingIfNeeded: left &- quotient &* 10)
                start.storeBytes(of: 48 &+ digit, toByteOffset: at, as: UInt8.self)
                left = quotient
            }
            at &-= 1
        }
        output.count &+= width
    }

    @inline(__always)
    private mutating func value(_ output: inout OutputBuffer) {
        let low = workload.valueBytesMin
        let n = low == workload.valueBytesMax ? low : low + random.below(workload.valueBytesMax - low + 1)
        if low == workload.valueBytesMax {
            fixedValueHeader.withUnsafeBytes { output.append($0) }
        } else {
            output.append("$")
            output.appendDecimal(n)
            output.append("\r\n")
        }
        output.append(values + Int(truncatingIfNeeded: random.next() % UInt64(Self.valuePool)), n)
        output.append("\r\n")
    }

    @inline(__always)
    private func get(_ index: Int, _ output: inout OutputBuffer) {
        output.append("*2\r\n$3\r\nGET\r\n")
        key(index, &output)
    }

    @inline(__always)
    private mutating func set(_ index: Int, _ output: inout OutputBuffer) {
        output.append("*3\r\n$3\r\nSET\r\n")
        key(index, &output)
        value(&output)
    }

    private mutating func appendOther(_ operation: Operation, _ output: inout OutputBuffer) {
        switch operation {
        case .insert: set(chooser.fresh(), &output)
        case .modify:
            let index = chooser.existing(&random)
            get(index, &output)
            set(index, &output)
        case .delete:
            output.append("*2\r\n$3\r\nDEL\r\n")
            key(chooser.existing(&random), &output)
        case .list:
            output.append("*2\r\n$4\r\nLIST\r\n")
            output.bulk(prefix())
        case .custom:
            output.arrayHeader(workload.custom.count)
            for word in workload.custom { output.bulk(expanded(word)) }
        case .get, .set, .scan, .modifyRead: break
        }
    }

    /// One step of a SCAN over the whole keyspace; `pattern` stays the same from cursor to cursor.
    func appendScan(cursor: String, pattern: String, to output: inout OutputBuffer) {
        output.request("SCAN", cursor, "MATCH", pattern, "COUNT", "\(workload.scanCount)")
    }

    /// The key's text without its last digits: `listKeys` keys begin with it.
    mutating func prefix() -> String {
        let text = String(chooser.existing(&random))
        let padded = String(repeating: "0", count: max(0, digits - text.count)) + text
        return workload.keyPrefix + padded.prefix(listDigits)
    }

    private mutating func expanded(_ word: String) -> String {
        guard word.contains("__") else { return word }
        let text = String(chooser.existing(&random))
        let padded = String(repeating: "0", count: max(0, digits - text.count)) + text
        let data = UnsafeRawBufferPointer(start: values, count: workload.valueBytesMax)
        return word.replacingOccurrences(of: "__key__", with: workload.keyPrefix + padded)
            .replacingOccurrences(of: "__prefix__", with: workload.keyPrefix + padded.prefix(listDigits))
            .replacingOccurrences(of: "__data__", with: String(decoding: data, as: UTF8.self))
    }

    private mutating func appendMemcached(_ operation: Operation, _ output: inout OutputBuffer) {
        switch operation {
        case .set: memcachedSet(chooser.existing(&random), &output)
        case .insert: memcachedSet(chooser.fresh(), &output)
        case .delete: memcachedLine("delete ", chooser.existing(&random), "\r\n", &output)
        case .modify:
            let index = chooser.existing(&random)
            memcachedLine("get ", index, "\r\n", &output)
            memcachedSet(index, &output)
        default: memcachedLine("get ", chooser.existing(&random), "\r\n", &output)
        }
    }

    private func memcachedLine(
        _ verb: StaticString, _ index: Int, _ end: StaticString, _ output: inout OutputBuffer
    ) {
        output.append(verb)
        output.append(workload.keyPrefix)
        number(index, digits, &output)
        output.append(end)
    }

    private mutating func memcachedSet(_ index: Int, _ output: inout OutputBuffer) {
        let n = workload.valueBytesMin + random.below(workload.valueBytesMax - workload.valueBytesMin + 1)
        memcachedLine("set ", index, " 0 0 ", &output)
        output.appendDecimal(n)
        output.append("\r\n")
        output.append(values + random.below(Self.valuePool), n)
        output.append("\r\n")
    }
}
