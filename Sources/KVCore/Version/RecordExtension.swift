// What a record says beside its value: when it expires, and what it has taken of a counter. Values, any thread.

package import KVBase

/// The bytes before the value of an extended record: usually only its deadline.
///
///     short   6 bytes deadline, milliseconds since 1970; 0 is none
///     long    6 bytes of ones, 2 bytes kind, 8 bytes deadline, then by the bits of the kind, in this order
///     bit 0   the version of the deadline: 8 bytes server, 2 bytes index, 6 bytes milliseconds, 8 bytes seq
///     bit 1   `TakenSums`
@usableFromInline package struct RecordExtension: Equatable, Sendable {
    /// The last millisecond of the year 9999.
    package static let deadlineMax: Millis = 253_402_300_799_999
    /// What stands in the place of a deadline where the long form follows.
    private static let longMark: UInt64 = 1 << 48 - 1
    private static let kindKept: UInt16 = 1
    private static let kindTaken: UInt16 = 2
    static let shortBytes = 6
    private static let longBytes = 16
    private static let versionBytes = 24
    static let bytesMax = longBytes + versionBytes + TakenSums.bytesMax

    /// Milliseconds since 1970 from which on the value is not shown; 0 is never.
    package var deadline: Millis
    /// The version of the deadline, if it is not that of the record: a SET with KEEPTTL leaves it as it was, and the
    /// zero that counting begins with has none by a version above that of a deadline set apart.
    package var version: Version?
    /// What the write has seen of a counter's parts; nil if there was none.
    package var taken: TakenSums?

    package init(deadline: Millis, version: Version? = nil, taken: TakenSums? = nil) {
        precondition(deadline >= 0 && deadline <= RecordExtension.deadlineMax)
        (self.deadline, self.version, self.taken) = (deadline, version, taken)
    }

    /// From bytes that are valid.
    init(reading at: UnsafeRawPointer) {
        let short = RecordExtension.first(at)
        guard short == RecordExtension.longMark else {
            (deadline, version, taken) = (Millis(short), nil, nil)
            return
        }
        deadline = at.loadUnaligned(fromByteOffset: 8, as: Millis.self)
        taken = RecordExtension.taken(at: at).map { TakenSums($0) }
        version = RecordExtension.version(at: at)
    }

    /// It says nothing.
    var isEmpty: Bool { deadline == 0 && version == nil && taken == nil }

    var byteCount: Int {
        if version == nil, taken == nil { return RecordExtension.shortBytes }
        return RecordExtension.longBytes &+ (version == nil ? 0 : RecordExtension.versionBytes)
            &+ (taken?.byteCount ?? 0)
    }

    /// Whether the extension that lies there is a deadline and nothing else.
    @inline(__always)
    static func isDeadline(at place: UnsafeRawPointer) -> Bool {
        let short = first(place)
        return short != longMark && short != 0
    }

    /// The short form.
    @inline(__always)
    static func write(_ deadline: Millis, to place: UnsafeMutableRawPointer) {
        place.storeBytes(of: UInt32(truncatingIfNeeded: deadline), as: UInt32.self)
        place.storeBytes(of: UInt16(truncatingIfNeeded: deadline &>> 32), toByteOffset: 4, as: UInt16.self)
    }

    func write(to place: UnsafeMutableRawPointer) {
        let isShort = version == nil && taken == nil
        let short = isShort ? UInt64(deadline) : RecordExtension.longMark
        place.storeBytes(of: UInt32(truncatingIfNeeded: short), as: UInt32.self)
        place.storeBytes(of: UInt16(truncatingIfNeeded: short &>> 32), toByteOffset: 4, as: UInt16.self)
        if isShort { return }
        let kind =
            (version == nil ? 0 : RecordExtension.kindKept) | (taken == nil ? 0 : RecordExtension.kindTaken)
        place.storeBytes(of: kind, toByteOffset: 6, as: UInt16.self)
        place.storeBytes(of: deadline, toByteOffset: 8, as: Millis.self)
        taken?.write(
            to: place + RecordExtension.longBytes + (version == nil ? 0 : RecordExtension.versionBytes))
        guard let version else { return }
        place.storeBytes(of: version.uid.server, toByteOffset: 16, as: UInt64.self)
        place.storeBytes(
            of: UInt64(version.ms) &<< 16 | UInt64(version.uid.index), toByteOffset: 24, as: UInt64.self)
        place.storeBytes(of: version.seq, toByteOffset: 32, as: UInt64.self)
    }

    @inline(__always)
    private static func first(_ place: UnsafeRawPointer) -> UInt64 {
        UInt64(place.loadUnaligned(as: UInt32.self))
            | UInt64(place.loadUnaligned(fromByteOffset: 4, as: UInt16.self)) &<< 32
    }

    private static func kind(_ place: UnsafeRawPointer) -> UInt16 {
        place.loadUnaligned(fromByteOffset: 6, as: UInt16.self)
    }

    /// How long the extension is that lies there.
    @inline(__always)
    static func byteCount(at place: UnsafeRawPointer) -> Int {
        first(place) == longMark ? longByteCount(at: place) : shortBytes
    }

    /// The version of the deadline of an extension that lies there, if it has one of its own.
    static func version(at place: UnsafeRawPointer) -> Version? {
        guard first(place) == longMark, kind(place) & kindKept != 0 else { return nil }
        let stamp = place.loadUnaligned(fromByteOffset: 24, as: UInt64.self)
        return Version(
            ms: Millis(stamp &>> 16),
            uid: ActorUID(
                server: place.loadUnaligned(fromByteOffset: 16, as: UInt64.self),
                index: UInt16(truncatingIfNeeded: stamp)),
            seq: place.loadUnaligned(fromByteOffset: 32, as: UInt64.self))
    }

    private static func longByteCount(at place: UnsafeRawPointer) -> Int {
        takenOffset(place) &+ (taken(at: place)?.byteCount ?? 0)
    }

    private static func takenOffset(_ place: UnsafeRawPointer) -> Int {
        longBytes &+ (kind(place) & kindKept == 0 ? 0 : versionBytes)
    }

    /// What the extension that lies there says of a counter's parts, or nil.
    static func taken(at place: UnsafeRawPointer) -> TakenView? {
        guard first(place) == longMark, kind(place) & kindTaken != 0 else { return nil }
        return TakenView(base: place + takenOffset(place))
    }

    /// The deadline of an extension that lies there.
    @inline(__always)
    static func deadline(at place: UnsafeRawPointer) -> Millis {
        let short = first(place)
        return short == longMark ? place.loadUnaligned(fromByteOffset: 8, as: Millis.self) : Millis(short)
    }

    /// Whether a content that came from elsewhere begins with a whole extension.
    static func isValid(_ content: UnsafeRawBufferPointer) -> Bool {
        guard content.count >= shortBytes, let at = content.baseAddress else { return false }
        guard first(at) == longMark else { return first(at) <= UInt64(deadlineMax) }
        guard content.count >= longBytes, (kindKept...(kindKept | kindTaken)).contains(kind(at)),
            content.count >= takenOffset(at)
        else { return false }
        if kind(at) & kindTaken != 0 {
            let rest = content.count &- takenOffset(at)
            guard rest >= TakenSums.headBytes, let taken = taken(at: at), rest >= taken.byteCount, taken.isValid
            else { return false }
        }
        let made = RecordExtension(reading: at)
        return made.deadline >= 0 && made.deadline <= deadlineMax && made.version?.isStorable ?? true
    }
}
