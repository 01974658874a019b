// The page at /: one screen about this server, as HTML without anything from elsewhere. Works without JavaScript. Pure;
// any thread.

import KVBase

struct StatusPage {
    static let bytesMax = 60 * 1024
    /// What is shown of each list; the rest is counted.
    static let actorsMax = 16
    static let peersMax = 16
    static let findingsMax = 12

    private let report: StatusReport
    private let history: StatusHistory
    private var text = ""

    static func html(_ report: StatusReport, _ history: StatusHistory) -> String {
        var page = StatusPage(report: report, history: history)
        page.write()
        return page.text
    }

    private init(report: StatusReport, history: StatusHistory) { (self.report, self.history) = (report, history) }

    private mutating func write() {
        let name = StatusPage.escaped(report.name)
        text += "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
        text += "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">"
        text += "<meta name=\"color-scheme\" content=\"light dark\"><title>\(name) - kvd</title>"
        text += "<style>\(StatusPage.style)</style></head><body>"
        text += "<a class=\"skip\" href=\"#main\">To the content</a><header><h1>\(name)</h1><p id=\"lead\">"
        text += "<span class=\"state \(report.unreadiness == nil ? "good" : "bad")\">\(report.state)</span> "
        text += "kvd \(report.version), cluster \(StatusPage.escaped(report.cluster)), "
        text += "up \(StatusPage.duration(report.uptimeSeconds))</p></header><main id=\"main\">"
        findings()
        figures()
        peers()
        actors()
        memory()
        slow()
        text +=
            "</main><footer><p>Also here: <a href=\"/metrics\">metrics</a>, <a href=\"/status.json\">status.json</a>, "
        text += "<a href=\"/readyz\">readyz</a>, <a href=\"/healthz\">healthz</a>. "
        text += "<span id=\"fresh\">Load the page again for new figures.</span></p></footer>"
        text += "<script>\(StatusPage.script)</script></body></html>\n"
    }

    // MARK: Parts

    private mutating func findings() {
        text += "<section aria-labelledby=\"h1\"><h2 id=\"h1\">What to look at</h2>"
        let all = report.findings
        if all.isEmpty { text += "<p class=\"fine\">Nothing is wrong.</p>" }
        if !all.isEmpty {
            text += "<ul class=\"findings\">"
            for finding in all.prefix(StatusPage.findingsMax) {
                text += "<li class=\"\(finding.weight.rawValue)\"><b>\(finding.weight.rawValue)</b> "
                text += "\(StatusPage.escaped(finding.what)) <span>\(StatusPage.escaped(finding.advice))</span></li>"
            }
            if all.count > StatusPage.findingsMax { text += "<li>and \(all.count - StatusPage.findingsMax) more</li>" }
            text += "</ul>"
        }
        text += "</section>"
    }

    private mutating func figures() {
        let (gets, misses) = (report.hits, report.misses)
        let hitPercent = gets + misses > 0 ? Info.fixed(Double(gets) * 100 / Double(gets + misses), 1) + " %" : "-"
        text += "<section aria-labelledby=\"h2\"><h2 id=\"h2\">Now</h2><dl class=\"figures\">"
        for (name, value) in [
            ("requests a second", StatusPage.grouped(report.commandsPerSecond)),
            ("clients", "\(report.actors.reduce(0) { $0 + $1.clients }) of \(report.clientsMax)"),
            ("keys", StatusPage.grouped(report.actors.map(\.keys).max() ?? 0)),
            ("reads that hit", hitPercent), ("memory", Memory.human(report.residentBytes)),
            ("lag", report.peers.isEmpty ? "-" : "\(report.lagMillis) ms"),
        ] { text += "<div><dt>\(name)</dt><dd>\(value)</dd></div>" }
        text += "</dl></section>"
    }

