// Actors under real parallel load: conservation and order of cross-loop tells, asks from many tasks, closing in the
// middle.

import CSupport
import Glibc
import KVBase
import Synchronization
import KVTestTraits
import Testing

@testable import KVRuntime

/// A number with the way it has to go.
struct Hop: WireMessage {
    var origin: Int
    var value: Int
    var replyTo: ActorRef<Int>?

    init(origin: Int, value: Int, replyTo: ActorRef<Int>? = nil) {
        self.origin = origin
        self.value = value
        self.replyTo = replyTo
    }

    func encode(into writer: inout WireWriter) {
        writer.write(Int64(origin))
        writer.write(Int64(value))
        writer.write(replyTo != nil)
        replyTo?.encode(into: &writer)
    }

    init(from reader: inout WireReader) throws {
        origin = Int(try reader.read(Int64.self))
        value = Int(try reader.read(Int64.self))
        replyTo = try reader.readBool() ? try ActorRef(from: &reader) : nil
    }
}

/// Checks that each origin's values come as 0, 1, 2, … and passes them on to the next actor, if any. Of what came by a
/// link some may be missing, where that was lost; the order stays.
struct Relay: Actor {
    let next: ActorRef<Hop>?
    let seen: Locked<Int>
    let isByLink: Bool
    var expected: [Int: Int] = [:]

    init(next: ActorRef<Hop>?, seen: Locked<Int>, isByLink: Bool = false) {
        (self.next, self.seen, self.isByLink) = (next, seen, isByLink)
    }

    mutating func receive(_ message: Hop, _ context: ActorContext<Hop>) {
        if let replyTo = message.replyTo { return replyTo.tell(message.value) }
        let wanted = expected[message.origin, default: 0]
        precondition(
            wanted == message.value || isByLink && wanted < message.value,
            "origin \(message.origin): \(message.value), not \(wanted)")
        expected[message.origin] = message.value + 1
        next?.tell(message)
        seen.withLock { $0 += 1 }
    }
}

func makeSystem(_ backend: LoopBackend, loops count: Int) throws -> (ActorSystem, [LoopThread]) {
    let loops = try (0..<count).map { try Loop(backend: backend, index: $0) }
    let system = try ActorSystem(address: "stress-\(Machine.random())", loops: loops)
    let threads = loops.map { LoopThread(loop: $0) }
    for thread in threads { thread.start() }
    return (system, threads)
}

func waitFor(seconds: Double = 60, _ condition: () -> Bool) -> Bool {
    let deadline = cs_monotonic_nanos() + Int64(seconds * 1e9)
    while !condition() {
        if cs_monotonic_nanos() > deadline { return false }
        usleep(500)  // poll again
    }
    return true
}

@Suite(.blocking, .serialized) struct ActorStressTests {
    @Test(arguments: backends) func chainsAcrossLoopsLoseAndReorderNothing(_ backend: LoopBackend) throws {
        let (system, threads) = try makeSystem(backend, loops: 3)
        let seen = Locked(0)
        // A ring road over all loops: each actor passes on to one on another loop.
        var next: ActorRef<Hop>?
        for i in 0..<6 {
            let target = next
            next = system.start(on: i) { Relay(next: target, seen: seen) }
        }
        let entry = next!
        let perThread = 1000 * rounds
        onThreads(4) { index in
            for i in 0..<perThread { entry.tell(Hop(origin: index, value: i)) }
        }
        let expected = 4 * perThread * 6
        #expect(waitFor { seen.withLock { $0 } == expected })
        #expect(waitFor { system.statistics.delivered == UInt64(expected) })
        let statistics = system.statistics
        #expect(statistics.messagesSentExternal == UInt64(4 * perThread))
        #expect(statistics.messagesSentActor == UInt64(expected - 4 * perThread))
        #expect(statistics.deadLetters == 0)
        system.close()
        for thread in threads { try thread.stopAndJoin() }
    }

