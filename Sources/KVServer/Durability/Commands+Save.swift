// SAVE, BGSAVE, LASTSAVE and BGREWRITEAOF. Handlers; loop thread.

import KVBase
import KVRuntime
import RESP

/// SAVE: waits for a snapshot that begins after it, while others are served.
final class SaveRun: Continuation {
    private final class Answer: @unchecked Sendable {
        weak var session: Session?
        var isSaved: Bool?
    }

    private let answer = Answer()

    init(_ x: Execution, _ persistence: Persistence, _ loop: Loop) {
        answer.session = x.session
        super.init()
        persistence.save(isFresh: true) { [answer] isSaved in
            loop.perform {
                answer.isSaved = isSaved
                answer.session?.owner?.sessionShouldRun()
            }
        }
    }

    override var isSuspended: Bool { answer.isSaved == nil }

    override func step(_ x: inout Execution, outputMax: Int) -> Bool {
        guard let isSaved = answer.isSaved else { return false }
        isSaved ? x.output.pointee.ok() : x.error("ERR no snapshot was made; the server's log says why")
        return true
    }

    override func cancel() { answer.session = nil }
}

extension Commands {
    static let noDirectory: StaticString =
        "ERR this server keeps nothing on disk; start it with --dir DIR"

    @Sendable static func saveNow(_ x: inout Execution) {
        guard let persistence = x.shard.context.persistence, let loop = x.shard.loop else {
            return x.error(noDirectory)
        }
        guard !x.session.isGuest else { return x.error("ERR Command not allowed inside a transaction") }
        if persistence.saveFigures.isSaving { return x.error("ERR Background save already in progress") }
        x.session.continuation = SaveRun(x, persistence, loop)
    }

    @Sendable static func bgsave(_ x: inout Execution) {
        guard x.count == 1 || x.count == 2 && x.argument(1, is: "SCHEDULE") else { return x.error("ERR syntax error") }
        guard let persistence = x.shard.context.persistence else { return x.error(noDirectory) }
        if persistence.saveFigures.isSaving {
            guard x.count == 2 else { return x.error("ERR Background save already in progress") }
            persistence.save(isFresh: true)
            return x.output.pointee.simple("Background saving scheduled")
        }
        persistence.save()
        x.output.pointee.simple("Background saving started")
    }

    @Sendable static func bgrewriteaof(_ x: inout Execution) {
        guard let persistence = x.shard.context.persistence else { return x.error(noDirectory) }
        if persistence.saveFigures.isSaving {
            return x.error("ERR Background append only file rewriting already in progress")
        }
        persistence.save()
        x.output.pointee.simple("Background append only file rewriting started")
    }

    @Sendable static func lastsave(_ x: inout Execution) {
        let context = x.shard.context
        x.output.pointee.integer(Int((context.persistence?.saveFigures.savedAt ?? context.startedMillis) / 1000))
    }
}
