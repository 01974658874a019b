// A user-space TCP proxy that makes a bad network between real kvd processes: delay, cut, blackhole, throttle.
// Settings may be changed from any thread; the forwarding runs on one thread of its own.

import Foundation

/// What happens to the connections from one source. Directions are seen from the connecting side.
struct LinkRule: Equatable {
    /// Added to every chunk in each direction.
    var delayMillis: Int64 = 0
    /// Existing connections are reset and new ones refused.
    var isCut = false
    /// Bytes towards the server / back to the client stop flowing while the connection stays open, as when a route is
    /// lost; one of them alone makes the connection half-open.
    var isForwardBlackholed = false
    var isBackwardBlackholed = false
    var bytesPerSecondMax: Int?

    static let perfect = LinkRule()
    static func delay(_ millis: Int64) -> LinkRule { LinkRule(delayMillis: millis) }
    static let cut = LinkRule(isCut: true)
    static let blackhole = LinkRule(isForwardBlackholed: true, isBackwardBlackholed: true)
}

/// Listens on a port of its own and forwards to one target. Who connects is recognised by an address that appears in
/// the first bytes it sends (the handshake of the actor system names both sides), so that one link of several can be
/// cut.
final class TCPProxy: @unchecked Sendable {
    static let queuedBytesMax = 16 * 1024 * 1024

    let port: UInt16
    private var target: UInt16
    private let listener: Int32
    private let wakePipe: (read: Int32, write: Int32)
    private let lock = NSLock()
    private var defaultRule = LinkRule.perfect
    private var rules: [String: LinkRule] = [:]
    private var knownSources: [String] = []
    private var dropRequested = false
    private var isStopped = false
    private var forwardedBytes = 0

