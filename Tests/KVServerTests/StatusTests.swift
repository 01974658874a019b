// Reports as metrics, as JSON and as a page; what they warn of; the last ten minutes. Pure.

import Foundation
import KVBase
import KVCore
import KVTestTraits
import Testing

@testable import KVServer

@Suite(.blocking) struct StatusTests {
    private func peer(_ n: Int, _ state: PeerRow.State = .up, lag: Millis = 10) -> PeerRow {
        var row = PeerRow(
            id: UInt64(n), address: "10.0.0.\(n):6000", state: state, pending: 3, heardMillisAgo: 40)
        (row.name, row.lagMillis, row.roundTripMillis) = ("peer-\(n)", lag, 20)
        return row
    }

    private func report(actors: Int = 2, peers: Int = 2, commands: Int = 3) -> StatusReport {
        var report = StatusReport()
        (report.id, report.name, report.cluster, report.version) = ("00ff", "one:6000", "kvd", "0.1.0")
        (report.inputOutput, report.wallMillis, report.uptimeSeconds) = ("epoll", 1_700_000_000_000, 100)
        report.actorCount = actors
        report.actors = (1...max(1, actors)).map { index in
            var actor = ActorReport()
            (actor.index, actor.port, actor.commands, actor.keys) = (index, 6000 + index, 100 * index, 50)
            actor.peers = (0..<peers).map { peer($0 + 2) }
            return actor
        }
        report.closedClients = ClosedClients.Reason.allCases.map { ($0.label, 0) }
        report.commands = (0..<commands).map {
            CommandReport(name: "c\($0)", calls: 100 - $0, rejected: 0, failed: 1, nanos: 1500)
        }
        report.errors = (0..<commands).map { (code: "E\($0)", count: $0) }
        var histogram = LatencyHistogram()
        histogram.add(LatencyHistogram.bucket(1000), 5)
        histogram.add(LatencyHistogram.bucket(5_000_000), 2)
        report.latencies = ["get", "set", "other"].map {
            LatencyReport(name: $0, histogram: histogram, nanos: 2_500_000_000)
        }
        return report
    }

    // MARK: Metrics

    @Test func everySeriesHasAFamilyAndAppearsOnce() {
        let text = MetricsText.of(report())
        var (families, series): (Set<Substring>, Set<Substring>) = ([], [])
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            if line.hasPrefix("# TYPE ") {
                #expect(families.insert(words[2]).inserted, "\(line)")
                continue
            }
            if line.hasPrefix("#") { continue }
            #expect(series.insert(line[..<line.lastIndex(of: " ")!]).inserted, "\(line)")
            let name = line.prefix { $0 != "{" && $0 != " " }
            let family = families.contains(name) ? name : name[..<name.lastIndex(of: "_")!]
            #expect(families.contains(family), "\(line)")
            #expect(Double(words.last!) != nil, "\(line)")
        }
        #expect(series.count == MetricsText.make(report()).series && series.count > 100)
        for line in [
            "kvd_ready 1", "kvd_state{state=\"up\"} 1", "kvd_commands_total{command=\"c0\"} 100",
            "kvd_command_duration_seconds_bucket{command=\"get\",le=\"0.000001024\"} 5",
            "kvd_command_duration_seconds_bucket{command=\"get\",le=\"+Inf\"} 7",
            "kvd_command_duration_seconds_sum{command=\"get\"} 2.5", "kvd_actor_requests_total{actor=\"2\"} 200",
            "kvd_replication_lag_seconds{peer=\"peer-2\",id=\"0000000000000002\"} 0.01",
            "kvd_replication_pending_writes{peer=\"peer-3\",id=\"0000000000000003\"} 6", "kvd_keys{actor=\"1\"} 50",
            "process_start_time_seconds 1699999900",
        ] { #expect(text.contains("\n\(line)\n"), "\(line)") }
    }

