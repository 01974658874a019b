// Pairs as an RDB file or as commands, into a file. One thread.

import KVBase

package final class PairSink {
    /// What is gathered before it is written.
    private static let pieceBytes = 256 * 1024

    private let file: OutputFile
    private var database: RDBWriter?
    private var commands = OutputBuffer(capacity: 64 * 1024)
    private var selected = 0
    package private(set) var count = 0

    /// `nowMillis`: since 1970.
    package init(_ file: OutputFile, isRDB: Bool, nowMillis: Int64) {
        self.file = file
        database = isRDB ? RDBWriter(nowMillis: nowMillis) : nil
    }

    deinit {
        database?.deallocate()
        commands.deallocate()
    }

    package func add(_ pair: FilePair) throws(FileFault) {
        count += 1
        if database != nil {
            database!.add(pair)
            if database!.output.count >= PairSink.pieceBytes { try drain() }
            return
        }
        if selected != pair.database {
            selected = pair.database
            append(["SELECT", Bytes(String(selected))])
        }
        append(["SET", pair.key, pair.value] + (pair.deadline.map { ["PXAT", Bytes(String($0))] } ?? []))
        if commands.count >= PairSink.pieceBytes { try drain() }
    }

    private func append(_ words: [Bytes]) {
        commands.append("*\(words.count)\r\n")
        for word in words {
            commands.append("$\(word.count)\r\n")
            word.withBytes { commands.append($0) }
            commands.append("\r\n" as StaticString)
        }
    }

    private func drain() throws(FileFault) {
        if database != nil {
            try file.write(database!.output.bytes)
            database!.taken()
        } else {
            try file.write(commands.bytes)
            commands.count = 0
        }
    }

    /// Whoever loads it is left in database 0.
    package func finish() throws(FileFault) {
        database?.finish()
        if database == nil, selected != 0 { append(["SELECT", "0"]) }
        try drain()
    }
}
