// What a replica has seen of every writer. Plain value; shared by copy-on-write between the actors of a process.

/// For every origin the highest own write such that it and all before it have taken effect here (Parker et al. 1983;
/// "dotted" use as in Almeida et al. 1603.01529). Indexed by `OriginIndex`; absent means 0.
///
/// Origins of retired servers count as `retired`: everybody holds all of them, so every dot of theirs is covered.
package struct VersionVector: Sendable, Equatable {
    package static let retired = UInt64.max

    package private(set) var seqs: [UInt64] = []

    package init() {}

    @inline(__always)
    package subscript(_ origin: OriginIndex) -> UInt64 {
        Int(origin) < seqs.count ? seqs[Int(origin)] : 0
    }

    package var count: Int { seqs.count }

    /// Whether the write `seq` of `origin`, and all before it, have taken effect.
    @inline(__always)
    package func covers(_ origin: OriginIndex, _ seq: UInt64) -> Bool { self[origin] >= seq }

    package mutating func set(_ origin: OriginIndex, _ seq: UInt64) {
        let at = Int(origin)
        if at >= seqs.count {
            if seq == 0 { return }
            seqs.append(contentsOf: repeatElement(0, count: at + 1 - seqs.count))
        }
        seqs[at] = seq
    }

    package mutating func raise(_ origin: OriginIndex, to seq: UInt64) {
        if self[origin] < seq { set(origin, seq) }
    }

    /// Element-wise maximum.
    package mutating func join(_ other: VersionVector) {
        if other.seqs.count > seqs.count {
            seqs.append(contentsOf: repeatElement(0, count: other.seqs.count - seqs.count))
        }
        for i in 0..<other.seqs.count where other.seqs[i] > seqs[i] { seqs[i] = other.seqs[i] }
    }

    /// Element-wise minimum.
    package mutating func meet(_ other: VersionVector) {
        if seqs.count > other.seqs.count { seqs.removeLast(seqs.count - other.seqs.count) }
        for i in 0..<seqs.count where other.seqs[i] < seqs[i] { seqs[i] = other.seqs[i] }
    }

    package func dominates(_ other: VersionVector) -> Bool {
        for i in 0..<other.seqs.count where other.seqs[i] > (i < seqs.count ? seqs[i] : 0) { return false }
        return true
    }

    package static func == (a: VersionVector, b: VersionVector) -> Bool {
        let (short, long) = a.seqs.count <= b.seqs.count ? (a.seqs, b.seqs) : (b.seqs, a.seqs)
        for i in 0..<long.count where long[i] != (i < short.count ? short[i] : 0) { return false }
        return true
    }
}
