// Sections that wait for a sibling's word. A part of `Replica`; on its actor's thread.

import KVBase

/// Another server may have a sibling's write before this actor: the two messages take different ways. A section that
/// carries such a write waits until the sibling has said that it wrote so far, and is merged anew. To ask for it again
/// would take longer, and under a key that many write it would carry the next such write by then.
struct HeldSections {
    static let countMax = 64
    /// Of the frames that they came in.
    static let bytesMax = 16 * 1024 * 1024
    /// A batch's time, and what a busy machine adds. Then it is taken for a lie, and asked for again.
    static let patienceMillis: Millis = 500

    private struct Held {
        var work: BlockWork
        var unsaid: VersionVector
        var until: Millis
    }

    private var sections: [Held] = []
    private var bytes = 0

    var isEmpty: Bool { sections.isEmpty }
    var count: Int { sections.count }

    /// False if there is no room. Its entries must have been given up.
    mutating func hold(_ work: BlockWork, _ now: Millis) -> Bool {
        guard sections.count < HeldSections.countMax, bytes + work.bytes.count <= HeldSections.bytesMax else {
            return false
        }
        bytes += work.bytes.count
        let until = now + HeldSections.patienceMillis
        sections.append(Held(work: work.afresh, unsaid: work.unsaid, until: until))
        return true
    }

    /// Those of which all is said now, as they came. What has waited for too long is given up. O(held).
    mutating func takeSaid(_ now: Millis, by said: (OriginIndex) -> UInt64) -> [BlockWork] {
        var ready: [BlockWork] = []
        var left: [Held] = []
        for section in sections {
            let unsaid = section.unsaid
            let isSaid = (0..<unsaid.count).allSatisfy {
                unsaid.seqs[$0] == 0 || unsaid.seqs[$0] <= said(OriginIndex($0))
            }
            if isSaid {
                ready.append(section.work)
            } else if now < section.until {
                left.append(section)
                continue
            }
            bytes -= section.work.bytes.count
        }
        sections = left
        return ready
    }

    func checkInvariants() {
        check(sections.count <= HeldSections.countMax && bytes <= HeldSections.bytesMax)
        check(bytes == sections.reduce(0) { $0 + $1.work.bytes.count })
    }
}
