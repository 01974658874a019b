// Objects that one loop hands to another: collected during a turn, and pushed as one chain at its end.

import KVBase

/// Where one loop takes objects that others send. `Loop.keep` keeps it.
package final class ObjectInbox: InboxReceiver {
    private let taken: (AnyObject) -> Void
    private let refused: (AnyObject) -> Void

    /// `taken` is called on the loop that it belongs to; `refused` on that of a sender, when this loop has stopped. Of
    /// what is under way when it stops neither is called.
    package init(taken: @escaping (AnyObject) -> Void, refused: @escaping (AnyObject) -> Void) {
        (self.taken, self.refused) = (taken, refused)
    }

    fileprivate func envelope(_ object: AnyObject) -> EnvelopePointer {
        let envelope = Envelope.allocate(
            to: Unmanaged.passUnretained(self), sender: 0, kind: 0, payload: MemoryLayout<Unmanaged<AnyObject>>.size)
        Envelope.payload(envelope).initializeMemory(as: Unmanaged<AnyObject>.self, to: Unmanaged.passRetained(object))
        return envelope
    }

    private func open(_ envelope: EnvelopePointer) -> AnyObject {
        let object = Envelope.payload(envelope).load(as: Unmanaged<AnyObject>.self).takeRetainedValue()
        Envelope.deallocate(envelope)
        return object
    }

    override package func take(_ envelope: UnsafeMutablePointer<Envelope>) { taken(open(envelope)) }
    override package func discard(_ envelope: UnsafeMutablePointer<Envelope>) { _ = open(envelope) }
    fileprivate func refuse(_ envelope: EnvelopePointer) { refused(open(envelope)) }
}

/// Objects of one turn for another loop, which outlives this one's last turn.
struct ObjectChain {
    var inbox: Unmanaged<ObjectInbox>
    var loop: Unmanaged<Loop>
    var list = EnvelopeList()
}

extension Loop {
    /// Keeps where objects arrive as long as the loop. Before it runs.
    package func keep(_ inbox: ObjectInbox) { state.pointee.objectInboxes.append(inbox) }

    /// Hands an object to another loop, with all others of this turn that go there: at its end, ahead of what actors
    /// tell each other in it. The object belongs to that loop's thread from then on. This loop's thread.
    package func send(_ object: AnyObject, to inbox: Unmanaged<ObjectInbox>, of other: Unmanaged<Loop>) {
        let envelope = inbox._withUnsafeGuaranteedRef { $0.envelope(object) }
        state.pointee.hasObjects = true
        for i in 0..<state.pointee.objects.count where state.pointee.objects[i].inbox.toOpaque() == inbox.toOpaque() {
            return state.pointee.objects[i].list.append(envelope)
        }
        var chain = ObjectChain(inbox: inbox, loop: other)
        chain.list.append(envelope)
        state.pointee.objects.append(chain)
    }

    func sendObjects() {
        state.pointee.hasObjects = false
        for i in 0..<state.pointee.objects.count {
            var list = state.pointee.objects[i].list.takeAll()
            guard let first = list.first, let last = list.last else { continue }
            let (inbox, loop) = (state.pointee.objects[i].inbox, state.pointee.objects[i].loop)
            if loop._withUnsafeGuaranteedRef({ $0.post(first: first, last: last) }) { continue }
            while let envelope = list.popFirst() { inbox._withUnsafeGuaranteedRef { $0.refuse(envelope) } }
        }
        // What was refused may have led to more.
        if state.pointee.hasObjects { requestTurn() }
    }
}
