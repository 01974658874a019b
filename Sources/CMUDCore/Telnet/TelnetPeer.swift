// The telnet side of one connection: option states, what is known of the client, how text is sent to it. Pure: bytes
// in, bytes out. A value owned by one connection.

/// RFC 1143: the state of one option on one side, which keeps two polite programs from agreeing for ever.
struct OptionState: Equatable, Sendable {
    enum State: Sendable { case no, yes, wantNo, wantYes }
    var state = State.no
    /// The opposite was asked for while an answer is awaited.
    var isQueuedOpposite = false

    /// We want the option on; true when a request has to be sent.
    mutating func enable() -> Bool {
        switch state {
        case .no:
            state = .wantYes
            return true
        case .yes: return false
        case .wantNo:
            isQueuedOpposite = true
            return false
        case .wantYes:
            isQueuedOpposite = false
            return false
        }
    }

    mutating func disable() -> Bool {
        switch state {
        case .yes:
            state = .wantNo
            return true
        case .no: return false
        case .wantNo:
            isQueuedOpposite = false
            return false
        case .wantYes:
            isQueuedOpposite = true
            return false
        }
    }

    /// The peer agrees or asks: returns the answer to send, if any (true = yes).
    mutating func received(yes: Bool, accepts: Bool) -> Bool? {
        switch (state, yes) {
        case (.no, true):
            state = accepts ? .yes : .no
            return accepts
        case (.yes, false):
            state = .no
            return false
        case (.no, false), (.yes, true): return nil
        case (.wantNo, true):  // a refusal answered by an agreement: the peer is confused; believe the queue
            state = isQueuedOpposite ? .yes : .no
            isQueuedOpposite = false
            return nil
        case (.wantNo, false):
            state = isQueuedOpposite ? .wantYes : .no
            defer { isQueuedOpposite = false }
            return isQueuedOpposite ? true : nil
        case (.wantYes, true):
            state = isQueuedOpposite ? .wantNo : .yes
            defer { isQueuedOpposite = false }
            return isQueuedOpposite ? false : nil
        case (.wantYes, false):
            state = .no
            isQueuedOpposite = false
            return nil
        }
    }
}

