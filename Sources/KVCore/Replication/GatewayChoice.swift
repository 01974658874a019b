// Which actor of another server frames go to. A part of `RemoteServer`; on the replica's thread.

struct GatewayChoice {
    /// Actors passed over because they did not answer.
    private var gatewayOffset = 0
    /// Two scans with the server, one each way, may need different addressees: they take turns.
    private var isDonorNext = false

    /// One by our own index.
    func usual(_ ownIndex: Int, of actorCount: Int) -> Int { (ownIndex + gatewayOffset) % actorCount }

    var offset: Int { gatewayOffset }

    /// The server's next actor is tried.
    mutating func moveOn() { gatewayOffset += 1 }

    /// The one that a scan needs: who asks for one, or who gives one; nil without a scan.
    mutating func forScan(asker: Int?, donor: Int?) -> Int? {
        guard let asker, let donor, asker != donor else { return asker ?? donor }
        isDonorNext.toggle()
        return isDonorNext ? donor : asker
    }
}
