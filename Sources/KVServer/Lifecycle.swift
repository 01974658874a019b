// From signals to the end of the process. Main thread, plus one that watches for the second signal.

package import Glibc
import KVRuntime

package enum Lifecycle {
    /// Waits for one of the (blocked) signals, stops the server in good order and exits with 0, or
    /// with 1 if writes were left that no other server has. Another signal
    /// meanwhile exits at once with 1. A server that others have removed starts again under a new id.
    package static func run(_ server: Server, until signals: sigset_t) -> Never {
        var signals = signals
        var signal: Int32 = 0
        while sigwait(&signals, &signal) != 0 {}
        _ = SystemThread.detach { [signals] in
            var (signals, signal) = (signals, Int32(0))
            while sigwait(&signals, &signal) != 0 {}
            _exit(1)
        }
        let owed = server.stop()
        if let addresses = server.forgottenAddresses { startAgain(joining: addresses) }
        exit(owed == 0 ? 0 : 1)
    }

    /// Makes `run` go on as after a signal. Any thread.
    @Sendable package static func askToStop() { kill(getpid(), SIGTERM) }

    /// Replaces the process by a fresh one with the same arguments: a new id and no data, which it fetches from
    /// `addresses`. What only this process held is lost, as it would be had it been killed; that is what being
    /// removed means.
    private static func startAgain(joining addresses: [String]) {
        if getenv("KVD_JOIN") == nil { setenv("KVD_JOIN", addresses.joined(separator: ","), 1) }
        LogQueue.standardError.flush()
        execv("/proc/self/exe", CommandLine.unsafeArgv)
    }
}
