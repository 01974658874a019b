// Writes requests from templates: one copy and a few digits each. One engine's thread.

import Foundation
import KVBase
import RESP

/// Encodes the operations of a workload for one engine. About 20 ns for a GET with a uniform key.
struct RequestWriter {
    var random: PRNG
    var chooser: KeyChooser
    private let single: Operation?
    private let cold: Cold
    private let values: UnsafeMutableRawPointer
    private let digits: Int
    private let valueBytesMin: Int
    private let valueBytesMax: Int
    /// A GET, and a SET up to the value.
    private let get: CommandTemplate
    private let set: CommandTemplate

    /// Small enough for a level 1 cache: the load is often on the core of the server it measures.
    private static let valuePool = 16 * 1024

    /// What only the rarer operations need.
    private final class Cold {
        let workload: Workload
        let thresholds: [(operation: Operation, below: UInt64)]
        let listDigits: Int
        let list: CommandTemplate
        let delete: CommandTemplate
        let custom: CommandTemplate
        /// A prefix is a key's number divided by this.
        let listKeys: Int

        init(_ workload: Workload) {
            self.workload = workload
            let total = workload.mix.reduce(0) { $0 + $1.weight }
            var sum = 0.0
            thresholds = workload.mix.map { part in
                sum += part.weight
                return (part.operation, UInt64(min(sum / total, 1) * 0x1p63) &* 2 &- 1)
            }
            let lastDigits = Int(log10(Double(workload.listKeys)).rounded())
            let listDigits = max(0, workload.digits - lastDigits)
            self.listDigits = listDigits
            listKeys = (0..<lastDigits).reduce(1) { power, _ in power * 10 }
            list = CommandTemplate(["LIST", "__prefix__"], workload, prefixDigits: listDigits)
            delete = CommandTemplate(["DEL", "__key__"], workload)
            custom = CommandTemplate(workload.custom, workload, prefixDigits: listDigits)
        }
    }

    init(_ workload: Workload, engine: Int, engines: Int) {
        random = PRNG(seed: workload.seed &+ UInt64(engine) &* 0x9E37_79B9)
        chooser = KeyChooser(workload, engine: engine, engines: engines)
        single = workload.mix.count == 1 ? workload.mix[0].operation : nil
        cold = Cold(workload)
        digits = workload.digits
        valueBytesMin = workload.valueBytesMin
        valueBytesMax = workload.valueBytesMax
        get = CommandTemplate(["GET", "__key__"], workload)
        set = CommandTemplate(["SET", "__key__"], workload, arguments: 3)
        let bytes = Self.valuePool + workload.valueBytesMax
        values = .allocate(byteCount: bytes, alignment: 8)
        var fill = PRNG(seed: workload.seed)
        // Letters only: no '*' (the null responder counts those), nothing that needs escaping in a log.
        for i in 0..<bytes { values.storeBytes(of: 97 + UInt8(fill.below(26)), toByteOffset: i, as: UInt8.self) }
    }

    func deallocate() {
        values.deallocate()
        for template in [get, set, cold.list, cold.delete, cold.custom] { template.start.deallocate() }
    }

    /// Appends one operation; for a read-modify-write that is two requests. Returns its kind.
    @inline(__always)
    mutating func append(_ wire: WireProtocol, to output: inout OutputBuffer) -> Operation {
        let operation = draw()
        if wire == .redis {
            if operation == .get {
                appendGet(chooser.existing(&random), &output)
            } else if operation == .set {
                appendSet(chooser.existing(&random), &output)
            } else {
                appendOther(operation, &output)
            }
        } else {
            appendMemcached(operation, &output)
        }
        return operation
    }

    /// What the next operation is.
    @inline(__always)
    mutating func draw() -> Operation { single ?? pick() }

    /// The SET that loads key `index`.
    mutating func appendLoad(_ index: Int, _ wire: WireProtocol, to output: inout OutputBuffer) {
        if wire == .redis { appendSet(index, &output) } else { memcachedSet(index, &output) }
    }

    @inline(never)
    private mutating func pick() -> Operation {
        let draw = random.next()
        for part in cold.thresholds where draw <= part.below { return part.operation }
        return cold.thresholds[cold.thresholds.count - 1].operation
    }

