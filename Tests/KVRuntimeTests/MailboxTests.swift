// The mailbox: FIFO per producer, never blocking, unbounded, close wakes the consumer, several independent.

import CSupport
import KVBase
import Synchronization
import Testing

@testable import KVRuntime

@Suite struct MailboxTests {
    final class Wakes: Sendable {
        let count = Atomic(0)
        var value: Int { count.load(ordering: .relaxed) }
        func add() { count.add(1, ordering: .relaxed) }
    }

    static func node(_ value: UInt64) -> Mailbox.Node {
        let receiver = Unmanaged<InboxReceiver>.fromOpaque(UnsafeRawPointer(bitPattern: 8)!)
        return Envelope.node(Envelope.allocate(to: receiver, sender: value, kind: 0, payload: 0))
    }

    static func value(_ node: Mailbox.Node) -> UInt64 {
        let envelope = Envelope.of(node)
        defer { Envelope.deallocate(envelope) }
        return envelope.pointee.sender
    }

    @Test func firstInFirstOutAndUnbounded() {
        let mailbox = Mailbox(wake: {})
        for i in 0..<100_000 { #expect(mailbox.push(Self.node(UInt64(i))) == .delivered) }
        for i in 0..<100_000 { #expect(mailbox.pop().map(Self.value) == UInt64(i)) }
        #expect(mailbox.pop() == nil)
        #expect(mailbox.isEmpty)
    }

    @Test func randomPushesAndPopsAgreeWithAnArray() {
        var generator = PRNG(seed: 3)
        let mailbox = Mailbox(wake: {})
        var model: [UInt64] = []
        var next: UInt64 = 0
        for _ in 0..<20_000 {
            if generator.chance(0.5) {
                let length = 1 + generator.below(4)
                let nodes = (0..<length).map { Self.node(next + UInt64($0)) }
                for (a, b) in zip(nodes, nodes.dropFirst()) { a.pointee.next = b }
                _ = mailbox.push(first: nodes.first!, last: nodes.last!)
                model += (0..<length).map { next + UInt64($0) }
                next += UInt64(length)
            } else {
                let expected = model.isEmpty ? nil : model.removeFirst()
                #expect(mailbox.pop().map(Self.value) == expected)
            }
        }
        while let node = mailbox.pop() { _ = Self.value(node) }
    }

    @Test func onlyTheFirstPushAfterTheConsumerWentIdleWakesIt() {
        let wakes = Wakes()
        let mailbox = Mailbox(wake: { wakes.add() })
        #expect(mailbox.push(Self.node(1)) == .delivered)
        #expect(!mailbox.prepareToWait())
        _ = mailbox.pop().map(Self.value)
        #expect(mailbox.prepareToWait())
        #expect(mailbox.prepareToWait())
        #expect(mailbox.push(Self.node(2)) == .wokeConsumer)
        #expect(mailbox.push(Self.node(3)) == .delivered)
        #expect(wakes.value == 1)
        #expect(!mailbox.prepareToWait())
        mailbox.waited()
        #expect(mailbox.pop().map(Self.value) == 2)
        #expect(mailbox.pop().map(Self.value) == 3)
        #expect(mailbox.prepareToWait())
        mailbox.waited()
        #expect(mailbox.push(Self.node(4)) == .delivered)
        #expect(mailbox.pop().map(Self.value) == 4)
        #expect(wakes.value == 1)
    }

    @Test func closeWakesTheConsumerAndRefusesPushes() {
        let wakes = Wakes()
        let mailbox = Mailbox(wake: { wakes.add() })
        _ = mailbox.push(Self.node(1))
        mailbox.close()
        #expect(wakes.value == 1)
        #expect(mailbox.isClosed)
        let late = Self.node(2)
        #expect(mailbox.push(late) == .closed)
        #expect(Self.value(late) == 2)
        #expect(mailbox.pop().map(Self.value) == 1)
    }

    @Test func mailboxesShareNothing() {
        let mailboxes = (0..<3).map { _ in Mailbox(wake: {}) }
        for i in 0..<300 { _ = mailboxes[i % 3].push(Self.node(UInt64(i))) }
        mailboxes[0].close()
        for (m, mailbox) in mailboxes.enumerated() {
            for i in 0..<100 { #expect(mailbox.pop().map(Self.value) == UInt64(i * 3 + m)) }
            #expect(mailbox.isEmpty)
        }
        let node = Self.node(1)
        #expect(mailboxes[1].push(node) == .delivered)
        _ = mailboxes[1].pop().map(Self.value)
    }
}
