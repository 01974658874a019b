// Who plays, and how far the session is.

@testable import CMUDCore
import KVBase
import Testing

@Suite struct PlayerPartsTests {
    private let pid = Names.identifier(1)
    private func claim(_ name: String, _ number: UInt64 = 1, time: Millis = 5) -> Claim {
        Claim(pid: Names.identifier(number), name: name, time: time)
    }

    @Test func aSessionEndsOnceAndLooksAgainOnce() {
        var stage = Stage()
        #expect(stage.phase == .naming && stage.ending == nil)
        for phase in [Stage.Phase.entering, .playing] { stage.enter(phase) }
        #expect(stage.beginResync() && !stage.beginResync() && stage.isResyncing)
        stage.checkInvariants()
        stage.endResync()
        #expect(!stage.isResyncing && stage.finish(.refused) && !stage.finish(.quit) && stage.ending == .refused)
    }

    @Test func aCharacterKeepsItsIdentifierWhateverItIsCalled() {
        var player = Identity(sid: Names.identifier(9))
        player.checkInvariants()
        #expect(player.pid.isEmpty && player.claim == nil)
        player.enter(claim("ada"), at: 100)
        #expect(player.pid == pid && player.name == "ada" && player.loginTime == 100)
        player.noteLogin(at: 130)
        player.show(as: Directory.marked("ada", pid))
        #expect(player.displayName != "ada" && player.name == "ada" && player.loginTime == 130)
        player.checkInvariants()
        player.take(claim("lovelace", time: 9))
        #expect(player.displayName == "lovelace" && player.claim?.time == 9 && player.pid == pid)
        player.checkInvariants()
    }

    @Test func aLoginTriesTheFirstClaimsAndThreePasswords() {
        var login = LoginAttempt(name: "ada")
        #expect(!login.isOpen && !login.hasPassword, "no claim, no character")
        login.found((1...9).map { claim("ada", $0, time: Millis($0)) })
        #expect(login.claims.count == LoginAttempt.claimsMax && login.isOpen)
        let verifier = Verifier(salt: [1, 2, 3], parameters: .current, hash: [4])
        login.found(verifier, of: login.claims[1].pid)
        #expect(login.isOpen && login.hasPassword, "the owner has none, another has")
        login.found(verifier, of: login.claims[0].pid)
        #expect(!login.isOpen && login.verifier(login.claims[0]) == verifier && login.verifier(login.claims[2]) == nil)
        #expect(login.isFirstTry && login.triesLeft == 3)
        for left in [2, 1, 0] {
            login.failed()
            login.checkInvariants()
            #expect(login.triesLeft == left && !login.isFirstTry)
        }
    }

    @Test func aVisitKnowsWhatItBeganWith() {
        var visit = Visit(Moment(wall: 0, steady: 1_000))
        visit.arrive(Moment(wall: 0, steady: 5_000), .phd, earned: 700)
        #expect(visit.seconds(now: 65_900) == 60 && visit.earned(of: 900) == 200 && visit.rankAtStart == .phd)
        #expect(!visit.isWelcomed)
        visit.welcome()
        #expect(visit.isWelcomed)
        visit.checkInvariants(now: 65_900, rank: .phd)
    }

    @Test func timePlayedCountsInWholeSecondsAndLosesNone() {
        var signs = SignsOfLife(now: 10_000)
        signs.startCounting(now: 10_000)
        #expect(signs.takeSeconds(now: 12_900) == 2 && signs.takeSeconds(now: 13_000) == 1)
        #expect(signs.takeSeconds(now: 13_999) == 0 && signs.takeSeconds(now: 14_000) == 1)
        signs.beat()
        signs.move()
        signs.beat()
        signs.typed(at: 13_000)
        #expect(signs.beats == 2 && signs.moves == 1 && signs.lastInput == 13_000 && signs.away == nil)
        signs.setAway(Safe.text("tea"))
        #expect(signs.away?.string == "tea")
        signs.checkInvariants(now: 14_000)
    }
}
