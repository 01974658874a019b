// The loop that joins a session to a terminal and a store: poll, read, advance, show. Main thread only.

import CMUDCore
import Foundation
import KVBase

class FrontEnd {
    let session: GameSession
    let wakeups: Wakeups
    private let store: any GameStore
    private let hasher: any PasswordHasher
    var inputIsOpen = true

    init(session: GameSession, store: any GameStore, hasher: any PasswordHasher, wakeups: Wakeups) {
        (self.session, self.store, self.hasher, self.wakeups) = (session, store, hasher, wakeups)
    }

    // MARK: what a kind of front end decides

    /// Writes what the session has to say.
    func show() {}
    /// Whether bytes of the input are welcome now.
    var wantsInput: Bool { inputIsOpen }
    func received(_ bytes: [UInt8]) {}
    func inputEnded() {}
    func signaled(_ number: Int32) {}
    /// A moment on the monotonic clock at which `tick` wants to be called.
    var nextTick: Int64? { nil }
    func tick() {}
    func prepare() {}
    func restore() {}

    // MARK: the loop

    /// Runs until the session has ended; returns the exit code.
    func run() -> Int32 {
        prepare()
        defer { restore() }
        session.start()
        while true {
            session.advance(to: momentNow())
            tick()
            sendRequests()
            show()
            if let ending = session.ending { return ending.rawValue }
            wait()
        }
    }

    private func sendRequests() {
        let requests = session.takeRequests()
        for request in requests {
            Task.detached { [wakeups, store, hasher] in
                wakeups.post(.reply(id: request.id, await request.perform(store: store, hasher: hasher)))
            }
        }
    }

    private func wait() {
        let now = momentNow().steady
        let wakes = [session.nextWake, nextTick].compactMap { $0 }
        let timeout = wakes.min().map { max(0, min($0 - now, 1_000)) } ?? 1_000
        var descriptors = [pollfd(fd: wakeups.readEnd, events: Int16(POLLIN), revents: 0)]
        if wantsInput { descriptors.append(pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)) }
        _ = poll(&descriptors, nfds_t(descriptors.count), Int32(timeout))
        for wakeup in wakeups.take() {
            switch wakeup {
            case .reply(let id, let reply): session.complete(id, reply, at: momentNow())
            case .signal(let number): handle(number)
            }
        }
        if descriptors.count > 1, descriptors[1].revents != 0 { readInput() }
    }

    private func handle(_ number: Int32) {
        switch number {
        case SIGTERM, SIGHUP: session.hangUp(at: momentNow(), as: .quit)
        default: signaled(number)
        }
    }

    private func readInput() {
        var bytes = [UInt8](repeating: 0, count: 4_096)
        let count = read(STDIN_FILENO, &bytes, bytes.count)
        if count > 0 { return received(Array(bytes[..<count])) }
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        inputIsOpen = false
        inputEnded()
    }

    // MARK: output

    /// Writes all of it; when nobody reads any more, the session ends as if its terminal had hung up.
    func write(_ text: String) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let written = bytes.withUnsafeBytes { Foundation.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if written > 0 {
                bytes = bytes.dropFirst(written)
            } else if errno == EAGAIN {
                var descriptor = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
                _ = poll(&descriptor, 1, 1_000)
            } else if errno != EINTR {
                session.hangUp(at: momentNow(), as: .quit)
                return
            }
        }
    }
}
