// Intervals that another server misses, to be sent with the next frame. A part of `RemoteServer`; on the replica's
// thread.

import KVBase

struct RepairQueue {
    static let asksMax = 16
    /// Writers of which the last answer is remembered; beyond, the oldest is forgotten, and perhaps given twice.
    private static let answersMax = 16

    /// What was answered last of one writer.
    private struct Answer {
        var interval: RepairAsk
        /// The live frame it went in; 0 as long as that has no number.
        var number: UInt64 = 0
        /// When it was known to have reached the other machine; over datagrams when it was sent.
        var arrivedAt: Millis?
    }

    private var asks: [RepairAsk] = []
    /// Oldest first.
    private var answers: [Answer] = []

    var isEmpty: Bool { asks.isEmpty }
    var count: Int { asks.count }

    /// What does not fit is asked for again.
    mutating func add(_ ask: RepairAsk) {
        guard asks.count < RepairQueue.asksMax, !asks.contains(ask) else { return }
        asks.append(ask)
    }

    mutating func next() -> RepairAsk? { asks.isEmpty ? nil : asks.removeFirst() }

    /// Asked again while an answer that begins there is on its way, or before the other server, which takes `millis`
    /// for it, can have said that it came.
    func isOnItsWay(_ ask: RepairAsk, _ now: Millis, _ millis: Millis) -> Bool {
        guard let answer = answers.first(where: { $0.interval.origin == ask.origin }),
            answer.interval.from <= ask.from, ask.from < answer.interval.to
        else { return false }
        return answer.arrivedAt.map { now - $0 < millis } ?? true
    }

    /// The interval goes out with the frame under way. `arrivedAt` is nil over a connection, which tells.
    mutating func noteAnswer(_ interval: RepairAsk, arrivedAt: Millis?) {
        answers.removeAll { $0.interval.origin == interval.origin }
        if answers.count == RepairQueue.answersMax { answers.removeFirst() }
        answers.append(Answer(interval: interval, arrivedAt: arrivedAt))
    }

    /// What was noted last went in this live frame of its connection.
    mutating func number(_ number: UInt64) {
        for i in answers.indices where answers[i].number == 0 { answers[i].number = number }
    }

    mutating func noteDelivered(_ link: ServerLink, _ now: Millis) {
        for i in answers.indices where answers[i].arrivedAt == nil {
            if link.isDelivered(.live, answers[i].number) { answers[i].arrivedAt = now }
        }
    }

    /// Another connection took over without loss: what went over the one before is delivered by it.
    mutating func moveToNewLink(_ now: Millis) {
        for i in answers.indices where answers[i].arrivedAt == nil { answers[i].arrivedAt = now }
    }

    /// The connection is lost with what was under way.
    mutating func linkBroke() { answers.removeAll { $0.arrivedAt == nil } }

    func checkInvariants() {
        check(asks.count <= RepairQueue.asksMax && answers.count <= RepairQueue.answersMax)
        for (place, answer) in answers.enumerated() {
            check(answer.interval.from < answer.interval.to)
            check(!answers[..<place].contains { $0.interval.origin == answer.interval.origin })
        }
    }
}
