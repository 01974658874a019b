// One thread's load: its connections, its epoll loop, its latency recorders. Runs on its own thread from start to stop.

import CPerf
import Foundation
import KVBase
import KVRuntime
import Synchronization

enum Pace: Sendable {
    /// Each connection keeps one batch of this many requests under way and sends the next when all are answered.
    case closed(depth: Int)
    /// Requests start at their appointed times whatever the server does; latency counts from that time.
    /// Operations a second, `burst` of them due at the same moment.
    case open(ratePerSecond: Double, poisson: Bool, burst: Int = 1)

    /// One operation a nanosecond.
    static let rateMax = 1e9
}

struct EnginePlan: Sendable {
    var endpoints: [Endpoint]
    /// Endpoint of each connection.
    var connections: [Int]
    var pace: Pace
    var workload: Workload
    var engine = 0
    var engines = 1
    /// Operations after which this engine stops by itself; nil: when told.
    var quota: Int?
    /// Instead of the mix, SET every key once.
    var isLoading = false
    var cpu: Int?
    var spins = false
}

enum RunPhase: Int, Sendable { case warmUp, measuring, stopping }

/// What the controlling thread and the engines tell each other.
final class RunControl: Sendable {
    let phase = Atomic<Int>(RunPhase.warmUp.rawValue)
    let connected = Atomic<Int>(0)
    let go = Atomic<Bool>(false)
}

final class EngineProgress: Sendable {
    /// Since the engine's start, without those that were answered with an error.
    let operations = Atomic<Int>(0)
    let requests = Atomic<Int>(0)
    let finished = Atomic<Bool>(false)
}

/// Filled by the engine's thread, read after it was joined.
final class EngineResult: @unchecked Sendable {
    /// By endpoint, then by operation.
    var recorders: [[Recorder]] = []
    var requests: [Int] = []
    var errors = 0
    var misses = 0
    var unanswered = 0
    /// Inserts, those of earlier runs included.
    var nextInsert = 0
    var firstError: String?
    var failure: DriverError?

    func deallocate() { recorders.joined().forEach { $0.deallocate() } }
}

struct Pending {
    var start: Int
    var operation: Operation
}

struct LoadConnection {
    var fd: Int32
    /// Of a connection with TLS, and what it has opened last.
    var dialer: SecureDialer?
    var plain = OutputBuffer()
    var endpoint: Int
    var output = OutputBuffer(capacity: 4096)
    var sent = 0
    var counter: ReplyCounter
    /// Requests without a reply, oldest first; capacity is a power of two.
    var pending: UnsafeMutablePointer<Pending>
    var head = 0
    var tail = 0
    var waitsForRoom = false
    /// Beginning of a SCAN reply, for its cursor.
    var scanHead: [UInt8] = []
    var scanPattern = ""
}

struct Engine {
    private let plan: EnginePlan
    private let control: RunControl
    private let progress: EngineProgress
    private var writer: RequestWriter
    private let connections: UnsafeMutablePointer<LoadConnection>
    private let recorders: UnsafeMutablePointer<Recorder>
    private let requestsOf: UnsafeMutablePointer<Int>
    private let poller: Int32
    private let buffer: UnsafeMutableRawPointer
    private let pendingMask: Int
    private let depth: Int
    private let scans: Bool
    private let inserts: Bool

    private var operations = 0
    /// Operations answered with an error.
    private var refused = 0
    private var requests = 0
    private var issued = 0
    private var loadNext: Int
    private var phase = RunPhase.warmUp
    private var errorsBefore = 0
    private var missesBefore = 0
    private var firstError: String?
    private var failure: DriverError?
    private var nextDue = 0.0
    private var issuedOfBurst = 0
    private var nextConnection = 0

    private static let receiveBytes = 256 * 1024
    /// Requests an open-loop connection may have under way; beyond it the generator waits, which the latencies show.
    private static let openPendingMax = 1024
    private static let eventsMax = 512
    /// Portions in which requests that never started are recorded.
    private static let overduePortionsMax = 1_000_000
    private static let noSignal = Int32(MSG_NOSIGNAL)

