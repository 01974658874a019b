// What kvd does with each signal: ends in order, says a line, or takes no notice. Main thread, before any other exists.

import Glibc
import KVRuntime
import KVServer
import Logging
import Synchronization

enum Signals {
    /// End the server in order; a second one ends it at once.
    static let ending = [SIGTERM, SIGINT, SIGQUIT, SIGXCPU, SIGPWR]
    /// Would end the process by default, and mean nothing to it.
    private static let ignored = [SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGXFSZ, SIGPOLL, SIGSTKFLT]

    /// Blocked before any thread exists, so that every thread inherits it and only `sigwait` takes them: the set to
    /// wait for. SIGHUP is taken by a thread of its own, as the main one waits for the end.
    static func prepare(_ log: Logger) -> sigset_t {
        for number in ignored { signal(number, SIG_IGN) }
        for number in Glibc.__libc_current_sigrtmin()...Glibc.__libc_current_sigrtmax() { signal(number, SIG_IGN) }
        let ends = set(ending)
        var blocked = set(ending + [SIGHUP])
        pthread_sigmask(SIG_BLOCK, &blocked, nil)
        watchHangUp(log)
        return ends
    }

    private static func set(_ numbers: [Int32]) -> sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for number in numbers { sigaddset(&set, number) }
        return set
    }

    /// What SIGHUP does, and what is done every ten seconds; they return what to log. Their own thread.
    private static let reread = Mutex<@Sendable () -> String>({ "not started yet, so nothing is read again" })
    private static let look = Mutex<@Sendable () -> String?>({ nil })
    private static let lookSeconds = 10

    static func rereadSettings(of server: Server) {
        let body = server.rereadTrust
        reread.withLock { $0 = body }
        let second = server.lookAtCertificates
        look.withLock { $0 = second }
    }

    private static func watchHangUp(_ log: Logger) {
        _ = SystemThread.detach {
            var hangUp = set([SIGHUP])
            while true {
                var wait = timespec(tv_sec: lookSeconds, tv_nsec: 0)
                if sigtimedwait(&hangUp, nil, &wait) == SIGHUP {
                    // Not within the message, which is made only if its level is logged.
                    let line = reread.withLock { $0 }()
                    log.notice("SIGHUP: \(line)")
                } else if errno == EAGAIN, let line = look.withLock({ $0 })() {
                    log.notice("\(line)")
                }
            }
        }
    }
}
