// A process that hangs: it is stopped, and its kernel goes on for it. Any thread.

import Foundation

/// Stops a process, and returns when each of its threads stands still: a thread that waits for a processor when the
/// signal comes may otherwise answer once more. Waits up to a minute.
package func suspend(_ pid: Int32) {
    kill(pid, SIGSTOP)
    let deadline = Date().addingTimeInterval(60)
    while !standsStill(pid), Date() < deadline { _ = poll(nil, 0, 1) }
}

/// The state is the first letter behind the name, which stands in parentheses (man 5 proc).
private func standsStill(_ pid: Int32) -> Bool {
    let folder = "/proc/\(pid)/task"
    guard let threads = try? FileManager.default.contentsOfDirectory(atPath: folder) else { return true }
    return threads.allSatisfy { thread in
        guard let text = try? String(contentsOfFile: "\(folder)/\(thread)/stat", encoding: .utf8),
            let end = text.lastIndex(of: ")")
        else { return true }
        return text[end...].dropFirst(2).first == "T"
    }
}
