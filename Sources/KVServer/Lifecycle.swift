// From signals to the end of the process. Main thread, plus one that watches for the second signal.

package import Glibc

package enum Lifecycle {
    /// Waits for one of the (blocked) signals, stops the server in good order and exits with 0. Another signal
    /// meanwhile exits at once with 1.
    package static func run(_ server: Server, until signals: sigset_t) -> Never {
        var signals = signals
        var signal: Int32 = 0
        while sigwait(&signals, &signal) != 0 {}
        var watcher = pthread_t()
        let set = UnsafeMutablePointer<sigset_t>.allocate(capacity: 1)
        set.initialize(to: signals)
        pthread_create(
            &watcher, nil,
            { argument in
                var signal: Int32 = 0
                while sigwait(argument!.assumingMemoryBound(to: sigset_t.self), &signal) != 0 {}
                _exit(1)
            }, set)
        server.stop()
        exit(0)
    }
}
