// Bytes of a telnet connection become lines, negotiations and subnegotiations, however packets cut them. A value owned
// by one connection.

package enum TelnetCode {
    package static let se: UInt8 = 240, nop: UInt8 = 241, goAhead: UInt8 = 249, sb: UInt8 = 250
    package static let will: UInt8 = 251, wont: UInt8 = 252, `do`: UInt8 = 253, dont: UInt8 = 254, iac: UInt8 = 255
    package static let endOfRecord: UInt8 = 239
}

package enum TelnetOption {
    package static let echo: UInt8 = 1, suppressGoAhead: UInt8 = 3, terminalType: UInt8 = 24, endOfRecord: UInt8 = 25
    package static let windowSize: UInt8 = 31, charset: UInt8 = 42, mssp: UInt8 = 70, gmcp: UInt8 = 201
}

package enum TelnetEvent: Equatable, Sendable {
    /// A finished line without its end.
    case line([UInt8])
    /// A line that was longer than `lineBytesMax` and was dropped.
    case lineTooLong
    case negotiation(verb: UInt8, option: UInt8)
    case subnegotiation(option: UInt8, bytes: [UInt8])
}

package struct TelnetParser: Sendable {
    package static let lineBytesMax = 1_024
    package static let subnegotiationBytesMax = 4_096

    private enum State: Equatable { case data, carriageReturn, command, verb(UInt8), sub, subCommand }

    private var state = State.data
    private var line: [UInt8] = []
    private var lineIsTooLong = false
    private var sub: [UInt8] = []

    package init() {}

    package mutating func feed(_ bytes: some Sequence<UInt8>) -> [TelnetEvent] {
        var events: [TelnetEvent] = []
        for byte in bytes { feed(byte, &events) }
        return events
    }

    private mutating func feed(_ byte: UInt8, _ events: inout [TelnetEvent]) {
        switch state {
        case .data, .carriageReturn: data(byte, &events)
        case .command:
            switch byte {
            case TelnetCode.will...TelnetCode.dont: state = .verb(byte)
            case TelnetCode.sb:
                sub = []
                state = .sub
            case TelnetCode.iac:
                state = .data
                append(byte)
            default: state = .data  // NOP, AYT and the like carry nothing a game needs
            }
        case .verb(let verb):
            state = .data
            events.append(.negotiation(verb: verb, option: byte))
        case .sub:
            if byte == TelnetCode.iac { state = .subCommand } else { appendSub(byte) }
        case .subCommand:
            switch byte {
            case TelnetCode.se:
                state = .data
                if let option = sub.first {
                    events.append(.subnegotiation(option: option, bytes: Array(sub.dropFirst())))
                }
                sub = []
            case TelnetCode.iac:
                state = .sub
                appendSub(byte)
            default:
                // A command inside a subnegotiation: the peer forgot to end it. Take the command, drop the rest.
                sub = []
                state = .command
                feed(byte, &events)
            }
        }
    }

    /// CR LF, CR NUL, LF and a lone CR each end a line.
    private mutating func data(_ byte: UInt8, _ events: inout [TelnetEvent]) {
        let afterReturn = state == .carriageReturn
        state = .data
        switch byte {
        case TelnetCode.iac: state = .command
        case 0x0D:
            finishLine(&events)
            state = .carriageReturn
        case 0x0A:
            if !afterReturn { finishLine(&events) }
        case 0: break
        case 0x08, 0x7F: if !line.isEmpty { line.removeLast() }
        default: append(byte)
        }
    }

    private mutating func append(_ byte: UInt8) {
        if line.count < TelnetParser.lineBytesMax { line.append(byte) } else { lineIsTooLong = true }
    }

    private mutating func appendSub(_ byte: UInt8) {
        if sub.count < TelnetParser.subnegotiationBytesMax { sub.append(byte) }
    }

    private mutating func finishLine(_ events: inout [TelnetEvent]) {
        events.append(lineIsTooLong ? .lineTooLong : .line(line))
        line = []
        lineIsTooLong = false
    }
}