    /// What an alarm or the dashboard asks for is there.
    @Test func alarmsAndDashboardNameMetricsThatExist() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let metrics = MetricsText.of(report())
        let known = Set(metrics.matches(of: /\n(\w+)[ {]/).map { String($0.output.1) })
        var found = 0
        for file in ["deploy/prometheus/kvd.rules.yml", "deploy/grafana/kvd.json"] {
            let text = try String(contentsOf: root.appendingPathComponent(file), encoding: .utf8)
            for match in text.matches(of: /\b((?:kvd|process)_[a-z_]+[a-z])\b/) where match.output.1 != "kvd_overview" {
                found += 1
                #expect(known.contains(String(match.output.1)), "\(file) asks for \(match.output.1)")
            }
        }
        #expect(found > 30, "the files could not be read")
        // Each alarm has its section on the page for operators.
        let rules = try String(
            contentsOf: root.appendingPathComponent("deploy/prometheus/kvd.rules.yml"), encoding: .utf8)
        let page = try String(contentsOf: root.appendingPathComponent("docs/operating.md"), encoding: .utf8)
        for match in rules.matches(of: /operating\.md#([a-z-]+)/) {
            let heading = match.output.1.replacingOccurrences(of: "-", with: " ")
            #expect(page.lowercased().contains("\n### \(heading)\n"), "\(heading)")
        }
        // And what makes it go on is in the file for promtool.
        let cases = try String(
            contentsOf: root.appendingPathComponent("deploy/prometheus/kvd.rules.test.yml"), encoding: .utf8)
        for match in rules.matches(of: /alert: (\w+)/) {
            #expect(cases.contains("alertname: \(match.output.1)\n"), "\(match.output.1)")
        }
    }

    @Test func thereAreFewerThan500SeriesHoweverLargeTheServer() {
        for (actors, peers, commands) in [(1, 0, 0), (16, 16, 30), (17, 17, 31), (128, 100, 200)] {
            let made = MetricsText.make(report(actors: actors, peers: peers, commands: commands))
            #expect(made.series < MetricsText.seriesMax, "\(actors) actors, \(peers) peers: \(made.series)")
        }
        let many = MetricsText.of(report(actors: 128, peers: 100, commands: 200))
        #expect(many.contains("\nkvd_actor_requests_total{actor=\"all\"} \(100 * 128 * 129 / 2)\n"))
        #expect(many.contains("\nkvd_keys{actor=\"all\"} 50\n") && many.contains("\nkvd_peers 100\n"))
        let rest = (30..<200).reduce(0) { $0 + 100 - $1 }
        #expect(many.contains("\nkvd_commands_total{command=\"other\"} \(rest)\n"))
    }

    @Test func labelsAreEscaped() {
        var report = report()
        report.cluster = "a\"b\\c\nd"
        #expect(MetricsText.of(report).contains("cluster=\"a\\\"b\\\\c\\nd\"} 1\n"))
    }

