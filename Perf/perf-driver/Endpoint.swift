// Where the load goes: address, protocol, a name and the process to watch. Plain values, any thread.

import CPerf
import CSupport
import Foundation
import KVBase
import KVRuntime

/// One clear line for the user; the exit code is 1.
struct DriverError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

struct Endpoint: Sendable {
    var name: String
    var host: String
    var port: UInt16
    var wire = WireProtocol.redis
    var pid: Int32?
    /// With TLS.
    var isSecure = false
    var access = ServerAccess()

    /// "[redis://|rediss://|memcached://]HOST:PORT"; nil if it is nothing of the kind.
    init?(_ text: String, pid: Int32? = nil) {
        var rest = Substring(text)
        if let range = rest.range(of: "://") {
            isSecure = rest[..<range.lowerBound] == "rediss"
            guard let wire = WireProtocol(rawValue: isSecure ? "redis" : String(rest[..<range.lowerBound])) else {
                return nil
            }
            self.wire = wire
            rest = rest[range.upperBound...]
        }
        guard let colon = rest.lastIndex(of: ":"), let port = UInt16(rest[rest.index(after: colon)...]), port > 0
        else { return nil }
        host = String(rest[..<colon]).trimmingCharacters(in: CharacterSet(charactersIn: "[]"))
        guard !host.isEmpty else { return nil }
        self.port = port
        self.pid = pid
        name = text
    }

    /// "NAME=ADDRESS[,pid=PID]", as `compare` takes its targets.
    init?(target text: String) {
        guard let equals = text.firstIndex(of: "=") else { return nil }
        let parts = text[text.index(after: equals)...].split(separator: ",")
        guard let address = parts.first else { return nil }
        var pid: Int32?
        for part in parts.dropFirst() {
            guard part.hasPrefix("pid="), let number = Int32(part.dropFirst(4)) else { return nil }
            pid = number
        }
        self.init(String(address), pid: pid)
        name = String(text[..<equals])
    }

    /// Connected, with TLS where that is asked for, and logged in; not blocking from then on.
    func connect() throws -> (fd: Int32, dialer: SecureDialer?) {
        let fd = try openSocket()
        do {
            let dialer = isSecure ? try access.shakeHands(fd) : nil
            if let password = access.password, wire == .redis { try access.login(password, fd, dialer) }
            _ = fcntl(fd, F_SETFL, O_NONBLOCK)
            return (fd, dialer)
        } catch {
            close(fd)
            throw DriverError("\(name): \(error)")
        }
    }

    private func openSocket() throws -> Int32 {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, String(port), &hints, &found) == 0, let first = found else {
            throw DriverError("\(name): unknown host '\(host)'")
        }
        defer { freeaddrinfo(found) }
        var failure: Int32 = 0
        for address in sequence(first: first, next: { $0.pointee.ai_next }) {
            let fd = socket(address.pointee.ai_family, Int32(SOCK_STREAM.rawValue) | 0o2000000, 0)
            guard fd >= 0 else { throw DriverError("\(name): \(errorText(errno)); raise the limit of open files") }
            if Glibc.connect(fd, address.pointee.ai_addr, address.pointee.ai_addrlen) == 0 {
                var one: Int32 = 1
                setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
                return fd
            }
            failure = errno
            close(fd)
        }
        throw DriverError("\(name): cannot connect: \(errorText(failure)); is the server running there?")
    }
}

func errorText(_ code: Int32) -> String { String(cString: strerror(code)) }

func monotonicNanos() -> Int { Int(cs_monotonic_nanos()) }

/// Pins the calling thread.
func pin(to cpu: Int) throws {
    let failure = cperf_poller_pin(Int32(clamping: cpu))
    guard failure == 0 else { throw DriverError("cannot pin to CPU \(cpu): \(errorText(-failure))") }
}
