// One player's game: input, replies and time come in, outputs and store requests come out. It waits for nothing and
// owns no thread: whoever created it calls it from one thread (or event loop) only.

package import KVBase

/// The two clocks of a moment: monotonic milliseconds for durations, wall clock for what is shown and stored.
package struct Instant: Equatable, Sendable {
    package var mono: Millis
    package var wall: Millis
    package init(mono: Millis, wall: Millis) { (self.mono, self.wall) = (mono, wall) }
}

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

package final class Session {
    // MARK: what the front end reads

    package var outputs: [Output] = []
    package var requests: [StoreRequest] = []
    package private(set) var ending: Ending?
    package var prompt = Prompt.none

    /// True when the next line may be given: nothing is being answered and nothing is queued.
    package var isReady: Bool { running == 0 && queue.isEmpty && ending == nil && prompt != .none && storyRest.isEmpty }
    /// True while a chapter is being told that any key may cut short.
    package var isTelling: Bool { !storyRest.isEmpty }

    // MARK: state, in the files that use it

    let configuration: SessionConfiguration
    let keys: Keys
    var random: PRNG
    var now: Instant
    let started: Instant
    var balance = Balance.standard
    package var isReader: Bool

    // The engine (this file and Session+Engine).
    var timers: [Timer] = []
    var timerCount: UInt64 = 0
    var pending: [UInt64: (StoreReply) -> Void] = [:]
    var requestCount: UInt64 = 0
    var outbox: [String: OutboxEntry] = [:]
    var queue: [TypedLine] = []
    var running = 0
    var isAnswering = false
    var storeIsDown = false
    var storeDownSince: Millis = 0
    var lastAdvance: Millis = 0
    /// Server time minus own wall clock, learnt from the stamps of writes.
    var clockOffset: Millis = 0
    var unreadableRecords = 0

    // Who is playing (Session+Login, Session+Account).
    var phase = Phase.naming
    var login = LoginState()
    var pid = ""
    var sid: String
    var slot = 0
    var name = ""
    var displayName = ""
    var slots = CharacterSlots()
    var record: SlotRecord
    var sessionStarted: Instant
    var rankAtStart = Rank.undergraduate
    var earnedAtStart: Int64 = 0
    var isResyncing = false
    var question: ((String) -> Void)?

    // Play (Session+Work, Session+Problem, Session+Shop).
    var mode = Mode.mining
    var work: Work?
    var storyRest: [Event] = []
    var hintsShown: Set<String> = []
    var problemSeen: ProblemState?

    // People (Session+People, Session+Talk).
    var names = Directory()
    var presence = PresenceBoard()
    var mySequence: Int64 = 0
    var ringMarks: [String: (sid: String, seq: Int64)] = [:]
    var polledPlace: Place?
    var polledGlobal = false
    var lastBeat: Millis = 0
    var roomRing: [RingLine] = []
    var globalRing: [RingLine] = []
    var beats: Int64 = 0
    var moves: Int64 = 0
    var awayText: SafeText?
    var lastInput: Millis
    var lastTeller: String?
    var seenHistory: [(time: Millis, event: Event)] = []
    var sayBucket = TokenBucket(burst: 5, refillMillis: 1_000)
    var shoutBucket = TokenBucket(burst: 1, refillMillis: 30_000)
    var moveBucket = TokenBucket(burst: 4, refillMillis: 500)
    var paintBucket = TokenBucket(burst: 1, refillMillis: 300_000)
    var giftsIn: [String: Int64] = [:]
    var isWelcomed = false
    var fencePainting: (text: SafeText, pid: String, name: String)?

    enum Phase: Equatable { case naming, entering, playing, leaving }
    enum Mode: Equatable { case mining, solving }

    package init(_ configuration: SessionConfiguration, seed: UInt64, at now: Instant) {
        self.configuration = configuration
        keys = Keys(world: configuration.world)
        random = PRNG(seed: seed)
        sid = Names.identifier(random.next())
        record = SlotRecord(sid: sid)
        self.now = now
        started = now
        sessionStarted = now
        lastInput = now.mono
        lastAdvance = now.mono
        isReader = configuration.isReader
    }

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
                prompt = .login
            }
        }
    }

    /// A line that the player typed. Lines beyond the running command wait their turn, at most `queueMax` of them.
    package func input(_ line: String, at instant: Instant) {
        advance(to: instant)
        guard ending == nil else { return }
        lastInput = now.mono
        if !storyRest.isEmpty { skipStory() }
        let isAnswer = question != nil || prompt.isSecret || phase == .naming
        // An answer to a question is one line as it is; a password may contain a semicolon.
        let pieces = isAnswer && queue.isEmpty ? [line] : Command.split(line)
        guard queue.count + pieces.count <= Session.queueMax else {
            answer {
                emit(
                    .failure("That is more than \(Session.queueMax) commands at once", fix: "type them a few at a time")
                )
            }
            return
        }
        queue += pieces.enumerated().map { TypedLine(text: $0.element, followsSemicolon: $0.offset > 0) }
        drainQueue()
    }

    /// Ctrl-C: stops the running action. False when there was nothing to stop.
    package func interrupt(at instant: Instant) -> Bool {
        advance(to: instant)
        queue.removeAll()
        if !storyRest.isEmpty {
            skipStory()
            return true
        }
        guard work != nil, work?.isStopping == false else { return false }
        work?.isStopping = true
        stopNow()
        return true
    }

    /// Time has passed: runs what is due.
    package func advance(to instant: Instant) {
        guard ending == nil else { return }
        let gap = instant.mono - lastAdvance
        now = Instant(mono: max(now.mono, instant.mono), wall: instant.wall)
        lastAdvance = now.mono
        if gap > Session.suspendMillis, phase == .playing { resynchronize() }
        runTimers()
    }

    /// When `advance` should be called next, on the monotonic clock.
    /// Coins as the player would see them.
    package var coinsNow: Int64 { coins }
    package var powerNow: Int64 { power }
    package var rankNow: Rank { record.rank }
    package var ledgerNow: Ledger { total }
    package var shownName: String { displayName }
    package var identity: String { pid }
    package var currentPlace: Place { record.place }
    package var problemNow: (remaining: Int64, rank: Rank)? { problemSeen.map { ($0.remaining, $0.rank) } }
    package var isSolving: Bool { mode == .solving }
    package var balanceNow: Balance { balance }
    package var unreadableNow: Int { unreadableRecords }
    package var keysNow: Keys { keys }
    package var slotNow: Int { slot }

    package var nextWake: Millis? { timers.first?.due }

    /// The reply to one of `requests`.
    package func complete(_ id: UInt64, _ reply: StoreReply, at instant: Instant) {
        advance(to: instant)
        guard let continuation = pending.removeValue(forKey: id), ending == nil else { return }
        continuation(reply)
        drainQueue()
    }

    func end(_ how: Ending) {
        guard ending == nil else { return }
        ending = how
        prompt = .none
        queue.removeAll()
        timers.removeAll()
        pending.removeAll()
        outbox.removeAll()
    }

    package static let queueMax = 20
    /// A gap between two calls that means the process was stopped: others may have taken the session over meanwhile.
    static let suspendMillis: Millis = 10_000
}