package struct TelnetPeer: Sendable {
    /// What the gateway offers to do, and what it asks the client to do.
    static let ours: Set<UInt8> = [
        TelnetOption.echo, TelnetOption.suppressGoAhead, TelnetOption.endOfRecord, TelnetOption.charset,
        TelnetOption.mssp,
        TelnetOption.gmcp,
    ]
    static let theirs: Set<UInt8> = [TelnetOption.terminalType, TelnetOption.windowSize]
    static let typeRoundsMax = 3
    /// Answers to a client's requests on one connection, and times that one option is explained. A client settles
    /// within twenty; whoever goes on asking gets silence.
    static let answersMax = 200
    static let explanationsMax = 2
    static let msspVariable: UInt8 = 1, msspValue: UInt8 = 2

    private var parser = TelnetParser()
    private var us: [UInt8: OptionState] = [:]
    private var them: [UInt8: OptionState] = [:]
    private var types: [String] = []
    private var out: [UInt8] = []
    private var answers = 0
    private var explanations: [UInt8: Int] = [:]
    package private(set) var gmcp = GMCP()
    package private(set) var width: Int?
    /// Columns to break lines at: a client that does not tell its width, such as `nc`, does not break them either.
    package var columns: Int { width ?? TelnetPeer.columnsUsual }
    static let columnsUsual = 80
    /// Bits of the MTTS standard, once the client has told.
    package private(set) var terminalBits = 0
    package private(set) var isUTF8 = false
    /// True when the terminal type is known or will not be told: the banner need not wait any longer.
    package private(set) var isSettled = false
    /// Name and value pairs for MSSP, asked for when they are needed.
    package var status: [(name: String, value: String)] = []

    package init() {}

    package var isReader: Bool { terminalBits & 64 != 0 }
    package var hasColor: Bool {
        let known = ["ANSI", "XTERM", "VT100", "MUDLET", "TINTIN"]
        return terminalBits & 1 != 0 || types.contains { type in known.contains { type.hasPrefix($0) } }
    }
    package var hasGMCP: Bool { us[TelnetOption.gmcp]?.state == .yes }

    /// Bytes to send since the last call.
    package mutating func takeOutput() -> [UInt8] {
        defer { out = [] }
        return out
    }

    package mutating func start() {
        for option in [TelnetOption.terminalType, TelnetOption.windowSize] { ask(option) }
        for option in [TelnetOption.endOfRecord, TelnetOption.charset, TelnetOption.mssp, TelnetOption.gmcp] {
            offer(option)
        }
    }

    // MARK: text

    /// Lines as network text: 0xFF doubled, CR LF ends, anything but ASCII folded when the client did not agree to
    /// UTF-8.
    package mutating func send(_ text: String) {
        for byte in text.utf8 {
            if byte == 0x0A { out.append(0x0D) }
            out.append(byte)
            if byte == TelnetCode.iac { out.append(byte) }
        }
    }

    /// Marks the end of a prompt, for clients that cannot tell it from half a line.
    package mutating func sendPromptEnd() {
        if us[TelnetOption.endOfRecord]?.state == .yes {
            out += [TelnetCode.iac, TelnetCode.endOfRecord]
        } else if us[TelnetOption.suppressGoAhead]?.state != .yes {
            out += [TelnetCode.iac, TelnetCode.goAhead]
        }
    }

    /// Hides what is typed at a password: the client stops echoing when the gateway says that it will.
    package mutating func setSecret(_ isSecret: Bool) {
        if isSecret { offer(TelnetOption.echo) } else { withdraw(TelnetOption.echo) }
    }

    package mutating func sendGMCP(_ message: String) {
        guard hasGMCP else { return }
        sendSub(TelnetOption.gmcp, Array(message.utf8))
    }

    private mutating func sendSub(_ option: UInt8, _ bytes: [UInt8]) {
        out += [TelnetCode.iac, TelnetCode.sb, option]
        for byte in bytes { out += byte == TelnetCode.iac ? [byte, byte] : [byte] }
        out += [TelnetCode.iac, TelnetCode.se]
    }

    // MARK: options

    private mutating func offer(_ option: UInt8) {
        if us[option, default: OptionState()].enable() { out += [TelnetCode.iac, TelnetCode.will, option] }
    }

    private mutating func withdraw(_ option: UInt8) {
        if us[option, default: OptionState()].disable() { out += [TelnetCode.iac, TelnetCode.wont, option] }
    }

    private mutating func ask(_ option: UInt8) {
        if them[option, default: OptionState()].enable() { out += [TelnetCode.iac, TelnetCode.do, option] }
    }

    /// Takes in bytes of the client; returns the lines it typed, nil for one that was too long.
    package mutating func receive(_ bytes: some Sequence<UInt8>) -> [String?] {
        var lines: [String?] = []
        for event in parser.feed(bytes) {
            switch event {
            case .line(let bytes): lines.append(decode(bytes))
            case .lineTooLong: lines.append(nil)
            case .negotiation(let verb, let option): negotiate(verb, option)
            case .subnegotiation(let option, let bytes): subnegotiated(option, bytes)
            }
        }
        return lines
    }

    private func decode(_ bytes: [UInt8]) -> String {
        String(decoding: bytes, as: UTF8.self).filter { !($0.unicodeScalars.first!.value < 0x20) }
    }

    /// What the client asks for or agrees to. An option is explained when it comes on, not each time it is said to be.
    private mutating func negotiate(_ verb: UInt8, _ option: UInt8) {
        switch verb {
        case TelnetCode.do, TelnetCode.dont:
            // ECHO is ours alone to offer, around passwords.
            let accepts = TelnetPeer.ours.contains(option) && option != TelnetOption.echo
            let before = us[option, default: OptionState()].state
            let answer = us[option, default: OptionState()].received(yes: verb == TelnetCode.do, accepts: accepts)
            if let answer { reply(answer ? TelnetCode.will : TelnetCode.wont, option) }
            if before != .yes, us[option]?.state == .yes { enabled(option) }
        default:
            let accepts = TelnetPeer.theirs.contains(option)
            let before = them[option, default: OptionState()].state
            let answer = them[option, default: OptionState()].received(yes: verb == TelnetCode.will, accepts: accepts)
            if let answer { reply(answer ? TelnetCode.do : TelnetCode.dont, option) }
            guard option == TelnetOption.terminalType else { return }
            guard them[option]?.state == .yes else { return isSettled = true }
            if before != .yes { askType() }
        }
    }

    private mutating func reply(_ verb: UInt8, _ option: UInt8) {
        guard answers < TelnetPeer.answersMax else { return }
        answers += 1
        out += [TelnetCode.iac, verb, option]
    }

    private mutating func enabled(_ option: UInt8) {
        guard explanations[option, default: 0] < TelnetPeer.explanationsMax else { return }
        explanations[option, default: 0] += 1
        switch option {
        case TelnetOption.charset: sendSub(option, [1] + Array(";UTF-8".utf8))
        case TelnetOption.mssp:
            var bytes: [UInt8] = []
            for pair in status {
                bytes +=
                    [TelnetPeer.msspVariable] + Array(pair.name.utf8) + [TelnetPeer.msspValue] + Array(pair.value.utf8)
            }
            sendSub(option, bytes)
        default: break
        }
    }

    private mutating func askType() {
        guard types.count < TelnetPeer.typeRoundsMax, !isSettled else { return isSettled = true }
        sendSub(TelnetOption.terminalType, [1])
    }

    private mutating func subnegotiated(_ option: UInt8, _ bytes: [UInt8]) {
        switch option {
        case TelnetOption.windowSize:
            guard bytes.count >= 4 else { return }
            let columns = Int(bytes[0]) << 8 | Int(bytes[1])
            if columns > 0 { width = max(20, min(columns, 250)) }
        case TelnetOption.terminalType:
            guard bytes.first == 0, !isSettled else { return }
            let name = Safe.text(bytes.dropFirst().prefix(64)).string.uppercased()
            let isRepeated = types.last == name
            if name.hasPrefix("MTTS "), let bits = Int(name.dropFirst(5)) {
                terminalBits = bits & 0xFFFF
                if bits & 4 != 0 { isUTF8 = true }
                isSettled = true
            }
            if isRepeated { isSettled = true } else { types.append(name) }
            if !isSettled { askType() }
        case TelnetOption.charset:
            // 2: accepted, with the name of the set.
            if bytes.first == 2, String(decoding: bytes.dropFirst(), as: UTF8.self).uppercased() == "UTF-8" {
                isUTF8 = true
            }
        case TelnetOption.gmcp where hasGMCP: gmcp.receive(bytes)
        default: break
        }
    }

    package mutating func withGMCP(_ body: (inout GMCP) -> [String]) {
        for message in body(&gmcp) { sendGMCP(message) }
    }
}
