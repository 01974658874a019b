// Threads beside the loops: one way to start them. Any thread.

package import Glibc

package enum SystemThread {
    private final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// Starts a thread that runs `body`, and that is to be joined. Returns 0, or what pthread_create says: then nothing
    /// runs, and `body` is gone. `blocksSignals`: none is taken there; otherwise those that are taken here.
    package static func start(
        _ thread: inout pthread_t, blocksSignals: Bool = false, _ body: @escaping @Sendable () -> Void
    ) -> Int32 {
        let box = Unmanaged.passRetained(
            Box {
                if blocksSignals {
                    var all = sigset_t()
                    sigfillset(&all)
                    pthread_sigmask(SIG_BLOCK, &all, nil)
                }
                body()
            })
        let failure = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue().body()
                return nil
            }, box.toOpaque())
        if failure != 0 { box.release() }
        return failure
    }

    /// The same of one that nobody waits for.
    package static func detach(blocksSignals: Bool = false, _ body: @escaping @Sendable () -> Void) -> Int32 {
        var thread = pthread_t()
        let failure = start(&thread, blocksSignals: blocksSignals, body)
        if failure == 0 { pthread_detach(thread) }
        return failure
    }
}
