// References to actors, local or remote: plain values that print, compare and travel. Any thread.

/// Addresses an actor by its system's address and a counter that the system gives it. Holding one keeps nothing alive;
/// telling an actor that has gone is silent, and counted. The actors a server starts first have the counters 1, 2, …,
/// so that a peer can address them by position.
public struct ActorRef<Message: WireMessage>: Hashable, Sendable, CustomStringConvertible {
    @usableFromInline let addressId: UInt32
    @usableFromInline let counter: UInt64

    init(addressId: UInt32, counter: UInt64) {
        self.addressId = addressId
        self.counter = counter
    }

    /// The actor with this counter in the system at `address`, which need not be known, reachable or started yet. nil
    /// when this process has seen too many addresses.
    public init?(address: String, counter: UInt64) {
        guard let id = SystemRegistry.intern(address) else { return nil }
        self.init(addressId: id, counter: counter)
    }

    /// Parses `address/counter`.
    public init?(uid: String) {
        guard let slash = uid.lastIndex(of: "/"), let counter = UInt64(uid[uid.index(after: slash)...])
        else { return nil }
        self.init(address: String(uid[..<slash]), counter: counter)
    }

    /// Address of the system the actor lives in.
    public var address: String { SystemRegistry.name(addressId) }

    /// `address/counter`, unique as long as the system runs.
    public var uid: String { "\(address)/\(counter)" }

    public var description: String { uid }

    /// True if the actor's system runs in this process.
    public var isLocal: Bool { SystemRegistry.system(addressId) != nil }

    package var position: UInt64 { counter }
}

extension ActorRef: WireMessage {
    public func encode(into writer: inout WireWriter) {
        writer.write(address)
        writer.write(counter)
    }

    public init(from reader: inout WireReader) throws {
        let address = try reader.readString()
        let counter: UInt64 = try reader.read()
        guard address.utf8.count <= SystemRegistry.addressBytesMax, let id = SystemRegistry.intern(address) else {
            throw WireError.invalid("unusable system address")
        }
        self.init(addressId: id, counter: counter)
    }
}
