// Numbers, amounts and spans of time in words. Pure, any thread.

package import KVBase

package enum Show {
    /// 1234567 as "1,234,567".
    package static func number(_ value: Int64) -> String {
        let digits = String(value.magnitude)
        var out = ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index) % 3 == 0 { out.append(",") }
            out.append(digit)
        }
        return value < 0 ? "-" + out : out
    }

    package static func count(_ value: Int64, _ noun: String, _ plural: String? = nil) -> String {
        "\(number(value)) \(value == 1 ? noun : plural ?? noun + "s")"
    }

    package static func coins(_ value: Int64) -> String { count(value, "coin") }

    /// 3 s, 4 min, 2 h 5 min, 3 days.
    package static func duration(_ seconds: Int64) -> String {
        if seconds < 60 { return "\(max(0, seconds)) s" }
        if seconds < 3_600 { return "\(seconds / 60) min" }
        if seconds < 2 * 86_400 {
            let minutes = seconds / 60 % 60
            return minutes == 0 ? "\(seconds / 3_600) h" : "\(seconds / 3_600) h \(minutes) min"
        }
        return "\(seconds / 86_400) days"
    }

    /// Percent of a whole, one decimal below ten.
    package static func percent(_ part: Int64, of whole: Int64) -> String {
        guard whole > 0 else { return "0 %" }
        let permille = Int64((Double(part) / Double(whole) * 1_000).rounded(.down))
        return permille >= 100 ? "\(permille / 10) %" : "\(permille / 10).\(permille % 10) %"
    }

    /// Hour and minute of the day at `offset` seconds east of Greenwich.
    package static func clock(_ wall: Millis, offset: Int64) -> String {
        let minutes = ((wall / 1_000 + offset) / 60) % 1_440
        let positive = (minutes + 1_440) % 1_440
        let (hour, minute) = (positive / 60, positive % 60)
        return "\(hour < 10 ? "0" : "")\(hour):\(minute < 10 ? "0" : "")\(minute)"
    }

    package static func list(_ words: [String]) -> String {
        guard words.count > 1 else { return words.first ?? "" }
        return words.dropLast().joined(separator: ", ") + " and " + words.last!
    }
}
