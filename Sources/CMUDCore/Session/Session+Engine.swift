// The machinery of a session: outputs, timers, store requests and the outbox of idempotent writes. Called by the
// session.

import KVBase

struct Timer {
    let id: UInt64
    let due: Millis
    let run: () -> Void
}

/// A command as it was typed; one line may hold several.
struct TypedLine {
    var text: String
    var followsSemicolon = false
}

/// A value on its way to its key. One Put per key is under way at a time and the newest value replaces a waiting one,
/// so writes of one key can never overtake each other.
struct OutboxEntry {
    var value: [UInt8]
    var isSending = false
    var isChangedSince = false
    var acknowledged: [() -> Void] = []
}

extension Session {
    static let retryMillis: Millis = 1_000

    // MARK: outputs

    func emit(_ event: Event) {
        // A chapter is told in one piece: what the player is answered meanwhile follows it.
        if !storyRest.isEmpty, isAnswering || event.isHint { return storyRest.append(event) }
        emitNow(event)
    }

    func emitNow(_ event: Event) {
        outputs.append(Output(event: event, isAsync: !isAnswering))
    }

    /// Marks what `body` emits as the answer to a command. Timers and store replies inherit the mark of the moment they
    /// were asked for, so a command keeps it over its waits.
    func answer(_ body: () -> Void) { marked(true, body) }

    /// The opposite: what follows is the world's doing.
    func detached(_ body: () -> Void) { marked(false, body) }

    private func marked(_ mark: Bool, _ body: () -> Void) {
        let before = isAnswering
        isAnswering = mark
        body()
        isAnswering = before
    }

    func fail(_ what: String, _ fix: String) { emit(.failure(what, fix: fix)) }

    /// A piece of advice, shown once per session unless `isRepeated`, and never when hints are off.
    func hint(_ key: String, _ text: String, isRepeated: Bool = false) {
        guard record.options.hints, isRepeated || !hintsShown.contains(key) else { return }
        hintsShown.insert(key)
        emit(.hint(text))
    }

    // MARK: timers

    @discardableResult
    func after(_ millis: Millis, _ run: @escaping () -> Void) -> UInt64 {
        timerCount += 1
        let mark = isAnswering
        let timer = Timer(id: timerCount, due: now.mono + max(0, millis)) { [unowned self] in marked(mark, run) }
        let index = timers.firstIndex { $0.due > timer.due } ?? timers.count
        timers.insert(timer, at: index)
        return timer.id
    }

    func cancel(_ id: UInt64) { timers.removeAll { $0.id == id } }

    func runTimers() {
        while ending == nil, let first = timers.first, first.due <= now.mono {
            timers.removeFirst()
            first.run()
        }
        drainQueue()
    }

    // MARK: the store

    func request(_ operation: StoreOperation, _ continuation: @escaping (StoreReply) -> Void) {
        requestCount += 1
        let mark = isAnswering
        pending[requestCount] = { [unowned self] reply in
            switch reply {
            case .failed: detached { noteFailure() }
            case .derived: break  // made here, not by the store
            default: detached { noteSuccess() }
            }
            guard ending == nil else { return }
            marked(mark) { continuation(reply) }
        }
        requests.append(StoreRequest(id: requestCount, operation: operation))
    }

    func list(_ prefix: String, limit: Int = 1_000, _ body: @escaping ([(key: String, value: [UInt8])]?) -> Void) {
        request(.list(prefix: prefix, limit: limit)) { reply in
            if case .pairs(let pairs) = reply { body(pairs) } else { body(nil) }
        }
    }

    /// The outer optional of the reply is nil when the store failed, the inner one when the key is absent.
    func get(_ key: String, _ body: @escaping ([UInt8]??) -> Void) {
        request(.get(key)) { reply in
            if case .value(let value) = reply { body(.some(value)) } else { body(nil) }
        }
    }

    /// Repeats `attempt` until it says that it worked.
    func untilItWorks(_ attempt: @escaping (_ done: @escaping (Bool) -> Void) -> Void) {
        attempt { [unowned self] worked in
            guard !worked else { return }
            after(Session.retryMillis) { [unowned self] in untilItWorks(attempt) }
        }
    }

    /// Puts `value` at `key`, again and again until the store says it has it.
    func publish(_ key: String, _ value: [UInt8], acknowledged: (() -> Void)? = nil) {
        var entry = outbox[key] ?? OutboxEntry(value: value)
        entry.value = value
        entry.isChangedSince = entry.isSending
        let mark = isAnswering
        if let acknowledged {
            entry.acknowledged.append { [unowned self] in marked(mark, acknowledged) }
        }
        outbox[key] = entry
        send(key)
    }

    private func send(_ key: String) {
        guard var entry = outbox[key], !entry.isSending, !isResyncing else { return }
        entry.isSending = true
        entry.isChangedSince = false
        // Those who wait for this value are told when it, or anything later, has arrived.
        let waiting = entry.acknowledged.count
        outbox[key] = entry
        request(.put(key, entry.value)) { [unowned self] reply in
            guard var entry = outbox[key] else { return }
            entry.isSending = false
            guard case .stored(let stamp) = reply else {
                outbox[key] = entry
                after(Session.retryMillis) { [unowned self] in send(key) }
                return
            }
            if let stamp { clockOffset = stamp - now.wall }
            let told = Array(entry.acknowledged.prefix(waiting))
            entry.acknowledged.removeFirst(min(waiting, entry.acknowledged.count))
            outbox[key] = entry.isChangedSince ? entry : nil
            if entry.isChangedSince { send(key) }
            for acknowledge in told { acknowledge() }
        }
    }

    func resumeOutbox() {
        for key in outbox.keys.sorted() { send(key) }
    }

    /// The store's idea of the time, from the stamps of own writes.
    var correctedWall: Millis { now.wall + clockOffset }

    private func noteFailure() {
        guard ending == nil else { return }
        if !storeIsDown {
            storeIsDown = true
            storeDownSince = now.mono
            emit(.warning("The store does not answer. Trying again every second; nothing you type is lost."))
        }
        if let patience = configuration.patienceMillis, now.mono - storeDownSince >= patience {
            emit(.failure("The store stayed unreachable", fix: "check the address and try again later"))
            end(.unreachable)
        }
    }

    private func noteSuccess() {
        presence.listened(now: now.mono)
        guard storeIsDown else { return }
        storeIsDown = false
        emit(.notice("The store is back."))
    }

    // MARK: commands, one after the other

    /// Starts something that has to wait for the store; the next command waits for `finish`.
    func begin() { running += 1 }

    func finish() {
        running = max(0, running - 1)
        drainQueue()
    }

    func drainQueue() {
        while running == 0, !queue.isEmpty, ending == nil, storyRest.isEmpty {
            let typed = queue.removeFirst()
            answer { accept(typed) }
        }
    }

    private func accept(_ typed: TypedLine) {
        if let asked = question {
            question = nil
            asked(typed.text)
            return
        }
        switch phase {
        case .naming: chooseName(Command.trimmed(typed.text))
        case .playing: perform(typed)
        case .entering, .leaving: break
        }
    }

    /// Shows `prompt` and hands the next line to `answered` instead of reading it as a command.
    func ask(_ prompt: Prompt, _ answered: @escaping (String) -> Void) {
        self.prompt = prompt
        question = answered
    }

    /// The prompt of the mode the player is in.
    func promptAgain() {
        switch phase {
        case .naming: prompt = .login
        case .entering, .leaving: prompt = .none
        case .playing: prompt = mode == .solving ? .solving : .mining
        }
    }

}
