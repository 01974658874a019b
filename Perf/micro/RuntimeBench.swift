// Figures of the runtime: the MPSC queue, turns, tells between loops, asks. Several threads, quiet machine.

import CMemory
import CSupport
import Glibc
import KVBase
import KVRuntime

enum RuntimeBench {
    static let usage = "all|mpsc|turn|tell|ask"
    static let samples = 7

    static func run(_ arguments: [String]) -> Bool {
        guard let figure = arguments.first else { return false }
        switch figure {
        case "all":
            mpsc()
            turn()
            tell()
            ask()
        case "mpsc": mpsc()
        case "turn": turn()
        case "tell": tell()
        case "ask": ask()
        default: return false
        }
        return true
    }

    private static func report(_ name: String, _ values: [Double], _ unit: String) {
        let sorted = values.sorted()
        func text(_ value: Double) -> String { String(Double(Int(value * 10)) / 10) }
        print("\(name): \(text(sorted[sorted.count / 2])) \(unit) (\(text(sorted[0])) to \(text(sorted.last!)))")
    }

    // MARK: The queue

    typealias Nodes = UnsafeMutablePointer<cs_node>

    private static func queue() -> UnsafeMutablePointer<cs_mpsc> {
        var memory: UnsafeMutableRawPointer?
        precondition(posix_memalign(&memory, 64, MemoryLayout<cs_mpsc>.size) == 0)
        let queue = memory!.assumingMemoryBound(to: cs_mpsc.self)
        cs_mpsc_init(queue)
        return queue
    }

    /// One node per cache line, as messages have it.
    private static func nodes(_ count: Int) -> UnsafeMutableRawPointer {
        var memory: UnsafeMutableRawPointer?
        precondition(posix_memalign(&memory, 64, count * 64) == 0)
        memset(memory!, 0, count * 64)
        return memory!
    }

    private static func node(_ nodes: UnsafeMutableRawPointer, _ index: Int) -> Nodes {
        (nodes + index * 64).assumingMemoryBound(to: cs_node.self)
    }

    static func mpsc() {
        report("MPSC push then pop, one thread", (0..<samples).map { _ in oneThread() }, "ns per pair")
        // A loop that finds its queue empty comes back a turn later, a microsecond at least. Without that rest both
        // ends fight for the same lines of the cache, message by message.
        for (chain, rest, polled) in [(1, 1000, "each microsecond"), (1, 0, "without rest"), (8, 0, "without rest")] {
            for producers in [1, 2, 4] {
                let values = (0..<samples).map { _ in acrossThreads(producers, chain: chain, restNanos: Nanos(rest)) }
                report(
                    "MPSC push and pop, \(producers) producers, chains of \(chain), polled \(polled)", values,
                    "ns per message")
            }
        }
    }

    private static func oneThread() -> Double {
        let (queue, count, rounds) = (queue(), 1000, 2000)
        let memory = nodes(count)
        defer {
            free(queue)
            free(memory)
        }
        let start = monotonicNanos()
        for _ in 0..<rounds {
            for i in 0..<count { _ = cs_mpsc_push(queue, node(memory, i)) }
            for _ in 0..<count { precondition(cs_mpsc_pop(queue) != nil) }
        }
        return Double(monotonicNanos() - start) / Double(count * rounds)
    }

    /// Wall time per message, from the first push to the last pop; the consumer polls, and rests when it found nothing.
    private static func acrossThreads(_ producers: Int, chain: Int, restNanos: Nanos) -> Double {
        let queue = UInt(bitPattern: queue())
        let perProducer = 1_000_000 / producers / chain * chain
        let memories = (0..<producers).map { _ in UInt(bitPattern: nodes(perProducer)) }
        let start = monotonicNanos()
        let threads = memories.map { memory in
            Threads.start {
                let queue = UnsafeMutablePointer<cs_mpsc>(bitPattern: queue)!
                let memory = UnsafeMutableRawPointer(bitPattern: memory)!
                for first in stride(from: 0, to: perProducer, by: chain) {
                    for i in first..<first + chain - 1 { node(memory, i).pointee.next = node(memory, i + 1) }
                    _ = cs_mpsc_push_chain(queue, node(memory, first), node(memory, first + chain - 1))
                }
            }
        }
        let mine = UnsafeMutablePointer<cs_mpsc>(bitPattern: queue)!
        var left = perProducer * producers
        while left > 0 {
            if cs_mpsc_pop(mine) != nil {
                left -= 1
            } else if restNanos > 0 {
                let until = cs_monotonic_nanos() + restNanos
                while cs_monotonic_nanos() < until {}
            }
        }
        let elapsed = Double(monotonicNanos() - start)
        for thread in threads { pthread_join(thread, nil) }
        for memory in memories { free(UnsafeMutableRawPointer(bitPattern: memory)) }
        free(mine)
        return elapsed / Double(perProducer * producers)
    }