    /// Writes `value` over zeros, the last digit before `end`.
    @inline(__always)
    private func number(_ value: Int, before end: UnsafeMutableRawPointer) {
        var left = UInt32(truncatingIfNeeded: value)
        var at = end
        if value >> 32 != 0 {
            var wide = UInt64(truncatingIfNeeded: value)
            while wide > 0 {
                at -= 1
                at.storeBytes(of: 48 &+ UInt8(truncatingIfNeeded: wide % 10), as: UInt8.self)
                wide /= 10
            }
            return
        }
        while left > 0 {
            let quotient = left / 10
            at -= 1
            at.storeBytes(of: 48 &+ UInt8(truncatingIfNeeded: left &- quotient &* 10), as: UInt8.self)
            left = quotient
        }
    }

    /// A command, or the beginning of one, in which there is nothing but a key to fill in.
    @inline(__always)
    private func append(_ template: CommandTemplate, key index: Int, _ output: inout OutputBuffer) {
        output.reserve(template.count)
        let start = output.base + output.count
        start.copyMemory(from: template.start, byteCount: template.count)
        number(index, before: start + template.keyEnd)
        output.count &+= template.count
    }

    @inline(__always)
    private func appendGet(_ index: Int, _ output: inout OutputBuffer) { append(get, key: index, &output) }

    @inline(__always)
    private mutating func appendSet(_ index: Int, _ output: inout OutputBuffer) {
        append(set, key: index, &output)
        let isFixed = valueBytesMin == valueBytesMax
        let n = isFixed ? valueBytesMax : valueBytesMin + random.below(valueBytesMax - valueBytesMin + 1)
        output.append("$")
        output.appendDecimal(n)
        output.append("\r\n")
        output.append(values + Int(truncatingIfNeeded: random.next() % UInt64(Self.valuePool)), n)
        output.append("\r\n")
    }

    private mutating func appendOther(_ operation: Operation, _ output: inout OutputBuffer) {
        switch operation {
        case .insert: appendSet(chooser.fresh(), &output)
        case .modify:
            let index = chooser.existing(&random)
            appendGet(index, &output)
            appendSet(index, &output)
        case .delete: append(cold.delete, key: chooser.existing(&random), &output)
        case .list: append(cold.list, &output)
        case .custom: append(cold.custom, &output)
        case .get, .set, .scan, .modifyRead: break
        }
    }

    /// One step of a SCAN over the whole keyspace; `pattern` stays the same from cursor to cursor.
    func appendScan(cursor: String, pattern: String, to output: inout OutputBuffer) {
        output.request("SCAN", cursor, "MATCH", pattern, "COUNT", "\(cold.workload.scanCount)")
    }

    /// The key's text without its last digits: `listKeys` keys begin with it.
    mutating func prefix() -> String {
        let text = String(chooser.existing(&random))
        let padded = String(repeating: "0", count: max(0, digits - text.count)) + text
        return cold.workload.keyPrefix + padded.prefix(cold.listDigits)
    }

    private mutating func append(_ template: CommandTemplate, _ output: inout OutputBuffer) {
        output.reserve(template.count)
        let start = output.base + output.count
        start.copyMemory(from: template.start, byteCount: template.count)
        var index = 0
        for patch in template.patches {
            if patch.drawsNumber { index = chooser.existing(&random) }
            switch patch.place {
            case .key: number(index, before: start + patch.at)
            case .prefix: number(index / cold.listKeys, before: start + patch.at)
            case .value:
                let value = values + Int(truncatingIfNeeded: random.next() % UInt64(Self.valuePool))
                (start + patch.at).copyMemory(from: value, byteCount: valueBytesMax)
            }
        }
        output.count &+= template.count
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
        let text = String(index)
        output.append(cold.workload.keyPrefix + String(repeating: "0", count: max(0, digits - text.count)) + text)
        output.append(end)
    }

    private mutating func memcachedSet(_ index: Int, _ output: inout OutputBuffer) {
        let n = valueBytesMin + random.below(valueBytesMax - valueBytesMin + 1)
        memcachedLine("set ", index, " 0 0 ", &output)
        output.appendDecimal(n)
        output.append("\r\n")
        output.append(values + random.below(Self.valuePool), n)
        output.append("\r\n")
    }
}
