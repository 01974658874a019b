// The actor library within one process: order, asks, timers, errors, closing, figures, references.

import KVBase
import Synchronization
import Testing

@testable import KVRuntime

/// What most tests send.
enum Note: WireMessage, Equatable {
    case add(Int)
    case read(replyTo: ActorRef<Int>)
    case fail
    case stop
    case forward(to: ActorRef<Note>, Int)

    func encode(into writer: inout WireWriter) {
        switch self {
        case .add(let n):
            writer.write(0 as UInt8)
            n.encode(into: &writer)
        case .read(let replyTo):
            writer.write(1 as UInt8)
            replyTo.encode(into: &writer)
        case .fail: writer.write(2 as UInt8)
        case .stop: writer.write(3 as UInt8)
        case .forward(let to, let n):
            writer.write(4 as UInt8)
            to.encode(into: &writer)
            n.encode(into: &writer)
        }
    }

    init(from reader: inout WireReader) throws {
        switch try reader.read(UInt8.self) {
        case 0: self = .add(try Int(from: &reader))
        case 1: self = .read(replyTo: try ActorRef(from: &reader))
        case 2: self = .fail
        case 3: self = .stop
        case 4: self = .forward(to: try ActorRef(from: &reader), try Int(from: &reader))
        default: throw WireError.invalid("note")
        }
    }
}

/// Appends what it is told to a log that the test reads.
final class Log: Sendable {
    private let entries = Locked<[Int]>([])
    func append(_ n: Int) { entries.withLock { $0.append(n) } }
    var all: [Int] { entries.withLock { $0 } }
}

struct Recorder: Actor {
    struct Refused: Error {}
    let log: Log
    var sum = 0
    var atEnd = 0

    init(log: Log, atEnd: Int = 0) {
        self.log = log
        self.atEnd = atEnd
    }

    mutating func receive(_ message: Note, _ context: ActorContext<Note>) throws {
        switch message {
        case .add(let n):
            sum += n
            log.append(n)
        case .read(let replyTo): replyTo.tell(sum)
        case .fail: throw Refused()
        case .stop: context.stop()
        case .forward(let to, let n): to.tell(.add(n))
        }
    }

    mutating func stopped() { if atEnd != 0 { log.append(atEnd) } }
}

@Suite struct ActorTests {
    @Test func tellsArriveInOrderAndAsksAnswer() async throws {
        let system = try ActorSystem(loops: 2)
        defer { system.close() }
        let log = Log()
        let recorder = system.start { Recorder(log: log) }
        for i in 0..<5000 { recorder.tell(.add(i)) }
        let sum: Int = try await system.ask(recorder) { .read(replyTo: $0) }
        #expect(sum == 5000 * 4999 / 2)
        #expect(log.all == Array(0..<5000))
        #expect(system.statistics.messagesSentExternal == 5001)
        #expect(system.statistics.repliesSent == 1)
        #expect(system.statistics.delivered == 5001)
    }

    @Test func actorsOnDifferentLoopsKeepOrderPerPair() async throws {
        let system = try ActorSystem(loops: 2)
        defer { system.close() }
        let log = Log()
        let receiver = system.start(on: 0) { Recorder(log: log) }
        let senders = (0..<4).map { i in system.start(on: i % 2) { Recorder(log: Log()) } }
        let started = Machine.monotonicNanos
        for i in 0..<2000 {
            for (s, sender) in senders.enumerated() { sender.tell(.forward(to: receiver, s * 1_000_000 + i)) }
        }
        #expect(await eventuallyYielding { log.all.count == 8000 })
        for s in 0..<4 {
            #expect(log.all.filter { $0 / 1_000_000 == s } == (0..<2000).map { s * 1_000_000 + $0 })
        }
        #expect(system.statistics.messagesSentActor == 8000)
        // Of the seconds it took, one had at least as many messages of a pair as all on average, however slow that was.
        let seconds = (Machine.monotonicNanos - started) / 1_000_000_000 + 2
        let rate = Int(system.statistics.maxMessageRate)
        #expect(rate >= 2000 / Int(seconds) && rate <= 2000)
    }

