// The certificates that clients see: read at the start, when the server is told to, and when a file is another one. Any
// thread; the files are never read on a loop's.

import Glibc
import KVBase
import KVRuntime
import Synchronization

package final class CertificateKeeper: Sendable {
    /// Which file a path leads to, and how old it is. Links are followed: Kubernetes exchanges them.
    private struct Stamp: Equatable {
        var device: UInt = 0
        var number: UInt = 0
        var size = 0
        var seconds = 0
        var nanoseconds = 0

        init(_ path: String) {
            var status = stat()
            guard stat(path, &status) == 0 else { return }
            (device, number, size) = (UInt(status.st_dev), UInt(status.st_ino), Int(status.st_size))
            (seconds, nanoseconds) = (status.st_mtim.tv_sec, status.st_mtim.tv_nsec)
        }
    }

    private struct State {
        var stamps: [Stamp] = []
        var ports: [(loop: Loop, port: UncheckedBox<SecurePort>)] = []
        var endsAtSeconds: Int64 = 0
    }

    /// A signature with such a key takes a quarter of a millisecond of the loop, one with 3,072 bits two, with 4,096
    /// four: more than a turn may take.
    private static let bitsOfRSAMax = 2048

    private let settings: TLSSettings
    private let state = Mutex(State())
    private let reloadCount = Atomic<Int>(0)
    private let failureCount = Atomic<Int>(0)

    init(_ settings: TLSSettings) { self.settings = settings }

    package var reloads: Int { reloadCount.load(ordering: .relaxed) }
    package var failures: Int { failureCount.load(ordering: .relaxed) }
    /// Seconds since 1970; 0 without a certificate.
    package var endsAtSeconds: Int64 { state.withLock { $0.endsAtSeconds } }

    /// One for each loop, and lines to warn with.
    func load(count: Int) throws(SecureFileFault) -> (contexts: [SecureContext], warnings: [String]) {
        try state.withLock { state throws(SecureFileFault) in
            // Before they are read: what is written meanwhile is seen as another file.
            state.stamps = settings.paths.map(Stamp.init)
            return try make(count, &state)
        }
    }

    private func make(
        _ count: Int, _ state: inout State
    ) throws(SecureFileFault) -> (contexts: [SecureContext], warnings: [String]) {
        let files = try settings.read()
        let contexts: [SecureContext]
        do { contexts = try SecureContext.make(files, count: count) } catch { throw settings.named(error) }
        let bits = contexts[0].keyBitsOfRSA
        guard bits <= CertificateKeeper.bitsOfRSAMax else {
            throw settings.named(
                SecureFault(
                    file: .key,
                    description: "RSA with \(bits) bits would hold a loop for milliseconds with each new connection:"
                        + " take ECDSA on P-256 (kvd cert), or RSA with \(CertificateKeeper.bitsOfRSAMax) bits"))
        }
        state.endsAtSeconds = contexts[0].endsAtSeconds
        return (contexts, settings.key.flatMap { SecretFile.warning($0) }.map { [$0] } ?? [])
    }

    /// Where new contexts go. Before the loops run.
    func add(_ port: SecurePort, on loop: Loop) { state.withLock { $0.ports.append((loop, UncheckedBox(port))) } }

    func forgetPorts() { state.withLock { $0.ports = [] } }

    /// Reads the files again; new connections use them. The line to log.
    func reread() -> String { state.withLock { reread(&$0) } }

    /// The same if a file is another one than at the last attempt; else nil. Some system calls.
    func look() -> String? {
        state.withLock { state in
            state.ports.isEmpty || settings.paths.map(Stamp.init) == state.stamps ? nil : reread(&state)
        }
    }

    /// Holding the lock from reading to handing over: a later one always wins.
    private func reread(_ state: inout State) -> String {
        state.stamps = settings.paths.map(Stamp.init)
        guard !state.ports.isEmpty else { return "the certificate stays as it was: kvd ends" }
        do throws(SecureFileFault) {
            let (contexts, warnings) = try make(state.ports.count, &state)
            for (entry, context) in zip(state.ports, contexts) {
                let port = entry.port
                entry.loop.perform { port.value.replace(context) }
            }
            reloadCount.add(1, ordering: .relaxed)
            return (["the files of --tls-cert-file are read again: new connections use them"] + warnings)
                .joined(separator: "; ")
        } catch {
            failureCount.add(1, ordering: .relaxed)
            return "the certificate stays as it was: \(error)"
        }
    }
}
