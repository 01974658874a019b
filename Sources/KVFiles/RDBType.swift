// The types of an RDB file that are no strings: how long each is. One thread.

import KVBase

/// As Redis numbers them.
enum RDBType: UInt8 {
    case string = 0, list, set, sortedSet, hash, sortedSet2, moduleEarly, module
    case zipmap = 9, listZiplist, intset, sortedSetZiplist, hashZiplist, quicklist, stream, hashListpack
    case sortedSetListpack, quicklist2, stream2, setListpack, stream3, hashFieldsEarly, hashListpackFieldsEarly
    case hashFields, hashListpackFields

    var name: String {
        switch self {
        case .string: "string"
        case .list, .listZiplist, .quicklist, .quicklist2: "list"
        case .set, .intset, .setListpack: "set"
        case .sortedSet, .sortedSet2, .sortedSetZiplist, .sortedSetListpack: "zset"
        case .hash, .zipmap, .hashZiplist, .hashListpack, .hashFieldsEarly, .hashListpackFieldsEarly, .hashFields,
            .hashListpackFields:
            "hash"
        case .stream, .stream2, .stream3: "stream"
        case .moduleEarly, .module: "module"
        }
    }
}

extension RDBReader {
    /// Elements of one key: each takes a byte at least, so a file's own end bounds the loops too.
    private static let elementsMax = Int(UInt32.max)
    private static let streamIDBytes = 16

    /// Passes over the value of a key that is no string.
    func skip(_ kind: RDBType) throws(FileFault) {
        switch kind {
        case .string, .zipmap, .listZiplist, .intset, .sortedSetZiplist, .hashZiplist, .hashListpack,
            .sortedSetListpack, .setListpack, .hashListpackFieldsEarly:
            try skipString()
        case .list, .set, .quicklist: try skipStrings(each: 1)
        case .hash: try skipStrings(each: 2)
        case .sortedSet:
            for _ in 0..<(try elements()) {
                try skipString()
                try skipScore()
            }
        case .sortedSet2:
            for _ in 0..<(try elements()) {
                try skipString()
                try file.skip(8)
            }
        case .quicklist2:
            for _ in 0..<(try elements()) {
                _ = try length()
                try skipString()
            }
        case .hashFields, .hashFieldsEarly:
            if kind == .hashFields { try file.skip(8) }
            for _ in 0..<(try elements()) {
                _ = try length()
                try skipString()
                try skipString()
            }
        case .hashListpackFields:
            try file.skip(8)
            try skipString()
        case .stream, .stream2, .stream3: try skipStream(kind)
        case .module:
            _ = try length()
            try skipModule()
        case .moduleEarly:
            throw file.fault("a module's value in a form that says no length; what follows cannot be read")
        }
    }

    private func elements() throws(FileFault) -> Int { try count("a number of elements", max: RDBReader.elementsMax) }

    private func skipStrings(each: Int) throws(FileFault) {
        for _ in 0..<(try elements()) { for _ in 0..<each { try skipString() } }
    }

    /// A score as text: a byte says how long it is, or that it is no number or infinite.
    private func skipScore() throws(FileFault) {
        let count = try file.byte()
        if count < 253 { try file.skip(Int(count)) }
    }

    private func skipLengths(_ count: Int) throws(FileFault) { for _ in 0..<count { _ = try length() } }

    private func skipStream(_ kind: RDBType) throws(FileFault) {
        try skipStrings(each: 2)
        try skipLengths(kind == .stream ? 3 : 8)
        for _ in 0..<(try elements()) {
            try skipString()
            try skipLengths(kind == .stream ? 2 : 3)
            for _ in 0..<(try elements()) {
                try file.skip(RDBReader.streamIDBytes + 8)
                _ = try length()
            }
            for _ in 0..<(try elements()) {
                try skipString()
                try file.skip(kind == .stream3 ? 16 : 8)
                for _ in 0..<(try elements()) { try file.skip(RDBReader.streamIDBytes) }
            }
        }
    }

    /// What a module wrote: each piece says what it is.
    func skipModule() throws(FileFault) {
        while true {
            let at = file.offset
            switch try length() {
            case 0: return
            case 1, 2: _ = try length()
            case 3: try file.skip(4)
            case 4: try file.skip(8)
            case 5: try skipString()
            case let other: throw file.fault("a module's piece of kind \(other)", at: at)
            }
        }
    }
}
