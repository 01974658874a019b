// SVG drawings of results, by hand: a frame, two axes, lines and a legend. Pure functions.

import Foundation
import Histogram

enum Plot {
    struct Series {
        var name: String
        var points: [(x: Double, y: Double)]
    }

    struct Axis {
        var title: String
        /// Where marks go, in data units, with their texts.
        var marks: [(at: Double, text: String)]
        var scale: @Sendable (Double) -> Double
    }

    private static let width = 860.0
    private static let height = 480.0
    private static let frame = (left: 80.0, top: 30.0, right: 50.0, bottom: 60.0)
    private static let colours = [
        "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#7f7f7f", "#8c564b",
    ]

    /// Latency in microseconds at each percentile, as far as the axis goes.
    static func percentiles(_ histogram: Histogram<UInt64>) -> [(x: Double, y: Double)] {
        histogram.percentiles(ticksPerHalfDistance: 5).filter { $0.percentile <= 99.999 }.map {
            ($0.percentile, Double($0.value) / 1000)
        }
    }

    /// X is stretched as HdrHistogram plots are: each nine takes the same room.
    static func latencyByPercentile(_ series: [Series]) -> String {
        let marks = [0, 50, 90, 99, 99.9, 99.99, 99.999].map { (at: $0, text: String(format: "%g %%", $0)) }
        let x = Axis(title: "percentile", marks: marks) { -log10(1 - min($0, 99.999) / 100) }
        return draw(series, x, logarithmic("latency, µs", series.flatMap(\.points).map(\.y)), "Latency by percentile")
    }

    /// Throughput (or anything) against connections, rate, …, both from zero.
    static func curve(_ series: [Series], title: String, x: String, y: String) -> String {
        let points = series.flatMap(\.points)
        return draw(series, linear(x, points.map(\.x)), linear(y, points.map(\.y)), title)
    }

    /// As `curve`, with latency on a logarithmic axis.
    static func latencyCurve(_ series: [Series], title: String, x: String) -> String {
        let points = series.flatMap(\.points)
        return draw(series, linear(x, points.map(\.x)), logarithmic("latency, µs", points.map(\.y)), title)
    }

    private static func logarithmic(_ title: String, _ values: [Double]) -> Axis {
        let low = floor(log10(max(values.min() ?? 1, 0.1)))
        let high = max(low + 1, ceil(log10(max(values.max() ?? 10, 0.1))))
        let marks = (Int(low)...Int(high)).map { (at: pow(10, Double($0)), text: short(pow(10, Double($0)))) }
        return Axis(title: title, marks: marks) { log10(max($0, 0.1)) }
    }

    private static func linear(_ title: String, _ values: [Double]) -> Axis {
        let top = max(values.max() ?? 1, 1e-9)
        let power = pow(10, floor(log10(top)))
        let step = [0.2, 0.5, 1, 2].map { $0 * power }.first { top / $0 <= 6 } ?? power * 2
        let marks = (0...Int(ceil(top / step))).map { (at: Double($0) * step, text: short(Double($0) * step)) }
        return Axis(title: title, marks: marks) { $0 }
    }

    private static func short(_ value: Double) -> String {
        switch value {
        case 1e6...: String(format: "%g M", value / 1e6)
        case 1e4...: String(format: "%g k", value / 1e3)
        default: String(format: "%g", value)
        }
    }

    private static func escape(_ text: String) -> String {
        text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
            .replacingOccurrences(of: ">", with: "&gt;")
    }

    private static func draw(_ series: [Series], _ x: Axis, _ y: Axis, _ title: String) -> String {
        let (x0, x1) = (x.scale(x.marks.first!.at), x.scale(x.marks.last!.at))
        let (y0, y1) = (y.scale(y.marks.first!.at), y.scale(y.marks.last!.at))
        let (bottom, right) = (height - frame.bottom, width - frame.right)
        func px(_ v: Double) -> String { fixed(frame.left + (x.scale(v) - x0) / (x1 - x0) * (right - frame.left)) }
        func py(_ v: Double) -> String { fixed(bottom - (y.scale(v) - y0) / (y1 - y0) * (bottom - frame.top)) }
        var svg = [
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(Int(width)) \(Int(height))\" "
                + "font-family=\"sans-serif\" font-size=\"13\">",
            "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
            "<text x=\"\(width / 2)\" y=\"20\" text-anchor=\"middle\" font-size=\"15\">\(escape(title))</text>",
        ]
        for mark in x.marks {
            let at = px(mark.at)
            svg.append("<line x1=\"\(at)\" y1=\"\(frame.top)\" x2=\"\(at)\" y2=\"\(bottom)\" stroke=\"#ddd\"/>")
            svg.append("<text x=\"\(at)\" y=\"\(bottom + 18)\" text-anchor=\"middle\">\(escape(mark.text))</text>")
        }
        for mark in y.marks {
            let at = py(mark.at)
            svg.append("<line x1=\"\(frame.left)\" y1=\"\(at)\" x2=\"\(right)\" y2=\"\(at)\" stroke=\"#ddd\"/>")
            svg.append(
                "<text x=\"\(frame.left - 8)\" y=\"\(at)\" dy=\"4\" text-anchor=\"end\">"
                    + "\(escape(mark.text))</text>")
        }
        svg.append(
            "<text x=\"\(width / 2)\" y=\"\(height - 15)\" text-anchor=\"middle\">\(escape(x.title))</text>")
        svg.append(
            "<text transform=\"translate(18 \(height / 2)) rotate(-90)\" text-anchor=\"middle\">"
                + "\(escape(y.title))</text>")
        for (i, line) in series.enumerated() {
            let colour = colours[i % colours.count]
            let points = line.points.map { "\(px($0.x)),\(py($0.y))" }.joined(separator: " ")
            svg.append("<polyline points=\"\(points)\" fill=\"none\" stroke=\"\(colour)\" stroke-width=\"2\"/>")
            if line.points.count < 40 {
                for p in line.points {
                    svg.append("<circle cx=\"\(px(p.x))\" cy=\"\(py(p.y))\" r=\"3\" fill=\"\(colour)\"/>")
                }
            }
            let at = frame.top + 18 + Double(i) * 18
            svg.append(
                "<rect x=\"\(frame.left + 12)\" y=\"\(at - 10)\" width=\"12\" height=\"12\" fill=\"\(colour)\"/>")
            svg.append("<text x=\"\(frame.left + 30)\" y=\"\(at)\">\(escape(line.name))</text>")
        }
        return (svg + ["</svg>"]).joined(separator: "\n")
    }
}
