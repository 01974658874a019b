// Records that go with a key: its deadline, where that was set apart from the value, and the parts of a counter.
// Values, any thread.

import Glibc
package import KVBase

/// A companion is a record of its own under a hidden key: 0xFF, 0x00, what it is, and the key it goes with. Versions,
/// merging, the digest and the log treat it as any record. It is extended, so that records without extension need not
/// be asked whether they are one.
enum Companion {
    /// A deadline: its extension has it, and its value is empty.
    static let deadlineKind = UInt8(ascii: "d")
    /// One actor's part of a counter (`CounterPart`): behind the key stands the actor, in 10 bytes.
    static let partKind = UInt8(ascii: "c")
    static let uidBytes = 10
    static let prefixBytes = 3
    /// Longest key a record can have: a user's with what a database puts before it, as a companion's.
    static let keyBytesMax = Limits.keyBytesMax + prefixBytes + 16

    /// Above the keys of all companions, and below those of the databases that follow (0xFF, number).
    nonisolated(unsafe) static let keysEnd: UnsafeRawBufferPointer = {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 3, alignment: 1)
        (bytes[0], bytes[1], bytes[2]) = (0xFF, 0x00, 0xFF)
        return UnsafeRawBufferPointer(bytes)
    }()

    /// Whether a key is one that only companions have.
    @inline(__always)
    static func isCompanions(_ key: UnsafeRawBufferPointer) -> Bool { key.count >= 2 && key[0] == 0xFF && key[1] == 0 }

    /// Whether a companion that came from elsewhere is one as this server makes them. `content` begins with a whole
    /// extension.
    static func isSound(_ key: UnsafeRawBufferPointer, _ content: UnsafeRawBufferPointer, isTombstone: Bool) -> Bool {
        guard key.count >= prefixBytes else { return false }
        let valueCount = content.count - RecordExtension.shortBytes
        switch key[2] {
        case deadlineKind: return !isTombstone && valueCount == 0
        case partKind:
            return key.count >= prefixBytes + uidBytes
                && (isTombstone ? valueCount == 0 : CounterPart.isLength(valueCount))
        default: return false
        }
    }

    /// Whose part a key of that kind is.
    static func partUID(_ key: UnsafeRawBufferPointer) -> ActorUID {
        ActorUID(
            server: UInt64(bigEndian: key.loadUnaligned(fromByteOffset: key.count - uidBytes, as: UInt64.self)),
            index: UInt16(bigEndian: key.loadUnaligned(fromByteOffset: key.count - 2, as: UInt16.self)))
    }

    /// The key of the companion of that kind, valid while `body` runs.
    static func withKey<R>(_ kind: UInt8, of key: ByteView, uid: ActorUID? = nil, _ body: (ByteView) -> R) -> R {
        let count = prefixBytes + key.count + (uid == nil ? 0 : uidBytes)
        return withUnsafeTemporaryAllocation(byteCount: count, alignment: 8) { buffer in
            let place = buffer.baseAddress.unsafelyUnwrapped
            place.storeBytes(of: 0xFF, as: UInt8.self)
            place.storeBytes(of: 0, toByteOffset: 1, as: UInt8.self)
            place.storeBytes(of: kind, toByteOffset: 2, as: UInt8.self)
            memcpy(place + prefixBytes, key.start, key.count)
            if let uid {
                let end = place + prefixBytes + key.count
                end.storeBytes(of: uid.server.bigEndian, as: UInt64.self)
                end.storeBytes(of: uid.index.bigEndian, toByteOffset: 8, as: UInt16.self)
            }
            return body(ByteView(UnsafeRawPointer(place), count))
        }
    }
}

extension Record {
    /// It goes with another key and is not shown itself.
    var isCompanion: Bool {
        guard isExtended, keyCount >= Companion.prefixBytes else { return false }
        return keyPointer.load(as: UInt8.self) == 0xFF && keyPointer.load(fromByteOffset: 1, as: UInt8.self) == 0
    }

    /// It is one actor's part of a counter.
    package var isPart: Bool {
        isCompanion && keyCount >= Companion.prefixBytes + Companion.uidBytes
            && keyPointer.load(fromByteOffset: 2, as: UInt8.self) == Companion.partKind
    }

    /// The key that a companion goes with.
    package var companionOf: ByteView {
        let others = Companion.prefixBytes &+ (isPart ? Companion.uidBytes : 0)
        return ByteView(keyPointer + Companion.prefixBytes, keyCount &- others)
    }

    /// Whose part it is.
    package var partUID: ActorUID {
        let end = keyPointer + keyCount - Companion.uidBytes
        return ActorUID(
            server: UInt64(bigEndian: end.loadUnaligned(as: UInt64.self)),
            index: UInt16(bigEndian: end.loadUnaligned(fromByteOffset: 8, as: UInt16.self)))
    }
}
