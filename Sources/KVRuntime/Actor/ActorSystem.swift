// The actor system of a process: its loops, its actors, its links to other systems. Any thread.

import CSupport
import Glibc
import KVBase

/// Runs actors on one or more event loops, delivers their messages, and talks to other systems over TCP.
public final class ActorSystem: @unchecked Sendable {
    let addressId: UInt32
    /// Where other systems reach this one, or a made-up name if it does not listen.
    public let address: String
    let loops: [Loop]
    let asks = AskTable()
    /// Counters of threads that run no loop of ours; shared additions.
    let external: UnsafeMutablePointer<ActorCounters>
    /// One per loop; immutable, so that tellers on any thread read them without a lock.
    private let table: UnsafeMutablePointer<Unmanaged<LoopActors>>
    private let loopCount: UInt64

    private struct Mutable {
        var started: UInt64 = 0
        var startedPerLoop: [UInt64]
        var threads: [LoopThread] = []
        var isClosed = false
        var onFailure: @Sendable (ActorFailure) -> Void = { Machine.writeStandardError("\($0)") }
    }

    private let mutable: Locked<Mutable>
    /// Set before the system is published, immutable then.
    private(set) var transport: RemoteTransport?

    /// A system on loops that the caller runs and stops. `remote` makes it reachable and able to reach others.
    package init(address: String, loops: [Loop], remote: RemoteConfiguration? = nil) throws {
        precondition(!loops.isEmpty && loops.count <= Limits.actorsMax)
        guard address.utf8.count <= SystemRegistry.addressBytesMax, let id = SystemRegistry.intern(address) else {
            throw ActorSystemError.unusableAddress(address)
        }
        self.address = address
        self.loops = loops
        addressId = id
        loopCount = UInt64(loops.count)
        mutable = Locked(Mutable(startedPerLoop: Array(repeating: 0, count: loops.count)))
        external = .allocate(capacity: 1)
        external.initialize(to: ActorCounters())
        table = .allocate(capacity: loops.count)
        for (i, loop) in loops.enumerated() {
            (table + i).initialize(to: Unmanaged.passRetained(LoopActors(system: self, loop: loop)))
        }
        if let remote { transport = try RemoteTransport(system: self, loop: loops[0], configuration: remote) }
        guard SystemRegistry.register(self, id) else { throw ActorSystemError.addressInUse(address) }
    }

    deinit {
        for i in 0..<Int(loopCount) { table[i].release() }
        table.deallocate()
        external.deallocate()
    }

    /// A system with its own threads, for one process alone.
    public convenience init(loops count: Int = 1) throws {
        try self.init(address: "local-\(String(cs_random(), radix: 16))", loops: try Self.makeLoops(count))
        startThreads()
    }

    /// A system with its own threads that other systems reach at `listen` (`host:port`, port 0 for any), or under the
    /// name `advertise` if that is different. Only systems of the same `cluster` talk to each other, and only those
    /// that prove what `trust` asks: by default nothing.
    public convenience init(
        listen: String, advertise: String? = nil, cluster: String = "", trust: LinkTrust = .network,
        loops count: Int = 1
    ) throws {
        let loops = try Self.makeLoops(count)
        let remote = try RemoteConfiguration(listen: listen, cluster: cluster, trust: trust, loop: loops[0])
        try self.init(address: advertise ?? remote.boundAddress, loops: loops, remote: remote)
        startThreads()
    }

    private static func makeLoops(_ count: Int) throws -> [Loop] {
        guard count > 0, count <= Limits.actorsMax else { throw ActorSystemError.loopCount(count) }
        let backend = try LoopBackend.select(.auto).backend
        return try (0..<count).map { try Loop(backend: backend, index: $0) }
    }

    private func startThreads() {
        let threads = loops.map { LoopThread(loop: $0, name: "actors-\($0.index)") }
        mutable.withLock { $0.threads = threads }
        for thread in threads { thread.start() }
    }

    // MARK: Actors

    /// Starts an actor. The factory runs on the actor's loop, so it must not capture anything mutable (the compiler
    /// checks). By default the loops take turns; `on` chooses one by its position.
    public func start<A: Actor>(on loop: Int? = nil, _ factory: @escaping @Sendable () -> A) -> ActorRef<A.Message> {
        start(on: loop, TypedCell<A>.Factory.plain(factory))
    }

    /// As the other `start`, for actors that want to know their context from the beginning.
    public func start<A: Actor>(
        on loop: Int? = nil, _ factory: @escaping @Sendable (ActorContext<A.Message>) -> A
    ) -> ActorRef<A.Message> {
        start(on: loop, TypedCell<A>.Factory.contextual(factory))
    }

    private func start<A: Actor>(on loop: Int?, _ factory: TypedCell<A>.Factory) -> ActorRef<A.Message> {
        let counter = nextCounter(on: loop)
        let cell: ActorCell = TypedCell<A>(counter: counter, factory: factory)
        let actors = actors(for: counter)
        let envelope = Envelope.allocate(
            to: Unmanaged.fromOpaque(actors.toOpaque()), sender: 0, target: counter, kind: EnvelopeKind.install,
            payload: MemoryLayout<Unmanaged<ActorCell>>.size)
        Envelope.payload(envelope).initializeMemory(
            as: Unmanaged<ActorCell>.self, repeating: Unmanaged.passRetained(cell), count: 1)
        Delivery.send(envelope, actors)
        return ActorRef(addressId: addressId, counter: counter)
    }

