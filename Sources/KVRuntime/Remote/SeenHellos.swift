// First messages of handshakes that came lately. A part of `RemoteTransport`; its loop only.

import KVBase

/// An honest first message has random bytes of its own. One that was said before is a recording: its sender cannot end
/// the handshake, and nothing is spent on it.
struct SeenHellos {
    static let countMax = 4096
    /// Of the message, behind the heads of its record and of itself and a version. What proves the key covers them, so
    /// they cannot be replaced.
    private static let randomBytes = 11..<43

    private let seed: UInt64
    /// In the order in which they came, over and over.
    private var ring: [UInt64] = []
    private var next = 0
    private var known: Set<UInt64> = []

    init(seed: UInt64 = Machine.random()) { self.seed = seed }

    /// False if it was seen before, or if the first record does not reach as far as its random bytes do, as every
    /// server's does. O(1).
    mutating func isFresh(_ said: [UInt8]) -> Bool {
        let end = SeenHellos.randomBytes.upperBound
        guard said.count >= end, Int(said[3]) << 8 + Int(said[4]) + 5 >= end else { return false }
        let hash = said[SeenHellos.randomBytes].withUnsafeBytes { hashBytes($0.baseAddress!, $0.count, seed: seed) }
        guard known.insert(hash).inserted else { return false }
        if ring.count < SeenHellos.countMax {
            ring.append(hash)
        } else {
            known.remove(ring[next])
            ring[next] = hash
            next = (next + 1) % SeenHellos.countMax
        }
        return true
    }

    func checkInvariants() { check(ring.count <= SeenHellos.countMax && known.count == ring.count) }
}
