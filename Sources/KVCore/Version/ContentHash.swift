// The hash that a record keeps of a value of 1 KiB or more, made while the value is copied. Pure, any thread.

import CIntrinsics
import KVBase

/// Four chains of multiplications over blocks of 64 bytes, then the rest; the same on every server (little-endian
/// machines), in as many pieces as one likes. Without a key: whoever makes two values that collide gains nothing, as
/// the digest mixes in version and cluster key, and two values of one version are a bug, not an attack.
struct ContentHash {
    private var lanes = ci_hash_lanes(
        a: 0xA076_1D64_78BD_642F, b: 0xE703_7ED1_A0B4_28DB, c: 0x8EBC_6AF0_9C88_C6E3, d: 0x5899_65CC_7537_4CC3)
    private var rest: UInt64 = 0
    private let count: Int
    /// Bytes copied and hashed: a multiple of 64, or all.
    private(set) var done = 0

    init(count: Int) { self.count = count }

    var isComplete: Bool { done == count }

    /// Copies the value's bytes from `done` to about `end` (exactly, if that is all) and hashes them. Both addresses
    /// are those of the whole value.
    mutating func copy(from source: UnsafeRawPointer, into target: UnsafeMutableRawPointer, to end: Int) {
        let blocks = (min(end, count) &- done) & ~63
        if blocks > 0 {
            lanes = ci_copy_hash(target + done, source + done, UInt(bitPattern: blocks), lanes)
            done &+= blocks
        }
        let left = count &- done
        if end >= count, left > 0 {
            (target + done).copyMemory(from: source + done, byteCount: left)
            rest = hashBytes(source + done, left, seed: 0x1D8E_4E27_C47D_124F)
            done = count
        }
    }

    /// The hash, once `isComplete`.
    var value: UInt64 {
        let low = mix64(lanes.a ^ 0x2D35_8DCC_AA6C_78A5, lanes.b ^ rest)
        let high = mix64(lanes.c ^ UInt64(count), lanes.d ^ 0x8BB8_4B93_962E_ACC9)
        return mix64(low ^ 0x9E37_79B9_7F4A_7C15, high ^ 0xD1B5_4A32_D192_ED03)
    }
}
