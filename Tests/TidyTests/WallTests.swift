// The walls of the replication machine and of the game's session: state belongs to the part that owns it, and nobody
// else can reach it.

import KVTestTraits
import Testing

@Suite(.blocking) struct WallTests {
    /// A machine of parts: a driver holds them, and no part reaches into another. A new part goes in here.
    struct Machine: CustomTestStringConvertible {
        var folder: String
        var parts: Set<String>
        /// They hold parts, what never changes, and nothing else.
        var holders: Set<String>
        /// Parts whose constants may be read, as an argument may.
        var open: Set<String> = []
        /// Besides parts: lists of peers, and values whose state is private to another module.
        var others: Set<String> = []
        var propertiesMin: Int
        var testDescription: String { folder }
    }

    static let machines = [
        Machine(
            folder: "Sources/KVCore/Replication",
            parts: [
                "CatchUp", "Census", "ClockCorrection", "ClockSample", "Collector", "DepartureVotes", "Departures",
                "DigestWatch", "Discards", "ExpiryWork", "FrameBench", "FrameTurns", "FutureStamps", "GapWatch",
                "GatewayChoice", "Hearing", "Hearsay", "HeldSections", "Inbox", "Leaving", "LinkBook", "LocalLog",
                "Membership",
                "Outcasts", "OutgoingRound", "OwnStream", "PairPacer", "PeerView", "PlantedState", "RecentSegments",
                "Reconciliation", "RepairQueue", "RetiredServers", "ScanRestarts", "ScanDonor", "Schedule", "Seen",
                "SegmentBuilder",
                "SendWish",
                "ServerLink", "SiblingStream", "SiblingView", "UnaskedCollection", "WriteAges",
            ],
            holders: ["Replica", "RemoteServer", "Sibling"], open: ["ScanDonor", "SegmentBuilder"],
            others: [
                "Replica.siblings", "Replica.servers", "Replica.statistics", "Replica.onRestamp", "Replica.onLearned",
                "Replica.durableSource", "Replica.isSynced",
            ],
            propertiesMin: 40),
        Machine(
            folder: "Sources/CMUDCore",
            parts: [
                "Alarms", "CharacterSheet", "Directory", "GiftsReceived", "HintsShown", "Identity", "LineQueue",
                "LoginAttempt", "OutputQueue", "OwnRings", "PlayClock", "PresenceBoard", "PutQueue", "RingReader",
                "SignsOfLife", "Stage", "StoreCalls", "StoreHealth", "TalkHistory", "TalkLimits", "Visit", "Whiteboard",
                "Work", "WorldSeen",
            ],
            holders: ["GameSession"], others: ["GameSession.random"], propertiesMin: 27),
    ]

    struct Property: CustomStringConvertible {
        var file: String
        var line: Int
        var owner: String
        var name: String
        /// As written; empty if the compiler infers it.
        var type: String
        var words: Set<String>
        var isConstant: Bool
        var description: String { "\(file):\(line) \(owner).\(name)" }
    }

    /// Stored properties of types, read from lines: `var` and `let` one level inside a type, not `static`, without a
    /// body that computes them.
    static func storedProperties(of file: SourceFile) -> [Property] {
        var found: [Property] = []
        var owner: String?
        for (number, line) in file.lines.enumerated() {
            if let name = typeName(line) { owner = name }
            if line.hasPrefix("extension ") { owner = nil }
            guard let owner, line.hasPrefix("    "), !line.hasPrefix("     ") else { continue }
            let code = line.split(separator: "//", omittingEmptySubsequences: false)[0]
            let words = code.split(whereSeparator: { $0 == " " }).map(String.init)
            guard let at = words.firstIndex(where: { $0 == "var" || $0 == "let" }), at + 1 < words.count,
                words[..<at].allSatisfy({ !$0.contains("=") && !$0.hasPrefix("func") && !$0.hasPrefix("case") })
            else { continue }
            let isComputed = code.contains("{") && !code.prefix { $0 != "{" }.contains("=")
            guard !words.contains("static"), !isComputed else { continue }
            let rest = words[(at + 1)...].joined(separator: " ")
            let name = rest.prefix { $0.isLetter || $0.isNumber || $0 == "_" }
            var type = rest.dropFirst(name.count)
            type = type.hasPrefix(":") ? type.dropFirst().prefix { $0 != "=" } : type.drop { $0 == " " || $0 == "=" }
            found.append(
                Property(
                    file: file.path, line: number + 1, owner: owner, name: String(name),
                    type: type.trimmingPrefix(" ").prefix { $0.isLetter || $0.isNumber }.description,
                    words: Set(words[..<at]), isConstant: words[at] == "let"))
        }
        return found
    }