    private mutating func peers() {
        text += "<section aria-labelledby=\"h3\"><h2 id=\"h3\">Other servers</h2>"
        let all = report.peers
        guard !all.isEmpty else {
            text += "<p>None: this server is alone, and what it holds is lost with it.</p></section>"
            return
        }
        let shown = Array(all.prefix(StatusPage.peersMax))
        text += ServerMap.svg(report.name, shown)
        text += "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Other servers\"><table><thead><tr>"
        for head in ["server", "address", "state", "lag", "pending", "heard", "round trip", "clock"] {
            text += "<th scope=\"col\">\(head)</th>"
        }
        text += "</tr></thead><tbody>"
        for peer in shown {
            text +=
                "<tr><th scope=\"row\">\(StatusPage.escaped(peer.name))</th><td>\(StatusPage.escaped(peer.address))</td>"
            text += "<td><span class=\"state \(peer.state == .up ? "good" : "bad")\">\(peer.state.rawValue)</span></td>"
            text += "<td>\(peer.lagMillis) ms</td><td>\(StatusPage.grouped(peer.pending))</td>"
            text +=
                "<td>\(StatusPage.millis(peer.heardMillisAgo))</td><td>\(StatusPage.millis(peer.roundTripMillis))</td>"
            text += "<td>\(peer.clockOffsetMillis) ms</td></tr>"
        }
        text += "</tbody></table></div>"
        if all.count > shown.count { text += "<p>and \(all.count - shown.count) more: status.json has all.</p>" }
        text += "</section>"
    }

    private mutating func actors() {
        text += "<section aria-labelledby=\"h4\"><h2 id=\"h4\">Actors, last ten minutes</h2>"
        text += "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Actors\"><table><thead><tr>"
        for head in ["port", "requests a second", "", "99 % within", "", "clients", "keys", "longest turn"] {
            text += head.isEmpty ? "<td></td>" : "<th scope=\"col\">\(head)</th>"
        }
        text += "</tr></thead><tbody>"
        let shown = report.actors.prefix(StatusPage.actorsMax)
        let all = history.actors.prefix(StatusPage.actorsMax).joined()
        let (rateMost, slowMost) = (all.map(\.commandsPerSecond).max() ?? 0, all.map(\.slowNanos).max() ?? 0)
        for actor in shown {
            let samples = actor.index <= history.actors.count ? history.actors[actor.index - 1] : []
            let slow = samples.last?.slowNanos ?? 0
            text +=
                "<tr><th scope=\"row\">\(actor.port)</th><td>\(StatusPage.grouped(actor.commandsPerSecond))</td><td>"
            text += Chart.svg(samples.map(\.commandsPerSecond), most: rateMost, name: "requests a second")
            text += "</td><td>\(StatusPage.nanos(slow))</td><td>"
            text += Chart.svg(samples.map(\.slowNanos), most: slowMost, name: "time of 99 % of the commands")
            text += "</td><td>\(actor.clients)</td><td>\(StatusPage.grouped(actor.keys))</td>"
            text += "<td>\(StatusPage.nanos(actor.longestTurnMicros * 1000))</td></tr>"
        }
        text += "</tbody></table></div>"
        if report.actorCount > shown.count { text += "<p>\(shown.count) of \(report.actorCount) actors are shown.</p>" }
        text += "</section>"
    }

    private mutating func memory() {
        text += "<section aria-labelledby=\"h5\"><h2 id=\"h5\">Memory</h2><table><tbody>"
        for (name, value) in [
            ("allocated", Memory.human(report.memoryBytes)), ("the most so far", Memory.human(report.memoryPeakBytes)),
            ("resident", Memory.human(report.residentBytes)), ("of the machine", Memory.human(report.machineBytes)),
            ("records", Memory.human(report.actors.map(\.recordBytes).max() ?? 0)),
            ("deleted keys still kept", StatusPage.grouped(report.actors.map(\.tombstones).max() ?? 0)),
        ] { text += "<tr><th scope=\"row\">\(name)</th><td>\(value)</td></tr>" }
        text += "</tbody></table></section>"
    }

    private mutating func slow() {
        text += "<section aria-labelledby=\"h6\"><h2 id=\"h6\">Slow commands</h2>"
        guard !report.slowest.isEmpty else {
            text += "<p>None since the log was emptied.</p></section>"
            return
        }
        text +=
            "<table><thead><tr><th scope=\"col\">command</th><th scope=\"col\">took</th><th scope=\"col\">ago</th></tr>"
        text += "</thead><tbody>"
        for entry in report.slowest {
            let command = StatusPage.escaped(String(entry.words.first?.description.lowercased().prefix(20) ?? ""))
            let ago = StatusPage.duration(max(0, Int(report.wallMillis / 1000) - entry.seconds))
            text +=
                "<tr><th scope=\"row\">\(command)</th><td>\(StatusPage.nanos(entry.micros * 1000))</td><td>\(ago)</td></tr>"
        }
        text += "</tbody></table><p>SLOWLOG GET shows their arguments.</p></section>"
    }

    // MARK: Words

