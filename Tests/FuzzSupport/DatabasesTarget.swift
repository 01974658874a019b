// The fuzz target `databases`: RDB and append-only files, damaged anywhere. Nothing is believed, nothing crashes.

import KVBase
import KVFiles
package import KVTestSupport

extension FuzzTarget {
    /// A drawn file is read as it is; then cut, spliced and with bytes changed, when it is either refused or read, and
    /// no more memory is taken than the file and what it may stand for.
    package static let databases = FuzzTarget(
        name: "databases", about: "RDB and append-only files: read back whole, refused or read where they are damaged"
    ) { random, corpus in
        let pairs = DatabaseGrammar.pairs(&random)
        let bytes = DatabaseGrammar.file(pairs, &random)
        do {
            let found = try DatabaseGrammar.read(bytes)
            guard found == pairs.map({ .pair($0) }) else { return "read back \(found), not \(pairs)" }
        } catch { return "a whole file was refused: \(error)" }
        var damaged = corpus.isEmpty || random.chance(0.5) ? bytes : corpus[random.below(corpus.count)]
        for _ in 0...random.below(4) where !damaged.isEmpty {
            let place = random.below(damaged.count)
            switch random.below(4) {
            case 0: damaged[place] = UInt8(random.below(256))
            case 1: damaged.removeSubrange(place...)
            case 2: damaged.insert(contentsOf: damaged[place..<min(damaged.count, place + random.below(40))], at: place)
            default: damaged[place] = [0x80, 0x81, 0xC3, 0xFF, 0xFE, 0xFC, 0x7F][random.below(7)]
            }
        }
        _ = try? DatabaseGrammar.read(damaged)
        return nil
    }
}

enum DatabaseGrammar {
    static func pairs(_ random: inout PRNG) -> [FilePair] {
        var database = 0
        return (0..<random.below(6)).map { _ in
            if random.chance(0.3) { database = random.below(16) }
            func bytes(_ max: Int) -> Bytes { Bytes((0..<random.below(max)).map { _ in UInt8(random.below(256)) }) }
            return FilePair(
                database: database, key: bytes(random.chance(0.1) ? 20_000 : 30),
                value: bytes(random.chance(0.1) ? 20_000 : 90),
                deadline: random.chance(0.3) ? Int64(random.below(1 << 40)) : nil)
        }
    }

    static func file(_ pairs: [FilePair], _ random: inout PRNG) -> [UInt8] {
        var writer = RDBWriter(nowMillis: Int64(random.below(1 << 40)))
        defer { writer.deallocate() }
        for pair in pairs { writer.add(pair) }
        writer.finish()
        return Array(writer.output.bytes)
    }

    static func read(_ bytes: [UInt8]) throws -> [FileItem] {
        let cursor = try ImportCursor(InputFile(bytes))
        var items: [FileItem] = []
        while let item = try cursor.next() { items.append(item) }
        return items
    }
}
