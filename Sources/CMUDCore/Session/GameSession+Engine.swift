// How a session does things: outputs, alarms, store requests, writes, and one command after the other. Called by the
// session.

import KVBase

extension GameSession {
    static let retryMillis: Millis = 1_000

    // MARK: outputs

    func emit(_ event: Event) { output.emit(event) }

    /// Marks what `body` emits as the answer to a command. Alarms and store replies inherit the mark of the moment they
    /// were asked for, so a command keeps it over its waits.
    func answer(_ body: () -> Void) { marked(true, body) }

    /// The opposite: what follows is the world's doing.
    func detached(_ body: () -> Void) { marked(false, body) }

    private func marked(_ mark: Bool, _ body: () -> Void) {
        let before = output.mark(mark)
        body()
        _ = output.mark(before)
    }

    func fail(_ what: String, _ fix: String) { emit(.failure(what, fix: fix)) }

    /// A piece of advice, shown once per session unless `isRepeated`, and never when hints are off.
    func hint(_ key: String, _ text: String, isRepeated: Bool = false) {
        guard record.options.hints, hints.note(key) || isRepeated else { return }
        emit(.hint(text))
    }

    // MARK: alarms

    @discardableResult
    func after(_ millis: Millis, _ run: @escaping () -> Void) -> UInt64 {
        let mark = output.isAnswering
        return alarms.set(now.steady + max(0, millis)) { [unowned self] in marked(mark, run) }
    }

    func runAlarms() {
        while ending == nil, let run = alarms.takeDue(now.steady) { run() }
        drainQueue()
    }

    // MARK: the store

    func request(_ operation: StoreOperation, _ continuation: @escaping (StoreReply) -> Void) {
        let mark = output.isAnswering
        calls.add(operation) { [unowned self] reply in
            switch reply {
            case .failed: detached { noteFailure() }
            case .derived: break  // made here, not by the store
            default: detached { noteSuccess() }
            }
            guard ending == nil else { return }
            marked(mark) { continuation(reply) }
        }
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
            after(GameSession.retryMillis) { [unowned self] in untilItWorks(attempt) }
        }
    }

    /// Puts `value` at `key`, again and again until the store says it has it.
    func publish(_ key: String, _ value: [UInt8], acknowledged: (() -> Void)? = nil) {
        let mark = output.isAnswering
        puts.add(key, value, acknowledged.map { told in { [unowned self] in marked(mark, told) } })
        send(key)
    }

    private func send(_ key: String) {
        guard !stage.isResyncing, let (value, number) = puts.begin(key) else { return }
        request(.put(key, value)) { [unowned self] reply in
            guard case .stored(let stamp) = reply else {
                guard puts.failed(key, number) else { return }
                after(GameSession.retryMillis) { [unowned self] in send(key) }
                return
            }
            guard let (told, isChanged) = puts.stored(key, number) else { return }
            if let stamp { clock.learn(stamp: stamp) }
            if isChanged { send(key) }
            for acknowledge in told { acknowledge() }
        }
    }

    func sendWaiting() {
        for key in puts.keys { send(key) }
    }

    private func noteFailure() {
        guard ending == nil else { return }
        if health.failed(now: now.steady) {
            emit(.warning("The store does not answer. Trying again every second; nothing you type is lost."))
        }
        if let patience = configuration.patienceMillis, health.silence(now: now.steady) >= patience {
            emit(.failure("The store stayed unreachable", fix: "check the address and try again later"))
            end(.unreachable)
        }
    }

    private func noteSuccess() {
        presence.listened(now: now.steady)
        if health.answered() { emit(.notice("The store is back.")) }
    }

    // MARK: commands, one after the other

    /// Starts something that has to wait for the store; the next command waits for `finish`.
    func begin() { lines.begin() }

    func finish() {
        lines.finish()
        drainQueue()
    }

    func drainQueue() {
        while ending == nil, !isTelling, let typed = lines.next() {
            answer { accept(typed) }
        }
    }

    private func accept(_ typed: TypedLine) {
        if let asked = lines.takeQuestion() { return asked(typed.text) }
        switch phase {
        case .naming: chooseName(GameCommand.trimmed(typed.text))
        case .playing: perform(typed)
        case .entering, .leaving: break
        }
    }

    /// Shows `prompt` and hands the next line to `answered` instead of reading it as a command.
    func ask(_ prompt: PlayerPrompt, _ answered: @escaping (String) -> Void) { lines.ask(prompt, answered) }

    /// The prompt of the mode the player is in.
    func promptAgain() {
        switch phase {
        case .naming: lines.show(.login)
        case .entering, .leaving: lines.show(.none)
        case .playing: lines.show(mode == .solving ? .solving : .mining)
        }
    }
}
