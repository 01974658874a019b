// What looks wrong in a report, in words, with what to do. A function of values; any thread.

import KVBase

extension StatusReport {
    static let lagMillisNoted: Millis = 2_000
    static let clockMillisNoted: Millis = 500
    static let filesPercentNoted = 90
    static let memoryPercentNoted = 90
    static let certificateDaysNoted = 30

    /// The worst first.
    var findings: [Finding] {
        let all = ofServer + ofData + ofPeers + ofResources
        return all.filter { $0.weight == .critical } + all.filter { $0.weight == .warning }
            + all.filter { $0.weight == .notice }
    }

    private func sum(_ field: KeyPath<ActorReport, Int>) -> Int { actors.reduce(0) { $0 + $1[keyPath: field] } }

    private var ofServer: [Finding] {
        var found: [Finding] = []
        if let reason = unreadiness {
            found.append(Finding(weight: .warning, what: "Not ready: \(reason).", advice: "Wait, or look at the log."))
        }
        if state == "alone", uptimeSeconds >= Int(Gate.aloneMillis / 1000) {
            found.append(
                Finding(
                    weight: .critical, what: "Nobody has answered the --join.",
                    advice: "Check the address, the port, --cluster and the cluster key; the log says what was refused."
                ))
        }
        if let refusal = actors.first?.refusal, refusal == "read-only (max-lag)" {
            found.append(
                Finding(
                    weight: .critical, what: "Writes are refused: one has waited longer than --max-lag.",
                    advice: "Mend the link to the server with the lag below, or CONFIG SET max-lag off."))
        }
        if actors.first?.refusal == WriteRefusal.clock.info {
            found.append(
                Finding(
                    weight: .critical,
                    what: "Writes are refused: this server's clock is about a year ahead of the others'.",
                    advice: "Set the clock of this machine and run NTP on it."))
        }
        let days = (certificateEnd - Int(wallMillis / 1000)) / 86_400
        if certificateEnd > 0, days < StatusReport.certificateDaysNoted {
            found.append(
                Finding(
                    weight: days < 0 ? .critical : .warning,
                    what: days < 0
                        ? "The certificate for other servers has ended." : "The certificate ends in \(days) days.",
                    advice: "Make another one with kvd cert, put it in its place and send SIGHUP."))
        }
        return found
    }

    private var ofData: [Finding] {
        var found: [Finding] = []
        if sum(\.divergences) > 0 {
            found.append(
                Finding(
                    weight: .critical, what: "Replicas with equal histories differed \(sum(\.divergences)) times.",
                    advice: "They repair themselves. Compare KVD DIGEST on all servers, keep the logs, and report it."))
        }
        if sum(\.futureStamps) > 0 {
            found.append(
                Finding(
                    weight: .warning, what: "\(sum(\.futureStamps)) writes came with timestamps of the future.",
                    advice:
                        "Some server's clock is ahead: run NTP on all of them. KVD RESTAMP frees keys that answer -CLOCK."
                ))
        }
        if sum(\.journalOverruns) > 0 {
            found.append(
                Finding(
                    weight: .notice,
                    what: "\(sum(\.journalOverruns)) times a server was so far behind that it is sent whole ranges.",
                    advice: "Look at its link: bandwidth, loss, or a long interruption."))
        }
        if let hold = actors.compactMap(\.hold).first, sum(\.tombstones) > 0 {
            found.append(
                Finding(
                    weight: .notice,
                    what: "\(actors.map(\.tombstones).max() ?? 0) deleted keys are still kept: \(hold).",
                    advice: "Bring that server back, or remove it for good."))
        }
        return found
    }

    private var ofPeers: [Finding] {
        var found: [Finding] = []
        for peer in peers {
            switch peer.state {
            case .down:
                found.append(
                    Finding(
                        weight: .critical, what: "\(peer.name) is down, not heard for \(peer.heardMillisAgo / 1000) s.",
                        advice: "Start it, or mend the way to \(peer.address)."))
            case .suspect:
                found.append(
                    Finding(
                        weight: .warning, what: "\(peer.name) has been silent for \(peer.heardMillisAgo) ms.",
                        advice: "Look at the network between here and \(peer.address)."))
            case .up where peer.lagMillis > StatusReport.lagMillisNoted:
                found.append(
                    Finding(
                        weight: .warning, what: "\(peer.name) is \(peer.lagMillis) ms behind this server.",
                        advice: "Its line or its processor is too slow for what is written: see backlog and round trip."
                    ))
            default: break
            }
            if abs(peer.clockOffsetMillis) > StatusReport.clockMillisNoted {
                found.append(
                    Finding(
                        weight: .warning, what: "The clock of \(peer.name) is off by \(peer.clockOffsetMillis) ms.",
                        advice: "Run NTP: of two writes at once, the one with the greater clock wins."))
            }
        }
        return found
    }

    private var ofDisk: [Finding] {
        var found: [Finding] = []
        if isDiskFailing {
            found.append(
                Finding(
                    weight: .critical, what: "The disk of --dir does not take what is written: see the log.",
                    advice: "Make room, or look at the disk. Writes go on by themselves."))
        }
        if !isDiskFailing, disk.syncErrors + disk.writeErrors > 0 {
            let count = disk.syncErrors + disk.writeErrors
            found.append(
                Finding(
                    weight: .warning, what: "The disk of --dir has refused \(count) writes or syncs since the start.",
                    advice: "All is written again by now. Look at the disk before it fails for good."))
        }
        if quarantinedBytes > 0 {
            found.append(
                Finding(
                    weight: .warning, what: "\(Memory.human(quarantinedBytes)) of damaged files are set aside.",
                    advice: "Look at the disk; remove the files damaged-* in --dir when they are not wanted any more."))
        }
        return found
    }

    private var ofResources: [Finding] {
        var found = ofDisk
        if openFilesMax > 0, openFiles * 100 > openFilesMax * StatusReport.filesPercentNoted {
            found.append(
                Finding(
                    weight: .warning, what: "\(openFiles) of \(openFilesMax) open files are used.",
                    advice: "Raise LimitNOFILE, or find the clients that do not close: CLIENT LIST."))
        }
        if machineBytes > 0, residentBytes * 100 > machineBytes * StatusReport.memoryPercentNoted {
            found.append(
                Finding(
                    weight: .critical, what: "\(Memory.human(residentBytes)) of the machine's memory are used.",
                    advice: "Delete keys, give keys an expiry, or move to a larger machine."))
        }
        if rejectedConnections > 0 {
            found.append(
                Finding(
                    weight: .notice,
                    what: "\(rejectedConnections) connections were refused: maxclients is \(clientsMax).",
                    advice: "CONFIG SET maxclients, or use fewer connections."))
        }
        return found
    }
}
