// What a line of the log looks like: for people, for key=value readers, for JSON readers. Values; any thread.

import Logging

package enum LogFormat: String, Sendable, CaseIterable {
    case text, logfmt, json

    /// Without its end. `fields` in their order.
    func line(
        millis: Int64, level: Logger.Level, label: String, message: String, fields: [(name: String, value: String)]
    ) -> String {
        let time = LogTime.text(millis)
        switch self {
        case .text:
            return "\(time) \(level) \(label): \(message)" + fields.map { " \($0.name)=\($0.value)" }.joined()
        case .logfmt:
            let all =
                [("ts", time), ("level", level.rawValue), ("logger", label), ("msg", message)]
                + fields.map { (LogFormat.key($0.name), $0.value) }
            return all.map { "\($0.0)=\(LogFormat.quoted($0.1))" }.joined(separator: " ")
        case .json:
            var json = JSONText()
            json.object { json in
                json.add("ts", time)
                json.add("level", level.rawValue)
                json.add("logger", label)
                json.add("msg", message)
                for field in fields { json.add(field.name, field.value) }
            }
            return json.text
        }
    }

    /// A name without what would end it.
    private static func key(_ name: String) -> String { name.filter { $0 != " " && $0 != "=" && $0 != "\"" } }

    /// In quotes where it has blanks, quotes or controls.
    private static func quoted(_ text: String) -> String {
        let isPlain = !text.isEmpty && text.unicodeScalars.allSatisfy { $0.value > 32 && $0 != "\"" && $0 != "=" }
        return isPlain ? text : JSONText.quoted(text)
    }
}