    static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// `12,345`.
    static func grouped(_ value: Int) -> String {
        var (text, digits) = ("", Array(String(value.magnitude).reversed()))
        while digits.count > 3 {
            text = "," + String(digits.prefix(3).reversed()) + text
            digits.removeFirst(3)
        }
        return (value < 0 ? "-" : "") + String(digits.reversed()) + text
    }

    static func millis(_ millis: Millis) -> String { millis < 0 ? "-" : "\(millis) ms" }

    /// With the unit in which it has few digits.
    static func nanos(_ nanos: Int) -> String {
        switch nanos {
        case ...0: "-"
        case ..<1000: "\(nanos) ns"
        case ..<1_000_000: "\(Info.fixed(Double(nanos) / 1e3, nanos < 10_000 ? 1 : 0)) us"
        case ..<1_000_000_000: "\(Info.fixed(Double(nanos) / 1e6, nanos < 10_000_000 ? 1 : 0)) ms"
        default: "\(Info.fixed(Double(nanos) / 1e9, 1)) s"
        }
    }

    static func duration(_ seconds: Int) -> String {
        switch seconds {
        case ..<120: "\(seconds) s"
        case ..<7200: "\(seconds / 60) min"
        case ..<172_800: "\(seconds / 3600) h"
        default: "\(seconds / 86_400) days"
        }
    }

    private static let style = """
        :root{color-scheme:light dark;--bg:#fbfbf9;--fg:#1b1f23;--soft:#57606a;--line:#d4d8dc;--card:#fff;\
        --good:#0a6b2e;--bad:#a4161a;--warn:#7a4b00;--ink:#0b57b0}\
        @media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e8eaed;--soft:#a9b2bb;--line:#3a4148;\
        --card:#1c2024;--good:#6fd38f;--bad:#ff9a93;--warn:#f2c26b;--ink:#8ab8ff}}\
        *{box-sizing:border-box}\
        body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.45 system-ui,sans-serif}\
        header,main,footer{max-width:72rem;margin:0 auto;padding:0 1rem}header{padding-top:1rem}\
        h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}h2{font-size:1.05rem;margin:0 0 .5rem}\
        #lead{margin:.25rem 0 1rem;color:var(--soft)}\
        main{display:grid;gap:1rem;grid-template-columns:repeat(2,minmax(0,1fr))}\
        section{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.75rem 1rem;\
        min-width:0}section:nth-child(-n+4){grid-column:1/-1}.wide{overflow-x:auto}\
        table{border-collapse:collapse;width:100%}\
        th,td{text-align:left;padding:.2rem .75rem .2rem 0;white-space:nowrap;border-bottom:1px solid var(--line);\
        font-weight:400;font-variant-numeric:tabular-nums}thead th{color:var(--soft)}\
        .state{font-weight:600}.good{color:var(--good)}.bad{color:var(--bad)}\
        .figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(8rem,1fr));gap:.5rem;margin:0}\
        dt{color:var(--soft);font-size:.9rem}dd{margin:0;font-size:1.25rem;font-variant-numeric:tabular-nums}\
        .findings{margin:0;padding:0;list-style:none}.findings li{padding:.25rem 0}.findings span{color:var(--soft)}\
        .critical b{color:var(--bad)}.warning b{color:var(--warn)}.notice b{color:var(--ink)}\
        .fine{margin:0;color:var(--good)}svg{display:block}.chart{width:9rem;height:2rem}\
        .chart path{fill:none;stroke:var(--ink);stroke-width:1.5;vector-effect:non-scaling-stroke}\
        .map{width:100%;max-width:34rem;height:auto;margin:0 auto .5rem}\
        .map text{fill:var(--fg);font-size:13px;text-anchor:middle}.map .edge{stroke:var(--line);stroke-width:2}\
        .map .edge.bad{stroke:var(--bad);stroke-dasharray:6 4}\
        .map circle{fill:var(--card);stroke:var(--ink);stroke-width:2}\
        a{color:var(--ink)}a:focus-visible,.wide:focus-visible{outline:3px solid var(--ink);outline-offset:2px}\
        .skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:1rem;background:var(--card);padding:.5rem}\
        footer{padding-bottom:1rem;color:var(--soft)}p{overflow-wrap:anywhere}\
        @media(max-width:44rem){main{grid-template-columns:minmax(0,1fr)}}
        """