    static func run(_ plan: EnginePlan, _ control: RunControl, _ progress: EngineProgress) -> EngineResult {
        let result = EngineResult()
        do {
            if let cpu = plan.cpu { try pin(to: cpu) }
            var engine = try Engine(plan, control, progress)
            control.connected.add(1, ordering: .sequentiallyConsistent)
            while !control.go.load(ordering: .acquiring) { usleep(100) }
            engine.loop()
            engine.finish(result)
        } catch {
            result.failure = error as? DriverError ?? DriverError("\(error)")
            control.connected.add(1, ordering: .sequentiallyConsistent)
        }
        progress.finished.store(true, ordering: .releasing)
        return result
    }

    private init(_ plan: EnginePlan, _ control: RunControl, _ progress: EngineProgress) throws {
        self.plan = plan
        self.control = control
        self.progress = progress
        writer = RequestWriter(plan.workload, engine: plan.engine, engines: plan.engines)
        loadNext = plan.engine
        scans = !plan.isLoading && plan.workload.asks(.scan)
        inserts = !plan.isLoading && plan.workload.asks(.insert)
        var capacity = Self.openPendingMax
        if case .closed(let depth) = plan.pace {
            self.depth = depth
            // A read-modify-write is two requests.
            capacity = 2
            while capacity < depth * 2 { capacity *= 2 }
        } else {
            depth = 0
        }
        pendingMask = capacity - 1
        buffer = .allocate(byteCount: Self.receiveBytes, alignment: 64)
        let slots = plan.endpoints.count * Operation.allCases.count
        recorders = .allocate(capacity: slots)
        for i in 0..<slots { (recorders + i).initialize(to: Recorder()) }
        requestsOf = .allocate(capacity: plan.endpoints.count)
        requestsOf.initialize(repeating: 0, count: plan.endpoints.count)
        poller = cperf_poller_create()
        guard poller >= 0 else { throw DriverError("epoll: \(errorText(-poller))") }
        connections = .allocate(capacity: plan.connections.count)
        for (i, endpoint) in plan.connections.enumerated() {
            let (fd, dialer) = try plan.endpoints[endpoint].connect()
            (connections + i).initialize(
                to: LoadConnection(
                    fd: fd, dialer: dialer, endpoint: endpoint, counter: ReplyCounter(plan.endpoints[endpoint].wire),
                    pending: .allocate(capacity: capacity)))
            _ = cperf_poller_watch(poller, fd, UInt32(i), 0, 1)
        }
    }

    private mutating func finish(_ result: EngineResult) {
        let now = monotonicNanos()
        if failure == nil { countOverdue(now, result) }
        for i in 0..<plan.connections.count {
            let c = connections + i
            result.errors += c.pointee.counter.errors
            result.misses += c.pointee.counter.misses
            if case .open = plan.pace {
                // A stalled server must not look better for it: what waits still, has waited at least this long.
                while c.pointee.head != c.pointee.tail {
                    record(c, c.pointee.pending[c.pointee.head & pendingMask], now)
                    c.pointee.head += 1
                    result.unanswered += 1
                }
            }
            close(c.pointee.fd)
            c.pointee.output.deallocate()
            c.pointee.plain.deallocate()
            c.pointee.pending.deallocate()
        }
        connections.deinitialize(count: plan.connections.count)
        connections.deallocate()
        close(poller)
        buffer.deallocate()
        result.nextInsert = writer.chooser.insertsEnd
        writer.deallocate()
        result.errors -= errorsBefore
        result.misses -= missesBefore
        result.firstError = firstError
        result.failure = failure
        let kinds = Operation.allCases.count
        result.recorders = plan.endpoints.indices.map { e in (0..<kinds).map { recorders[e * kinds + $0] } }
        result.requests = plan.endpoints.indices.map { requestsOf[$0] }
        recorders.deallocate()
        requestsOf.deallocate()
    }

