// Real producer threads against the mailbox and the loop's inbox: nothing lost, nothing reordered, nobody left asleep.

import CSupport
import Glibc
import KVBase
import Synchronization
import KVTestTraits
import Testing

@testable import KVRuntime

/// Runs `body(0) … body(count - 1)`, each on a thread of its own, and waits for all.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    final class Start: Sendable {
        let body: @Sendable (Int) -> Void
        let index: Int
        init(_ body: @escaping @Sendable (Int) -> Void, _ index: Int) { (self.body, self.index) = (body, index) }
    }
    var threads: [pthread_t] = []
    for index in 0..<count {
        var thread = pthread_t()
        let box = Unmanaged.passRetained(Start(body, index))
        let result = pthread_create(
            &thread, nil,
            { argument in
                let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
                start.body(start.index)
                return nil
            }, box.toOpaque())
        precondition(result == 0)
        threads.append(thread)
    }
    for thread in threads { pthread_join(thread, nil) }
}

/// Fewer rounds when a sanitizer makes each of them twenty times slower.
let rounds = cs_is_sanitized() != 0 ? 1 : 10

let backends: [LoopBackend] = LoopBackend.ioUringRefusal() == nil ? [.ioUring, .epoll] : [.epoll]

func node(_ producer: Int, _ value: Int) -> Mailbox.Node {
    let receiver = Unmanaged<InboxReceiver>.fromOpaque(UnsafeRawPointer(bitPattern: 8)!)
    let envelope = Envelope.allocate(
        to: receiver, sender: UInt64(producer), target: UInt64(value), kind: 0, payload: 0)
    return Envelope.node(envelope)
}

func opened(_ node: Mailbox.Node) -> (producer: Int, value: Int) {
    let envelope = Envelope.of(node)
    defer { Envelope.deallocate(envelope) }
    return (Int(envelope.pointee.sender), Int(envelope.pointee.target))
}

@Suite(.blocking, .serialized) struct MailboxStressTests {
    /// Sleeps on a semaphore when idle, as a loop does on its eventfd.
    final class Sleeper: @unchecked Sendable {
        private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
        init() { sem_init(semaphore, 0, 0) }
        deinit {
            sem_destroy(semaphore)
            semaphore.deallocate()
        }
        func wake() { sem_post(semaphore) }
        /// Until a producer wakes; no polling.
        func sleep() { while sem_wait(semaphore) != 0 && errno == EINTR {} }
    }

    @Test(arguments: [1, 2, 4, 8]) func everyProducersOrderHoldsAndNobodySleepsForEver(_ producers: Int) {
        let perProducer = 10_000 * rounds
        let sleeper = Sleeper()
        let mailbox = Mailbox(wake: { sleeper.wake() })
        onThreads(producers + 1) { index in
            if index < producers {
                var generator = PRNG(seed: UInt64(index))
                var value = 0
                while value < perProducer {
                    // Chains of one to five, with pauses that let the consumer fall asleep.
                    let length = min(1 + generator.below(5), perProducer - value)
                    let nodes = (0..<length).map { node(index, value + $0) }
                    for (a, b) in zip(nodes, nodes.dropFirst()) { a.pointee.next = b }
                    precondition(mailbox.push(first: nodes.first!, last: nodes.last!) != .closed)
                    value += length
                    if generator.chance(0.01) { sched_yield() }
                }
                return
            }
            var expected = [Int](repeating: 0, count: producers)
            var total = 0
            while total < producers * perProducer {
                if let next = mailbox.pop() {
                    let (producer, value) = opened(next)
                    precondition(
                        expected[producer] == value, "producer \(producer): \(value), not \(expected[producer])")
                    expected[producer] += 1
                    total += 1
                } else if mailbox.prepareToWait() {
                    sleeper.sleep()  // not a poll: the wake-up under test ends it
                    mailbox.waited()
                }
            }
            precondition(mailbox.pop() == nil)
        }
    }

    @Test(arguments: backends) func aSleepingLoopIsWokenByEveryFirstMessage(_ backend: LoopBackend) throws {
        let loop = try Loop(backend: backend)
        let thread = LoopThread(loop: loop)
        thread.start()
        onThreads(2) { index in
            for i in 0..<(2000 * rounds) {
                let mine = Flag()
                loop.perform { mine.set() }
                let deadline = cs_monotonic_nanos() + 20_000_000_000
                while !mine.isSet {
                    precondition(cs_monotonic_nanos() < deadline, "\(backend): thread \(index) round \(i) never ran")
                    if i % 3 == 0 { sched_yield() } else { usleep(1) }  // poll
                }
            }
        }
        try thread.stopAndJoin()
    }

    final class Flag: Sendable {
        private let flag = Atomic(false)
        func set() { flag.store(true, ordering: .releasing) }
        var isSet: Bool { flag.load(ordering: .acquiring) }
    }

    @Test(arguments: backends) func stopRacesWithPerformWithoutLeaksOrHangs(_ backend: LoopBackend) throws {
        for _ in 0..<(5 * rounds) {
            let loop = try Loop(backend: backend)
            let thread = LoopThread(loop: loop)
            thread.start()
            let refused = Atomic(0)
            onThreads(3) { index in
                if index == 2 { return loop.stop() }
                for _ in 0..<200 {
                    if !loop.perform({}) { refused.add(1, ordering: .relaxed) }
                }
            }
            try thread.join()
            #expect(!loop.perform {})
        }
    }
}
