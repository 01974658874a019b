// What is asked: the mix of operations, the shape of keys and values. Plain values, any thread.

import Foundation
import KVBase

/// One kind of operation as latencies are reported for it. The raw value is its index in tables.
enum Operation: UInt8, CaseIterable, Sendable {
    case get, set, insert, modify, list, scan, delete, custom
    /// The GET of a read-modify-write: its reply counts as a request but not as an operation.
    case modifyRead

    var text: String {
        switch self {
        case .get: "get"
        case .set: "set"
        case .insert: "insert"
        case .modify: "rmw"
        case .list: "list"
        case .scan: "scan"
        case .delete: "delete"
        case .custom: "custom"
        case .modifyRead: "rmw-read"
        }
    }
}

enum WireProtocol: String, Sendable { case redis, memcached }

struct Workload: Sendable {
    var mix: [(operation: Operation, weight: Double)] = [(.get, 1)]
    var distribution = Distribution.uniform
    var keys = 1_000_000
    var keyBytes = 16
    var keyPrefix = "key:"
    /// Inserts that earlier runs did: the first of this one is key number `keys + firstInsert`.
    var firstInsert = 0
    var valueBytesMin = 64
    var valueBytesMax = 64
    /// Keys that one LIST or SCAN pattern covers: a power of ten, so that it is a prefix of the key's digits.
    var listKeys = 100
    var scanCount = 1000
    /// Words of a custom command; `__key__`, `__prefix__` and `__data__` are replaced.
    var custom: [String] = []
    var seed: UInt64 = 1

    /// Products of two numbers of keys fit in an Int.
    static let keysMax = 1_000_000_000

    /// YCSB's core workloads (B. Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", 2010). E's scans are
    /// LISTs.
    mutating func setYCSB(_ letter: String) -> Bool {
        distribution = .zipf(0.99)
        switch letter.uppercased() {
        case "A": mix = [(.get, 0.5), (.set, 0.5)]
        case "B": mix = [(.get, 0.95), (.set, 0.05)]
        case "C": mix = [(.get, 1)]
        case "D":
            mix = [(.get, 0.95), (.insert, 0.05)]
            distribution = .latest(0.99)
        case "E": mix = [(.list, 0.95), (.insert, 0.05)]
        case "F": mix = [(.get, 0.5), (.modify, 0.5)]
        default: return false
        }
        return true
    }

    /// "get:95,set:5"; nil if it makes no sense.
    static func mix(_ text: String) -> [(operation: Operation, weight: Double)]? {
        var mix: [(operation: Operation, weight: Double)] = []
        for part in text.split(separator: ",") {
            let words = part.split(separator: ":", omittingEmptySubsequences: false)
            guard let operation = Operation.allCases.first(where: { $0 != .modifyRead && $0.text == words[0] }),
                let weight = words.count == 2 ? Double(words[1]) : 1, words.count <= 2,
                weight >= 1e-6, weight <= 1e9
            else { return nil }
            mix.append((operation, weight))
        }
        return mix.isEmpty ? nil : mix
    }

    /// "get" alone, or each operation's share whatever the weights add up to: "get 95 %, set 5 %".
    var mixText: String {
        let total = mix.reduce(0.0) { $0 + $1.weight }
        if mix.count == 1 { return mix[0].operation.text }
        return mix.map { "\($0.operation.text) \(String(format: "%.4g", $0.weight / total * 100)) %" }
            .joined(separator: ", ")
    }

    var digits: Int { keyBytes - keyPrefix.utf8.count }

    /// The first number that has too many digits.
    var keysEnd: Int { Int(pow(10, Double(digits))) }

    func asks(_ operation: Operation) -> Bool { mix.contains { $0.operation == operation } }

    private func asksCustom(with place: CommandTemplate.Place) -> Bool {
        asks(.custom) && custom.contains { $0.contains(place.rawValue) }
    }

    var usesPrefixes: Bool { asks(.list) || asks(.scan) || asksCustom(with: .prefix) }

    /// Inserts to be expected among so many operations.
    func inserts(among operations: Int) -> Double {
        let total = mix.reduce(0.0) { $0 + $1.weight }
        let ofInserts = mix.reduce(0.0) { $0 + ($1.operation == .insert ? $1.weight : 0) }
        return Double(operations) * ofInserts / total
    }

    /// Why these numbers cannot work together, or nil.
    var problem: String? {
        if keys < 1 || keys > Self.keysMax { return "--keys must be 1 to \(Self.keysMax)" }
        if keyBytes < 1 || digits < 1 || digits > 18 {
            return "--key-size must leave 1 to 18 digits behind the prefix '\(keyPrefix)'"
        }
        if firstInsert < 0 || firstInsert > keysEnd { return "--first-insert must be 0 to \(keysEnd)" }
        if keys + firstInsert + (asks(.insert) ? 1 : 0) > keysEnd {
            return "\(keys) keys and what is inserted do not fit in \(digits) digits: use a larger --key-size"
        }
        if valueBytesMin < 1 || valueBytesMax < valueBytesMin || valueBytesMax > Limits.bulkBytesMax {
            return "--value-size must be N or LOW-HIGH, at least 1 byte"
        }
        if usesPrefixes && !(0..<digits).contains(where: { Double(listKeys) == pow(10, Double($0)) }) {
            return "--list-count must be a power of ten with fewer zeros than the key has digits"
        }
        if scanCount < 1 || scanCount > 1_000_000_000 { return "--scan-count must be 1 to 1000000000" }
        if asks(.custom) && custom.isEmpty { return "the mix names 'custom': give --command 'WORDS …'" }
        if asksCustom(with: .value) && valueBytesMin != valueBytesMax {
            return "__data__ has always the same length: give one --value-size"
        }
        return nil
    }
}
