// `cmud --listen`: the same game for telnet and MUD clients, one session per connection. Everything of a connection
// runs on its event loop.

import CMUDCore
import Foundation
import KVBase
import KVClient
import NIOCore
import NIOPosix

enum Gateway {
    static let connectionsMax = 100
    static let perAddressMax = 5
    static let loginMillis: Int64 = 60_000
    static let idleMillis: Int64 = 30 * 60_000
    static let unsentBytesMax = 256 * 1024
    /// How long the banner waits for the client to say what it is.
    static let settleMillis: Int64 = 300

    /// `PORT` or `ADDR:PORT`; loopback unless an address is given, since telnet is plain text.
    static func address(_ text: String) -> (host: String, port: Int)? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard parts.count <= 2, let port = Int(parts.last ?? ""), (1...65_535).contains(port) else { return nil }
        if parts.count == 1 { return ("127.0.0.1", port) }
        return parts[0].isEmpty ? nil : (parts[0], port)
    }

    static func run(_ listen: String, store: any GameStore, options: Options) -> Int32 {
        let (host, port) = address(listen)!
        // One loop: sessions are light, and the registry needs no lock.
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let registry = GatewayRegistry(loop: group.next(), port: port)
        let wakeups = Wakeups()
        TerminalSignals.forward(to: wakeups)
        do {
            let channel = try ServerBootstrap(group: group)
                .serverChannelOption(ChannelOptions.backlog, value: 64)
                .serverChannelOption(ChannelOptions.socketOption(.so_reuseaddr), value: 1)
                .childChannelOption(ChannelOptions.tcpOption(.tcp_nodelay), value: 1)
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        let handler = TelnetHandler(
                            registry: registry, store: store, world: options.world, pace: options.pace)
                        try channel.pipeline.syncOperations.addHandler(handler)
                    }
                }
                .bind(host: host, port: port).wait()
            log("listening on \(host):\(port); telnet is plain text, and this program sees every password typed")
            waitForEnd(wakeups)
            log("closing")
            try? channel.close().wait()
            try registry.closeAll().wait()
            try? group.syncShutdownGracefully()
            return 0
        } catch {
            log(Complaint.listen(host, port, errorNumber: (error as? IOError)?.errnoCode))
            return 1
        }
    }

    private static func waitForEnd(_ wakeups: Wakeups) {
        while true {
            var descriptor = pollfd(fd: wakeups.readEnd, events: Int16(POLLIN), revents: 0)
            _ = poll(&descriptor, 1, 60_000)
            for wakeup in wakeups.take() {
                if case .signal(let number) = wakeup, [SIGTERM, SIGINT, SIGHUP].contains(number) { return }
            }
        }
    }

    static func log(_ text: String) { FileHandle.standardError.write(Data("cmud: \(text)\n".utf8)) }
}

/// Who is connected. Used on the one event loop only, which the isolation check of NIO enforces.
final class GatewayRegistry: Sendable {
    private struct State {
        var handlers: [ObjectIdentifier: TelnetHandler] = [:]
        var perAddress: [String: Int] = [:]
    }

    private let loop: any EventLoop
    private let state: NIOLoopBoundBox<State>
    private let started = momentNow()
    private let port: Int

    init(loop: any EventLoop, port: Int) {
        (self.loop, self.port) = (loop, port)
        state = .makeBoxSendingValue(State(), eventLoop: loop)
    }

    /// Nil when the connection may stay, else why not.
    func enter(_ handler: TelnetHandler, from address: String) -> String? {
        if state.value.handlers.count >= Gateway.connectionsMax { return "The building is full. Try again in a while." }
        if state.value.perAddress[address, default: 0] >= Gateway.perAddressMax {
            return "There are \(Gateway.perAddressMax) connections from your address already."
        }
        state.value.handlers[ObjectIdentifier(handler)] = handler
        state.value.perAddress[address, default: 0] += 1
        return nil
    }

    func leave(_ handler: TelnetHandler, from address: String) {
        guard state.value.handlers.removeValue(forKey: ObjectIdentifier(handler)) != nil else { return }
        state.value.perAddress[address, default: 1] -= 1
        if state.value.perAddress[address] == 0 { state.value.perAddress[address] = nil }
    }

    var status: [(name: String, value: String)] {
        let playing = state.value.handlers.values.filter(\.isPlaying).count
        let began = momentNow().wall / 1_000 - (momentNow().steady - started.steady) / 1_000
        return [
            ("NAME", "CMUD"), ("PLAYERS", "\(playing)"), ("UPTIME", "\(began)"),
            ("CODEBASE", "cmud \(KVClient.version)"),
            ("PORT", "\(port)"), ("UTF-8", "1"), ("ANSI", "1"), ("GMCP", "1"),
        ]
    }

    /// Says goodbye to everybody and waits, at most a few seconds, until their last words are stored.
    func closeAll() -> EventLoopFuture<Void> {
        loop.flatSubmit { [self] in
            let closing = state.value.handlers.values.map { $0.goodbye() }
            return EventLoopFuture.andAllComplete(closing, on: self.loop)
        }
    }
}
