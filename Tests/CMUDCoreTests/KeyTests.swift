// Collisions and injection in the key space, by the rules of docs/cmud/design.md 4 (K1 to K5); crashes, hangs and
// arithmetic.

@testable import CMUDCore
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct KeyTests {
    @Test(arguments: [
        "PhD", "Undergraduate", "mine", "fence", "5", "all", "me", "quit", "a", "abcdefghijklmnopq", "1ada",
    ])
    func K1_namesThatMeanSomethingElseAreRefused(name: String) { #expect(Names.fault(name) != nil) }

    @Test func K1_stateIsKeyedByIdentifiersNotNames() {
        let world = SimWorld(seed: 1)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        for line in ["mine 2", "say hi", "move fence", "paint x"] { world.command(ada, line) }
        for key in world.store.replicas[0].keys where !key.contains("/name/") {
            #expect(!key.contains("ada"), "\(key)")
        }
    }

    @Test func K2_aNameThatBeginsAnotherSeesOnlyItsOwn() {
        let world = SimWorld(seed: 2)
        world.character("alice", cpus: 50, earned: 1_000)
        world.character("al", cpus: 1, earned: 7)
        let al = world.join("al")
        world.waitUntilIn(al)
        world.command(al, "stats")
        #expect(al.session.coinsNow == 7 && al.session.powerNow == 2)
        for prefix in [
            world.keys.claims("al"), world.keys.slots("a"), world.keys.room(.fence), world.keys.tells(to: "a"),
            world.keys.problem(.phd, 1), world.keys.gifts(to: "a"), world.keys.solvedOf(.phd), world.keys.scores,
        ] { #expect(prefix.hasSuffix("/")) }
    }

    @Test(arguments: ["comp/bob/cpu", "loc/bob", "a b", "ada\u{1B}[2J", "\u{202E}ada", "аda", "ada\u{200B}", ""])
    func K3_andK4_namesAreAsciiWordsOnly(name: String) { #expect(Names.fault(name) != nil) }

    @Test func K3_malformedKeysAreSkipped() {
        let prefix = "cmud/1/main/p/abc/"
        #expect(Keys.slot(prefix + "3", after: prefix) == 3)
        for bad in ["8", "-1", "03", "x", "", "3/4", "3 "] { #expect(Keys.slot(prefix + bad, after: prefix) == nil) }
        #expect(Keys.identifierAndSlot(prefix + "aaaaaaaaaaaaa-1", after: prefix)?.slot == 1)
        for bad in ["aaaaaaaaaaaaa-9", "aaaaaaaaaaaaa", "aaaaaaaaaaaaa-1-2", "AAAAAAAAAAAAA-1", "-1"] {
            #expect(Keys.identifierAndSlot(prefix + bad, after: prefix) == nil)
        }
        for instance in [Int64(1), 2, 999_998] { #expect(Keys.instance(Keys.instanceText(instance)) == instance) }
        #expect(Keys.instanceText(2) < Keys.instanceText(1), "the newest lists first")
    }

    @Test func K4_hostileRecordsAreIgnoredAndShowNothingRaw() {
        let world = SimWorld(seed: 4)
        let evil = Names.identifier(99)
        let values = [
            #"{"v":1,"sid":"aaaaaaaaaaaaa","name":"\u001b]0;owned\u0007","n":1,"t":\#(world.wall),"ring":[]}"#,
            #"{"v":1,"sid":"aaaaaaaaaaaaa","name":"eve","n":1,"t":\#(world.wall),"rk":-5,"act":"\u001b[2J","ring":["#
                + #"{"seq":1,"t":\#(world.wall),"k":"s","text":"\u001b[31mred\u202e"}]}"#,
            "not json", "[]", "{\"v\":2}", String(repeating: "[", count: 5_000),
        ]
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        for (index, value) in values.enumerated() {
            let pid = index == 1 ? evil : Names.identifier(UInt64(index))
            for key in [
                world.keys.here(.start, pid), world.keys.global(pid),
                world.keys.tell(to: ada.session.identity, from: pid),
                world.keys.score(pid), world.keys.slot(ada.session.identity, 7),
                world.keys.gift(to: ada.session.identity, from: pid, 0),
                world.keys.share(.undergraduate, 1, pid, 0), world.keys.solvedOf(.undergraduate) + "zzz",
                world.keys.fence,
                world.keys.claim("eve", pid), world.keys.auth(pid), world.keys.claims("eve") + "bad key\u{1B}[2J",
            ] { world.store.write(key, Array(value.utf8), at: 0) }
            world.run(for: 2_000)
        }
        for line in ["look", "who", "map all", "scores", "problem", "stats", "tell eve hi", "move fence", "history"] {
            world.command(ada, line)
        }
        #expect(ada.session.ending == nil)
        #expect(ada.session.unreadableNow > 0, "counted")
        for line in ada.transcript {
            #expect(
                line.unicodeScalars.allSatisfy {
                    $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value) && $0.value != 0x202E
                })
        }
    }

    @Test func K5_worldsAreApart() {
        let world = SimWorld(seed: 5)
        let here = world.join("ada")
        let there = world.join("ada") { $0.world = "test-2" }
        world.waitUntilIn(here)
        world.waitUntilIn(there)
        #expect(here.session.identity != there.session.identity)
        #expect(
            world.store.replicas[0].keys.allSatisfy { $0.hasPrefix("cmud/1/main/") || $0.hasPrefix("cmud/1/test-2/") })
        for bad in ["", "A", "a/b", "ä", String(repeating: "x", count: 33)] { #expect(!Keys.isWorld(bad)) }
    }

    // MARK: Crashes, hangs and arithmetic

    @Test func numbersOutOfPlaceAreAnsweredInOneLine() {
        let world = SimWorld(seed: 6)
        world.character("ada", cpus: 3, earned: 1_000_000_000_000_000)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        let lines = [
            "mine abc", "mine -3", "mine 0", "mine 1000000", "mine 99999999999999999999", "buy", "buy tea", "buy gpu",
            "buy dark_matter", "buy cpu -1", "buy cpu x", "solve x", "resign", "stop", "move nowhere", "move 5", "say",
            "tell", "tell ghost hi", "gift ada 5", "gift ghost 5", "paint x", "frobnicate", "re", "help xyzzy",
            "set x y",
            "unignore bob", "history x", "scores luck", "mentor masters", "reply hi", "study", "coffee",
            "learn alchemy", "rename a/b", "hints maybe",
        ]
        for line in lines {
            let before = ada.failures.count
            world.command(ada, line)
            #expect(ada.failures.count == before + 1, "\(line): \(ada.transcript.suffix(2))")
        }
        #expect(ada.failures.allSatisfy { $0.contains(" - ") && $0.count < 230 })
        #expect(ada.session.ending == nil)
        world.command(ada, "buy cpu max")  // 10^15 coins: as many as the growing price allows, at once
        #expect(ada.session.powerNow > 100 && ada.session.coinsNow >= 0)
    }

    @Test func blanksAndEmptyLinesMeanNothing() {
        let world = SimWorld(seed: 7)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        let before = ada.transcript.count
        world.command(ada, "")
        world.command(ada, "   \t ")
        #expect(ada.transcript.count == before + 2, "only the typed lines themselves")
        world.command(ada, "  buy    cpu    1  ")
        #expect(ada.failures.last?.contains("short by") == true)
        world.command(ada, "mine 1 ; ; inv")
        #expect(ada.heard("Power in all"))
    }

    @Test func aFullPurseInClassicIsSpentAtOnce() {
        let world = SimWorld(seed: 8)
        world.store.write(world.keys.world, Array(#"{"v":1,"pace":"classic"}"#.utf8), at: 0)
        world.character("ada", rank: .professor, earned: amountMax)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.command(ada, "buy dark_matter")
        #expect(ada.session.powerNow == amountMax, "saturated, not overflowed")
        world.command(ada, "mine 3")
        world.command(ada, "solve 3")
        #expect(ada.session.ending == nil && ada.session.powerNow > 0)
    }

    @Test func hardwareAboveTheRankIsNotForSale() {
        let world = SimWorld(seed: 9)
        world.character("ada", earned: 1_000_000)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.command(ada, "buy gpu 1")
        #expect(ada.failures.last?.contains("Masters") == true)
        #expect(ada.session.powerNow == 1)
    }

    @Test func miningStopsWhenAsked() {
        let world = SimWorld(seed: 10)
        let ada = world.join("ada")
        world.waitUntilIn(ada)
        world.type(ada, "mine 100")
        world.run(for: 10_000)
        world.type(ada, "buy cpu")
        #expect(ada.failures.last?.hasPrefix("Busy (") == true)
        world.type(ada, "stop")
        world.run(for: 100)
        #expect(ada.session.progress == nil && ada.heard("Stopped after"))
        world.type(ada, "mine 100")
        world.run(for: 5_000)
        world.interrupt(ada)
        world.run(for: 100)
        #expect(ada.session.progress == nil)
    }
}
