// Requests and replies as text, for the suites that talk to a session in process. One thread.

import FuzzSupport
import KVBase
import RESP
import Testing

@testable import KVServer

extension LocalSession {
    /// The words of the request are parted by single spaces; the reply goes without its last line end.
    func expect(_ request: String, _ reply: String, _ at: SourceLocation = #_sourceLocation) {
        let answer = run(request.split(separator: " ", omittingEmptySubsequences: false).map { Bytes(String($0)) })
        #expect(answer == reply + "\r\n", "\(request)", sourceLocation: at)
    }

    func run(_ arguments: [Bytes]) -> String {
        var bytes = OutputBuffer()
        defer { bytes.deallocate() }
        bytes.request(arguments)
        return String(decoding: reply(to: Array(bytes.bytes)), as: UTF8.self)
    }

    /// Goes on with what was left in the middle.
    func goOn() -> String {
        guard session.hasWork || session.isSuspended else { return "" }
        return String(decoding: reply(to: []), as: UTF8.self)
    }
}
