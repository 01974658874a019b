// What a record says beside its value: when it expires. Values, any thread.

package import KVBase

/// The bytes before the value of an extended record.
///
///     byte 0      what follows: 1 the version of the deadline, where it is not the record's own
///     byte 1      0
///     byte 2…7    deadline, 48 bits of milliseconds since 1970; 0 is none
///     with 1      8 bytes server, 2 bytes index, 6 bytes milliseconds, 8 bytes seq
@usableFromInline package struct RecordExtension: Equatable, Sendable {
    /// The last millisecond of the year 9999.
    package static let deadlineMax: Millis = 253_402_300_799_999
    static let apartFlag: UInt64 = 1
    static let wordBytes = 8
    static let versionBytes = 24
    static let bytesMax = wordBytes + versionBytes

    /// Milliseconds since 1970 from which on the value is not shown; 0 is never.
    package var deadline: Millis
    /// The version of the deadline, if it is not that of the record: a SET with KEEPTTL leaves it as it was.
    package var version: Version?

    package init(deadline: Millis, version: Version? = nil) {
        check(deadline >= 0 && deadline <= RecordExtension.deadlineMax)
        (self.deadline, self.version) = (deadline, version)
    }

    /// From bytes that are valid.
    init(reading at: UnsafeRawPointer) {
        let word = at.loadUnaligned(as: UInt64.self)
        deadline = Millis(word &>> 16)
        guard word & RecordExtension.apartFlag != 0 else {
            version = nil
            return
        }
        let server = at.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        let stamp = at.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
        version = Version(
            ms: Millis(stamp &>> 16), uid: ActorUID(server: server, index: UInt16(truncatingIfNeeded: stamp)),
            seq: at.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
    }

    var byteCount: Int {
        version == nil ? RecordExtension.wordBytes : RecordExtension.wordBytes + RecordExtension.versionBytes
    }

    func write(to place: UnsafeMutableRawPointer) {
        place.storeBytes(
            of: UInt64(deadline) &<< 16 | (version == nil ? 0 : RecordExtension.apartFlag), as: UInt64.self)
        guard let version else { return }
        place.storeBytes(of: version.uid.server, toByteOffset: 8, as: UInt64.self)
        place.storeBytes(
            of: UInt64(version.ms) &<< 16 | UInt64(version.uid.index), toByteOffset: 16, as: UInt64.self)
        place.storeBytes(of: version.seq, toByteOffset: 24, as: UInt64.self)
    }

    /// How long the extension is that lies there.
    @inline(__always)
    static func byteCount(at place: UnsafeRawPointer) -> Int {
        place.loadUnaligned(as: UInt64.self) & apartFlag == 0 ? wordBytes : wordBytes + versionBytes
    }

    /// The deadline of an extension that lies there.
    @inline(__always)
    static func deadline(at place: UnsafeRawPointer) -> Millis { Millis(place.loadUnaligned(as: UInt64.self) &>> 16) }

    /// Whether a content that came from elsewhere begins with a whole extension.
    static func isValid(_ content: UnsafeRawBufferPointer) -> Bool {
        guard content.count >= wordBytes, let at = content.baseAddress else { return false }
        let word = at.loadUnaligned(as: UInt64.self)
        guard word & 0xFFFE == 0, Millis(word &>> 16) <= deadlineMax, content.count >= byteCount(at: at) else {
            return false
        }
        guard let version = RecordExtension(reading: at).version else { return true }
        return version.isStorable
    }
}
