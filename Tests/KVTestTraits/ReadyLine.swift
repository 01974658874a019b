// What a program under test says when it is ready. Any thread.

import Glibc

/// The first line that arrives on `descriptor`, without its end; nil if none does in time.
package func firstLine(from descriptor: Int32, withinMillis: Int32) -> String? {
    var text: [UInt8] = []
    while !text.contains(10) {
        var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&ready, 1, withinMillis) > 0 else { return nil }
        var chunk = [UInt8](repeating: 0, count: 4096)
        let n = read(descriptor, &chunk, chunk.count)
        guard n > 0 else { return nil }
        text += chunk[..<n]
    }
    return String(decoding: text.prefix(while: { $0 != 10 }), as: UTF8.self)
}
