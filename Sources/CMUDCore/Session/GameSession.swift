// One player's game: input, replies and time come in, outputs and store requests come out. It waits for nothing and
// owns no thread: whoever created it calls it from one thread (or event loop) only.

package import KVBase

package enum StoryMode: String, Sendable { case full, fast, off }

package struct SessionConfiguration: Sendable {
    package var world = "main"
    /// Actions run beside the prompt (interactive, telnet) instead of holding the next command back (pipe, line mode).
    package var isBackground = false
    package var story = StoryMode.fast
    package var isReader = false
    package var name: String?
    package var password: String?
    /// How long an unreachable store is tried before the session gives up; nil tries for ever.
    package var patienceMillis: Millis?
    /// Written into a world that has no settings yet.
    package var newWorldPace: Pace?
    package var utcOffsetSeconds: Int64 = 0

    package init() {}
}

/// Holds the parts of a session and decides what happens in which order. State belongs to the parts, each in a file of
/// its own in `Parts`; no part reaches into another. What a command does is in the extensions.
package final class GameSession {
    let configuration: SessionConfiguration
    let keys: Keys

    // The front end.
    var lines = LineQueue()
    var output: OutputQueue
    var hints = HintsShown()

    // Time and the store.
    var random: PRNG
    var clock: PlayClock
    var alarms = Alarms()
    var calls = StoreCalls()
    var puts = PutQueue()
    var health = StoreHealth()

    // Who is playing.
    var stage = Stage()
    var login = LoginAttempt()
    var player: Identity
    var sheet: CharacterSheet
    var visit: Visit

    // Play.
    var world = WorldSeen()
    var whiteboard = Whiteboard()
    var work: Work?
    var gifts = GiftsReceived()

    // People.
    var names = Directory()
    var presence = PresenceBoard()
    var signs: SignsOfLife
    var rings = OwnRings()
    var reader = RingReader()
    var history = TalkHistory()
    var limits = TalkLimits()

    package init(_ configuration: SessionConfiguration, seed: UInt64, at now: Moment) {
        self.configuration = configuration
        keys = Keys(world: configuration.world)
        random = PRNG(seed: seed)
        let sid = Names.identifier(random.next())
        player = Identity(sid: sid)
        sheet = CharacterSheet(sid: sid)
        clock = PlayClock(now)
        visit = Visit(now)
        signs = SignsOfLife(now: now.steady)
        output = OutputQueue(isReader: configuration.isReader)
    }

    // MARK: what the parts say, in the words of the rules

    var now: Moment { clock.now }
    /// The store's idea of the time, from the stamps of own writes.
    var correctedWall: Millis { clock.corrected }
    var phase: Stage.Phase { stage.phase }
    var pid: String { player.pid }
    var sid: String { player.sid }
    var name: String { player.name }
    var displayName: String { player.displayName }
    var slot: Int { sheet.slot }
    var record: SlotRecord { sheet.record }
    /// All slots, with this session's own record as it is in memory.
    var total: Ledger { sheet.total }
    var power: Int64 { total.power }
    var balance: Balance { world.balance }
    var mode: Whiteboard.Mode { whiteboard.mode }

    var coins: Int64 {
        let total = total
        return total.earned.adding(gifts.sum) - total.spent - total.givenTotal
    }

    // MARK: what the front end reads

    /// The most commands that wait at once.
    package static var queueMax: Int { LineQueue.linesMax }
    package var ending: Ending? { stage.ending }
    package var prompt: PlayerPrompt { lines.prompt }
    /// True when the next line may be given: nothing is being answered and nothing is queued.
    package var isReady: Bool { lines.isIdle && ending == nil && prompt != .none && !isTelling }
    /// True while a chapter is being told that any key may cut short.
    package var isTelling: Bool { output.isTelling }
    /// When `advance` should be called next, on the steady clock.
    package var nextWake: Millis? { alarms.next }
    /// Whether a screen reader reads the outputs. The player may change it, and so may a front end that finds out.
    package var isReader: Bool {
        get { output.isReader }
        set { output.setReader(newValue) }
    }
    /// Coins as the player would see them.
    package var coinsNow: Int64 { coins }
    package var powerNow: Int64 { power }
    package var rankNow: Rank { record.rank }
    package var ledgerNow: Ledger { total }
    package var shownName: String { displayName }
    package var identity: String { pid }
    package var currentPlace: Place { record.place }
    package var problemNow: (remaining: Int64, rank: Rank)? { whiteboard.problem.map { ($0.remaining, $0.rank) } }
    package var isSolving: Bool { mode == .solving }
    package var balanceNow: Balance { balance }
    package var unreadableNow: Int { world.unreadableRecords }
    package var keysNow: Keys { keys }
    package var slotNow: Int { slot }

    /// What is to be shown, in order; each output is given once.
    package func takeOutputs() -> [Output] { output.take() }

    /// What the store is to be asked, in order; each request is given once and answered by `complete`.
    package func takeRequests() -> [StoreRequest] { calls.takeUnsent() }

    // MARK: entry points

    /// Shows the title and asks for a name.
    package func start() {
        answer {
            if !isReader { emit(.banner) }
            readWorld()
            if let name = configuration.name {
                chooseName(name)
            } else {
                emit(.askName)
                lines.show(.login)
            }
        }
        checkInvariants()
    }

    /// A line that the player typed. Lines beyond the running command wait their turn, at most `LineQueue.linesMax` of
    /// them.
    package func input(_ line: String, at moment: Moment) {
        advance(to: moment)
        guard ending == nil else { return }
        signs.typed(at: now.steady)
        if isTelling { skipStory() }
        let isAnswer = lines.isQuestion || prompt.isSecret || phase == .naming
        // An answer to a question is one line as it is; a password may contain a semicolon.
        let pieces = isAnswer && lines.isEmpty ? [line] : GameCommand.split(line)
        let typed = pieces.enumerated().map { index, piece in
            let isCutOff = index > 0 && (piece.first?.isLetter != true || GameCommand.isTalk(pieces[index - 1]))
            return TypedLine(text: piece, isCutOff: isCutOff)
        }
        guard lines.add(typed) else {
            answer {
                emit(
                    .failure(
                        "That is more than \(LineQueue.linesMax) commands at once", fix: "type them a few at a time"))
            }
            return
        }
        drainQueue()
        checkInvariants()
    }

    /// Ctrl-C: stops the running action. False when there was nothing to stop.
    package func interrupt(at moment: Moment) -> Bool {
        advance(to: moment)
        lines.clear()
        if isTelling {
            skipStory()
            return true
        }
        guard work?.isStopping == false else { return false }
        work?.stop()
        stopNow()
        checkInvariants()
        return true
    }

    /// Time has passed: runs what is due.
    package func advance(to moment: Moment) {
        guard ending == nil else { return }
        if clock.advance(to: moment), phase == .playing { resynchronize() }
        runAlarms()
        checkInvariants()
    }

    /// The reply to one of the requests.
    package func complete(_ id: UInt64, _ reply: StoreReply, at moment: Moment) {
        advance(to: moment)
        guard let continuation = calls.take(id), ending == nil else { return }
        continuation(reply)
        drainQueue()
        checkInvariants()
    }

    func end(_ how: Ending) {
        guard stage.finish(how) else { return }
        lines.show(.none)
        lines.clear()
        alarms.clear()
        calls.forget()
        puts.clear()
    }

    /// In checking builds, at the end of each call from outside. O(people + lines).
    func checkInvariants() {
        #if KV_CHECKS
            lines.checkInvariants()
            output.checkInvariants()
            hints.checkInvariants()
            clock.checkInvariants()
            alarms.checkInvariants()
            calls.checkInvariants()
            puts.checkInvariants()
            health.checkInvariants(now: now.steady)
            stage.checkInvariants()
            login.checkInvariants()
            player.checkInvariants()
            sheet.checkInvariants()
            visit.checkInvariants(now: now.steady, rank: record.rank)
            world.checkInvariants()
            whiteboard.checkInvariants()
            work?.checkInvariants()
            gifts.checkInvariants()
            names.checkInvariants()
            presence.checkInvariants()
            signs.checkInvariants(now: now.steady)
            rings.checkInvariants()
            reader.checkInvariants()
            history.checkInvariants()
            limits.checkInvariants()
        #endif
    }
}
