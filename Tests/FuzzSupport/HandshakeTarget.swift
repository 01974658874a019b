// The fuzz target `handshake`: the handshake of a link by the cluster's key, damaged, cut, exchanged, replayed, or by
// somebody who has another key. In process, without a socket.

import CTLS
import KVBase
package import KVTestSupport

extension FuzzTarget {
    package static let handshake = FuzzTarget(
        name: "handshake",
        about: "the handshake of a link, damaged, cut or replayed; nobody is believed without the key"
    ) { random, _ in
        Handshake.check(&random)
    }
}

/// One side: bytes in, bytes out.
private final class Side {
    let tls: OpaquePointer
    private(set) var state: Int32 = 0

    init(_ context: OpaquePointer, isDialer: Bool) { tls = cs_tls_new(context, isDialer ? 1 : 0)! }

    deinit { cs_tls_free(tls) }

    func feed(_ bytes: [UInt8]) { _ = cs_tls_feed(tls, bytes, bytes.count) }

    /// Goes on, and returns what is to be sent.
    func step() -> [UInt8] {
        if state == 0 { state = cs_tls_handshake(tls) }
        var bytes = [UInt8](repeating: 0, count: cs_tls_pending(tls))
        let count = cs_tls_take(tls, &bytes, bytes.count)
        return Array(bytes[..<count])
    }

    /// What the other side has said since; nil if that is damaged.
    func read() -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 1 << 15)
        let count = cs_tls_read(tls, &bytes, bytes.count)
        return count < 0 ? nil : Array(bytes[..<count])
    }

    func write(_ bytes: [UInt8]) { _ = cs_tls_write(tls, bytes, bytes.count) }
}

private enum Handshake {
    /// Contexts are made once and live as long as the process.
    private struct Contexts: @unchecked Sendable {
        let dialler = cs_tls_context_keys("fuzz", 1, [UInt8](repeating: 7, count: 32), 1)!
        let acceptor = cs_tls_context_keys("fuzz", 2, [UInt8](repeating: 7, count: 32), 1)!
        let stranger = cs_tls_context_keys("fuzz", 1, [UInt8](repeating: 8, count: 32), 1)!
        let otherCluster = cs_tls_context_keys("other", 1, [UInt8](repeating: 7, count: 32), 1)!
        /// What a dialler said in a session that went well, flight by flight.
        let recorded: [[UInt8]]

        init() {
            let (a, b) = (Side(dialler, isDialer: true), Side(acceptor, isDialer: false))
            var flights: [[UInt8]] = []
            for _ in 0..<4 {
                let said = a.step()
                if !said.isEmpty { flights.append(said) }
                b.feed(said)
                a.feed(b.step())
            }
            a.write(Array("recorded".utf8))
            flights.append(a.step())
            recorded = flights
        }
    }

    private static let contexts = Contexts()

    static func check(_ random: inout PRNG) -> String? {
        switch random.below(8) {
        case 0: return honest()
        case 1: return strangers(&random)
        case 2, 3: return replayed(&random)
        default: return damaged(&random)
        }
    }

    private static func honest() -> String? {
        let (a, b) = (Side(contexts.dialler, isDialer: true), Side(contexts.acceptor, isDialer: false))
        for _ in 0..<4 {
            b.feed(a.step())
            a.feed(b.step())
        }
        guard a.state == 1, b.state == 1, cs_tls_peer(b.tls) == 1 else { return "an honest handshake fails" }
        a.write([1, 2, 3])
        b.feed(a.step())
        return b.read() == [1, 2, 3] ? nil : "what is said after an honest handshake does not arrive"
    }

    private static func strangers(_ random: inout PRNG) -> String? {
        let context = random.below(2) == 0 ? contexts.stranger : contexts.otherCluster
        let (a, b) = (Side(context, isDialer: true), Side(contexts.acceptor, isDialer: false))
        for _ in 0..<4 {
            b.feed(a.step())
            a.feed(b.step())
        }
        return b.state == 1 ? "a key of somebody else is believed" : nil
    }

    /// Flights of a recorded session, in any order, perhaps damaged.
    private static func replayed(_ random: inout PRNG) -> String? {
        let b = Side(contexts.acceptor, isDialer: false)
        for _ in 0..<1 + random.below(4) {
            var flight = contexts.recorded[random.below(contexts.recorded.count)]
            if random.below(2) == 0 { Mutation.apply(&random, &flight) }
            b.feed(flight)
            _ = b.step()
            if b.state == 1 { return "a replayed handshake is believed" }
            if b.state < 0 { return nil }
        }
        return nil
    }

    /// A living dialler whose words, or the answers to which, are changed on the way.
    private static func damaged(_ random: inout PRNG) -> String? {
        let (a, b) = (Side(contexts.dialler, isDialer: true), Side(contexts.acceptor, isDialer: false))
        let changed = random.below(6)
        for flight in 0..<4 {
            var (there, back) = (a.step(), [UInt8]())
            if changed == 2 * flight { change(&random, &there) }
            b.feed(there)
            back = b.step()
            if changed == 2 * flight + 1 { change(&random, &back) }
            a.feed(back)
        }
        // Both or none: what is not covered by the proof, as the version in a record's head, may be changed.
        if b.state == 1, a.state != 1 { return "a handshake is believed that its dialler did not end" }
        if b.state == 1, cs_tls_peer(b.tls) != 1 { return "somebody else is believed to be there" }
        guard b.state == 1 else { return nil }
        a.write([4, 5, 6])
        var said = a.step()
        let whole = said
        Mutation.apply(&random, &said)
        b.feed(said)
        let heard = b.read()
        // A damaged word is none; one that follows an undamaged one changes nothing of that.
        let isWhole = said.count >= whole.count && Array(said.prefix(whole.count)) == whole
        return heard == nil || heard == [] || heard == [4, 5, 6] && isWhole
            || heard == [4, 5, 6] && said.count == whole.count
            ? nil : "a damaged word is believed: \(escapedText(heard ?? []))"
    }

    private static func change(_ random: inout PRNG, _ bytes: inout [UInt8]) {
        switch random.below(4) {
        case 0: bytes.removeLast(random.below(bytes.count + 1))
        case 1: bytes = contexts.recorded[random.below(contexts.recorded.count)]
        default: Mutation.apply(&random, &bytes)
        }
    }
}