    @Test(arguments: backends) func everyAskGetsItsOwnAnswer(_ backend: LoopBackend) async throws {
        let (system, threads) = try makeSystem(backend, loops: 2)
        let actors = (0..<2).map { system.start(on: $0) { Relay(next: nil, seen: Locked(0)) } }
        let perTask = 200 * rounds
        try await withThrowingTaskGroup(of: Void.self) { group in
            for task in 0..<8 {
                group.addTask {
                    for i in 0..<perTask {
                        let value = task * 1_000_000 + i
                        let answer: Int = try await system.ask(actors[i % 2], timeoutMillis: 60_000) {
                            Hop(origin: 0, value: value, replyTo: $0)
                        }
                        #expect(answer == value)
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(system.statistics.repliesSent == UInt64(8 * perTask))
        system.close()
        for thread in threads { try thread.stopAndJoin() }
    }

    @Test(arguments: backends) func closingUnderFireNeitherHangsNorCrashes(_ backend: LoopBackend) throws {
        for round in 0..<(3 * rounds) {
            let (system, threads) = try makeSystem(backend, loops: 2)
            let seen = Locked(0)
            let second = system.start(on: 1) { Relay(next: nil, seen: seen) }
            let first = system.start(on: 0) { Relay(next: second, seen: seen) }
            let go = Atomic(false)
            onThreads(4) { index in
                if index == 3 {
                    while !go.load(ordering: .acquiring) { sched_yield() }
                    if round % 2 == 0 { system.stop(second) }
                    system.close()
                    for thread in threads { try! thread.stopAndJoin() }
                    return
                }
                for i in 0..<2000 {
                    first.tell(Hop(origin: index, value: i))
                    if i == 1000 { go.store(true, ordering: .releasing) }
                }
            }
            #expect(seen.withLock { $0 } <= 12_000)
        }
    }

    @Test(arguments: backends) func twoSystemsTalkBothWaysInParallel(_ backend: LoopBackend) throws {
        func node() throws -> (ActorSystem, [LoopThread]) {
            let loops = try (0..<2).map { try Loop(backend: backend, index: $0) }
            let remote = try RemoteConfiguration(
                listen: SocketAddress(host: "127.0.0.1", port: 0)!, cluster: "stress", loop: loops[0])
            let system = try ActorSystem(address: remote.boundAddress, loops: loops, remote: remote)
            let threads = loops.map { LoopThread(loop: $0) }
            for thread in threads { thread.start() }
            return (system, threads)
        }
        let (a, b) = (try node(), try node())
        // A machine that does nothing for ten seconds ends a link, with what was under way.
        let isLost = Locked(false)
        for (system, _) in [a, b] {
            system.onLinkEvent { event in if case .up = event { return } else { isLost.withLock { $0 = true } } }
        }
        let (seenA, seenB) = (Locked(0), Locked(0))
        let inA = a.0.start(on: 1) { Relay(next: nil, seen: seenA, isByLink: true) }
        let inB = b.0.start(on: 1) { Relay(next: nil, seen: seenB, isByLink: true) }
        let relayA = a.0.start(on: 0) { Relay(next: inB, seen: Locked(0)) }
        let relayB = b.0.start(on: 0) { Relay(next: inA, seen: Locked(0)) }
        let perThread = 300 * rounds
        onThreads(4) { index in
            let relay = index % 2 == 0 ? relayA : relayB
            for i in 0..<perThread { relay.tell(Hop(origin: index, value: i)) }
        }
        func hasLost() -> Bool {
            isLost.withLock { $0 } || a.0.statistics.remoteDropped + b.0.statistics.remoteDropped > 0
        }
        #expect(
            waitFor {
                hasLost() || seenA.withLock { $0 } == 2 * perThread && seenB.withLock { $0 } == 2 * perThread
            })
        if hasLost() { print("twoSystemsTalkBothWaysInParallel: a link was lost; only the order was looked at") }
        for (system, threads) in [a, b] {
            system.close()
            for thread in threads { try thread.stopAndJoin() }
        }
    }
}
