// What a program may want to know of the connections with other systems. Values; told on the transport's loop.

/// A change of the link with another system, named by the address that was told or kept. Tells apart what an ask that
/// timed out does not: a system that is not there, one that does not want this one, and one that is up, where the actor
/// itself is missing or slow.
public enum LinkEvent: Sendable, Equatable {
    /// Messages reach the system from now on.
    case up(address: String)
    /// The link that stood is gone. It is opened again when something is told.
    case down(address: String, reason: String)
    /// Nobody answers: no system runs there, or the network does not lead there.
    case unreachable(address: String, reason: String)
    /// Whoever answers does not want this system, or is none: another cluster, another key, another program.
    case refused(address: String, reason: String)
    /// The address leads back to this system.
    case itself(address: String)

    init(_ change: LinkChange) {
        let (address, reason) = (change.address, change.reason)
        if change.isUp {
            self = .up(address: address)
        } else if change.isItself {
            self = .itself(address: address)
        } else if change.isRefused {
            self = .refused(address: address, reason: reason)
        } else if change.incarnation == 0 {
            self = .unreachable(address: address, reason: reason)
        } else {
            self = .down(address: address, reason: reason)
        }
    }
}

extension ActorSystem {
    /// Calls `handler`, on the transport's loop, at every change of a link; the handler must not wait. It takes the
    /// place of the one before. A system that does not listen has no links.
    public func onLinkEvent(_ handler: @escaping @Sendable (LinkEvent) -> Void) {
        onLinkChange { handler(LinkEvent($0)) }
    }
}
