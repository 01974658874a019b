// The hash of keys: seeded per process so that clients cannot choose colliding keys. Pure, any thread.

@inlinable @inline(__always)
package func mix64(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = a.multipliedFullWidth(by: b)
    return product.high ^ product.low
}

@inlinable @inline(__always)
func load64(_ p: UnsafeRawPointer, _ offset: Int) -> UInt64 { p.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }

@inlinable @inline(__always)
func load32(_ p: UnsafeRawPointer, _ offset: Int) -> UInt64 {
    UInt64(p.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
}

/// 64-bit hash of `count` bytes in the manner of wyhash (Wang Yi, final version 3): 128-bit multiplications of 8-byte
/// words, short inputs read with two overlapping loads. About 3 ns for 16 bytes. The value depends on `seed` and on the
/// machine's byte order, so it never leaves the process.
@inlinable @inline(__always)
package func hashBytes(_ p: UnsafeRawPointer, _ count: Int, seed: UInt64) -> UInt64 {
    let s0: UInt64 = 0xA076_1D64_78BD_642F
    let s1: UInt64 = 0xE703_7ED1_A0B4_28DB
    let state = seed ^ mix64(seed ^ s0, s1)
    var a: UInt64 = 0
    var b: UInt64 = 0
    if count <= 16 {
        if count >= 8 {
            a = load64(p, 0)
            b = load64(p, count - 8)
        } else if count >= 4 {
            a = load32(p, 0)
            b = load32(p, count - 4)
        } else if count > 0 {
            let first = UInt64(p.load(as: UInt8.self))
            let middle = UInt64(p.load(fromByteOffset: count >> 1, as: UInt8.self))
            let last = UInt64(p.load(fromByteOffset: count - 1, as: UInt8.self))
            a = first << 16 | middle << 8 | last
        }
    } else {
        return hashLong(p, count, state)
    }
    return mix64(s1 ^ UInt64(truncatingIfNeeded: count), mix64(a ^ s1, b ^ state))
}

/// The part of `hashBytes` for more than 16 bytes; apart, so that the short part is inlined.
@inlinable @inline(never)
func hashLong(_ p: UnsafeRawPointer, _ count: Int, _ seeded: UInt64) -> UInt64 {
    let s1: UInt64 = 0xE703_7ED1_A0B4_28DB
    var state = seeded
    var left = count
    var at = p
    while left > 16 {
        state = mix64(load64(at, 0) ^ s1, load64(at, 8) ^ state)
        at += 16
        left &-= 16
    }
    let a = load64(at, left - 16)
    let b = load64(at, left - 8)
    return mix64(s1 ^ UInt64(truncatingIfNeeded: count), mix64(a ^ s1, b ^ state))
}
