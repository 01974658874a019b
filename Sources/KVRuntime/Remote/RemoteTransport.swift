// Links to other systems: the IO shell around RemoteLink. On the loop that it is given; sending from any thread.

import CSupport
import KVBase

package struct RemoteConfiguration {
    package let boundAddress: String
    init(listen: String, cluster: String, loop: Loop) throws { boundAddress = listen }
}

final class RemoteTransport: Sendable {
    init(system: ActorSystem, loop: Loop, configuration: RemoteConfiguration) throws {}
    func close() {}
    func addStatistics(to total: inout ActorSystemStatistics) {}
}

extension ActorSystem {
    func tellRemote<M>(_ ref: ActorRef<M>, _ message: M, from acting: ActingActor) { countDeadLetter() }
}
