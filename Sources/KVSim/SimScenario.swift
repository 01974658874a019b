// Fixed trials over one long and thin line, measured against what one plain connection would take: a newcomer that
// fetches everything, a backlog after a cut, a large value. Each checks I19. Part of SimWorld.
package import KVBase
import KVCore

package struct SimScenario: Sendable {
    package enum Kind: String, Sendable, CaseIterable {
        /// A server joins one that holds everything.
        case join
        /// Everything is written while the line is cut.
        case backlog
        /// One large value, small ones behind it.
        case value
    }

    package var kind: Kind
    package var keys = 20_000
    package var valueBytes = 100
    /// Bytes a second; 0 for no limit.
    package var bandwidth = 400_000
    package var oneWayMillis: Millis = 250
    package var actors = 1
    /// Two seconds after the beginning the line carries only this; 0 if it stays as it is.
    package var fallsTo = 0
    /// The machine's own figures unless set.
    package var chunkBytes = 0
    package var frameBytes = 0
    package var seed: UInt64 = 1
    package var ignored: [String] = []

    package init(_ kind: Kind) {
        self.kind = kind
        if kind == .value { (keys, valueBytes, bandwidth) = (1, 1024 * 1024, 100_000) }
    }

    fileprivate var options: SimOptions {
        var options = SimOptions(seed: seed)
        options.profile = .thin
        options.transport = .wire
        options.servers = 1
        options.joiners = 1
        options.actors = [actors, actors]
        options.keys = keys + extraKeys
        options.valueBytesMax = max(valueBytes, 64)
        options.latencyMillisMin = Int(oneWayMillis)
        options.latencyMillisMax = Int(oneWayMillis)
        options.jitterMillis = 0
        options.bandwidth = bandwidth
        options.journalCapacity = 4 * keys + 4_096
        options.bootstrapChunkBytes = chunkBytes
        options.frameBytesMax = frameBytes
        options.ignored = ignored
        return options
    }

    package func run(bug: SimBug? = nil, trace: ((String) -> Void)? = nil) -> SimScenarioReport {
        let world = SimWorld(options, bug: bug, trace: trace)
        var report = world.run(self)
        report.outcome = world.finish()
        return report
    }
}

package struct SimScenarioReport: Sendable {
    package var outcome = SimOutcome(seed: 0)
    /// Until everything was there; nil if it never was.
    package var tookMillis: Millis?
    package var idealMillis: Millis = 0
    package var limitMillis: Millis = 0
    package var dataBytes = 0
    package var sentBytes = 0
    /// Connections that were opened.
    package var connections = 0
    /// Small writes made meanwhile on the one side: until they were visible on the other.
    package var live = SimLatency()
    /// The same of writes on the other side, which a newcomer takes from its start.
    package var back = SimLatency()
    package var stillWaiting = 0

    package var text: String {
        let took = tookMillis.map { "\($0) ms" } ?? "never, given up after \(limitMillis) ms"
        return """
            everything there: \(took); one plain connection \(idealMillis) ms, limit \(limitMillis) ms
            bytes sent \(sentBytes) for \(dataBytes) of data; connections \(connections)
            small writes meanwhile: visible within \(live.percentile(0.5)) ms (half), \(live.maxMillis) ms (all \
            \(live.count)); the other way \(back.percentile(0.5)) ms, \(back.maxMillis) ms (\(back.count)); \
            not visible at the end \(stillWaiting)
            """
    }
}

/// Keys for small writes beside the data.
private let extraKeys = 64
/// What a join may take beside the time of its bytes.
private let scenarioSlackMillis: Millis = 5_000
/// What may be sent beside the data and its thirty hundredths: heads of frames that say nothing new.
private let scenarioSlackBytes = 256 * 1024
private let liveEveryMillis: Millis = 500

/// A small write that is not visible at the other server yet.
private struct LiveWrite {
    var key: Int
    var stamp: SimStamp
    var at: SimTime
    var from: Int
}

extension SimWorld {
    /// Runs a trial to its end or its limit.
    func run(_ scenario: SimScenario) -> SimScenarioReport {
        start(servers[0])
        if scenario.kind == .join { prefill(percent: 100, length: scenario.valueBytes, limit: scenario.keys) }
        runUntil(simSecond)
        if scenario.kind != .join {
            start(servers[1])
            runUntil(5 * simSecond + 20 * scenario.oneWayMillis * simMillisecond)
        }
        prepare(scenario)
        var report = SimScenarioReport()
        report.dataBytes = liveBytes
        let sentBefore = wires.sent[1]
        let sessionsBefore = wires.sessions
        let worst = scenario.fallsTo > 0 ? scenario.fallsTo : scenario.bandwidth
        report.idealMillis = SimOptions.idealMillis(
            bytes: report.dataBytes, bandwidth: worst, roundTripMillis: 2 * scenario.oneWayMillis)
        report.limitMillis = report.idealMillis * 3 / 2 + scenarioSlackMillis
        follow(scenario, &report)
        report.sentBytes = wires.sent[1] - sentBefore
        report.connections = Int(wires.sessions - sessionsBefore)
        judge(&report)
        return report
    }

