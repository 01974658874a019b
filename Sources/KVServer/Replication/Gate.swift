// Which commands an actor answers at the moment. A value of its replicator; loop thread of its actor.

import KVBase
import KVCore

/// Closed to all data commands while the server lacks what others have, if its user wants no holes; closed to writes
/// while one has waited longer than `--max-lag` for a server that is up, or the clock is too far ahead.
struct Gate {
    private let servesWhileJoining: Bool
    private let live: LiveSettings
    private var startedAt: Millis?

    /// Whoever has answered nobody for so long is alone: what others may have is not to be had.
    static let aloneMillis: Millis = 5_000

    init(_ config: Config, _ live: LiveSettings) {
        servesWhileJoining = config.servesWhileJoining || config.join.isEmpty
        self.live = live
    }

    /// Before the loop runs.
    func begin(_ state: UnsafeMutablePointer<ShardState>) { state.pointee.isLoading = !servesWhileJoining }

    /// To be called each half second at least. O(servers).
    mutating func look(_ replica: Replica, _ at: Moment, _ state: UnsafeMutablePointer<ShardState>) {
        if !servesWhileJoining { state.pointee.isLoading = isLoading(replica, at) }
        guard ![.leaving, .disk].contains(state.pointee.writeRefusal) else { return }
        let isLate = live.maxLagSeconds.map { replica.lagMillis(at) > Millis($0) * 1000 } ?? false
        state.pointee.writeRefusal = replica.isAheadOfOthers(at) ? .clock : isLate ? .lag : .none
    }

    private mutating func isLoading(_ replica: Replica, _ at: Moment) -> Bool {
        let since = startedAt ?? at.steady
        startedAt = since
        switch replica.ownState {
        case "up": return false
        case "alone": return at.steady - since < Gate.aloneMillis
        default: return true
        }
    }
}
