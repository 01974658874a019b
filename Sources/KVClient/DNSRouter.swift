// A router over the addresses behind one DNS name: stays with one, looks the name up now and then. Any thread.

import NIOCore
import NIOPosix
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Sticky over the addresses of one name, in the order the resolver gives them. The name is looked up at the first
/// call, again after 30 seconds, and when a connection fails; calls go on with the known addresses meanwhile.
public final class DNSRouter: KVRouter {
    static let refreshNanos: UInt64 = 30_000_000_000

    private struct State {
        var resolvedAt: UInt64 = 0
        var resolving = false
    }

    private let name: String
    private let port: Int
    private let sticky = StickyRouter([])
    private let state = Mutex(State())

    public init(_ name: String, port: Int) { (self.name, self.port) = (name, port) }

    public func nextAddress() -> KVAddress? {
        guard let address = sticky.nextAddress() else { return nil }
        refresh(olderThan: Self.refreshNanos)
        return address
    }

    public func prepare() async throws(KVError) {
        do {
            let (name, port) = (name, port)
            accept(try await NIOThreadPool.singleton.runIfActive { try Self.resolve(name, port) })
        } catch let error as KVError {
            throw error
        } catch {
            throw .unreachable(server: KVAddress(host: name, port: port), reason: "\(error)")
        }
    }

    public func connectionFailed(_ address: KVAddress) {
        sticky.connectionFailed(address)
        refresh(olderThan: 1_000_000_000)
    }

    public func connectionSucceeded(_ address: KVAddress) { sticky.connectionSucceeded(address) }

    public func alternatives(to address: KVAddress) -> [KVAddress] { sticky.alternatives(to: address) }

    public var staysWithOneServer: Bool { true }

    private func accept(_ addresses: [KVAddress]) {
        state.withLock {
            $0.resolvedAt = NIODeadline.now().uptimeNanoseconds
            $0.resolving = false
        }
        sticky.replace(addresses)
    }

    /// Starts a look-up in the background unless one is running; a failed one leaves the known addresses in place.
    private func refresh(olderThan age: UInt64) {
        let now = NIODeadline.now().uptimeNanoseconds
        let due = state.withLock { state in
            // The last one may have ended after the clock was read.
            guard !state.resolving, now > state.resolvedAt + age else { return false }
            state.resolving = true
            return true
        }
        guard due else { return }
        let (name, port) = (name, port)
        NIOThreadPool.singleton.submit { [self] _ in
            if let addresses = try? Self.resolve(name, port) {
                accept(addresses)
            } else {
                state.withLock { ($0.resolving, $0.resolvedAt) = (false, now) }
            }
        }
    }

    /// Blocks; the addresses of `name` without repetition, in the resolver's order.
    private static func resolve(_ name: String, _ port: Int) throws(KVError) -> [KVAddress] {
        var hints = addrinfo()
        #if os(Linux)
            hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        #else
            hints.ai_socktype = SOCK_STREAM
        #endif
        var first: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(name, nil, &hints, &first)
        guard code == 0 else {
            throw .unreachable(server: KVAddress(host: name, port: port), reason: String(cString: gai_strerror(code)))
        }
        defer { freeaddrinfo(first) }
        var addresses: [KVAddress] = []
        var entry = first
        while let current = entry?.pointee {
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            if getnameinfo(
                current.ai_addr, current.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0
            {
                let host = text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
                let address = KVAddress(host: host, port: port)
                if !addresses.contains(address) { addresses.append(address) }
            }
            entry = current.ai_next
        }
        guard !addresses.isEmpty else {
            throw .unreachable(server: KVAddress(host: name, port: port), reason: "the name has no address")
        }
        return addresses
    }
}
