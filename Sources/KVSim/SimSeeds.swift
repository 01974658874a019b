// Seeds that broke an invariant once, whosever mistake it was, the machine's or the oracle's. Constants; any thread.

/// Run by `kvd-sim --failed` after each change of the machine: what was mended stays so, as far as these worlds still
/// meet the same states.
package enum SimSeeds {
    /// Worlds without lines that are long and thin.
    package static let failed: [UInt64] = [
        16, 27, 37, 99, 295, 301, 356, 424, 817, 1634, 1883, 1942, 1980, 2525, 2924, 3587, 4020, 4170, 4269, 4515, 4809,
        4844, 4888, 4908, 4948, 5068, 5468, 5646, 5854, 6011, 6075, 6182, 6245, 6272, 6375, 6629, 6975, 7278, 8036,
        8376, 8608, 8807, 8839, 8913, 9823, 10200, 10449, 10638, 11190, 11568, 11762, 12045, 12072, 12101, 12616, 13237,
        13538, 14102, 14434, 14459, 14495, 14549, 14608, 14998, 18587, 19810, 20956, 22001, 22363, 22373, 22511, 22681,
        23588, 23779, 26366, 26501, 27156, 28256, 30422, 30980, 31281, 32111, 32124, 32977, 33709, 33809, 35576, 38092,
        38121, 40215, 40483, 41010, 41508, 42151, 42692, 43207, 44264, 44300, 44708, 47990, 48201, 48740, 50252, 53327,
        53374, 54152, 55859, 57528, 57841, 58240, 62489, 64975, 65125, 66545, 69528, 70985, 73230, 73474, 73562, 74100,
        74399, 74442, 74798, 75460, 76764, 77616, 78505, 81736, 83980, 85437, 85933, 87019, 94172,
    ]

    /// Worlds with such lines, all of them drawn with `--thin 100`. 10460: what departed servers left was adopted by
    /// all siblings at once, and faster than their journals could tell. 16884: what was passed on of a third server
    /// went again with each ask, with a key of many intervals in each of them. 26492: actors asked a server for what
    /// their siblings had. 30100: a newcomer whose clock was never set had no floor. 5732: a report said less of a
    /// removed server than its sender had, and that this was all. 76429: the oracle, of a delete that nobody knew of
    /// any more. 68337: the oracle, of a chunk that had waited. 78909: an operator who removed a living server.
    package static let failedThin: [UInt64] = [
        566, 706, 993, 1268, 5732, 10460, 16884, 26492, 30100, 68337, 76429, 78909,
    ]

    /// Worlds whose servers have disks, drawn with `--disk 100`. 146, 2261: a delete that came to a server that returns
    /// passed for seen. 640: nobody had a row of a writer on disk. 886, 2217, 2501, 2587: the oracle. 2428: the disk's
    /// answers came in another order. 2463: who took a server for gone passed for its judge. 2833: a log had what had
    /// lost, and a snapshot counted before its logs were on the disk. 3279: what a returning disk alone had of a
    /// retired server passed for seen.
    package static let failedDisk: [UInt64] = [146, 640, 886, 2217, 2261, 2428, 2463, 2501, 2587, 2833, 3279]

    /// Worlds with a liar, drawn with `--liars 100`. 565: who joins by a liar gets what others have deleted. 4269: the
    /// oracle waited too short a time. 4520: a writer that was silent now and then contradicted nothing for long.
    /// 10025, 20156, 20206: a newcomer whose clock was never set took a write of two years ahead. 394: an actor
    /// believed that a server moved, of which only its sibling had that server's own word, and sent to an actor that
    /// does not exist. 873: a newcomer was said to be gone where the same liar had taken all room for servers that only
    /// others tell of. 8166: two honest servers never met, as each was told of the other at a wrong address.
    /// 12440: an actor waited for a sibling to pass on what that had only been told, and had given up. 17622, 18918:
    /// the oracle, which does not look at the liar.
    package static let failedLiars: [UInt64] = [
        394, 565, 873, 4269, 4520, 8166, 10025, 12440, 17622, 18918, 20156, 20206,
    ]

    /// All of them, as their worlds are drawn.
    package static var worlds: [SimOptions] {
        failed.map { SimOptions.swarm(seed: $0, thinPercent: 0) }
            + failedThin.map { SimOptions.swarm(seed: $0, thinPercent: 100) }
            + failedDisk.map { SimOptions.swarm(seed: $0, diskPercent: 100) }
            + failedLiars.map { SimOptions.swarm(seed: $0, liarPercent: 100) }
    }
}
