// Virtual time for sessions on a simulated store: players type, time passes, transcripts grow. One test at a time.

import CMUDCore
import KVBase
import Testing

final class SimPlayer {
    let session: GameSession
    var replica: Int
    let label: String
    /// Lines as line mode prints them, commands included.
    var transcript: [String] = []
    var events: [Output] = []
    var isCrashed = false
    /// Stopped by Ctrl-Z: no time passes for it, replies wait in its sockets.
    var isFrozen = false
    fileprivate var waiting: [() -> Void] = []
    /// Crash when this many more Puts have been applied.
    var putsUntilCrash: Int?
    var clockSkew: Millis
    var renderer = Renderer()

    init(_ label: String, session: GameSession, replica: Int, clockSkew: Millis) {
        (self.label, self.session, self.replica, self.clockSkew) = (label, session, replica, clockSkew)
    }

    var isOver: Bool { isCrashed || session.ending != nil }
    var coins: Int64 { session.coinsNow }
    var text: String { transcript.joined(separator: "\n") }
}

final class SimWorld {
    private struct Item: Comparable {
        var time: Millis
        var order: Int
        var run: () -> Void
        static func < (a: Item, b: Item) -> Bool { (a.time, a.order) < (b.time, b.order) }
        static func == (a: Item, b: Item) -> Bool { a.order == b.order }
    }

    /// 2026-01-01T00:00:00Z, when virtual time begins.
    static let epoch: Millis = 1_767_225_600_000

    private(set) var now: Millis = 1_000
    var random: PRNG
    private var items: [Item] = []
    private var order = 0
    private(set) var store: SimStore!
    private(set) var players: [SimPlayer] = []
    /// Sees each event at the moment its player does.
    var watch: ((SimPlayer, Event) -> Void)?
    /// One-way time between a player and a replica, and how much longer a single message may take.
    var accessMillis: Millis = 1
    var accessJitterMillis = 0
    static let timeoutMillis: Millis = 3_000

    init(seed: UInt64, replicas: Int = 1, network: SimNetwork = SimNetwork()) {
        random = PRNG(seed: seed)
        store = SimStore(replicas, network, world: self)
    }

    var wall: Millis { SimWorld.epoch + now }

    func after(_ millis: Millis, _ run: @escaping () -> Void) {
        order += 1
        let item = Item(time: now + millis, order: order, run: run)
        var (low, high) = (0, items.count)
        while low < high {
            let middle = (low + high) / 2
            if item < items[middle] { low = middle + 1 } else { high = middle }
        }
        items.insert(item, at: low)  // descending: the next one is last
    }

    // MARK: players

    @discardableResult
    func join(
        _ name: String?, replica: Int = 0, skew: Millis = 0,
        _ configure: (inout SessionConfiguration) -> Void = { _ in }
    ) -> SimPlayer {
        var configuration = SessionConfiguration()
        configuration.isBackground = true
        configuration.story = .off
        configuration.name = name
        configure(&configuration)
        let moment = Moment(wall: wall + skew, steady: now)
        let session = GameSession(configuration, seed: random.next(), at: moment)
        let player = SimPlayer(name ?? "?", session: session, replica: replica, clockSkew: skew)
        player.renderer.isReader = configuration.isReader
        players.append(player)
        session.start()
        serve(player)
        return player
    }

    private func moment(_ player: SimPlayer) -> Moment { Moment(wall: wall + player.clockSkew, steady: now) }

    func type(_ player: SimPlayer, _ line: String) {
        guard !player.isOver else { return }
        player.transcript.append(player.session.prompt.text + (player.session.prompt.isSecret ? "" : line))
        player.session.input(line, at: moment(player))
        serve(player)
    }

    func interrupt(_ player: SimPlayer) {
        _ = player.session.interrupt(at: moment(player))
        serve(player)
    }

    func thaw(_ player: SimPlayer) {
        player.isFrozen = false
        player.session.advance(to: moment(player))
        serve(player)
        for reply in player.waiting { reply() }
        player.waiting = []
    }

    func crash(_ player: SimPlayer) { player.isCrashed = true }

    private func serve(_ player: SimPlayer) {
        for output in player.session.takeOutputs() {
            player.events.append(output)
            watch?(player, output.event)
            player.transcript += player.renderer.lines(output.event).map {
                (output.isAsync ? "* " : "") + $0.encoded(color: false)
            }
        }
        for request in player.session.takeRequests() { send(request, of: player) }
    }

    private var access: Millis {
        accessJitterMillis > 0 ? accessMillis + Millis(random.below(accessJitterMillis)) : accessMillis
    }

    private func send(_ request: StoreRequest, of player: SimPlayer) {
        after(access) { [unowned self] in
            guard !player.isCrashed else { return }
            if store.isDown[player.replica] {
                return after(SimWorld.timeoutMillis) { [unowned self] in
                    reply(.failed("timeout"), to: request, of: player)
                }
            }
            let answer = store.perform(request.operation, at: player.replica)
            if case .put = request.operation, let left = player.putsUntilCrash {
                player.putsUntilCrash = left - 1
                if left <= 1 { player.isCrashed = true }
            }
            after(access) { [unowned self] in reply(answer, to: request, of: player) }
        }
    }

    private func reply(_ answer: StoreReply, to request: StoreRequest, of player: SimPlayer) {
        guard !player.isOver else { return }
        guard !player.isFrozen else {
            return player.waiting.append { [unowned self] in reply(answer, to: request, of: player) }
        }
        player.session.complete(request.id, answer, at: moment(player))
        serve(player)
    }

    // MARK: time

    /// Runs what is due until `end`.
    func run(until end: Millis) {
        while true {
            let wake = players.filter { !$0.isOver && !$0.isFrozen }.compactMap { player in
                player.session.nextWake.map { ($0, player) }
            }
            .min { $0.0 < $1.0 }
            let next = min(items.last?.time ?? .max, wake?.0 ?? .max)
            guard next <= end else { break }
            now = max(now, next)
            if let item = items.last, item.time <= now {
                items.removeLast()
                item.run()
            } else if let wake {
                wake.1.session.advance(to: moment(wake.1))
                serve(wake.1)
            }
        }
        now = max(now, end)
    }

    func run(for millis: Millis) { run(until: now + millis) }

    /// Runs until `condition` holds, at most `millis`; false when it never did.
    @discardableResult
    func run(atMost millis: Millis, until condition: () -> Bool) -> Bool {
        let end = now + millis
        while !condition(), now < end { run(until: min(end, now + 50)) }
        return condition()
    }

    /// Types a line once the player may, and waits until it is answered.
    func command(_ player: SimPlayer, _ line: String, atMost millis: Millis = 600_000) {
        run(atMost: 60_000) { player.session.isReady || player.isOver }
        type(player, line)
        run(atMost: millis) { (player.session.isReady && player.session.progress == nil) || player.isOver }
    }
}
