// Whose writes a frame may speak of. Plain value; the receiving actor's thread.

import KVBase

/// Writers take a number of the process for ever, so not everybody who is named gets one.
struct KnownWriters {
    /// The server that says it, which may always name itself; 0: nobody is told apart.
    var sender: UInt64
    /// Actors of a server that count; 0 for one that is not known.
    var actors: (UInt64) -> Int

    /// For whoever made the bytes itself.
    static var all: KnownWriters { KnownWriters(sender: 0) { _ in Limits.actorsMax } }

    /// The number of a writer, or `OriginTable.unknown`.
    func origin(_ uid: ActorUID, _ table: OriginTable) -> OriginIndex {
        if let known = table.index(of: uid) { return known }
        let isOwn = uid.server == sender
        guard isOwn || Int(uid.index) < actors(uid.server), isOwn || sender == 0 || table.count < OriginTable.toldMax
        else { return OriginTable.unknown }
        return table.intern(uid) ?? OriginTable.unknown
    }
}
