// What a program is told of its links: who is there, who is not, who does not want it.

import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

@Suite struct LinkEventTests {
    private final class Events: Sendable {
        private let seen = Locked<[LinkEvent]>([])
        var all: [LinkEvent] { seen.withLock { $0 } }

        init(_ system: ActorSystem) { system.onLinkEvent { [seen] event in seen.withLock { $0.append(event) } } }
    }

    @Test(arguments: backends) func aSystemThatComesAndGoesIsUpAndDown(_ backend: LoopBackend) throws {
        let (a, b) = (try Node(backend), try Node(backend))
        defer { a.close() }
        let (events, at) = (Events(a.system), b.system.address)
        a.system.keepLink(to: at)
        #expect(eventually { events.all == [.up(address: at)] }, "\(events.all)")
        b.close()
        let isGone: (LinkEvent) -> Bool = { if case .down(at, _) = $0 { true } else { false } }
        #expect(eventually { events.all.contains(where: isGone) }, "\(events.all)")
    }

    @Test(arguments: backends) func aDeadPeerAndAnotherClusterAreToldApart(_ backend: LoopBackend) throws {
        let (a, other) = (try Node(backend), try Node(backend, cluster: "other"))
        defer { a.close(); other.close() }
        let held = try HeldPort()
        let (events, dead, foreign) = (Events(a.system), "127.0.0.1:\(held.port)", other.system.address)
        a.system.keepLink(to: dead)
        a.system.keepLink(to: foreign)
        let isDead: (LinkEvent) -> Bool = { if case .unreachable(dead, _) = $0 { true } else { false } }
        let isForeign: (LinkEvent) -> Bool = { if case .refused(foreign, _) = $0 { true } else { false } }
        #expect(eventually { events.all.contains(where: isDead) }, "\(events.all)")
        #expect(eventually { events.all.contains(where: isForeign) }, "\(events.all)")
        #expect(!events.all.contains { if case .up = $0 { true } else { false } })
    }

    @Test func changesAreNamed() {
        func event(_ change: LinkChange) -> LinkEvent { LinkEvent(change) }
        #expect(event(LinkChange(address: "a", isUp: true)) == .up(address: "a"))
        #expect(event(LinkChange(address: "a", isUp: false, isItself: true)) == .itself(address: "a"))
        #expect(
            event(LinkChange(address: "a", isUp: false, incarnation: 7, reason: "r"))
                == .down(address: "a", reason: "r"))
        #expect(
            event(LinkChange(address: "a", isUp: false, incarnation: 7, reason: "r", isRefused: true))
                == .refused(address: "a", reason: "r"))
        #expect(event(LinkChange(address: "a", isUp: false, reason: "r")) == .unreachable(address: "a", reason: "r"))
    }
}
