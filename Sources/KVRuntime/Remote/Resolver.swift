// Host names become addresses on a thread of their own, because the system's resolver blocks. Any thread.

import Glibc

/// What a name stands for. Blocks; called on a thread that may. Throws a `SocketFailure`, or returns at least one.
package typealias NameResolver = @Sendable (HostPort) throws -> [SocketAddress]

struct Resolver: Sendable {
    let resolve: NameResolver

    private static func run(
        _ targets: [HostPort], _ resolve: NameResolver,
        _ done: (Result<[SocketAddress], SocketFailure>) -> Void
    ) {
        var found: [SocketAddress] = []
        var failure: SocketFailure?
        for target in targets {
            do {
                let addresses =
                    try SocketAddress(host: target.host, port: target.port).map { [$0] } ?? resolve(target)
                for address in addresses.prefix(HostPort.addressesMax) where !found.contains(address) {
                    found.append(address)
                }
            } catch {
                failure = error as? SocketFailure ?? SocketFailure("cannot resolve \(target.host)", code: EINVAL)
            }
        }
        if found.isEmpty, let failure { done(.failure(failure)) } else { done(.success(found)) }
    }

    /// Calls `done` once, on another thread, with every address that the targets stand for, or with the failure if they
    /// stand for none. One short-lived thread per call: links do this at most once per back-off.
    func start(
        _ targets: [HostPort], _ done: @escaping @Sendable (Result<[SocketAddress], SocketFailure>) -> Void
    ) {
        let failure = SystemThread.detach { [resolve] in Resolver.run(targets, resolve, done) }
        if failure != 0 {
            let host = targets.first?.host ?? "nothing"
            done(.failure(SocketFailure("cannot create a thread to resolve \(host)", code: failure)))
        }
    }
}