    /// Only makes it newer by itself.
    private static let script = """
        const f=document.getElementById("fresh");f.textContent="New figures every 5 seconds.";\
        setInterval(async()=>{if(document.hidden)return;try{const r=await fetch("/");if(!r.ok)throw 0;\
        const d=new DOMParser().parseFromString(await r.text(),"text/html");\
        const a=document.activeElement,i=a&&a.matches(".wide")?[...document.querySelectorAll(".wide")].indexOf(a):-1;\
        for(const k of["main","lead"]){document.getElementById(k).replaceWith(d.getElementById(k))}\
        if(i>=0)document.querySelectorAll(".wide")[i]?.focus();\
        f.textContent="New figures every 5 seconds."}catch{f.textContent="The server does not answer: these figures are old."}},\
        5000)
        """
}

/// A line of up to sixty samples.
enum Chart {
    private static let (width, height) = (120, 28)

    static func svg(_ values: [Int], most: Int, name: String) -> String {
        var text = "<svg class=\"chart\" viewBox=\"0 0 \(width) \(height)\" preserveAspectRatio=\"none\" role=\"img\""
        text += " aria-label=\"\(name), at most \(StatusPage.grouped(values.max() ?? 0))\">"
        if values.count > 1 {
            // The newest is at the right edge.
            let start = StatusHistory.samplesMax - values.count
            text += "<path d=\""
            for (place, value) in values.enumerated() {
                let x = (start + place) * width / (StatusHistory.samplesMax - 1)
                let y = height - 1 - (most > 0 ? value * (height - 2) / most : 0)
                text += "\(place == 0 ? "M" : "L")\(x) \(y)"
            }
            text += "\"/>"
        }
        return text + "</svg>"
    }
}

/// This server in the middle, the others around it, and how far each is behind on the line to it.
enum ServerMap {
    private static let width = 540.0

    static func svg(_ own: String, _ peers: [PeerRow]) -> String {
        // Two others are on one line with this server.
        let height = peers.count <= 2 ? 120.0 : 300.0
        let (cx, cy) = (width / 2, height / 2)
        var (edges, nodes) = ("", "")
        for (place, peer) in peers.enumerated() {
            let direction = direction(place, of: peers.count)
            let (x, y) = (cx + direction.x * (cx - 70), cy + direction.y * (cy - 40))
            let isGood = peer.state == .up
            edges += "<line class=\"edge\(isGood ? "" : " bad")\" x1=\"\(Int(cx))\" y1=\"\(Int(cy))\""
            edges += " x2=\"\(Int(x))\" y2=\"\(Int(y))\"/>"
            if peers.count <= 8 {
                let (lx, ly) = (Int(cx + (x - cx) * 0.55), Int(cy + (y - cy) * 0.55) - 4)
                edges += "<text x=\"\(lx)\" y=\"\(ly)\">\(isGood ? "\(peer.lagMillis) ms" : peer.state.rawValue)</text>"
            }
            nodes += "<circle cx=\"\(Int(x))\" cy=\"\(Int(y))\" r=\"8\"/>"
            nodes += "<text x=\"\(Int(x))\" y=\"\(Int(y) + 26)\">\(label(peer.name, peers.count > 8 ? 8 : 18))</text>"
        }
        nodes += "<circle cx=\"\(Int(cx))\" cy=\"\(Int(cy))\" r=\"11\"/>"
        nodes += "<text x=\"\(Int(cx))\" y=\"\(Int(cy) + 28)\">\(label(own, 18))</text>"
        return
            "<svg class=\"map\" viewBox=\"0 0 \(Int(width)) \(Int(height))\" role=\"img\" aria-label=\"Who hears whom; "
            + "the table below has the same\">\(edges)\(nodes)</svg>"
    }

    private static func label(_ name: String, _ most: Int) -> String {
        StatusPage.escaped(name.count > most ? String(name.prefix(most - 1)) + "…" : name)
    }

    /// On a circle, the first to the left; by steps of a table of sines, as there is no Foundation here.
    private static func direction(_ place: Int, of count: Int) -> (x: Double, y: Double) {
        var (x, y) = (-1.0, 0.0)
        // Turning by small steps: a thousandth of a circle each, corrected to length 1.
        let steps = place * 1000 / max(1, count)
        let (c, s) = (0.999_980_260_856_137, 0.006_283_143_965_558_951)
        for _ in 0..<steps { (x, y) = (x * c - y * s, x * s + y * c) }
        return (x, y)
    }
}
