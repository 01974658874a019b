// The fuzz target `links`: a recorded session of a link, damaged, cut, repeated or in another order, to a system that
// listens. Real sockets on loopback.

import Glibc
import KVBase
import KVRuntime
package import KVTestSupport

extension FuzzTarget {
    package static let links = FuzzTarget(
        name: "links", about: "frames of a recorded link, damaged, cut or in another order, to a system that listens"
    ) { random, _ in
        LinkVictim.shared.check(&random)
    }
}

private struct FuzzNote: WireMessage {
    var bytes: [UInt8]
    init(_ bytes: [UInt8]) { self.bytes = bytes }
    func encode(into writer: inout WireWriter) { bytes.withUnsafeBytes { writer.write(raw: $0) } }
    init(from reader: inout WireReader) throws { bytes = reader.readTail() }
}

private struct FuzzSink: Actor {
    mutating func receive(_ message: FuzzNote, _ context: ActorContext<FuzzNote>) throws {}
}

/// One system for all inputs, which come one after the other.
private final class LinkVictim: @unchecked Sendable {
    static let shared = LinkVictim()

    private let system: ActorSystem
    private let thread: LoopThread
    private let port: UInt16
    /// Frames of one session, the hello first.
    private let frames: [[UInt8]]
    private var inputs = 0

    private init() {
        let loop = try! Loop(choice: .auto)
        let address = SocketAddress(host: "127.0.0.1", port: 0)!
        let remote = try! RemoteConfiguration(listen: address, cluster: "fuzz", incarnation: 2, loop: loop)
        system = try! ActorSystem(address: remote.boundAddress, loops: [loop], remote: remote)
        system.onLinkProblem { _ in }
        thread = LoopThread(loop: loop)
        _ = system.start { FuzzSink() }
        thread.start()
        port = HostPort(system.address)!.port
        frames = Self.session()
    }

    // MARK: A session

    private static let (hello, data, ping, pong): (UInt8, UInt8, UInt8, UInt8) = (1, 4, 5, 6)
    private static let (dataWithTail, part, moved): (UInt8, UInt8, UInt8) = (7, 8, 9)

    private static func frame(_ kind: UInt8, _ number: UInt16 = 0, _ contents: [UInt8] = []) -> [UInt8] {
        sealed([0, 0, 0, 0, 0, 0, 0, 0, 3, kind] + little(number) + [0, 0, 0, 0] + contents)
    }

    private static func little<N: FixedWidthInteger>(_ value: N) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }

    private static func text(_ text: String) -> [UInt8] { little(UInt32(text.utf8.count)) + Array(text.utf8) }

    /// With the length and the checksums that it should have.
    private static func sealed(_ frame: [UInt8]) -> [UInt8] {
        var body = Array(frame.dropFirst(8))
        let length = little(UInt32(body.count))
        if body.count >= 8 { body.replaceSubrange(4..<8, with: little(length.withUnsafeBytes { crc32c($0) })) }
        return length + little(body.withUnsafeBytes { crc32c($0) }) + body
    }

    /// What a system says to another one: hello, messages whole and in parts, pings.
    private static func session() -> [[UInt8]] {
        let greeting =
            text("fuzz") + text("member") + text("127.0.0.1:1") + little(UInt64(1)) + little(UInt16(2))
            + little(UInt64(0)) + little(UInt16(0)) + text("") + [0]
        func head(_ tail: Int) -> [UInt8] { little(UInt32(tail)) + little(UInt64(1)) + little(UInt64(1)) }
        let some = (0..<300).map { UInt8(truncatingIfNeeded: $0) }
        return [
            frame(hello, 0, greeting), frame(data, 0, head(0) + some), frame(ping),
            frame(dataWithTail, 7, head(600) + some),
            frame(part, 7, some), frame(dataWithTail, 8, head(300)), frame(part, 8, some), frame(part, 7, some),
            frame(ping), frame(moved), frame(data, 0, head(0)), frame(ping),
        ]
    }

    // MARK: Inputs

    func check(_ random: inout PRNG) -> String? {
        inputs += 1
        if inputs % 256 == 1, let problem = serves() { return problem }
        var said = frames
        switch random.below(6) {
        case 0:
            for _ in 0..<1 + random.below(3) {
                let at = random.below(said.count)
                Mutation.apply(&random, &said[at])
            }
        case 1:
            // Behind a length and a checksum that hold.
            let at = random.below(said.count)
            var body = Array(said[at].dropFirst(8))
            Mutation.apply(&random, &body)
            said[at] = Self.sealed(Array(repeating: 0, count: 8) + body)
        case 2: said.swapAt(random.below(said.count), random.below(said.count))
        case 3: said.insert(said[random.below(said.count)], at: random.below(said.count + 1))
        case 4: said.remove(at: random.below(said.count))
        default: break
        }
        var bytes = Array(said.joined())
        if random.below(4) == 0 { bytes.removeLast(random.below(bytes.count + 1)) }
        return talk(bytes) == nil ? "the link stays open after its end: \(escapedText(bytes))" : nil
    }

    /// An undamaged session is answered to its end.
    private func serves() -> String? {
        guard let answer = talk(Array(frames.joined()), pongs: 3) else { return "an undamaged session has no end" }
        return Self.pongs(answer) == 3 ? nil : "an undamaged session is not served: \(escapedText(answer))"
    }

    private static func pongs(_ answer: [UInt8]) -> Int {
        var (at, pongs) = (0, 0)
        while at + 10 <= answer.count {
            if answer[at + 9] == pong { pongs += 1 }
            at += 8 + Int(answer[at]) + Int(answer[at + 1]) << 8
        }
        return pongs
    }

    /// What is answered up to the end of the stream; nil if that does not come within ten seconds. With `pongs` its own
    /// end comes when it has so many: an end that is there already is answered by no more than an end.
    private func talk(_ bytes: [UInt8], pongs: Int = 0) -> [UInt8]? {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(fd) }
        var timeout = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        // From another address each, as ports of closed connections stay taken for a minute.
        let number = UInt32(truncatingIfNeeded: inputs / 4096)
        guard bind(fd, 0x7F00_0000 | (number % 250 + 1) << 8 | 2, 0), connect(fd, 0x7F00_0001, port) else { return nil }
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                send(fd, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            // It may be closed before it has read everything.
            guard count > 0 else { return [] }
            sent += count
        }
        var (answer, some) = ([UInt8](), [UInt8](repeating: 0, count: 4096))
        if pongs == 0 { shutdown(fd, Int32(SHUT_WR)) }
        while true {
            let count = recv(fd, &some, some.count, 0)
            if count > 0 {
                answer += some[..<count]
                if pongs > 0, Self.pongs(answer) == pongs { shutdown(fd, Int32(SHUT_WR)) }
            }
            if count == 0 { return answer }
            if count < 0, errno != EINTR { return errno == EAGAIN ? nil : answer }
        }
    }

    private func bind(_ fd: Int32, _ host: UInt32, _ port: UInt16) -> Bool {
        withAddress(host, port) { Glibc.bind(fd, $0, $1) == 0 }
    }

    private func connect(_ fd: Int32, _ host: UInt32, _ port: UInt16) -> Bool {
        withAddress(host, port) { Glibc.connect(fd, $0, $1) == 0 }
    }

    private func withAddress<R>(_ host: UInt32, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R
    {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = host.bigEndian
        address.sin_port = port.bigEndian
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
    }
}
