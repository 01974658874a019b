// The interactive prompt, and the line-by-line mode for pipes. Main task; keys are read on a thread of their own.

import Dispatch
import KVClient
import Synchronization

#if canImport(Glibc)
    @preconcurrency import Glibc
#elseif canImport(Musl)
    @preconcurrency import Musl
#elseif canImport(Darwin)
    @preconcurrency import Darwin
#endif

/// Commands line by line from a pipe or file. Goes on after a mistake; the exit code is that of the first failure.
struct Script {
    let client: KVClient
    let options: CommonOptions

    func run() async -> Int32 {
        let runner = Runner(client: client, json: options.json, isRaw: options.raw, isConversation: true)
        var code: Int32 = 0
        var number = 0
        var lines = Terminal.Lines()
        while true {
            number += 1
            do {
                guard let line = try lines.next() else { break }
                guard let request = try Request(line: line) else { continue }
                if request == .quit { break }
                let result = await runner.run(request)
                if code == 0 { code = result }
            } catch let mistake as Request.Mistake {
                Terminal.complain("line \(number): \(mistake.text)")
                if code == 0 { code = Runner.failed }
            } catch {
                Terminal.complain("line \(number): \(error)")
                return Runner.failed
            }
        }
        return code
    }
}

/// Commands from a terminal, edited in place. The terminal is raw from the first prompt to the end; while
/// a request runs, Ctrl-C is a signal.
final class Prompt: Sendable {
    private let client: KVClient
    private let json: Bool
    private let isRaw: Bool
    private let prompt: String
    private let running = Mutex<Task<Int32, Never>?>(nil)
    private let keys = DispatchQueue(label: "kv.keys")
    private let typing = Mutex(Typing())
    /// Keys found for the completion under way.
    private let found = Mutex<[String]>([])

    private struct Typing {
        var editor = LineEditor(completions: Request.names)
        var decoder = KeyDecoder()
        /// Keys read together with the end of the last line, as when several lines are pasted.
        var ahead: [LineEditor.Key] = []
    }

    init(client: KVClient, options: CommonOptions) {
        (self.client, json, isRaw) = (client, options.json, options.raw)
        let address = (try? options.addresses().first) ?? .local
        prompt = Text.escaped(KVBytes("\(address)")) + "> "
    }

    func run() async -> Int32 {
        defer { Terminal.leaveRaw() }
        handleSignals()
        let watcher = Task { [client] in
            for await event in client.events() {
                if case .failedOver(_, let to, let reason) = event {
                    Terminal.complain(Text.escaped(KVBytes("now asking \(to): \(reason)")))
                }
            }
        }
        defer { watcher.cancel() }
        while let line = await nextLine() {
            do {
                let bytes = ProgramArguments.bytes(line).array
                guard let request = try Request(line: bytes) else { continue }
                if request == .quit { break }
                await carryOut(request)
            } catch {
                Terminal.complain(error.text)
            }
        }
        return 0
    }

    /// Runs the request so that Ctrl-C can cancel it.
    private func carryOut(_ request: Request) async {
        let task = Task { [client, json, isRaw] in
            await Runner(client: client, json: json, isRaw: isRaw, isConversation: true).run(request)
        }
        running.withLock { $0 = task }
        _ = await task.value
        running.withLock { $0 = nil }
    }

    /// Ctrl-C while a request runs cancels it; a request to end restores the terminal first.
    private func handleSignals() {
        Interrupts.handle { [self] number in
            if number == SIGINT {
                running.withLock { $0?.cancel() }
            } else {
                Terminal.leaveRaw()
                Terminal.write("\n")
                exit(128 + number)
            }
        }
    }

    // MARK: Reading a line

    /// The next line typed; nil at the end of input.
    private func nextLine() async -> String? {
        await withCheckedContinuation { continuation in
            keys.async { [self] in continuation.resume(returning: edit()) }
        }
    }

    /// Blocks until a line is entered. On the keys queue.
    private func edit() -> String? {
        guard Terminal.enterRaw() else { return readLine() }
        defer { Terminal.enterRaw(signals: true) }
        draw()
        while let key = nextKey() {
            var action = typing.withLock { $0.editor.press(key) }
            if case .completeKey(let start) = action {
                let (keys, isAll) = keys(beginning: start)
                action = typing.withLock { $0.editor.offer(keys, isAll: isAll) }
            }
            switch action {
            case .none, .completeKey: break
            case .redraw: draw()
            case .submit(let line):
                Terminal.write("\r\n")
                return line
            case .cancel:
                Terminal.write("^C\r\n")
                draw()
            case .endOfInput:
                Terminal.write("\r\n")
                return nil
            case .clearScreen:
                Terminal.write("\u{1B}[H\u{1B}[2J")
                draw()
            case .suspend:
                Terminal.suspend()
                Terminal.enterRaw()
                draw()
            case .candidates(let names):
                Terminal.write("\r\n" + names.joined(separator: "  ") + "\r\n")
                draw()
            }
        }
        Terminal.write("\r\n")
        return nil
    }

    /// How long the store may take to find keys for a completion.
    private static let completionTimeout = Duration.seconds(2)

    /// Keys of the store that begin with `start`, as they would be typed, and whether these are all; none if it cannot
    /// be asked. Blocks the keys queue.
    private func keys(beginning start: String) -> (keys: [String], isAll: Bool) {
        let done = DispatchSemaphore(value: 0)
        let (prefix, limit) = (ProgramArguments.bytes(start), LineEditor.candidatesMax + 1)
        Task { [self] in
            let pairs = try? await client.withTimeout(Self.completionTimeout).list(prefix: prefix, limit: limit)
            found.withLock { $0 = (pairs ?? []).map { ProgramArguments.text($0.key.array) } }
            done.signal()
        }
        done.wait()
        let keys = found.withLock { $0 }
        return (keys, keys.count < limit)
    }

    /// The next key, nil at the end of input. An escape character that nothing follows soon is a key of its own.
    private func nextKey() -> LineEditor.Key? {
        while true {
            let (ahead, isWaiting) = typing.withLock { typing in
                (typing.ahead.isEmpty ? nil : typing.ahead.removeFirst(), typing.decoder.isWaiting)
            }
            if let ahead { return ahead }
            let bytes = Terminal.read(withinMillis: isWaiting ? 50 : -1)
            if bytes?.isEmpty == true { return nil }
            typing.withLock { typing in
                typing.ahead = if let bytes { typing.decoder.feed(bytes) } else { typing.decoder.flush() }
            }
        }
    }

    private func draw() {
        let columns = Terminal.columns
        let (lead, (text, cursor)) = typing.withLock { typing in
            let lead = typing.editor.searchPrompt ?? prompt
            return (lead, typing.editor.window(columns: columns - lead.count))
        }
        var frame = "\r" + lead + text + "\u{1B}[K\r"
        if lead.count + cursor > 0 { frame += "\u{1B}[\(lead.count + cursor)C" }
        Terminal.write(frame)
    }
}
