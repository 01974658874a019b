// Replies that wait until what they tell of is on the disk. One log's; its loop's thread.

import KVRuntime

struct HeldReplies {
    private enum Reply {
        case client(QueryReceiver, Connection)
        case home(any HomeJob)
    }

    /// In the order of the chunks that they wait for.
    private var replies: [(reply: Reply, seq: UInt64, chunk: UInt64)] = []
    /// Those before have a chunk to wait for.
    private var aimed = 0

    /// `seq`: the actor's last own write, the reply's own one among those before.
    mutating func append(_ receiver: QueryReceiver, _ connection: Connection, _ seq: UInt64) {
        replies.append((.client(receiver, connection), seq, .max))
    }

    mutating func append(_ job: any HomeJob, _ seq: UInt64) { replies.append((.home(job), seq, .max)) }

    /// What tells of own writes up to this one, and waits for no chunk yet, waits for this one.
    mutating func aim(at chunk: UInt64, through seq: UInt64) {
        while aimed < replies.count, replies[aimed].seq <= seq {
            replies[aimed].chunk = chunk
            aimed += 1
        }
    }

    /// Lets those go that wait for a chunk up to `chunk`. O(replies).
    mutating func take(through chunk: UInt64, _ giveBack: (any HomeJob) -> Void) {
        guard !replies.isEmpty else { return }
        let count = replies.prefix { $0.chunk <= chunk }.count
        let going = replies[..<count]
        replies.removeFirst(count)
        aimed = max(0, aimed - count)
        for (reply, _, _) in going {
            switch reply {
            case .client(let receiver, let connection): receiver.saved(connection)
            case .home(let job): giveBack(job)
            }
        }
    }

    /// Clients whose replies wait are closed without them.
    mutating func close() {
        for (reply, _, _) in replies { if case .client(_, let connection) = reply { connection.close() } }
        replies.removeAll { if case .client = $0.reply { true } else { false } }
        aimed = min(aimed, replies.count)
    }
}