    @Test func askTimesOut() async throws {
        let system = try ActorSystem()
        defer { system.close() }
        let nobody = ActorRef<Note>(address: system.address, counter: 77)!
        await #expect(throws: AskError.timedOut) {
            let _: Int = try await system.ask(nobody, timeoutMillis: 30) { .read(replyTo: $0) }
        }
        #expect(system.statistics.deadLetters == 1)
    }

    @Test func cancelledAskEnds() async throws {
        let system = try ActorSystem()
        defer { system.close() }
        let nobody = ActorRef<Note>(address: system.address, counter: 77)!
        let task = Task { let _: Int = try await system.ask(nobody) { .read(replyTo: $0) } }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
    }

    @Test func wrongAnswerTypeIsAnError() async throws {
        struct Liar: Actor {
            func receive(_ message: Note, _ context: ActorContext<Note>) {
                guard case .read(let replyTo) = message else { return }
                ActorRef<String>(uid: replyTo.uid)!.tell("three")
            }
        }
        let system = try ActorSystem()
        defer { system.close() }
        let liar = system.start { Liar() }
        await #expect(throws: AskError.unexpectedAnswer) {
            let _: Int = try await system.ask(liar) { .read(replyTo: $0) }
        }
    }

    @Test func closeFailsAsksAndStopsActors() async throws {
        let system = try ActorSystem()
        let log = Log()
        _ = system.start { Recorder(log: log, atEnd: -1) }
        let nobody = ActorRef<Note>(address: system.address, counter: 77)!
        let task = Task { let _: Int = try await system.ask(nobody, timeoutMillis: 60_000) { .read(replyTo: $0) } }
        #expect(await eventuallyYielding { system.statistics.deadLetters == 1 })
        system.close()
        system.close()
        await #expect(throws: AskError.closed) { try await task.value }
        #expect(log.all == [-1])
        nobody.tell(.add(1))  // silent
    }

    @Test func stoppedActorGetsNothingMoreAndOthersGoOn() async throws {
        let system = try ActorSystem()
        defer { system.close() }
        let log = Log()
        let first = system.start { Recorder(log: log, atEnd: -1) }
        let second = system.start { Recorder(log: log) }
        first.tell(.add(1))
        first.tell(.stop)
        first.tell(.add(2))
        #expect(await eventuallyYielding { system.statistics.deadLetters == 1 })
        second.tell(.add(3))
        system.stop(second)
        second.tell(.add(4))
        #expect(await eventuallyYielding { system.statistics.deadLetters == 2 })
        #expect(log.all == [1, -1, 3])
    }

    @Test func errorsGoToTheHandlerAndTheActorGoesOn() async throws {
        let system = try ActorSystem()
        defer { system.close() }
        let failures = Locked<[String]>([])
        system.onError { failure in failures.withLock { $0.append(failure.uid) } }
        let recorder = system.start { Recorder(log: Log()) }
        recorder.tell(.add(1))
        recorder.tell(.fail)
        recorder.tell(.add(2))
        let sum: Int = try await system.ask(recorder) { .read(replyTo: $0) }
        #expect(sum == 3)
        #expect(failures.withLock { $0 } == [recorder.uid])
        #expect(system.statistics.failures == 1)
    }

    @Test func tellAfterArrivesInTimeOrder() async throws {
        let system = try ActorSystem()
        defer { system.close() }
        let log = Log()
        let recorder = system.start { Recorder(log: log) }
        system.tell(recorder, .add(30), after: 30)
        system.tell(recorder, .add(10), after: 10)
        recorder.tell(.add(0))
        #expect(await eventuallyYielding { log.all.count == 3 })
        #expect(log.all == [0, 10, 30])
    }

    /// Ticks itself a few times.
    struct Ticker: Actor {
        let log: Log
        var left = 5
        init(log: Log, context: ActorContext<Note>) {
            self.log = log
            context.tell(context.me, .add(1), after: 1)
        }
        mutating func receive(_ message: Note, _ context: ActorContext<Note>) {
            guard case .add(let n) = message else { return }
            log.append(n)
            left -= 1
            if left > 0 { context.tell(context.me, .add(n + 1), after: 1) }
        }
    }

    @Test func anActorCanTellItselfLater() throws {
        let system = try ActorSystem()
        defer { system.close() }
        let log = Log()
        _ = system.start { Ticker(log: log, context: $0) }
        #expect(eventually { log.all == [1, 2, 3, 4, 5] })
        #expect(system.statistics.messagesSentActor == 5)
    }

    @Test func aLongMailboxDoesNotStarveOtherActors() throws {
        /// Floods itself for ever.
        struct Busy: Actor {
            mutating func receive(_ message: Note, _ context: ActorContext<Note>) {
                for _ in 0..<2 { context.tell(context.me, message) }
                if case .add(let n) = message, n > 0 { context.stop() }
            }
        }
        let system = try ActorSystem()
        defer { system.close() }
        let log = Log()
        let busy = system.start { Busy() }
        let other = system.start { Recorder(log: log) }
        busy.tell(.fail)
        for i in 0..<10 {
            other.tell(.add(i))
            #expect(eventually { log.all.count == i + 1 })
        }
        system.stop(busy)
    }

    @Test func referencesPrintParseCompareAndTravel() throws {
        let system = try ActorSystem()
        defer { system.close() }
        let recorder = system.start { Recorder(log: Log()) }
        #expect(recorder.uid == "\(system.address)/1")
        #expect("\(recorder)" == recorder.uid)
        #expect(recorder.isLocal)
        #expect(system.isLocal(recorder))
        #expect(ActorRef<Note>(uid: recorder.uid) == recorder)
        #expect(ActorRef<Note>(uid: "nonsense") == nil)
        var writer = WireWriter()
        defer { writer.deallocate() }
        recorder.encode(into: &writer)
        #expect(try ActorRef<Note>.decode(writer.buffer.bytes) == recorder)
        let away = ActorRef<Note>(address: "10.1.2.3:6000", counter: 2)!
        #expect(!away.isLocal)
        #expect(away.uid == "10.1.2.3:6000/2")
    }

    @Test func aReferenceOfTheWrongTypeIsADeadLetterNotACrash() throws {
        let system = try ActorSystem()
        defer { system.close() }
        let recorder = system.start { Recorder(log: Log()) }
        let forged = ActorRef<String>(uid: recorder.uid)!
        forged.tell("not a note, and long enough to be allocated on the heap")
        #expect(eventually { system.statistics.deadLetters == 1 })
    }

    /// Counts its living instances.
    final class Payload: Sendable {
        static let living = Atomic(0)
        init() { Self.living.add(1, ordering: .relaxed) }
        deinit { Self.living.subtract(1, ordering: .relaxed) }
    }

    struct Parcel: WireMessage {
        let payload: Payload
        static let travelsByReference = true
        init() { payload = Payload() }
        func encode(into writer: inout WireWriter) { writer.write(7 as UInt8) }
        init(from reader: inout WireReader) throws {
            _ = try reader.read(UInt8.self)
            payload = Payload()
        }
        var accountedByteCount: Int { 1 }
    }

    struct Receiver: Actor {
        let log: Log
        mutating func receive(_ message: Parcel, _ context: ActorContext<Parcel>) { log.append(1) }
    }

    @Test func messagesAreReleasedWhetherHandledDroppedOrLeftOver() throws {
        let log = Log()
        do {
            let system = try ActorSystem(loops: 2)
            let receiver = system.start { Receiver(log: log) }
            for _ in 0..<1000 { receiver.tell(Parcel()) }
            #expect(eventually { log.all.count == 1000 })
            system.stop(receiver)
            for _ in 0..<1000 { receiver.tell(Parcel()) }
            system.close()
            for _ in 0..<10 { receiver.tell(Parcel()) }
        }
        #expect(eventually { Payload.living.load(ordering: .relaxed) == 0 })
    }

    @Test func pairRatesAreExactWhenLowAndNeverTooLow() {
        var rates = PairRates()
        var now: Int64 = 5_000_000_000
        var greatest = 0
        for _ in 0..<100 {
            greatest = max(greatest, rates.record(1, 0, 2, now: now))
            now += 105_000_000
        }
        #expect(greatest == 10)
        for i in 0..<500 { #expect(rates.record(1, 0, 3, now: now + Int64(i) * 1_000_000) == i + 1) }
        #expect(rates.record(1, 0, 3, now: now + 60_000_000_000) == 1)
        #expect(rates.record(1, 1, 3, now: now) == 1)
    }

    @Test func truncatedMessagesAreErrors() {
        #expect(throws: WireError.truncated) {
            try [UInt8](arrayLiteral: 1, 2).withUnsafeBytes { try UInt64.decode($0) }
        }
        #expect(throws: WireError.truncated) {
            try [UInt8](arrayLiteral: 0xFF, 0xFF, 0xFF, 0x7F, 1).withUnsafeBytes { try String.decode($0) }
        }
        #expect(throws: WireError.self) { try [UInt8](arrayLiteral: 2).withUnsafeBytes { try Bool.decode($0) } }
        #expect(throws: WireError.trailingBytes) {
            try [UInt8](arrayLiteral: 1, 1).withUnsafeBytes { try Bool.decode($0) }
        }
    }
}