    // MARK: Turns

    /// A turn that was asked for at once and finds nothing to do: what cutting work into slices costs a slice.
    static func turn() {
        let all = LoopBackend.ioUringRefusal() == nil ? LoopBackend.allCases : [.epoll]
        for backend in all {
            report("turn asked for, \(backend)", (0..<samples).map { _ in oneTurn(backend) }, "ns")
        }
    }

    private static func oneTurn(_ backend: LoopBackend) -> Double {
        guard let loop = try? Loop(backend: backend) else { fatalError("no loop with \(backend)") }
        let count = 10_000
        var (turns, start, end) = (0, 0, 0)
        loop.onTurnEnd { [unowned loop] in
            turns += 1
            if turns == count { start = monotonicNanos() }
            if turns == 2 * count { end = monotonicNanos() }
            turns < 2 * count ? loop.requestTurn() : loop.stop()
        }
        loop.requestTurn()
        do { try loop.run() } catch { fatalError("\(error)") }
        return Double(end - start) / Double(count)
    }

    // MARK: Actors

    /// A message of the size of a small command.
    struct Parcel: WireMessage {
        var number: UInt64
        var reply: UInt64 = 0
        var more: (UInt64, UInt64) = (0, 0)
        init(_ number: UInt64) { self.number = number }
        func encode(into writer: inout WireWriter) { writer.write(number) }
        init(from reader: inout WireReader) throws { number = try reader.read() }
    }

    struct Sink: Actor {
        var received: UInt64 = 0
        mutating func receive(_ message: Parcel, _ context: ActorContext<Parcel>) { received &+= message.number }
    }

    /// Sends bursts to the sink and tells how long each tell took it, until it has had enough.
    struct Burst: Actor {
        static let tells = 1000
        let sink: ActorRef<Parcel>
        let results: Locked<[Double]>
        var left = 400

        mutating func receive(_ message: Parcel, _ context: ActorContext<Parcel>) {
            // Messages lie in huge pages, as those of a server's loops do.
            if left == 400 { _ = cm_warm_this_thread(-1) }
            let start = monotonicNanos()
            for i in 0..<Self.tells { sink.tell(Parcel(UInt64(i))) }
            let nanos = Double(monotonicNanos() - start) / Double(Self.tells)
            results.withLock { $0.append(nanos) }
            left -= 1
            if left > 0 { context.me.tell(message) }
        }
    }

    static func tell() {
        for (name, loop) in [("to a busy actor on another loop", 1), ("on the same loop", 0)] {
            let system = try! ActorSystem(loops: 2)
            let results = Locked<[Double]>([])
            let sink = system.start(on: loop) { Sink() }
            let burst = system.start(on: 0) { Burst(sink: sink, results: results) }
            burst.tell(Parcel(0))
            while results.withLock({ $0.count }) < 400 { usleep(1000) }
            // The first quarter warms up; the mean of what is left includes the chains pushed on the way.
            report("tell \(name)", Array(results.withLock { $0 }[100...]), "ns of sender time")
            system.close()
        }
    }

    static func ask() {
        struct Echo: Actor {
            func receive(_ message: Question, _ context: ActorContext<Question>) {
                message.replyTo.tell(message.number)
            }
        }
        struct Question: WireMessage {
            var number: UInt64
            var replyTo: ActorRef<UInt64>
            func encode(into writer: inout WireWriter) {
                writer.write(number)
                replyTo.encode(into: &writer)
            }
            init(number: UInt64, replyTo: ActorRef<UInt64>) { (self.number, self.replyTo) = (number, replyTo) }
            init(from reader: inout WireReader) throws {
                number = try reader.read()
                replyTo = try ActorRef(from: &reader)
            }
        }
        let system = try! ActorSystem(loops: 1)
        let echo = system.start { Echo() }
        let done = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
        sem_init(done, 0, 0)
        let signal = UInt(bitPattern: done)
        let results = Locked<[Double]>([])
        Task {
            for _ in 0..<samples {
                let start = monotonicNanos()
                for i in 0..<2000 {
                    let answer: UInt64 = try await system.ask(echo) { Question(number: UInt64(i), replyTo: $0) }
                    precondition(answer == UInt64(i))
                }
                let micros = Double(monotonicNanos() - start) / 2000 / 1000
                results.withLock { $0.append(micros) }
            }
            sem_post(UnsafeMutablePointer<sem_t>(bitPattern: signal)!)
        }
        sem_wait(done)
        report("ask from outside, round trip", results.withLock { $0 }, "µs")
        system.close()
    }
}

/// Threads that run one closure.
enum Threads {
    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    static func start(_ body: @escaping @Sendable () -> Void) -> pthread_t {
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Body(body))
        let result = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        precondition(result == 0)
        return thread
    }
}
