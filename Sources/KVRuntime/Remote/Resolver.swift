// Host names become addresses on a thread of their own, because the system's resolver blocks. Any thread.

import Glibc

enum Resolver {
    private final class Request {
        let target: HostPort
        let done: @Sendable (Result<[SocketAddress], SocketFailure>) -> Void

        init(_ target: HostPort, _ done: @escaping @Sendable (Result<[SocketAddress], SocketFailure>) -> Void) {
            self.target = target
            self.done = done
        }

        func run() {
            do {
                done(.success(try target.resolve()))
            } catch {
                done(.failure(error as? SocketFailure ?? SocketFailure("cannot resolve \(target.host)", code: EINVAL)))
            }
        }
    }

    /// Calls `done` once, on another thread, with at least one address or the failure. One short-lived thread per call:
    /// links do this at most once per back-off.
    static func resolve(
        _ target: HostPort, _ done: @escaping @Sendable (Result<[SocketAddress], SocketFailure>) -> Void
    ) {
        let request = Unmanaged.passRetained(Request(target, done))
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
            done(.failure(SocketFailure("cannot create a thread to resolve \(target.host)", code: result)))
        }
    }
}
