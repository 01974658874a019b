// KVD BACKUP: a snapshot, fetched in pieces while the server goes on. Handlers; loop thread.

import KVBase
import KVRuntime
import RESP

/// Waits for a thread that waits for the disk.
final class DiskRun<Value: Sendable>: Continuation {
    private final class Answer: @unchecked Sendable {
        weak var session: Session?
        var value: Value?
        var isThere = false
    }

    private let answer = Answer()
    private let reply: (inout Execution, Value?) -> Void

    /// `begin` is given what is to be called once, on any thread.
    init(
        _ x: Execution, _ loop: Loop, _ begin: (@escaping @Sendable (Value?) -> Void) -> Void,
        reply: @escaping (inout Execution, Value?) -> Void
    ) {
        self.reply = reply
        answer.session = x.session
        super.init()
        begin { [answer] value in
            loop.perform {
                (answer.value, answer.isThere) = (value, true)
                answer.session?.owner?.sessionShouldRun()
            }
        }
    }

    override var isSuspended: Bool { !answer.isThere }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        guard answer.isThere else { return false }
        reply(&x, answer.value)
        return true
    }

    override func cancel() { answer.session = nil }
}

extension Commands {
    /// KVD BACKUP BEGIN: number, bytes, cluster. KVD BACKUP READ number offset: a piece. KVD BACKUP END number.
    static func kvdBackup(_ x: inout Execution) {
        guard let persistence = x.shard.context.persistence, let loop = x.shard.loop else {
            return x.error(noDirectory)
        }
        guard !x.session.isGuest else { return x.error("ERR Command not allowed inside a transaction") }
        guard x.count > 2 else { return x.wrongArity("kvd|backup") }
        let reader = x.session.backupReader ?? BackupReader(persistence.backups)
        x.session.backupReader = reader
        switch (x.count, x.argument(2)) {
        case (3, let word) where word.equals("BEGIN"):
            x.session.continuation = DiskRun(
                x, loop, { persistence.backups.begin(persistence, for: reader, $0) }
            ) { x, begun in
                guard let begun else { return x.error("ERR no snapshot was made; the server's log says why") }
                x.output.pointee.arrayHeader(3)
                x.output.pointee.integer(Int(begun.number))
                x.output.pointee.integer(begun.bytes)
                x.output.pointee.bulk(persistence.cluster)
            }
        case (5, let word) where word.equals("READ"):
            guard let number = x.integer(3), let offset = x.integer(4), number >= 0, offset >= 0 else {
                return x.error("ERR value is not an integer or out of range")
            }
            x.session.continuation = DiskRun(
                x, loop, { persistence.backups.read(UInt64(number), at: Int(offset), for: reader, $0) }
            ) { x, bytes in
                guard let bytes else { return x.error("ERR there is no such backup, or it cannot be read") }
                bytes.withUnsafeBytes { x.output.pointee.bulk($0) }
            }
        case (4, let word) where word.equals("END"):
            guard let number = x.integer(3), number >= 0 else {
                return x.error("ERR value is not an integer or out of range")
            }
            persistence.backups.end(UInt64(number), for: reader)
            x.output.pointee.ok()
        default: x.error("ERR syntax error")
        }
    }
}