    /// The counter says which loop: `(counter - 1) % loops`. So routing needs no table, and the first actors, started
    /// one per loop, are numbered from 1 in the order of the loops.
    private func nextCounter(on loop: Int?) -> UInt64 {
        mutable.withLock { state in
            let chosen = loop.map { $0 % loops.count } ?? Int(state.started % loopCount)
            state.started += 1
            let counter = 1 + UInt64(chosen) + loopCount * state.startedPerLoop[chosen]
            state.startedPerLoop[chosen] += 1
            return counter
        }
    }

    func actors(for counter: UInt64) -> Unmanaged<LoopActors> { table[Int((counter &- 1) % loopCount)] }

    /// Stops an actor of this system after the messages told before.
    public func stop<M>(_ ref: ActorRef<M>) {
        guard ref.addressId == addressId, ref.counter & Delivery.askBit == 0 else { return }
        let actors = actors(for: ref.counter)
        let envelope = Envelope.allocate(
            to: Unmanaged.fromOpaque(actors.toOpaque()), sender: 0, target: ref.counter, kind: EnvelopeKind.stop,
            payload: 0)
        Delivery.send(envelope, actors)
    }

    /// Tells as this system: to its own actors directly, to others over the network. From any thread.
    public func tell<M>(_ ref: ActorRef<M>, _ message: M) {
        if ref.addressId == addressId { return ref.tell(message) }
        tellRemote(ref, message, from: ActingActor())
    }

    /// Tells in `after` milliseconds, unless the system closes before.
    public func tell<M>(_ ref: ActorRef<M>, _ message: M, after millis: Int64) {
        loops[0].perform { [self] in
            Loop.current?.schedule(afterMillis: millis) { [self] in tell(ref, message) }
        }
    }

    public func isLocal<M>(_ ref: ActorRef<M>) -> Bool { ref.addressId == addressId }

    // MARK: Errors and figures

    /// Replaces the handler of errors thrown by actors and of undecodable messages, which by default writes one line
    /// to standard error. Called on the actor's loop: it must not block.
    public func onError(_ handler: @escaping @Sendable (ActorFailure) -> Void) {
        mutable.withLock { $0.onFailure = handler }
    }

    func report(_ failure: ActorFailure) {
        let handler = mutable.withLock { $0.onFailure }
        handler(failure)
    }

    /// Sums over all loops; any thread, a little behind.
    public var statistics: ActorSystemStatistics {
        var total = ActorSystemStatistics()
        total.add(external)
        for i in 0..<Int(loopCount) { table[i]._withUnsafeGuaranteedRef { total.add($0.counters) } }
        transport?.addStatistics(to: &total)
        return total
    }

    func countReply() {
        cs_counter_add_shared(&external.pointee.repliesSent, 1)
    }

    func countDeadLetter() {
        cs_counter_add_shared(&external.pointee.deadLetters, 1)
    }

    // MARK: Closing

    /// Stops every actor, drops what they have not handled, fails asks under way and ends links and threads. Not from
    /// a loop.
    public func close() {
        precondition(Loop.current == nil, "an actor cannot close its own system")
        let threads = mutable.withLock { state -> [LoopThread]? in
            if state.isClosed { return nil }
            state.isClosed = true
            defer { state.threads = [] }
            return state.threads
        }
        guard let threads else { return }
        if threads.isEmpty { closeOnForeignLoops() } else { closeWithThreads(threads) }
        asks.close()
        SystemRegistry.unregister(self, addressId)
    }

    private func closeWithThreads(_ threads: [LoopThread]) {
        // First, or links would try to reconnect while their loop ends.
        if let transport { loops[0].perform { transport.close() } }
        for thread in threads { thread.loop.stop() }
        for thread in threads { try? thread.join() }
        for i in 0..<Int(loopCount) { table[i]._withUnsafeGuaranteedRef { $0.close() } }
    }

    /// The loops may still run, or have ended.
    private func closeOnForeignLoops() {
        let done = SystemSemaphore()
        for i in 0..<Int(loopCount) {
            let actors = UInt(bitPattern: table[i].toOpaque())
            let close: @Sendable () -> Void = { [transport] in
                if i == 0 { transport?.close() }
                let pointer = UnsafeRawPointer(bitPattern: actors)!
                Unmanaged<LoopActors>.fromOpaque(pointer)._withUnsafeGuaranteedRef { $0.close() }
                done.post()
            }
            if !loops[i].perform(close) { close() }
        }
        for _ in 0..<loopCount { done.wait() }
    }
}

/// Why an actor system could not be made.
public enum ActorSystemError: Error, Equatable, CustomStringConvertible, Sendable {
    case unusableAddress(String)
    case addressInUse(String)
    case loopCount(Int)

    public var description: String {
        switch self {
        case .unusableAddress(let address): "\(address) cannot be the address of an actor system"
        case .addressInUse(let address): "an actor system with the address \(address) runs in this process already"
        case .loopCount(let count): "\(count) loops: between 1 and \(Limits.actorsMax) are possible"
        }
    }
}
