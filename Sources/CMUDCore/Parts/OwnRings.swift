// The last lines of a player, as others read them. A part of `GameSession`; on its thread.

import KVBase

/// Two rings, of the room and of the building, with one count of lines.
struct OwnRings {
    private var sequence: Int64 = 0
    private var room: [RingLine] = []
    private var building: [RingLine] = []

    var roomLines: [RingLine] { room }
    var buildingLines: [RingLine] { building }

    mutating func say(_ talk: Talk, at time: Millis) { OwnRings.add(line(talk, time), to: &room) }

    mutating func shout(_ talk: Talk, at time: Millis) { OwnRings.add(line(talk, time), to: &building) }

    /// Another room begins with a ring of its own.
    mutating func leaveRoom() { room.removeAll() }

    private mutating func line(_ talk: Talk, _ time: Millis) -> RingLine {
        sequence += 1
        return RingLine(seq: sequence, time: time, talk: talk)
    }

    private static func add(_ line: RingLine, to ring: inout [RingLine]) {
        ring.append(line)
        if ring.count > RingLine.ringMax { ring.removeFirst() }
    }

    func checkInvariants() {
        for ring in [room, building] {
            check(ring.count <= RingLine.ringMax && ring.last?.seq ?? 0 <= sequence)
            check(zip(ring, ring.dropFirst()).allSatisfy { $0.seq < $1.seq })
        }
    }
}
