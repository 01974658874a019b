// Where this system says that others reach it: as it was told, or as its peers see it. A plain value; the transport's
// loop.

/// A system bound to every address of its machine knows none by itself. Its peers tell: who accepts a connection sees
/// where it comes from, and a connection that was accepted shows the address that the peer dialled.
struct OwnAddress {
    /// How an address became known. The greater one is the better source.
    enum Source: Int {
        /// This end of a connection that a peer opened.
        case dialled
        /// What a peer that was dialled sees; so do others, where the machine's own address is another.
        case seen
    }

    /// nil: not known yet.
    private(set) var announced: HostPort?
    /// Given by the user, or the one address it is bound to: what peers see changes nothing.
    let isFixed: Bool
    private var source = Source.dialled
    /// Numeric addresses at which it has reached itself.
    private(set) var provenOwn: Set<SocketAddress> = []
    static let provenMax = 64

    /// `bound` is nil for a system that only opens connections.
    init(given: HostPort?, bound: SocketAddress?) {
        if let given {
            (announced, isFixed) = (given, true)
        } else if let bound, bound.reach != .nowhere {
            (announced, isFixed) = (bound.unmapped.hostAndPort, true)
        } else {
            (announced, isFixed) = (nil, bound == nil)
        }
        if let bound, bound.reach != .nowhere { provenOwn.insert(bound.unmapped) }
    }

    /// How far the announced one is of use. A name counts as of use everywhere.
    var reach: AddressReach { announced.map { $0.reach ?? .network } ?? .nowhere }

    /// What a peer may be told that is reached at `reach`: loopback is of use on this machine only.
    func announced(to reach: AddressReach) -> HostPort? { self.reach == .machine && reach > .machine ? nil : announced }

    /// A connection shows `address`. It is announced from now on if it is of more use than the one before, or as good
    /// while no connection that stands shows the one before (`isShown`). True if it is.
    mutating func learn(_ address: HostPort, _ source: Source, isShown: Bool) -> Bool {
        let reach = address.reach ?? .nowhere
        guard !isFixed, reach > .nowhere, address != announced else { return false }
        let isBetter = (reach.rawValue, source.rawValue) > (self.reach.rawValue, self.source.rawValue)
        guard announced == nil || isBetter || !isShown && reach == self.reach else { return false }
        (announced, self.source) = (address, source)
        return true
    }

    mutating func prove(_ address: SocketAddress) {
        if provenOwn.count < OwnAddress.provenMax { provenOwn.insert(address.unmapped) }
    }

    /// It leads here, as far as is known.
    func isOwn(_ address: SocketAddress) -> Bool {
        provenOwn.contains(address.unmapped) || announced == address.unmapped.hostAndPort
    }
}

/// What a system is called, over restarts and addresses.
package struct SystemName: Hashable, Sendable {
    /// Empty: none.
    package let text: String
    /// By its user, who says that nobody else has it. Else it is made of the host's name, which several may have.
    package let isGiven: Bool

    package init(_ text: String, isGiven: Bool) { (self.text, self.isGiven) = (text, isGiven && !text.isEmpty) }

    package static let none = SystemName("", isGiven: false)

    package static let bytesMax = 255

    /// Letters, digits and a few signs: it stands in log lines and between blanks and commas.
    package static func isUsable(_ text: String) -> Bool {
        (1...bytesMax).contains(text.utf8.count) && text.utf8.allSatisfy { isUsable($0) }
    }

    /// Of an address: it stands between blanks and commas, too.
    package static func isWord(_ text: String) -> Bool {
        (1...SystemRegistry.addressBytesMax).contains(text.utf8.count)
            && text.utf8.allSatisfy { (33..<127).contains($0) && $0 != UInt8(ascii: ",") && $0 != UInt8(ascii: "=") }
    }

    package static func isUsable(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: ".-_:@/[]%".utf8.contains(byte)
        }
    }

    /// Whoever has the same name is the same system, or one too many.
    package func excludes(_ other: SystemName) -> Bool { isGiven && other.isGiven && text == other.text }
}
