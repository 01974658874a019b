// Where settings come from, which one wins, and what a user reads when one is wrong.

import Foundation
import KVBase
import KVRuntime
import KVTestTraits
import Testing

@testable import KVServer

@Suite(.blocking) struct ConfigTests {
    private func file(_ text: String) throws -> String {
        let path = NSTemporaryDirectory() + "kvd-config-\(UUID().uuidString)"
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }

    private func message(
        _ flags: [(String, String)] = [], environment: [String: String] = [:], file: String? = nil
    ) -> String? {
        do throws(ConfigError) {
            _ = try Config.resolve(flags: flags.map { (name: $0.0, value: $0.1) }, environment: environment, file: file)
            return nil
        } catch { return error.description }
    }

    @Test func defaultsAreThoseDocumented() throws {
        let config = try Config.resolve(flags: [], environment: [:])
        #expect(config.port == 6000 && config.host == "127.0.0.1" && config.sharedPort == nil)
        #expect(config.inputOutput == .auto && config.logLevel == "info" && config.join.isEmpty)
        #expect(config.advertisedAddress == Endpoint(host: "127.0.0.1", port: 6000))
        #expect(config.isLoopback)
        #expect(config.actorAddress(2) == Endpoint(host: "127.0.0.1", port: 6002))
    }

    @Test func linesOfAFileMayEndInAnyWay() throws {
        let path = try file("# comment\r\nport 7450\r\nactors 3\n\r\nhost 127.0.0.3")
        defer { try? FileManager.default.removeItem(atPath: path) }
        let config = try Config.resolve(flags: [], environment: ["KVD_CONFIG": path])
        #expect(config.port == 7450 && config.actors == 3 && config.host == "127.0.0.3")
    }

    @Test func flagBeatsEnvironmentBeatsFile() throws {
        let path = try file("# comment\nport 7000\nactors 3\n\nhost \"127.0.0.3\"\nlog-level debug\n")
        defer { try? FileManager.default.removeItem(atPath: path) }
        let config = try Config.resolve(
            flags: [(name: "port", value: "9000")],
            environment: ["KVD_PORT": "8000", "KVD_ACTORS": "2", "KVD_CONFIG": path, "KVD_SHARED_PORT": "6379"])
        #expect(config.port == 9000 && config.actors == 2 && config.host == "127.0.0.3")
        #expect(config.logLevel == "debug" && config.sharedPort == 6379)
    }

    @Test func joinIsRepeatableAndTakesDescriptions() throws {
        let description = ServerDescription(
            id: "00000000000000ff", address: Endpoint(host: "10.0.0.7", port: 6000),
            actors: [Endpoint(host: "10.0.0.7", port: 6001)], shared: nil, inputOutput: "epoll", version: "1",
            processID: 1)
        let config = try Config.resolve(
            flags: [(name: "join", value: "a.example:1"), (name: "join", value: description.json)], environment: [:])
        #expect(config.join == [Endpoint(host: "a.example", port: 1), Endpoint(host: "10.0.0.7", port: 6000)])
        let listed = try Config.resolve(flags: [], environment: ["KVD_JOIN": "a:1,b:2"])
        #expect(listed.join == [Endpoint(host: "a", port: 1), Endpoint(host: "b", port: 2)])
        let one = try Config.resolve(flags: [], environment: ["KVD_JOIN": description.json])
        #expect(one.join == [Endpoint(host: "10.0.0.7", port: 6000)])
    }

    private func config(_ flags: (String, String)...) throws -> Config {
        try Config.resolve(flags: flags.map { (name: $0.0, value: $0.1) }, environment: [:])
    }

    /// Who is bound to all addresses of its machine announces none of itself.
    @Test func whatOtherServersAreToldIsAnAddress() throws {
        for (flags, announced) in [
            ([("host", "10.0.0.1")], "10.0.0.1:6000"), ([("host", "0.0.0.0")], nil), ([("host", "::")], nil),
            ([("host", "[::]")], nil), ([("host", "[fd00::1]")], "[fd00::1]:6000"),
            ([("host", "kvd.example")], "kvd.example:6000"),
            ([("host", "0.0.0.0"), ("advertise", "10.0.0.9")], "10.0.0.9:6000"),
            ([("host", "127.0.0.2"), ("advertise", "0.0.0.0:32100")], "127.0.0.2:6000"),
            ([("host", "0.0.0.0"), ("advertise", "[::]:7")], nil),
        ] as [([(String, String)], String?)] {
            let all = [("trust-the-network", "yes")] + flags
            let config = try Config.resolve(flags: all.map { (name: $0.0, value: $0.1) }, environment: [:])
            #expect(config.announcedAddress?.description == announced, "\(flags)")
            #expect(config.ignoresAdvertise == (flags.last!.1.hasPrefix("0.0.0.0:") || flags.last!.1 == "[::]:7"))
        }
    }

