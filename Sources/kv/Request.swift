// What kv can be asked to do, from the command line or the prompt, and how a typed line is read. Pure, any thread.

import KVClient

enum Request: Equatable {
    case get(KVBytes)
    case put(KVBytes, KVBytes)
    /// The same, vanishing after that time, or only if there is no such key.
    case putFor(KVBytes, KVBytes, time: Duration?, ifAbsent: Bool)
    /// How long a key is still there.
    case timeToLive(KVBytes)
    case increment(KVBytes, by: Int64)
    case list(prefix: KVBytes, limit: Int?, after: KVBytes?)
    case delete([KVBytes])
    case ping
    case status
    case doctor
    /// A command in the server's own words.
    case raw([KVBytes])
    case help
    case quit

    struct Mistake: Error, Equatable {
        var text: String
    }

    static let names = [
        "delete", "doctor", "exit", "get", "help", "incr", "list", "ping", "put", "quit", "raw", "status", "ttl",
    ]

    static let helpText = """
        get KEY                               print a value
        put KEY VALUE [ttl 30s] [if-absent]   write a value, for 500ms, 30s, 15m or 2h; or only if there is none
        ttl KEY                               how many seconds a key is still there, or none
        incr KEY [N]                          add 1, or N, to a number
        list [PREFIX] [limit N] [after KEY]   print pairs in key order
        delete KEY...                         remove keys
        ping                                  how long the store takes to answer
        status                                the cluster as a table
        doctor                                what looks wrong, and what to do
        raw COMMAND...                        send any command of the server, such as raw INFO server
        help                                  this text; Tab completes commands and keys, Ctrl-R searches lines
        quit                                  leave (or Ctrl-D)
        Words with blanks go in quotes: "a b\\n" with escapes \\n \\r \\t \\" \\\\ \\xHH, or 'a b' as it is.
        """

    init?(line: String) throws(Mistake) { try self.init(line: Array(line.utf8)) }

    /// Reads one line; nil when there is nothing on it.
    init?(line: [UInt8]) throws(Mistake) {
        let words = try Request.words(line)
        guard let first = words.first else { return nil }
        let name = first.description.lowercased()
        let arguments = Array(words.dropFirst())
        switch name {
        case "get":
            guard arguments.count == 1 else { throw Mistake(text: "usage: get KEY") }
            self = .get(arguments[0])
        case "put", "set":
            self = try Request.put(arguments)
        case "ttl":
            guard arguments.count == 1 else { throw Mistake(text: "usage: ttl KEY") }
            self = .timeToLive(arguments[0])
        case "incr":
            let step = arguments.count == 2 ? Int64(arguments[1].description) : 1
            guard let step, (1...2).contains(arguments.count) else { throw Mistake(text: "usage: incr KEY [N]") }
            self = .increment(arguments[0], by: step)
        case "list", "ls": self = try Request.list(arguments)
        case "delete", "del":
            guard !arguments.isEmpty else { throw Mistake(text: "usage: delete KEY...") }
            self = .delete(arguments)
        case "ping":
            guard arguments.isEmpty else { throw Mistake(text: "usage: ping") }
            self = .ping
        case "status", "doctor":
            guard arguments.isEmpty else { throw Mistake(text: "usage: \(name)") }
            self = name == "status" ? .status : .doctor
        case "raw":
            guard !arguments.isEmpty else { throw Mistake(text: "usage: raw COMMAND...") }
            self = .raw(arguments)
        case "help", "?": self = .help
        case "quit", "exit": self = .quit
        default:
            let close = Request.names.first { $0.hasPrefix(name) || name.hasPrefix($0) }
            let hint = close.map { "; did you mean \($0)?" } ?? "; help lists the commands"
            throw Mistake(text: "no command \(Text.escaped(first))\(hint)")
        }
    }

