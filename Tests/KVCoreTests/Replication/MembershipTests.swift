// The table of members by itself: whose word counts where several tell of a server, and who finds room.

import KVBase
import Testing

@testable import KVCore

@Suite struct MembershipTests {
    private func row(
        _ server: UInt64, _ incarnation: UInt32 = 0, at address: String = "s:1", _ status: MemberStatus = .up
    ) -> MemberRow {
        MemberRow(server: server, incarnation: incarnation, status: status, actorCount: 1, address: Bytes(address))
    }

    /// Who invents servers takes its own share of the room, not that of others.
    @Test func eachTellerHasItsRoom() {
        var members = Membership()
        var admitted = 0
        for server in 100..<400 where members.merge(row(UInt64(server)), from: .hearsay(by: 1), 0) != nil {
            admitted += 1
        }
        #expect(admitted == Membership.unheardMembersOfOneMax)
        #expect(!members.hasRoom(forHearsay: row(9), by: 1) && members.hasRoom(forHearsay: row(9), by: 2))
        #expect(members.merge(row(9), from: .hearsay(by: 2), 0) != nil)
        // A sibling has taken it in already, and counts for the one that told it.
        #expect(members.merge(row(400), from: .sibling(teller: 1), 0) != nil)
        // Who speaks itself takes no room any more.
        #expect(members.merge(row(100, 1), from: .itself, 0) != nil)
        #expect(members.merge(row(101, 1), from: .itself, 0) != nil)
        #expect(members.merge(row(500), from: .hearsay(by: 1), 0) != nil)
        #expect(members.merge(row(501), from: .hearsay(by: 1), 0) == nil)
        members.checkInvariants()
    }

    @Test func allTogetherHaveABound() {
        var members = Membership()
        var admitted = 0
        for server in 0..<3_000 {
            let teller = UInt64(server / 100) + 1
            if members.merge(row(10_000 + UInt64(server)), from: .hearsay(by: teller), 0) != nil { admitted += 1 }
        }
        #expect(admitted == Membership.unheardMembersMax)
        for server in 0..<3_000 {
            let teller = UInt64(server / 100) + 1
            _ = members.merge(row(20_000 + UInt64(server), at: "s:2", .left), from: .hearsay(by: teller), 0)
        }
        #expect(members.rows.count == Membership.unheardRowsMax)
        #expect(members.merge(row(7), from: .itself, 0) != nil)
    }

    /// Where two tell differently, each is believed for a while: with one of them the server is found.
    @Test func otherStoriesHaveTheirTurn() {
        var members = Membership()
        let (honest, liar) = (row(7, at: "here:1"), row(7, 5, at: "nowhere:9"))
        #expect(members.merge(honest, from: .hearsay(by: 1), 0) == honest)
        // A greater incarnation counts at once: servers do move.
        #expect(members.merge(liar, from: .hearsay(by: 2), 10) == liar)
        #expect(members.merge(honest, from: .hearsay(by: 1), 4_000) == nil)
        #expect(members.merge(honest, from: .hearsay(by: 1), 5_010) == honest)
        // And not at once again, however great it is.
        #expect(members.merge(row(7, 99, at: "nowhere:8"), from: .hearsay(by: 2), 5_020) == nil)
        #expect(members.merge(row(7, 99, at: "nowhere:8"), from: .sibling(teller: 2), 5_030) == nil)
        #expect(members.merge(row(7, 99, at: "nowhere:8"), from: .hearsay(by: 2), 10_010)?.incarnation == 99)
        #expect(members.merge(honest, from: .hearsay(by: 1), 15_010) == honest)
        // Its own word ends that.
        #expect(members.merge(row(7, 1, at: "here:2"), from: .itself, 15_020)?.address == Bytes("here:2"))
        #expect(members.merge(honest, from: .hearsay(by: 1), 30_000) == nil)
        #expect(members.tellers == [0])
        members.checkInvariants()
    }

    /// Who is gone is gone whoever tells it, at whatever address.
    @Test func statusesOnlyRise() {
        var members = Membership()
        _ = members.merge(row(7), from: .hearsay(by: 1), 0)
        #expect(members.merge(row(7, at: "t:1", .forgotten), from: .hearsay(by: 2), 10)?.status == .forgotten)
        #expect(members.row(7)?.address == Bytes("s:1"))
        #expect(members.merge(row(7, 3), from: .hearsay(by: 3), 20)?.status == .forgotten)
    }
}