    @Test func theNameIsGivenOrMadeOfHostAndPort() throws {
        let given = try config(("name", "kvd-0.kvd:6000")).systemName
        #expect(given == SystemName("kvd-0.kvd:6000", isGiven: true))
        let made = try config(("port", "7000")).systemName
        #expect(!made.isGiven && made.text.hasSuffix(":7000") && SystemName.isUsable(made.text))
        #expect(made.text.hasPrefix(ProcessInfo.processInfo.hostName.prefix(3)))
    }

    @Test func lagAndServingAreOffAndOnByDefault() throws {
        let plain = try config()
        #expect(plain.maxLagSeconds == nil && plain.servesWhileJoining)
        let other = try config(("max-lag", "10"), ("serve-while-joining", "no"))
        #expect(other.maxLagSeconds == 10 && !other.servesWhileJoining)
        #expect(try config(("max-lag", "off")).maxLagSeconds == nil)
        #expect(try config().clockSkewMaxMillis == 10_000)
        #expect(try config(("clock-skew-max", "3600")).clockSkewMaxMillis == 3_600_000)
    }

    /// Decided once: what each file alone means.
    @Test func whatFilesOfTLSMean() throws {
        let pair = [("tls-cert-file", "c"), ("tls-key-file", "k")]
        func tls(_ more: (String, String)...) throws -> TLSSettings {
            try Config.resolve(flags: (pair + more).map { (name: $0.0, value: $0.1) }, environment: [:]).tls
        }
        #expect(try config().tls.mode == .off && !config().tls.isOn)
        #expect(try tls().mode == .required && tls().asks == .no && tls().refusesPlain)
        #expect(try tls(("tls", "off")).mode == .off)
        let optional = try tls(("tls", "optional"), ("tls-ca-file", "a"))
        #expect(optional.mode == .optional && optional.asks == .optional && !optional.refusesPlain)
        #expect(try tls(("tls", "optional"), ("tls-ca-file", "a"), ("tls-auth-clients", "yes")).refusesPlain)
        #expect(try tls(("tls-ca-file", "a"), ("tls-auth-clients-user", "URI")).userName == .uri)
        #expect(message([("tls-key-file", "k")])?.contains("both") == true)
        #expect(message([("tls-ca-file", "a")])?.contains("both") == true)
    }

    @Test func moreServersToJoinThanAnybodyNeedsAreRefused() {
        let join = (0..<Seeds.seedsMax + 1).map { ("join", "10.0.0.1:\($0 + 1)") }
        #expect(message(Array(join.dropLast())) == nil)
        #expect(message(join)?.contains("more than 64") == true)
    }

    @Test func advertiseMayLeaveThePortOut() throws {
        let config = try Config.resolve(
            flags: [(name: "port", value: "7000"), (name: "advertise", value: "example.org")], environment: [:])
        #expect(config.advertisedAddress.description == "example.org:7000")
    }

    @Test(arguments: [
        ("port", "abc"), ("port", "0"), ("port", "65535"), ("actors", "0"), ("actors", "129"), ("io", "kqueue"),
        ("log-level", "loud"), ("join", "nowhere"), ("join", "{\"id\":1}"), ("join", "host:99999"),
        ("shared-port", "x"),
        ("maxclients", "-1"), ("pin", "maybe"), ("warm-memory", "1"), ("nonsense", "1"), ("host", ""), ("name", "a b"),
        ("name", "a,b"),
        ("name", ""), ("name", String(repeating: "n", count: 65)), ("serve-while-joining", "perhaps"),
        ("maxmemory", "1.5gb"), ("maxmemory", "-1"), ("maxmemory", "8tb"), ("unixsocket", ""),
        ("unixsocketperm", "999"), ("unixsocketperm", "1000"), ("tls", "on"), ("tls-auth-clients", "all"),
        ("max-lag", "0"), ("max-lag", "1.5"), ("max-lag", "yes"), ("clock-skew-max", "0"), ("clock-skew-max", "1.5"),
        ("advertise", "é:1"), ("host", "a,b"),
    ])
    func aBadValueIsNamedInOneLine(_ name: String, _ value: String) throws {
        let text = try #require(message([(name, value)]))
        #expect(text.hasPrefix("--\(name)") && !text.contains("\n"), "\(text)")
        #expect(name == "nonsense" || value.isEmpty || text.contains(value), "\(text)")
    }

    @Test func errorsSayWhereTheSettingCameFrom() throws {
        #expect(message(environment: ["KVD_PORT": "x"])?.hasPrefix("KVD_PORT:") == true)
        let path = try file("port 7000\nbogus 1\n")
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(message(file: path)?.contains("line 2") == true)
        let lone = try file("port\n")
        defer { try? FileManager.default.removeItem(atPath: lone) }
        #expect(message(file: lone)?.contains("no value") == true)
        #expect(message(file: "/nonexistent/kvd.conf")?.contains("No such file") == true)
    }