    init(target: UInt16) throws {
        self.target = target
        (listener, port) = try Sockets.listen()
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw SocketError("pipe", errno) }
        wakePipe = (ends[0], ends[1])
        Sockets.makeNonBlocking(wakePipe.read)
        Thread.detachNewThread { [self] in run() }
    }

    /// Applies to every connection without a rule for its source.
    func set(_ rule: LinkRule) { change { defaultRule = rule } }

    /// Applies to connections from the server whose handshake names `source` ("host:port").
    func set(_ rule: LinkRule?, from source: String) { change { rules[source] = rule } }

    /// New connections go there from now on.
    func redirect(to port: UInt16) { change { target = port } }

    func know(sources: [String]) { change { knownSources = sources } }

    /// Resets all connections once, as a flapping network does; new ones are accepted.
    func dropConnections() { change { dropRequested = true } }

    func stop() { change { isStopped = true } }

    /// Bytes forwarded in both directions since the start.
    var bytes: Int { lock.withLock { forwardedBytes } }

    private func change(_ body: () -> Void) {
        lock.withLock(body)
        _ = write(wakePipe.write, "w", 1)
    }

    // MARK: The forwarding thread

    private struct Direction {
        var queue: [(due: Int64, bytes: [UInt8])] = []
        var queuedBytes = 0
        var isEnded = false
        var isShutdown = false
        var allowanceBytes = 0.0
        var allowanceAt: Int64 = 0
    }

    private final class Link {
        let client: Int32
        var server: Int32 = -1
        var source: String?
        var isIdentified = false
        var forward = Direction()
        var backward = Direction()
        init(client: Int32) { self.client = client }
    }

    private var links: [Link] = []

    private func run() {
        while true {
            let (stopped, drop) = lock.withLock {
                defer { dropRequested = false }
                return (isStopped, dropRequested)
            }
            if stopped { break }
            if drop {
                links.forEach { close($0) }
                links = []
            }
            step()
        }
        links.forEach { close($0) }
        _ = Glibc.close(listener)
        _ = Glibc.close(wakePipe.read)
        _ = Glibc.close(wakePipe.write)
    }

    private func rule(of link: Link) -> LinkRule {
        lock.withLock { link.source.flatMap { rules[$0] } ?? defaultRule }
    }

    private func step() {
        links.removeAll { link in
            guard rule(of: link).isCut else { return false }
            close(link)
            return true
        }
        var polls = [
            pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
            pollfd(fd: wakePipe.read, events: Int16(POLLIN), revents: 0),
        ]
        for link in links {
            let rule = rule(of: link)
            let readsForward =
                link.forward.queuedBytes < Self.queuedBytesMax && !link.forward.isEnded && !rule.isForwardBlackholed
            let readsBackward =
                link.backward.queuedBytes < Self.queuedBytesMax && !link.backward.isEnded && !rule.isBackwardBlackholed
            polls.append(pollfd(fd: readsForward ? link.client : -1, events: Int16(POLLIN), revents: 0))
            polls.append(pollfd(fd: readsBackward ? link.server : -1, events: Int16(POLLIN), revents: 0))
        }
        _ = poll(&polls, nfds_t(polls.count), 2)
        if polls[1].revents != 0 {
            var scrap = [UInt8](repeating: 0, count: 64)
            _ = read(wakePipe.read, &scrap, 64)
        }
        let now = Clock.millis()
        var dead: [ObjectIdentifier] = []
        for (i, link) in links.enumerated() {
            let isReadable = (polls[2 + 2 * i].revents != 0, polls[3 + 2 * i].revents != 0)
            if !pump(link, now: now, readClient: isReadable.0, readServer: isReadable.1) {
                dead.append(ObjectIdentifier(link))
            }
        }
        links.removeAll { dead.contains(ObjectIdentifier($0)) }
        if polls[0].revents != 0 { acceptAll() }
    }

    private func acceptAll() {
        while true {
            let fd = accept(listener, nil, nil)
            if fd < 0 { return }
            let refused = lock.withLock { defaultRule.isCut && rules.isEmpty }
            if refused { Sockets.reset(fd); continue }
            Sockets.makeNonBlocking(fd)
            links.append(Link(client: fd))
        }
    }

    /// Moves what is due in both directions; false when the link is over.
    private func pump(_ link: Link, now: Int64, readClient: Bool, readServer: Bool) -> Bool {
        let rule = rule(of: link)
        if readClient, !receive(from: link.client, into: &link.forward, due: now + rule.delayMillis) {
            return close(link)
        }
        if readServer, !receive(from: link.server, into: &link.backward, due: now + rule.delayMillis) {
            return close(link)
        }
        if !link.isIdentified, let first = link.forward.queue.first {
            let text = String(decoding: first.bytes, as: UTF8.self)
            link.source = lock.withLock { knownSources.first { text.contains($0) } }
            link.isIdentified = true
            if self.rule(of: link).isCut { return close(link) }
            guard let fd = try? Sockets.connect(port: lock.withLock({ target })) else { return close(link) }
            Sockets.makeNonBlocking(fd)
            link.server = fd
        }
        if link.forward.isEnded && link.server < 0 { return close(link) }
        guard link.server >= 0 else { return true }
        if !rule.isForwardBlackholed, !deliver(&link.forward, to: link.server, rule, now) { return close(link) }
        if !rule.isBackwardBlackholed, !deliver(&link.backward, to: link.client, rule, now) { return close(link) }
        return !(link.forward.isShutdown && link.backward.isShutdown) || close(link)
    }

    private func receive(from fd: Int32, into direction: inout Direction, due: Int64) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 64 * 1024)
        let n = read(fd, &buffer, buffer.count)
        if n > 0 {
            direction.queue.append((due, Array(buffer[..<n])))
            direction.queuedBytes += n
        } else if n == 0 {
            direction.isEnded = true
        } else if errno != EAGAIN && errno != EINTR {
            return false
        }
        return true
    }

    private func deliver(_ direction: inout Direction, to fd: Int32, _ rule: LinkRule, _ now: Int64) -> Bool {
        if let rate = rule.bytesPerSecondMax {
            let earned = Double(now - direction.allowanceAt) * Double(rate) / 1000
            direction.allowanceBytes = min(direction.allowanceBytes + earned, Double(rate) / 10)
        }
        direction.allowanceAt = now
        while let first = direction.queue.first, first.due <= now {
            if rule.bytesPerSecondMax != nil, direction.allowanceBytes < 1 { return true }
            let allowed =
                rule.bytesPerSecondMax == nil
                ? first.bytes.count : min(first.bytes.count, Int(direction.allowanceBytes))
            let n = send(fd, first.bytes, allowed, Int32(MSG_NOSIGNAL))
            if n < 0 { return errno == EAGAIN || errno == EINTR }
            direction.allowanceBytes -= Double(n)
            direction.queuedBytes -= n
            lock.withLock { forwardedBytes += n }
            if n == first.bytes.count {
                direction.queue.removeFirst()
            } else {
                direction.queue[0].bytes.removeFirst(n)
            }
        }
        if direction.isEnded && direction.queue.isEmpty && !direction.isShutdown {
            shutdown(fd, Int32(SHUT_WR))
            direction.isShutdown = true
        }
        return true
    }

    @discardableResult
    private func close(_ link: Link) -> Bool {
        Sockets.reset(link.client)
        if link.server >= 0 { Sockets.reset(link.server) }
        return false
    }
}