    private static func typeName(_ line: Substring) -> String? {
        guard !line.hasPrefix(" "), !line.hasPrefix("/"), line.contains("{") else { return nil }
        let words = line.split(whereSeparator: { " :{<".contains($0) }).map(String.init)
        guard let at = words.firstIndex(where: { ["struct", "class", "enum"].contains($0) }), at + 1 < words.count
        else {
            return nil
        }
        return words[at + 1]
    }

    @Test(arguments: machines)
    func noStoredPropertyOfAPartIsReachableOutsideItsFile(_ machine: Machine) throws {
        var seen: Set<String> = []
        for file in try Repository.files(under: [machine.folder], endings: ["swift"]) {
            for property in Self.storedProperties(of: file) where machine.parts.contains(property.owner) {
                seen.insert(property.owner)
                if property.isConstant && !property.words.contains("private") {
                    #expect(machine.open.contains(property.owner), "\(property): keep it private and give it a method")
                    continue
                }
                #expect(
                    property.words.contains("private") || property.words.contains("fileprivate"),
                    "\(property) is reachable from other files: make it private and give the part a method")
            }
        }
        let missing = machine.parts.subtracting(seen).sorted()
        #expect(missing.isEmpty, "no state found in \(missing): gone, or not read?")
    }

    @Test(arguments: machines)
    func whoHoldsPartsHoldsNothingElse(_ machine: Machine) throws {
        var count = 0
        for file in try Repository.files(under: [machine.folder], endings: ["swift"]) {
            for property in Self.storedProperties(of: file) where machine.holders.contains(property.owner) {
                count += 1
                if property.isConstant || property.words.contains("private") { continue }
                let isOther = machine.others.contains("\(property.owner).\(property.name)")
                #expect(
                    machine.parts.contains(property.type) || isOther,
                    "\(property) of \(property.type) is no part: which one owns it?")
            }
        }
        #expect(count >= machine.propertiesMin, "the properties could not be read")
    }

    @Test func everyFileOfTheSessionsPartsHoldsOne() throws {
        let parts = Self.machines[1].parts
        let files = try Repository.files(under: ["Sources/CMUDCore/Parts"], endings: ["swift"])
        for file in files {
            let name = file.path.split(separator: "/").last!.dropLast(".swift".count)
            #expect(parts.contains(String(name)), "\(file.path) is not in the list of parts: its state is not watched")
            #expect(
                file.lines.contains { $0.contains("func checkInvariants(") },
                "\(file.path): a part says what is always true of it (checkInvariants)")
        }
        #expect(files.count == parts.count)
    }

    @Test func theReaderFindsWhatIsReachable() {
        let text = """
            struct Gateway {
                private var offset = 0
                var reachable = 0
                var computed: Bool { offset >= 0 }
                let fixed: Int
                private(set) var readable: [UInt64] = []
                static let limit = 4
                func move() {
                    let local = 1
                }
            }
            extension Gateway {
                var late: Int { 0 }
            }
            """
        let file = SourceFile(
            path: "Gateway.swift", lines: text.split(separator: "\n", omittingEmptySubsequences: false))
        let found = Self.storedProperties(of: file)
        #expect(found.map(\.name) == ["offset", "reachable", "fixed", "readable"])
        #expect(found.map { $0.words.contains("private") } == [true, false, false, false])
        #expect(found.map(\.owner) == Array(repeating: "Gateway", count: 4))
    }
}