    /// Open loop: what was due and found no connection with room has waited since then, too. Taken at the mean gap and,
    /// beyond a million, in portions: it takes no longer however many they are.
    private mutating func countOverdue(_ now: Int, _ result: EngineResult) {
        guard case .open(let rate, _, let burst) = plan.pace, nextDue <= Double(now) else { return }
        let gap = 1e9 / rate * Double(burst)
        let bursts = Int((Double(now) - nextDue) / gap) + 1
        let left = plan.quota.map { $0 - issued } ?? Int.max
        let due = min(bursts * burst - issuedOfBurst, left)
        let portion = max(1, due / Self.overduePortionsMax)
        for first in stride(from: 0, to: due, by: portion) {
            let start = nextDue + Double((first + issuedOfBurst) / burst) * gap
            let count = min(portion, due - first)
            let entry = Pending(start: Int(start), operation: writer.draw())
            record(connections + nextConnection, entry, now, count: UInt64(count))
            result.unanswered += count
            nextConnection = (nextConnection + 1) % plan.connections.count
        }
    }

    // The loop.

    private mutating func loop() {
        let isOpen = depth == 0
        nextDue = Double(monotonicNanos())
        // Before the first request: what is answered before the phase is known would be counted and not timed.
        adoptPhase()
        if !isOpen {
            for i in 0..<plan.connections.count { refill(i, monotonicNanos()) }
        }
        var ready = [cperf_ready](repeating: cperf_ready(), count: Self.eventsMax)
        while failure == nil {
            let timeout = isOpen ? issueDue() : 50_000_000
            let n = Int(cperf_poller_wait(poller, &ready, Int32(Self.eventsMax), plan.spins ? 0 : Int64(timeout)))
            if n < 0 {
                failure = DriverError("epoll: \(errorText(Int32(-n)))")
                return
            }
            for k in 0..<n {
                let i = Int(ready[k].token)
                if ready[k].flags & CPERF_READY_TO_WRITE != 0 { flush(i) }
                if ready[k].flags & CPERF_READY_TO_READ != 0 { receive(i) }
            }
            progress.operations.store(operations, ordering: .relaxed)
            progress.requests.store(requests, ordering: .relaxed)
            if let quota = plan.quota, operations &+ refused >= quota { return }
            adoptPhase()
            if phase == .stopping { return }
        }
    }

    private mutating func adoptPhase() {
        let told = control.phase.load(ordering: .relaxed)
        if told != phase.rawValue { change(to: RunPhase(rawValue: told) ?? .stopping) }
    }

    private mutating func change(to next: RunPhase) {
        phase = next
        guard next == .measuring else { return }
        for i in 0..<plan.endpoints.count * Operation.allCases.count { recorders[i].reset() }
        for i in plan.endpoints.indices { requestsOf[i] = 0 }
        errorsBefore = 0
        missesBefore = 0
        for i in 0..<plan.connections.count {
            errorsBefore += connections[i].counter.errors
            missesBefore += connections[i].counter.misses
        }
    }

    /// Appends one operation to connection `c` unless the quota or the keys are used up.
    @inline(__always)
    private mutating func issue(_ c: UnsafeMutablePointer<LoadConnection>, _ start: Int) -> Bool {
        if let quota = plan.quota, issued >= quota { return false }
        if inserts && writer.chooser.isUsedUp {
            failKeysUsedUp()
            return false
        }
        let wire = plan.endpoints[c.pointee.endpoint].wire
        var operation = Operation.set
        if plan.isLoading {
            guard loadNext < plan.workload.keys else { return false }
            writer.appendLoad(loadNext, wire, to: &c.pointee.output)
            loadNext += plan.engines
        } else if scans {
            operation = .scan
            c.pointee.scanPattern = writer.prefix() + "*"
            writer.appendScan(cursor: "0", pattern: c.pointee.scanPattern, to: &c.pointee.output)
        } else {
            operation = writer.append(wire, to: &c.pointee.output)
        }
        if operation == .modify { push(c, Pending(start: start, operation: .modifyRead)) }
        push(c, Pending(start: start, operation: operation))
        issued &+= 1
        return true
    }