    @Test func numbersHaveNoExponent() {
        for (value, text) in [
            (0.0, "0"), (1e-9, "0.000000001"), (0.25, "0.25"), (1e12, "1000000000000"), (-0.5, "-0.5"), (2.5, "2.5"),
        ] { #expect(PlainNumber.text(value) == text) }
    }

    // MARK: JSON

    @Test func theJSONHasWhatScriptsAskFor() {
        var report = report()
        report.name = "a\"b\\\u{1}"
        let json = report.json
        for part in [
            "\"name\":\"a\\\"b\\\\\\u0001\"", "\"ready\":true,\"reason\":null",
            "\"actors\":[{\"index\":1,\"port\":6001,",
            "\"peers\":[{\"id\":\"0000000000000002\",\"name\":\"peer-2\",", "\"findings\":[]",
        ] { #expect(json.contains(part), "\(part): \(json)") }
        #expect(json.hasSuffix("}\n") && json.filter { $0 == "{" }.count == json.filter { $0 == "}" }.count)
    }

    // MARK: Readiness and findings

    @Test func aServerIsReadyWhenItHasTheData() {
        var report = report()
        #expect(report.unreadiness == nil && report.findings.isEmpty)
        report.readPercent = 40
        #expect(report.unreadiness == "loading: 40 % of the directory has been read" && report.state == "loading")
        #expect(report.table[1][2] == "loading" && report.json.contains("\"state\":\"loading\",\"ready\":false"))
        #expect(MetricsText.of(report).contains("\nkvd_state{state=\"loading\"} 1\n"))
        report.readPercent = nil
        report.actors[0].state = "syncing"
        report.actors[0].caughtUpPercent = 40
        #expect(report.unreadiness == "joining: 40 % of the data has arrived")
        report.actors[0].state = "alone"
        #expect(report.unreadiness == nil, "whoever has waited for others for long enough is the first")
        #expect(report.findings.first?.what == "Nobody has answered the --join.")
        report.uptimeSeconds = 3
        #expect(report.unreadiness == "joining: nobody has answered yet")
        report.actors[0].state = "up"
        report.actors[0].refusal = "loading"
        #expect(report.unreadiness?.hasPrefix("joining") == true)
        report.actors[0].refusal = "served"
        report.actors.removeLast()
        #expect(report.unreadiness == "busy: 1 of 2 actors do not answer")
        report.isLeaving = true
        #expect(report.unreadiness?.hasPrefix("leaving") == true && report.state == "leaving")
    }

    @Test func whatIsWrongIsSaidTheWorstFirst() {
        var report = report()
        report.actors[0].peers = [peer(2, .down), peer(3, .suspect), peer(4, lag: 5000)]
        report.actors[1].peers = report.actors[0].peers
        report.actors[0].peers[2].clockOffsetMillis = 900
        report.actors[0].divergences = 1
        report.actors[1].futureStamps = 2
        report.actors[1].journalOverruns = 3
        report.actors[1].tombstones = 7
        report.actors[1].hold = "x does not say what it has"
        (report.openFiles, report.openFilesMax, report.rejectedConnections) = (95, 100, 4)
        report.certificateEnd = 1_700_000_000 + 5 * 86_400
        report.actors[0].refusal = WriteRefusal.clock.info
        let findings = report.findings
        #expect(findings.map(\.weight).map { $0 == .critical ? 2 : $0 == .warning ? 1 : 0 }.reversed().isSorted)
        let text = findings.map(\.what).joined(separator: " ")
        for part in [
            "differed 1 times", "peer-2 is down", "peer-3 has been silent", "peer-4 is 5000 ms behind",
            "clock of peer-4 is off by 900 ms", "2 writes came", "3 times a server", "7 deleted keys", "95 of 100 open",
            "4 connections were refused", "ends in 5 days", "clock is about a year ahead",
        ] { #expect(text.contains(part), "\(part): \(text)") }
        #expect(findings.allSatisfy { $0.advice.hasSuffix(".") && $0.what.hasSuffix(".") })
    }

    @Test func whatHoldsTombstonesIsNamed() {
        let peers = [peer(2), peer(3)]
        #expect(ExpiryHold.silent(3).text(peers) == "peer-3 does not say what it has")
        #expect(ExpiryHold.departed(9).text(peers) == "what 0000000000000009 left is not agreed on yet")
        #expect(
            ExpiryHold.behind(2, 70).text(peers)
                == "peer-2 last reported a time 70 ms behind: its clock is slow, or its report late")
    }

    @Test func peersAreAsTheSlowestActorSeesThem() {
        var report = report()
        report.actors[0].peers = [peer(2, .up, lag: 5)]
        report.actors[1].peers = [peer(2, .suspect, lag: 9)]
        let rows = report.peers
        #expect(rows.count == 1 && rows[0].lagMillis == 9 && rows[0].pending == 6 && rows[0].state == .suspect)
    }

    @Test func aDiskThatFailsIsCountedAndSaid() {
        var report = report()
        #expect(MetricsText.of(report).contains("\nkvd_disk_failing 0\n"))
        report.disk = DiskReport(writeErrors: 1, syncErrors: 2, snapshotErrors: 3, lagMillis: 1500)
        #expect(report.findings.map(\.what) == ["The disk of --dir has refused 3 writes or syncs since the start."])
        (report.isDiskFailing, report.quarantinedBytes) = (true, 4096)
        for line in [
            "kvd_disk_write_errors_total 1", "kvd_disk_sync_errors_total 2", "kvd_snapshot_errors_total 3",
            "kvd_disk_failing 1", "kvd_durable_lag_seconds 1.5", "kvd_quarantined_bytes 4096",
        ] { #expect(MetricsText.of(report).contains("\n\(line)\n"), "\(line)") }
        #expect(report.findings.map(\.weight) == [.critical, .warning])
        #expect(report.findings[0].what.hasPrefix("The disk of --dir does not take what is written"))
        #expect(report.json.contains("\"disk_sync_errors\":2,\"snapshot_errors\":3,\"quarantined_bytes\":4096"))
    }

    // MARK: The page

    @Test func thePageIsSmallWholeAndFreeOfOtherResources() {
        var full = report(actors: 128, peers: 100, commands: 200)
        full.name = "<script>&\""
        for i in 0..<100 { full.actors[0].peers[i].state = i % 2 == 0 ? .down : .up }
        full.slowest = (0..<8).map {
            SlowLog.Entry(
                id: $0, seconds: 1_699_999_000, micros: 12_345, words: ["GET", "a secret key"], client: "c", name: "")
        }
        var history = StatusHistory(actors: 128)
        for k in 0..<70 {
            var histogram = LatencyHistogram()
            histogram.add(LatencyHistogram.bucket(UInt64(1000 * (k + 1))), 10 * k)
            history.take(Array(repeating: (1000 * k * k, histogram), count: 128), now: Nanos(k) * 10_000_000_000)
        }
        #expect(history.actors[0].count == StatusHistory.samplesMax)
        let html = StatusPage.html(full, history)
        #expect(html.utf8.count < StatusPage.bytesMax, "\(html.utf8.count) bytes")
        #expect(!html.contains("<script>&") && html.contains("&lt;script&gt;&amp;&quot;"))
        #expect(!html.contains("secret"), "keys are not shown")
        for foreign in ["http://", "https://", "src=", "@import", "url("] {
            #expect(!html.contains(foreign), "\(foreign)")
        }
        for part in ["16 of 128 actors are shown", "and 84 more: status.json has all", "Who hears whom", "12 ms"] {
            #expect(html.contains(part), "\(part)")
        }
        for tag in ["section", "table", "svg", "main", "tr", "ul", "dl"] {
            let opened = html.matches(of: try! Regex("<\(tag)[ >]")).count
            #expect(opened > 0 && opened == html.matches(of: try! Regex("</\(tag)>")).count, "\(tag)")
        }
        let small = StatusPage.html(report(actors: 1, peers: 0, commands: 0), StatusHistory(actors: 1))
        #expect(small.contains("this server is alone") && small.contains("Nothing is wrong."))
    }

    /// As WCAG 2 counts it: 4.5 for text, in both colour schemes.
    @Test func thePageCanBeRead() {
        let html = StatusPage.html(report(), StatusHistory(actors: 2))
        func colours(_ from: String) -> [String: Double] {
            let block = html[html.firstRange(of: from)!.upperBound...].prefix { $0 != "}" }
            let pairs = block.matches(of: /--(\w+):#(\w+)/).map { (String($0.output.1), String($0.output.2)) }
            return Dictionary(uniqueKeysWithValues: pairs.map { ($0, StatusTests.luminance($1)) })
        }
        for scheme in [":root{", "(prefers-color-scheme:dark){:root{"] {
            let found = colours(scheme)
            #expect(found.count == 9)
            for (front, behind) in [
                ("fg", "bg"), ("fg", "card"), ("soft", "bg"), ("soft", "card"), ("good", "card"), ("bad", "card"),
                ("warn", "card"), ("ink", "bg"), ("ink", "card"), ("good", "bg"), ("bad", "bg"),
            ] {
                let (a, b) = (found[front]!, found[behind]!)
                let contrast = (max(a, b) + 0.05) / (min(a, b) + 0.05)
                #expect(contrast >= 4.5, "\(scheme) \(front) on \(behind): \(contrast)")
            }
        }
    }

    private static func luminance(_ hex: String) -> Double {
        let digits = hex.count == 3 ? hex.map { "\($0)\($0)" }.joined() : hex
        let parts = stride(from: 0, to: 6, by: 2).map { at in
            let start = digits.index(digits.startIndex, offsetBy: at)
            let value = Double(Int(digits[start...].prefix(2), radix: 16)!) / 255
            return value <= 0.03928 ? value / 12.92 : pow((value + 0.055) / 1.055, 2.4)
        }
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
    }

    @Test func samplesAreOfTheTimeBetweenTwo() {
        var history = StatusHistory(actors: 1)
        var histogram = LatencyHistogram()
        history.take([(100, histogram)], now: 0)
        #expect(history.actors[0].isEmpty)
        histogram.add(LatencyHistogram.bucket(1000), 99)
        histogram.add(LatencyHistogram.bucket(1_000_000), 1)
        history.take([(1100, histogram)], now: 10_000_000_000)
        let end = LatencyHistogram.end(of: LatencyHistogram.bucket(1000))
        #expect(history.actors[0] == [.init(commandsPerSecond: 100, slowNanos: end)])
        // CONFIG RESETSTAT sets counters back.
        history.take([(0, LatencyHistogram())], now: 20_000_000_000)
        #expect(history.actors[0].last == .init(commandsPerSecond: 0, slowNanos: 0))
    }

    @Test func figuresAreShownShort() {
        #expect(StatusPage.grouped(1_234_567) == "1,234,567" && StatusPage.grouped(-12) == "-12")
        #expect(StatusPage.grouped(1000) == "1,000" && StatusPage.grouped(0) == "0")
        for (nanos, text) in [
            (0, "-"), (999, "999 ns"), (1500, "1.5 us"), (45_600, "46 us"), (2_500_000, "2.5 ms"),
            (3_000_000_000, "3.0 s"),
        ] { #expect(StatusPage.nanos(nanos) == text) }
        #expect(StatusPage.duration(60) == "60 s" && StatusPage.duration(200_000) == "2 days")
    }
}

extension Collection where Element: Comparable {
    fileprivate var isSorted: Bool { zip(self, dropFirst()).allSatisfy { $0 <= $1 } }
}
