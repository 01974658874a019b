// The default router: stays with one server so that a caller reads its own writes; moves on when it fails. Any thread.

import NIOCore
import Synchronization

/// Pins one server; when its connection fails, the next one in the list that is not resting. A server that failed rests
/// for a time that doubles with every failure in a row, plus a random share, so that many clients do not return at
/// once. There is no way back to the first server until the current one fails: moving costs read-your-writes each
/// time.
public final class StickyRouter: KVRouter {
    /// Rest after the first failure, and the longest.
    static let restNanosMin: Int64 = 100_000_000
    static let restNanosMax: Int64 = 30_000_000_000

    struct Server {
        var address: KVAddress
        var failuresInRow = 0
        var restsUntil: UInt64 = 0
    }

    struct State {
        var servers: [Server]
        var pinned = 0

        /// Marks the failure and, if it concerns the pinned server, pins the next that is not resting, or else the one
        /// whose rest ends first. A late report about a server left already moves nothing.
        mutating func failed(_ address: KVAddress, now: UInt64, jitter: Double) {
            guard let index = servers.firstIndex(where: { $0.address == address }) else { return }
            let doublings = min(servers[index].failuresInRow, 20)
            servers[index].failuresInRow += 1
            let rest = min(StickyRouter.restNanosMin << doublings, StickyRouter.restNanosMax)
            servers[index].restsUntil = now + UInt64(Double(rest) * (0.5 + jitter / 2))
            guard index == pinned else { return }
            let candidates = others(than: pinned) + [pinned]
            pinned =
                candidates.first { servers[$0].restsUntil <= now }
                ?? candidates.min { servers[$0].restsUntil < servers[$1].restsUntil } ?? pinned
        }

        /// In the order in which they are turned to.
        func others(than index: Int) -> [Int] { (1..<max(1, servers.count)).map { (index + $0) % servers.count } }

        mutating func succeeded(_ address: KVAddress) {
            guard let index = servers.firstIndex(where: { $0.address == address }) else { return }
            servers[index].failuresInRow = 0
            servers[index].restsUntil = 0
        }
    }

    private let state: Mutex<State>

    /// The first of `addresses` is asked first.
    public init(_ addresses: [KVAddress]) {
        state = Mutex(State(servers: addresses.map { Server(address: $0) }))
    }

    public func nextAddress() -> KVAddress? {
        state.withLock { $0.servers.isEmpty ? nil : $0.servers[$0.pinned].address }
    }

    public func connectionFailed(_ address: KVAddress) {
        let now = NIODeadline.now().uptimeNanoseconds
        let jitter = Double.random(in: 0..<1)
        state.withLock { $0.failed(address, now: now, jitter: jitter) }
    }

    public func connectionSucceeded(_ address: KVAddress) { state.withLock { $0.succeeded(address) } }

    public func alternatives(to address: KVAddress) -> [KVAddress] {
        let now = NIODeadline.now().uptimeNanoseconds
        return state.withLock { state in
            guard let index = state.servers.firstIndex(where: { $0.address == address }) else { return [] }
            let others = state.others(than: index).map { state.servers[$0] }
            return (others.filter { $0.restsUntil <= now } + others.filter { $0.restsUntil > now }).map(\.address)
        }
    }

    public var staysWithOneServer: Bool { true }

    /// Replaces the list and keeps the pin, and what is known of each server, where the address is still in it.
    func replace(_ addresses: [KVAddress]) {
        state.withLock { state in
            let pinned = state.servers.isEmpty ? nil : state.servers[state.pinned].address
            let known = state.servers
            state.servers = addresses.map { address in
                known.first { $0.address == address } ?? Server(address: address)
            }
            state.pinned = addresses.firstIndex { $0 == pinned } ?? 0
        }
    }
}
