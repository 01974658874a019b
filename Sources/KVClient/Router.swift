// Who decides which server a call goes to: the protocol, and the routers without memory of failures. Any thread.

import Synchronization

/// Chooses the server of each call. Asked from any thread, before every attempt, and once more when the answer is a
/// change of server, so it should answer from memory.
public protocol KVRouter: Sendable {
    /// The server the next call goes to; nil when none is known yet, in which case ``prepare()`` is awaited.
    func nextAddress() -> KVAddress?

    /// Finds out about servers, for routers that look names up. Throws when there are none.
    func prepare() async throws(KVError)

    /// A connection to `address` could not be made, or broke. Told once per connection, before its calls learn of it.
    func connectionFailed(_ address: KVAddress)

    /// A connection to `address` was made and answered.
    func connectionSucceeded(_ address: KVAddress)

    /// Other servers that may answer in place of `address`, the likeliest first; none if there is no other. They are
    /// asked whether they answer before a silent server is given up.
    func alternatives(to address: KVAddress) -> [KVAddress]

    /// Whether the router stays with one server until that fails. Then the client reports a change of server as
    /// ``KVEvent/failedOver(from:to:reason:)`` and sends the floor that makes later writes win over earlier ones.
    var staysWithOneServer: Bool { get }
}

extension KVRouter {
    public func prepare() async throws(KVError) { throw .invalidArgument("the router has no server") }
    public func connectionFailed(_ address: KVAddress) {}
    public func connectionSucceeded(_ address: KVAddress) {}
    public func alternatives(to address: KVAddress) -> [KVAddress] { [] }
    public var staysWithOneServer: Bool { false }
}

/// Always the same server.
public struct FixedRouter: KVRouter {
    let address: KVAddress

    public init(_ address: KVAddress) { self.address = address }

    public func nextAddress() -> KVAddress? { address }
    public var staysWithOneServer: Bool { true }
}

/// Each call to the next server in turn. A read may miss a write that went to another server a moment before.
public final class RoundRobinRouter: KVRouter {
    private let addresses: [KVAddress]
    private let next = Atomic<Int>(0)

    public init(_ addresses: [KVAddress]) { self.addresses = addresses }

    public func nextAddress() -> KVAddress? {
        guard !addresses.isEmpty else { return nil }
        let turn = next.wrappingAdd(1, ordering: .relaxed).oldValue
        return addresses[Int(bitPattern: UInt(bitPattern: turn) % UInt(addresses.count))]
    }

    public func alternatives(to address: KVAddress) -> [KVAddress] { addresses.filter { $0 != address } }
}

/// Each call to a server drawn at random. A read may miss a write that went to another server a moment before.
public struct RandomRouter: KVRouter {
    let addresses: [KVAddress]

    public init(_ addresses: [KVAddress]) { self.addresses = addresses }

    public func nextAddress() -> KVAddress? { addresses.randomElement() }

    public func alternatives(to address: KVAddress) -> [KVAddress] { addresses.filter { $0 != address }.shuffled() }
}

extension KVRouter where Self == FixedRouter {
    public static func fixed(_ address: KVAddress) -> FixedRouter { FixedRouter(address) }
}

extension KVRouter where Self == RoundRobinRouter {
    public static func roundRobin(_ addresses: [KVAddress]) -> RoundRobinRouter { RoundRobinRouter(addresses) }
}

extension KVRouter where Self == RandomRouter {
    public static func random(_ addresses: [KVAddress]) -> RandomRouter { RandomRouter(addresses) }
}

extension KVRouter where Self == StickyRouter {
    public static func sticky(_ addresses: [KVAddress]) -> StickyRouter { StickyRouter(addresses) }
}

extension KVRouter where Self == DNSRouter {
    public static func dns(_ name: String, port: Int) -> DNSRouter { DNSRouter(name, port: port) }
}