    @inline(never)
    private mutating func failKeysUsedUp() {
        failure = DriverError(
            "keys are used up: inserts have filled all \(plan.workload.digits) digits; use a larger --key-size")
    }

    @inline(__always)
    private func push(_ c: UnsafeMutablePointer<LoadConnection>, _ entry: Pending) {
        c.pointee.pending[c.pointee.tail & pendingMask] = entry
        c.pointee.tail &+= 1
    }

    private mutating func refill(_ i: Int, _ now: Int) {
        let c = connections + i
        for _ in 0..<depth where !issue(c, now) { break }
        flush(i)
    }

    /// Sends what is due; returns nanoseconds until the next is.
    private mutating func issueDue() -> Int {
        guard case .open(let rate, let poisson, let burst) = plan.pace else { return 0 }
        let now = Double(monotonicNanos())
        let first = nextConnection
        var passed = 0
        // What is due goes out together: one send for each connection, however many are due.
        defer { for k in 0..<min(passed, plan.connections.count) { flush((first + k) % plan.connections.count) } }
        while nextDue <= now {
            guard issueNext(&passed) else { return 1_000_000 }
            issuedOfBurst += 1
            guard issuedOfBurst >= burst else { continue }
            issuedOfBurst = 0
            let gap = 1e9 / rate * Double(burst)
            nextDue += poisson ? -gap * log(1 - Double(writer.random.next() >> 11) * 0x1p-53) : gap
        }
        return Int(min(50_000_000, max(0, nextDue - now)))
    }

    /// Writes one operation to the next connection that has room, `passed` counting those looked at; false if none has.
    private mutating func issueNext(_ passed: inout Int) -> Bool {
        let count = plan.connections.count
        for _ in 0..<count {
            let c = connections + nextConnection
            let hasRoom = c.pointee.tail - c.pointee.head < pendingMask - 1
            if hasRoom, !issue(c, Int(nextDue)) { return false }
            nextConnection = (nextConnection + 1) % count
            passed += 1
            if hasRoom { return true }
        }
        return false
    }

    private mutating func flush(_ i: Int) {
        let c = connections + i
        guard let dialer = c.pointee.dialer else { return sendAll(i, &c.pointee.output) }
        do { try dialer.seal(c.pointee.output.bytes) } catch { return lose(c, "\(error)") }
        c.pointee.output.count = 0
        sendAll(i, &dialer.output)
    }

    private mutating func sendAll(_ i: Int, _ output: inout OutputBuffer) {
        let c = connections + i
        while c.pointee.sent < output.count {
            let n = send(
                c.pointee.fd, output.base + c.pointee.sent, output.count - c.pointee.sent, Self.noSignal)
            if n < 0 {
                if errno == EINTR { continue }
                if errno == EAGAIN {
                    if !c.pointee.waitsForRoom { _ = cperf_poller_watch(poller, c.pointee.fd, UInt32(i), 1, 0) }
                    c.pointee.waitsForRoom = true
                    return
                }
                return lose(c, "send: \(errorText(errno))")
            }
            c.pointee.sent += n
        }
        output.count = 0
        c.pointee.sent = 0
        if c.pointee.waitsForRoom {
            c.pointee.waitsForRoom = false
            _ = cperf_poller_watch(poller, c.pointee.fd, UInt32(i), 0, 0)
        }
    }

    private mutating func lose(_ c: UnsafeMutablePointer<LoadConnection>, _ reason: String) {
        let error = firstError.map { "; it had said: \($0)" } ?? ""
        failure = DriverError("\(plan.endpoints[c.pointee.endpoint].name): connection lost (\(reason))\(error)")
    }

