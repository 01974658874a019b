// Host names become addresses on a thread of their own, because the system's resolver blocks. Any thread.

import Glibc

/// What a name stands for. Blocks; called on a thread that may. Throws a `SocketFailure`, or returns at least one.
package typealias NameResolver = @Sendable (HostPort) throws -> [SocketAddress]

struct Resolver: Sendable {
    let resolve: NameResolver

    private final class Request {
        let targets: [HostPort]
        let resolve: NameResolver
        let done: @Sendable (Result<[SocketAddress], SocketFailure>) -> Void

        init(
            _ targets: [HostPort], _ resolve: @escaping NameResolver,
            _ done: @escaping @Sendable (Result<[SocketAddress], SocketFailure>) -> Void
        ) {
            (self.targets, self.resolve, self.done) = (targets, resolve, done)
        }

        func run() {
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
    }

    /// Calls `done` once, on another thread, with every address that the targets stand for, or with the failure if they
    /// stand for none. One short-lived thread per call: links do this at most once per back-off.
    func start(
        _ targets: [HostPort], _ done: @escaping @Sendable (Result<[SocketAddress], SocketFailure>) -> Void
    ) {
        let request = Unmanaged.passRetained(Request(targets, resolve, done))
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Request>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, request.toOpaque())
        if result == 0 {
            pthread_detach(thread)
        } else {
            request.release()
            let host = targets.first?.host ?? "nothing"
            done(.failure(SocketFailure("cannot create a thread to resolve \(host)", code: result)))
        }
    }
}