    private static func put(_ arguments: [KVBytes]) throws(Mistake) -> Request {
        let usage = Mistake(text: "usage: put KEY VALUE [ttl 30s] [if-absent] (quote a value with blanks)")
        guard arguments.count >= 2 else { throw usage }
        if arguments.count == 2 { return .put(arguments[0], arguments[1]) }
        var (rest, time, ifAbsent) = (arguments[2...], nil as Duration?, false)
        while let option = rest.popFirst() {
            switch option.description.lowercased() {
            case "if-absent": ifAbsent = true
            case "ttl":
                guard let given = rest.popFirst().flatMap({ Request.time($0.description) }) else { throw usage }
                time = given
            default: throw usage
            }
        }
        return .putFor(arguments[0], arguments[1], time: time, ifAbsent: ifAbsent)
    }

    /// A time such as 500ms, 30s, 15m or 2h, more than 0; nil for anything else.
    static func time(_ text: String) -> Duration? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        let millis: Int64? =
            switch text.dropFirst(digits.count) {
            case "ms": 1
            case "s": 1000
            case "m": 60_000
            case "h": 3_600_000
            default: nil
            }
        guard let number = Int64(digits), number > 0, let millis else { return nil }
        let (all, isOver) = number.multipliedReportingOverflow(by: millis)
        return isOver ? nil : .milliseconds(all)
    }

    private static func list(_ arguments: [KVBytes]) throws(Mistake) -> Request {
        let usage = Mistake(text: "usage: list [PREFIX] [limit N] [after KEY]")
        // An odd number of words begins with the prefix, as in the server's LIST.
        var rest = arguments[...]
        let prefix = rest.count % 2 == 1 ? rest.removeFirst() : KVBytes()
        var limit: Int?
        var after: KVBytes?
        while let option = rest.popFirst(), let value = rest.popFirst() {
            switch option.description.lowercased() {
            case "limit":
                guard let number = Int(value.description), number > 0 else { throw usage }
                limit = number
            case "after": after = value
            default: throw usage
            }
        }
        return .list(prefix: prefix, limit: limit, after: after)
    }

    // MARK: Words

    /// Splits at blanks; quotes keep blanks together.
    static func words(_ bytes: [UInt8]) throws(Mistake) -> [KVBytes] {
        var words: [KVBytes] = []
        var word: [UInt8]?
        var at = 0
        while at < bytes.count {
            let byte = bytes[at]
            at += 1
            switch byte {
            case 32, 9, 10, 13:
                if let done = word { words.append(KVBytes(done)) }
                word = nil
            case UInt8(ascii: "'"):
                guard let end = bytes[at...].firstIndex(of: byte) else { throw Mistake(text: "a ' is not closed") }
                word = (word ?? []) + bytes[at..<end]
                at = end + 1
            case UInt8(ascii: "\""):
                word = (word ?? []) + (try quoted(bytes, &at))
            default:
                word = (word ?? []) + [byte]
            }
        }
        if let done = word { words.append(KVBytes(done)) }
        return words
    }

    private static func quoted(_ bytes: [UInt8], _ at: inout Int) throws(Mistake) -> [UInt8] {
        var text: [UInt8] = []
        while at < bytes.count {
            let byte = bytes[at]
            at += 1
            switch byte {
            case UInt8(ascii: "\""): return text
            case UInt8(ascii: "\\"):
                guard at < bytes.count else { break }
                let escape = bytes[at]
                at += 1
                switch escape {
                case UInt8(ascii: "n"): text.append(10)
                case UInt8(ascii: "r"): text.append(13)
                case UInt8(ascii: "t"): text.append(9)
                case UInt8(ascii: "x"):
                    let digits = String(decoding: bytes[at..<min(at + 2, bytes.count)], as: UTF8.self)
                    guard digits.utf8.count == 2, let value = UInt8(digits, radix: 16) else {
                        throw Mistake(text: "\\x needs two hexadecimal digits")
                    }
                    text.append(value)
                    at += 2
                default: text.append(escape)
                }
            default: text.append(byte)
            }
        }
        throw Mistake(text: "a \" is not closed")
    }
}
