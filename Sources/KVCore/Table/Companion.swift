// Records that go with a key: its deadline, where that was set apart from the value. Values, any thread.

import Glibc
import KVBase

/// A companion is a record of its own under a hidden key: 0xFF, 0x00, what it is, and the key it goes with. Versions,
/// merging, the digest and the log treat it as any record. It is extended, so that records without extension need not
/// be asked whether they are one.
enum Companion {
    /// A deadline: its extension has it, and its value is empty.
    static let deadlineKind = UInt8(ascii: "d")
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
    static func isCompanions(_ key: [UInt8]) -> Bool { key.count >= 2 && key[0] == 0xFF && key[1] == 0 }

    /// Whether a companion that came from elsewhere is one as this server makes them. `content` begins with a whole
    /// extension.
    static func isSound(_ key: [UInt8], _ content: UnsafeRawBufferPointer) -> Bool {
        key.count >= prefixBytes && key[2] == deadlineKind && content.count == RecordExtension.shortBytes
    }

    /// The key of the companion of that kind, valid while `body` runs.
    static func withKey<R>(_ kind: UInt8, of key: ByteView, _ body: (ByteView) -> R) -> R {
        withUnsafeTemporaryAllocation(byteCount: prefixBytes + key.count, alignment: 8) { buffer in
            let place = buffer.baseAddress.unsafelyUnwrapped
            place.storeBytes(of: 0xFF, as: UInt8.self)
            place.storeBytes(of: 0, toByteOffset: 1, as: UInt8.self)
            place.storeBytes(of: kind, toByteOffset: 2, as: UInt8.self)
            memcpy(place + prefixBytes, key.start, key.count)
            return body(ByteView(UnsafeRawPointer(place), prefixBytes + key.count))
        }
    }
}

extension Record {
    /// It goes with another key and is not shown itself.
    var isCompanion: Bool {
        guard isExtended, keyCount >= Companion.prefixBytes else { return false }
        return keyPointer.load(as: UInt8.self) == 0xFF && keyPointer.load(fromByteOffset: 1, as: UInt8.self) == 0
    }

    /// The key that a companion goes with.
    var companionOf: ByteView { ByteView(keyPointer + Companion.prefixBytes, keyCount &- Companion.prefixBytes) }
}
