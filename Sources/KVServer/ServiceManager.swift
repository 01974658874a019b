// What systemd is told: that the server is ready, that it stops, and that every loop turns. By its own protocol of
// datagrams, without its library. Any thread.

import Glibc
import KVBase
import KVRuntime

package final class ServiceManager: Sendable {
    private let descriptor: Int32
    /// How often the watchdog wants to hear; nil: there is none.
    package let watchdogMillis: Int64?

    /// The manager that the environment names (NOTIFY_SOCKET, WATCHDOG_USEC); nil if there is none. The variables are
    /// taken out, so that nothing that is started from here speaks for the server.
    package static func ofEnvironment() -> ServiceManager? {
        guard let path = getenv("NOTIFY_SOCKET").map({ String(cString: $0) }), !path.isEmpty else { return nil }
        let micros = getenv("WATCHDOG_USEC").flatMap { Int64(String(cString: $0)) }
        let isOurs = getenv("WATCHDOG_PID").flatMap { Int32(String(cString: $0)) }.map { $0 == getpid() } ?? true
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] { unsetenv(name) }
        return ServiceManager(path: path, watchdogMillis: isOurs ? micros.map { max(1, $0 / 1000) } : nil)
    }

    /// `path`: of a socket, or with @ in front an abstract name. Nil if it cannot be reached.
    init?(path: String, watchdogMillis: Int64?) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        let room = MemoryLayout.size(ofValue: address.sun_path)
        guard bytes.count > 1, bytes.count < room, path.hasPrefix("/") || path.hasPrefix("@") else { return nil }
        withUnsafeMutableBytes(of: &address.sun_path) { place in
            place.copyBytes(from: bytes)
            if path.hasPrefix("@") { place[0] = 0 }
        }
        let type = Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let made = socket(AF_UNIX, type, 0)
        guard made >= 0 else { return nil }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
        let isConnected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(made, $0, length) == 0 }
        }
        guard isConnected else {
            close(made)
            return nil
        }
        (descriptor, self.watchdogMillis) = (made, watchdogMillis)
    }

    deinit { close(descriptor) }

    /// Never waits: what the manager does not take is lost.
    private func tell(_ text: String) {
        var text = text
        _ = text.withUTF8 { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }

    package func noteReady(_ status: String) { tell("READY=1\nSTATUS=\(status)\nMAINPID=\(getpid())\n") }
    package func noteStopping() { tell("STOPPING=1\nSTATUS=handing over what was acknowledged\n") }
    package func noteReloaded(_ status: String) { tell("STATUS=\(status)\n") }
    func noteAlive() { tell("WATCHDOG=1\n") }
}

/// Tells the watchdog that the server lives, each time every loop has turned: a word goes from loop to loop, and the
/// last one tells. Where one does not turn, it does not get there.
final class LoopWatchdog {
    private let loops: [Loop]
    private let manager: ServiceManager

    init(_ loops: [Loop], _ manager: ServiceManager) { (self.loops, self.manager) = (loops, manager) }

    /// Three times as often as is wanted. Before the loops run.
    func begin() {
        guard let wanted = manager.watchdogMillis else { return }
        loops[0].schedule(everyMillis: max(1, wanted / 3)) { [self] in
            LoopWatchdog.pass(on: 1, UncheckedBox(self))
        }
    }

    private static func pass(on place: Int, _ dog: UncheckedBox<LoopWatchdog>) {
        guard place < dog.value.loops.count else { return dog.value.manager.noteAlive() }
        dog.value.loops[place].perform { pass(on: place + 1, dog) }
    }
}