    /// Makes what is to be sent, up to the moment from which time counts.
    private func prepare(_ scenario: SimScenario) {
        switch scenario.kind {
        case .join: start(servers[1])
        case .backlog:
            let links = [(from: 0, to: 1), (from: 1, to: 0)]
            for link in links { network.block(link.from, link.to) }
            runUntil(now + 2 * simSecond)
            // The kernel gives a connection up after a while.
            linkBroke(0, 1)
            prefill(percent: 100, length: scenario.valueBytes, limit: scenario.keys)
            runUntil(now + 12 * simSecond)
            for link in links { network.open(link.from, link.to) }
        case .value: prefill(percent: 100, length: scenario.valueBytes, limit: scenario.keys)
        }
    }

    /// Goes on until everything is at the other server, with a small write each half second on both sides.
    private func follow(_ scenario: SimScenario, _ report: inout SimScenarioReport) {
        let started = now
        var waiting: [LiveWrite] = []
        var next = now
        var number = 0
        while !failed, now - started < report.limitMillis * simMillisecond {
            if now >= next {
                next += liveEveryMillis * simMillisecond
                for side in 0...1 {
                    let key = scenario.keys + number % extraKeys
                    number += 1
                    if let write = liveWrite(key, side) { waiting.append(write) }
                }
            }
            if scenario.fallsTo > 0, now - started > 2 * simSecond {
                for direction in wires.bandwidth.indices { wires.bandwidth[direction] = scenario.fallsTo }
            }
            runUntil(now + 10 * simMillisecond)
            waiting.removeAll { note($0, &report) }
            if hasEverything(scenario) {
                report.tookMillis = (now - started) / simMillisecond
                break
            }
        }
        // The last small ones get their time.
        let end = now + 3 * simSecond
        while !failed, !waiting.isEmpty, now < end {
            runUntil(now + 10 * simMillisecond)
            waiting.removeAll { note($0, &report) }
        }
        report.stillWaiting = waiting.count
    }

    private func liveWrite(_ key: Int, _ side: Int) -> LiveWrite? {
        let actor = actors[servers[side].actors[0]]
        put(key, actor, hops: false, length: 16)
        guard !failed else { return nil }
        let stamp = actor.liveStamp(key, oracle)
        turn(actor)
        return stamp.map { LiveWrite(key: key, stamp: $0, at: now, from: side) }
    }

    private func note(_ write: LiveWrite, _ report: inout SimScenarioReport) -> Bool {
        let others = servers[1 - write.from].actors.map { actors[$0] }
        let isThere = others.allSatisfy { other in
            other.liveStamp(write.key, oracle).map { !oracle.precedes($0, write.stamp) } ?? false
        }
        guard isThere else { return false }
        let millis = (now - write.at) / simMillisecond
        if write.from == 0 { report.live.add(millis) } else { report.back.add(millis) }
        return true
    }

    /// The last key is looked at first: most of the time it is not there.
    private func hasEverything(_ scenario: SimScenario) -> Bool {
        let other = servers[1].actors.map { actors[$0] }
        if scenario.kind == .join, !other.allSatisfy(\.hasCaughtUp) { return false }
        for key in (0..<scenario.keys).reversed() {
            for actor in other where actor.get(key) == nil { return false }
        }
        return true
    }

    private func judge(_ report: inout SimScenarioReport) {
        guard !failed else { return }
        if report.tookMillis == nil {
            let missing = (0..<keys.count - extraKeys).count { actors[servers[1].actors[0]].get($0) == nil }
            fail(
                SimViolation(
                    "I19",
                    "not done after \(report.limitMillis) ms, one plain connection takes \(report.idealMillis): "
                        + "\(missing) of \(keys.count - extraKeys) keys missing, \(report.sentBytes) bytes sent for "
                        + "\(report.dataBytes), \(report.connections) connections"))
        } else if report.sentBytes > report.dataBytes * 13 / 10 + scenarioSlackBytes {
            fail(SimViolation("I19", "\(report.sentBytes) bytes sent for \(report.dataBytes) of data"))
        }
        examineAll()
    }
}
