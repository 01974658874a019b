// What travels through a loop's inbox: a queue node, who takes it, and a payload behind. Owned by one thread at a time.

package import CSupport
import Glibc
import KVBase

/// Whoever can be addressed by an envelope. One virtual call per message, on the loop's thread.
@usableFromInline
package class InboxReceiver {
    package init() {}

    /// Takes the envelope over, payload included, and frees it in the end.
    package func take(_ envelope: UnsafeMutablePointer<Envelope>) { fatalError("abstract") }

    /// As take, when the loop has stopped: gives up the payload.
    package func discard(_ envelope: UnsafeMutablePointer<Envelope>) { fatalError("abstract") }

    /// Asked for with `Loop.run(later:_:)`.
    package func run(_ item: UInt64) { fatalError("abstract") }
}

/// Header of a message in one malloc block with its payload. The receiver is kept alive by whoever may send to it.
package struct Envelope {
    /// First, so that a node of the queue is the envelope.
    package var node: cs_node
    package var receiver: Unmanaged<InboxReceiver>
    /// Who sent it: an actor's counter, or 0 from outside.
    package var sender: UInt64
    /// For the receiver: which of its actors.
    package var target: UInt64
    /// For the receiver: type of the payload.
    package var type: Any.Type
    /// Meaning belongs to the receiver.
    package var kind: UInt32
    package var payloadBytes: UInt32

    package static let headerBytes = 48

    /// `payload` bytes follow the header, aligned to 16; larger alignments are not supported. One malloc.
    package static func allocate(
        to receiver: Unmanaged<InboxReceiver>, sender: UInt64, target: UInt64 = 0, type: Any.Type = Never.self,
        kind: UInt32, payload: Int
    ) -> UnsafeMutablePointer<Envelope> {
        let block = malloc(headerBytes + payload) ?? outOfMemory(headerBytes + payload)
        let envelope = block.assumingMemoryBound(to: Envelope.self)
        envelope.initialize(
            to: Envelope(
                node: cs_node(next: nil), receiver: receiver, sender: sender, target: target, type: type, kind: kind,
                payloadBytes: UInt32(truncatingIfNeeded: payload)))
        return envelope
    }

    /// Frees the block; the payload must have been moved out or deinitialised.
    package static func deallocate(_ envelope: UnsafeMutablePointer<Envelope>) { free(envelope) }

    package static func payload(_ envelope: UnsafeMutablePointer<Envelope>) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(envelope) + headerBytes
    }

    static func node(_ envelope: UnsafeMutablePointer<Envelope>) -> Mailbox.Node {
        UnsafeMutableRawPointer(envelope).assumingMemoryBound(to: cs_node.self)
    }

    static func of(_ node: Mailbox.Node) -> UnsafeMutablePointer<Envelope> {
        UnsafeMutableRawPointer(node).assumingMemoryBound(to: Envelope.self)
    }
}

/// Runs closures handed to a loop from other threads.
final class TaskReceiver: InboxReceiver {
    final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    func envelope(_ body: @escaping @Sendable () -> Void) -> UnsafeMutablePointer<Envelope> {
        let envelope = Envelope.allocate(
            to: Unmanaged.passUnretained(self), sender: 0, kind: 0, payload: MemoryLayout<Unmanaged<Box>>.size)
        Envelope.payload(envelope).initializeMemory(
            as: Unmanaged<Box>.self, to: Unmanaged.passRetained(Box(body)))
        return envelope
    }

    private func open(_ envelope: UnsafeMutablePointer<Envelope>) -> Box {
        let box = Envelope.payload(envelope).load(as: Unmanaged<Box>.self).takeRetainedValue()
        Envelope.deallocate(envelope)
        return box
    }

    override func take(_ envelope: UnsafeMutablePointer<Envelope>) { open(envelope).body() }

    override func discard(_ envelope: UnsafeMutablePointer<Envelope>) { _ = open(envelope) }
}