    @Test func aCommentMayStandBehindAValue() throws {
        let path = try file(
            "port 7000 # clients above\nhost 127.0.0.2\t# bound\ncluster \"a # b\" # quoted\nadvertise h#1:5 #\n")
        defer { try? FileManager.default.removeItem(atPath: path) }
        let config = try Config.resolve(flags: [], environment: [:], file: path)
        #expect(config.port == 7000 && config.host == "127.0.0.2" && config.cluster == "a # b")
        #expect(config.advertise?.host == "h#1")
        for (text, words) in [
            ("port # 7000\n", "no value"), ("cluster \"a\n", "quote is not closed"), ("cluster \"a\" b\n", "comment"),
        ] {
            let bad = try file(text)
            defer { try? FileManager.default.removeItem(atPath: bad) }
            let said = try #require(message(file: bad))
            #expect(said.contains(words) && said.contains("line 1"), "\(said)")
        }
    }

    @Test func variablesThatAreNoSettingsAreTold() {
        let environment = ["KVD_PROT": "1", "KVD_SERVICE_HOST": "x", "KVD_PORT": "6000", "KVD_CONFIG": "", "HOME": "/"]
        #expect(
            Config.unknownVariables(environment) == [
                "KVD_PROT is not a setting and is ignored; did you mean KVD_PORT?",
                "KVD_SERVICE_HOST is not a setting and is ignored",
            ])
    }

    @Test func settingsForTestsAreNotInTheListOfSettings() throws {
        let text = try #require(message([("nonsense", "1")]))
        #expect(text.contains("none has a name like it") && !text.contains("debug"), "\(text)")
        #expect(message([("debug-clock-offset", "1")])?.contains("debug-clock-offset-ms") == false)
    }

    @Test func portsMustNotCollide() {
        #expect(message([("port", "65000"), ("actors", "128")]) == nil)
        #expect(message([("port", "65500"), ("actors", "100")]) != nil)
        #expect(message([("port", "6000"), ("actors", "4"), ("shared-port", "6003")]) != nil)
    }

    @Test func endpointsParseAndPrint() {
        #expect(Endpoint("127.0.0.1:6000")?.description == "127.0.0.1:6000")
        #expect(Endpoint("[::1]:6000") == Endpoint(host: "::1", port: 6000))
        #expect(Endpoint(host: "::1", port: 5).description == "[::1]:5")
        #expect(Endpoint("host", defaultPort: 9) == Endpoint(host: "host", port: 9))
        for bad in ["", ":1", "host", "host:", "host:0", "host:65536", "host:1x", "[::1", "[::1]x", "a b:1"] {
            #expect(Endpoint(bad) == nil, "\(bad)")
        }
    }

    @Test func descriptionsSurviveTheWayThroughJSON() {
        let own = ServerDescription(
            id: "1", address: Endpoint(host: "::1", port: 6000), actors: [Endpoint(host: "::1", port: 6001)],
            shared: Endpoint(host: "::1", port: 6379), inputOutput: "io_uring", version: "1", processID: 3)
        #expect(ServerDescription.address(inJSON: own.json) == own.address)
        #expect(ServerDescription.address(inJSON: " { \"x\" : [1,{\"a\":[]}] , \"address\" : \"h:1\" } ")?.port == 1)
        for bad in [
            "{}", "{\"address\":1}", "{\"address\":\"h:1\"", "{\"address\":\"h:1\"}x", "[\"address\"]", "{\"a\"}",
        ] {
            #expect(ServerDescription.address(inJSON: bad) == nil, "\(bad)")
        }
    }

    @Test func aCertificateThatEndsSoonIsSaid() {
        let day: Int64 = 86_400
        #expect(TrustSettings.warning(ofEnd: 40 * day, now: 9 * day) == nil)
        #expect(TrustSettings.warning(ofEnd: 40 * day, now: 11 * day)!.contains("ends in 29 days"))
        #expect(TrustSettings.warning(ofEnd: 40 * day, now: 41 * day)!.contains("has ended"))
    }

    @Test func whatProtectsLinksHasAName() {
        var trust = TrustSettings()
        #expect(trust.name == "none")
        trust.keyFile = "k"
        #expect(trust.name == "key")
        (trust.keyFile, trust.certificate) = (nil, "c")
        #expect(trust.name == "cert")
        var row = PeerRow(id: 1, address: "h:1", state: .up, pending: 0, heardMillisAgo: 5)
        row.encryption = trust.name
        #expect(row.line == "0000000000000001 h:1 up 0 5 - cert -1 0 -")
    }
}
