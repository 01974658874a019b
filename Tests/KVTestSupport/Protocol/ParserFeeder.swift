// Feeds the request parser in pieces and collects what it said. For tests and kv-fuzz, any thread.

package import KVBase
package import RESP

/// What a client would have observed: commands in order, then possibly the error that closes the connection.
package struct Parsed: Equatable, CustomStringConvertible {
    package enum Item: Equatable {
        case command([Bytes])
        case oversized
    }
    package var items: [Item] = []
    package var error: String?
    /// Bytes the parser left for the next call.
    package var rest = 0

    package var commands: [[String]] {
        items.map {
            if case .command(let arguments) = $0 { return arguments.map(\.description) }
            return ["<oversized>"]
        }
    }

    package var description: String {
        "\(commands.map { $0.joined(separator: "|") }) error=\(error ?? "none") rest=\(rest)"
    }
}

/// Plays the connection: appends pieces to a buffer, drops what the parser consumed. The rest moves to a fresh
/// allocation before every call, so that a parser holding on to old addresses is found (by AddressSanitizer at once).
package struct Feeder {
    package var parser: RESPParser
    package var batch = CommandBatch()
    package var rest: [UInt8] = []
    package var result = Parsed()
    package var commandsPerCall = 1_000_000
    /// Wait for `wanted` bytes as the server does, or call after every piece.
    package var obeysWanted = false

    package init(_ limits: RESPLimits = RESPLimits()) { parser = RESPParser(limits: limits) }

    package mutating func feed(_ piece: some Sequence<UInt8>) {
        guard result.error == nil else { return }
        rest.append(contentsOf: piece)
        if obeysWanted && rest.count < parser.wanted { return }
        while true {
            batch.reset()
            let copy = rest.withUnsafeBytes { bytes in
                let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
                copy.copyMemory(from: bytes)
                return copy
            }
            let status = parser.parse(UnsafeRawBufferPointer(copy), into: &batch, maxCommands: commandsPerCall)
            for i in 0..<batch.count {
                let command = batch[i]
                let arguments = (0..<Int(command.argumentCount)).map { Bytes(batch.argument($0, of: command).bytes) }
                result.items.append(command.isOversized ? .oversized : .command(arguments))
            }
            copy.deallocate()
            rest.removeFirst(parser.consumed)
            if status == .failed {
                result.error = parser.errorMessage
                rest = []
            }
            if status != .batchFull { break }
        }
    }

    package mutating func finish() -> Parsed {
        result.rest = rest.count
        parser.deallocate()
        batch.deallocate()
        return result
    }
}

package func parseRequests(
    _ input: [UInt8], cutAt cuts: [Int] = [], limits: RESPLimits = RESPLimits(), perCall: Int = 1_000_000,
    obeysWanted: Bool = false
) -> Parsed {
    var feeder = Feeder(limits)
    feeder.commandsPerCall = perCall
    feeder.obeysWanted = obeysWanted
    var from = 0
    for cut in cuts + [input.count] {
        feeder.feed(input[from..<cut])
        from = cut
    }
    return feeder.finish()
}

package func parseRequests(_ input: String, limits: RESPLimits = RESPLimits()) -> Parsed {
    parseRequests(Array(input.utf8), limits: limits)
}

package func requestText(_ arguments: [String]) -> String {
    "*\(arguments.count)\r\n" + arguments.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined()
}

package func written(_ write: (inout OutputBuffer) -> Void) -> String {
    var output = OutputBuffer()
    defer { output.deallocate() }
    write(&output)
    return String(decoding: output.bytes, as: UTF8.self)
}
