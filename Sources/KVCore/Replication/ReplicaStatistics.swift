// Counters of one replica for INFO, tests and the simulator's "sometimes" points. Owned by the actor.

/// Everything counts from the start of the process. Bytes are frame bytes, without transport headers; batches between
/// siblings count what they would have marshalled to.
package struct ReplicaStatistics: Sendable {
    package var framesSent: UInt64 = 0
    package var batchesSent: UInt64 = 0
    package var remoteBytesSent: UInt64 = 0
    package var localBytesSent: UInt64 = 0
    package var framesReceived: UInt64 = 0
    package var batchesReceived: UInt64 = 0
    package var remoteBytesReceived: UInt64 = 0
    package var framesRejected: UInt64 = 0
    package var framesOverloaded: UInt64 = 0
    package var entriesSent: UInt64 = 0
    package var entriesApplied: UInt64 = 0
    package var entriesIgnored: UInt64 = 0
    package var futureStamps: UInt64 = 0
    package var divergences: UInt64 = 0
    package var versionCollisions: UInt64 = 0

    // Rare paths; the simulator reports which ones its seeds reached.
    package var gapsSeen: UInt64 = 0
    package var repairsAsked: UInt64 = 0
    package var repairsAnswered: UInt64 = 0
    package var repairsRelayed: UInt64 = 0
    package var timeouts: UInt64 = 0
    package var redundantSections: UInt64 = 0
    package var gatewayFailovers: UInt64 = 0
    package var scansAsked: UInt64 = 0
    package var scansServed: UInt64 = 0
    package var scansFinished: UInt64 = 0
    package var localScansFinished: UInt64 = 0
    package var chunksResent: UInt64 = 0
    package var scansOutgrown: UInt64 = 0
    package var journalOverruns: UInt64 = 0
    package var localLogOverruns: UInt64 = 0
    package var tombstonesCollected: UInt64 = 0
    /// Expired values, and deadlines set apart that had no effect any more.
    package var leftoversCollected: UInt64 = 0
    package var forgetRefusedByClock: UInt64 = 0
    package var collectRefusedByMembers: UInt64 = 0
    package var collectRefusedByHeads: UInt64 = 0
    package var collectRefusedByAge: UInt64 = 0
    package var insertRefusedByFrontier: UInt64 = 0
    package var insertRefusedCovered: UInt64 = 0
    /// Dropped since others had deleted and collected them while this server was away.
    package var recordsReconciled: UInt64 = 0
    package var serversForgotten: UInt64 = 0
    package var entriesAdopted: UInt64 = 0
    package var serversRetired: UInt64 = 0
    package var serversReopened: UInt64 = 0
    package var clockRejects: UInt64 = 0
    package var clockCorrections: UInt64 = 0
    package var digestRepairs: UInt64 = 0

    // What was said that nobody may say.
    /// Rows of servers that found no place.
    package var rowsRefused: UInt64 = 0
    /// Entries of writers that no member has, or of this server that it did not write, or that a covered write
    /// contradicts.
    package var entriesForged: UInt64 = 0
    /// Intervals of a writer that can be heard itself.
    package var relaysRefused: UInt64 = 0
    /// Sections that waited for a sibling's word.
    package var sectionsHeld: UInt64 = 0
    /// The same that did not come, or for which there was no room.
    package var sectionsUnsaid: UInt64 = 0
    /// Asks for what the asker says that it has, and scans asked for again and again.
    package var asksRefused: UInt64 = 0
    /// Entries of the vector that went back to what their writer confirmed.
    package var hearsayRefuted: UInt64 = 0

    package init() {}
}
