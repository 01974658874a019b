// What waits to be merged: in order, within its bound, and put back where work on it is not done.

import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct InboxTests {
    private func item(_ number: UInt64, bytes: Int) -> WorkItem {
        let block = Block(kind: .section(origin: 1, from: 0, to: 1), count: 0, millisMax: 0, from: 0, to: bytes)
        return .block(
            BlockWork(
                bytes: [], block: block, sender: ActorUID(server: number, index: 0), cut: VersionVector()))
    }

    private func number(_ item: WorkItem?) -> UInt64? {
        if case .block(let work) = item { work.sender.server } else { nil }
    }

    @Test func itemsComeInOrderAndStayUntilTheyAreFinished() {
        var inbox = Inbox(bytesMax: 1_000)
        for i in 1...600 { inbox.enqueue(item(UInt64(i), bytes: 1)) }
        #expect(inbox.count == 600 && inbox.byteCount == 600)
        var expected: UInt64 = 1
        while !inbox.isEmpty {
            let first = inbox.take()
            #expect(number(first) == expected)
            inbox.finish(first)
            #expect(inbox.count == 601 - Int(expected))
            #expect(number(inbox.take()) == expected)
            inbox.finish(nil)
            inbox.compact()
            inbox.checkInvariants()
            expected += 1
        }
        #expect(expected == 601 && inbox.byteCount == 0 && inbox.take() == nil)
    }

    @Test func theBoundCountsBytesAndOneFrameAlwaysFits() {
        var inbox = Inbox(bytesMax: 100)
        #expect(inbox.hasRoom(for: 1_000) && !inbox.isFull && inbox.isLittle)
        inbox.enqueue(item(1, bytes: 50))
        #expect(!inbox.isHalfFull && inbox.hasRoom(for: 50) && !inbox.hasRoom(for: 51))
        inbox.enqueue(item(2, bytes: 50))
        #expect(inbox.isHalfFull && inbox.isFull && !inbox.hasRoom(for: 1))
        _ = inbox.take()
        inbox.finish(nil)
        #expect(!inbox.isFull && !inbox.isHalfFull)
        inbox.clear()
        #expect(inbox.isEmpty && inbox.byteCount == 0)
        inbox.checkInvariants()
    }

    @Test func onlyLittleIsMergedAsItArrives() {
        var inbox = Inbox(bytesMax: 1_000_000)
        inbox.enqueue(item(1, bytes: 16 * 1024))
        #expect(inbox.isLittle)
        inbox.enqueue(item(2, bytes: 1))
        #expect(!inbox.isLittle)
    }
}
