// Requests to interrupt or end the program: one thread waits for all of them, so none interrupts any code.

import Synchronization

#if canImport(Glibc)
    @preconcurrency import Glibc
#elseif canImport(Musl)
    @preconcurrency import Musl
#elseif canImport(Darwin)
    @preconcurrency import Darwin
#endif

enum Interrupts {
    static let watched = [SIGINT, SIGQUIT, SIGTERM, SIGHUP]

    /// What the prompt does with a signal; nil: the program dies of it, as programs do.
    private static let handler = Mutex<(@Sendable (Int32) -> Void)?>(nil)

    private static var set: sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for number in watched { sigaddset(&set, number) }
        return set
    }

    /// Blocks the watched signals in this thread and all that it starts; to be called before there are others.
    static func block() {
        var set = set
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    static func handle(_ body: @escaping @Sendable (Int32) -> Void) { handler.withLock { $0 = body } }

    /// Takes the signals one by one, for ever.
    static func wait() -> Never {
        var set = set
        while true {
            var number: Int32 = 0
            guard sigwait(&set, &number) == 0 else { continue }
            if let body = handler.withLock({ $0 }) { body(number) } else { die(number) }
        }
    }

    /// Ends the program by the signal itself, so that a shell sees what happened.
    private static func die(_ number: Int32) {
        signal(number, SIG_DFL)
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, number)
        kill(getpid(), number)
        pthread_sigmask(SIG_UNBLOCK, &set, nil)
    }
}
