// What a turn of a query actor's loop may have done, for INFO. Loop thread; names: any.

package import KVRuntime

extension TurnWork {
    /// Keys that were not there before: tables grow.
    package static let grow = TurnWork(rawValue: 1)
    /// LIST, KEYS or SCAN.
    package static let list = TurnWork(rawValue: 2)
    /// A slice of a command with many or large arguments.
    package static let slice = TurnWork(rawValue: 4)
    package static let digest = TurnWork(rawValue: 8)
    /// A sibling's segment or page came, or another server's frame.
    package static let receive = TurnWork(rawValue: 16)
    /// Replication's own work: merging what came, making segments and frames, scanning for a newcomer, collecting.
    package static let sync = TurnWork(rawValue: 32)
    /// The timer that gives freed memory back.
    package static let tend = TurnWork(rawValue: 64)
    package static let info = TurnWork(rawValue: 128)

    private static let named: [(TurnWork, String)] = [
        (.grow, "grow"), (.list, "list"), (.slice, "slice"), (.digest, "digest"), (.receive, "receive"),
        (.sync, "sync"), (.tend, "tend"), (.info, "info"), (.handshake, "handshake"),
    ]

    /// `grow+sync`; `other` where nobody named anything.
    package var text: String {
        let names = TurnWork.named.filter { contains($0.0) }.map(\.1)
        return names.isEmpty ? "other" : names.joined(separator: "+")
    }
}
