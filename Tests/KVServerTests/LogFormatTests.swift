// Lines of the log in their three forms.

import Foundation
import KVTestTraits
import Logging
import Testing

@testable import KVServer

@Suite(.blocking) struct LogFormatTests {
    private func line(_ format: LogFormat, _ message: String, _ fields: [(name: String, value: String)]) -> String {
        format.line(millis: 1_700_000_000_123, level: .warning, label: "kvd", message: message, fields: fields)
    }

    @Test func textIsForPeople() {
        #expect(
            line(.text, "serving now", [("actors", "2"), ("first port", "6001")])
                == "2023-11-14T22:13:20.123Z warning kvd: serving now actors=2 first port=6001")
    }

    @Test func logfmtQuotesWhatHasBlanks() {
        #expect(
            line(.logfmt, "serving \"now\"", [("a b", "x y"), ("empty", ""), ("plain", "1")])
                == "ts=2023-11-14T22:13:20.123Z level=warning logger=kvd msg=\"serving \\\"now\\\"\" ab=\"x y\" empty=\"\" plain=1"
        )
    }

    @Test func jsonIsOneObject() throws {
        let text = line(.json, "a \"b\"\n\u{1}", [("key", "v\\"), ("n", "1")])
        #expect(!text.contains("\n"))
        let object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: String])
        #expect(
            object == [
                "ts": "2023-11-14T22:13:20.123Z", "level": "warning", "logger": "kvd", "msg": "a \"b\"\n\u{1}",
                "key": "v\\",
                "n": "1",
            ])
    }
}
