// The name that somebody who misspelt one probably meant. Pure; any thread.

enum NearestName {
    /// The nearest of `names`, if it is near at all: at most a third of its letters are others. The first of equals.
    static func of(_ wrong: String, among names: [String]) -> String? {
        let wrong = Array(wrong.lowercased().utf8.prefix(bytesMax))
        var best: (name: String, distance: Int)?
        for name in names {
            let distance = distance(wrong, Array(name.lowercased().utf8))
            if distance <= max(1, name.utf8.count / 3), distance < best?.distance ?? .max { best = (name, distance) }
        }
        return best?.name
    }

    private static let bytesMax = 100

    /// Letters put in, left out or exchanged for others; two exchanged with each other are one. O(a x b).
    static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var (before, last, row) = ([Int](), Array(0...b.count), [Int]())
        for i in 0..<a.count {
            row = [i + 1]
            for j in 0..<b.count {
                var least = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { least = min(least, before[j - 1] + 1) }
                row.append(least)
            }
            (before, last) = (last, row)
        }
        return last[b.count]
    }
}