    @inline(__always)
    private mutating func record(
        _ c: UnsafeMutablePointer<LoadConnection>, _ entry: Pending, _ now: Int, count: UInt64 = 1
    ) {
        let slot = c.pointee.endpoint &* Operation.allCases.count &+ Int(entry.operation.rawValue)
        recorders[slot].record(now &- entry.start, count: count)
    }

    private mutating func receive(_ i: Int) {
        let c = connections + i
        let n = recv(c.pointee.fd, buffer, Self.receiveBytes, 0)
        if n <= 0 {
            if n < 0 && (errno == EAGAIN || errno == EINTR) { return }
            return lose(c, n == 0 ? "closed by the server" : errorText(errno))
        }
        let bytes = UnsafeRawBufferPointer(start: buffer, count: n)
        guard let dialer = c.pointee.dialer else { return take(i, bytes) }
        c.pointee.plain.count = 0
        do { try dialer.receive(bytes) { c.pointee.plain.append($0) } } catch { return lose(c, "\(error)") }
        if c.pointee.plain.count > 0 { take(i, c.pointee.plain.bytes) }
    }

    private mutating func take(_ i: Int, _ bytes: UnsafeRawBufferPointer) {
        let c = connections + i
        var each = c.pointee.counter
        let (before, errors) = (each.replies, each.errors)
        guard c.pointee.counter.count(bytes) else {
            return lose(c, "its answer is not \(plan.endpoints[c.pointee.endpoint].wire.rawValue)")
        }
        let hasErrors = c.pointee.counter.errors != errors
        if firstError == nil && hasErrors { firstError = Self.errorLine(bytes) }
        if scans && c.pointee.scanHead.count < 64 { c.pointee.scanHead += bytes.prefix(64) }
        let now = monotonicNanos()
        let replies = c.pointee.counter.replies &- before
        guard replies <= c.pointee.tail &- c.pointee.head else { return lose(c, "more replies than requests") }
        var at = 0
        for _ in 0..<replies {
            let isError = hasErrors && each.countOne(bytes, &at)
            let entry = c.pointee.pending[c.pointee.head & pendingMask]
            c.pointee.head &+= 1
            if entry.operation == .modifyRead { continue }
            if isError {
                // Counted apart and not timed: refusing is not the work that was asked for.
                c.pointee.scanHead.removeAll(keepingCapacity: true)
                refused &+= 1
                continue
            }
            if entry.operation == .scan && continueScan(i, entry) { continue }
            record(c, entry, now)
            operations &+= 1
        }
        requests &+= replies
        requestsOf[c.pointee.endpoint] &+= replies
        if c.pointee.head == c.pointee.tail && depth > 0 && phase != .stopping { refill(i, now) }
    }

    /// Asks on from the reply's cursor; false if the scan is complete.
    private mutating func continueScan(_ i: Int, _ entry: Pending) -> Bool {
        let c = connections + i
        let lines = String(decoding: c.pointee.scanHead, as: UTF8.self).components(separatedBy: "\r\n")
        c.pointee.scanHead.removeAll(keepingCapacity: true)
        guard lines.count > 3, lines[0] == "*2", lines[2] != "0" else { return false }
        writer.appendScan(cursor: lines[2], pattern: c.pointee.scanPattern, to: &c.pointee.output)
        push(c, entry)
        flush(i)
        return true
    }

    private static func errorLine(_ bytes: UnsafeRawBufferPointer) -> String {
        let text = String(decoding: bytes, as: UTF8.self)
        let lines = text.split(whereSeparator: \.isNewline)
        let marks = ["-", "ERROR", "CLIENT_ERROR", "SERVER_ERROR"]
        let line = lines.first { line in marks.contains { line.hasPrefix($0) } } ?? lines.first ?? ""
        return line.prefix(200).trimmingCharacters(in: .whitespaces)
    }
}
