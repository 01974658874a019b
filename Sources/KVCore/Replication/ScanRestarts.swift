// How often a server may ask for a scan from its beginning. A part of `RemoteServer`; on the replica's thread.

import KVBase

/// Who asks for everything again and again has all of the line. An honest asker has what it was given before it asks
/// anew, or has given up a scan that did not get on, after five seconds.
struct ScanRestarts {
    /// So many one after the other are given at once, and one more in each such time.
    static let heldMax = 3
    static let everyMillis: Millis = 5_000

    private var held = heldMax
    private var since: Millis = 0

    /// Whether a scan may begin in the place of another one. It does, then.
    mutating func mayBegin(_ now: Millis) -> Bool {
        if held == ScanRestarts.heldMax { since = now }
        let more = (now - since) / ScanRestarts.everyMillis
        held = min(ScanRestarts.heldMax, held + Int(more))
        since += more * ScanRestarts.everyMillis
        guard held > 0 else { return false }
        held -= 1
        return true
    }

    func checkInvariants() { check(held >= 0 && held <= ScanRestarts.heldMax) }
}
