// What LATENCY GRAPH draws: the samples of one kind of event as columns of characters, as Redis draws them. Pure; any
// thread.

enum LatencyGraph {
    private static let columns = 80
    private static let rows = 4
    /// A row shows three heights.
    private static let heights = Array("_o#".utf8)
    private static let space = UInt8(ascii: " ")

    /// Columns from the oldest sample to the newest; under each, from top to bottom, how long ago it was. `now` is in
    /// seconds since 1970. O(samples).
    static func text(of event: LatencyEvents.Event, now: Int) -> String {
        let values = event.samples.map(\.millis)
        let (least, most) = (values.min() ?? 0, values.max() ?? 0)
        var text = "\(event.name) - high \(most) ms, low \(least) ms (all time high \(event.worstMillis) ms)\n"
        text += String(repeating: "-", count: columns) + "\n"
        for start in stride(from: 0, to: values.count, by: columns) {
            if start > 0 { text += "\n" }
            let samples = event.samples[start..<min(start + columns, values.count)]
            let steps = samples.map { step($0.millis - least, of: most - least) }
            for row in 0..<rows { text += line(steps.map { mark($0, row) }) }
            text += line(steps.map { _ in space })
            let labels = samples.map { Array(age(now - $0.seconds).utf8) }
            for place in 0..<(labels.map(\.count).max() ?? 0) {
                text += line(labels.map { place < $0.count ? $0[place] : space })
            }
        }
        return text
    }

    private static func line(_ characters: [UInt8]) -> String { String(decoding: characters, as: UTF8.self) + "\n" }

    /// How high a column is: from 0 for the least value on.
    private static func step(_ value: Int, of range: Int) -> Int {
        let steps = heights.count * rows
        return min(value * steps / max(1, range), steps - 1)
    }

    private static func mark(_ step: Int, _ row: Int) -> UInt8 {
        let height = step - (rows - row - 1) * heights.count
        if height < 0 { return space }
        return height < heights.count ? heights[height] : UInt8(ascii: "|")
    }

    static func age(_ seconds: Int) -> String {
        switch seconds {
        case ..<60: "\(max(0, seconds))s"
        case ..<3600: "\(seconds / 60)m"
        case ..<86_400: "\(seconds / 3600)h"
        default: "\(seconds / 86_400)d"
        }
    }
}
