// The programs these tests start: kvd on free loopback ports, and kv with or without a terminal. One thread per object.

import Foundation
import KVTestTraits
import Testing

struct ProgramError: Error, CustomStringConvertible {
    var description: String
}

enum Programs {
    /// Built next to the test bundle.
    static let directory: URL = {
        let link = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let here = URL(fileURLWithPath: link ?? CommandLine.arguments[0])
        return here.deletingLastPathComponent()
    }()

    static func url(_ name: String) -> URL { directory.appendingPathComponent(name) }

    /// Runs kv to its end; kills it after a minute.
    static func kv(
        _ arguments: [String], input: [UInt8] = [], environment: [String: String] = [:]
    ) throws -> (code: Int32, output: [UInt8], errors: String) {
        let process = Process()
        process.executableURL = url("kv")
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.filter { $0.key != "KV_SERVER" }
            .merging(environment) { $1 }
        let (stdin, stdout, stderr) = (Pipe(), Pipe(), Pipe())
        (process.standardInput, process.standardOutput, process.standardError) = (stdin, stdout, stderr)
        try process.run()
        DispatchQueue.global().asyncAfter(deadline: .now() + 60) { [pid = process.processIdentifier] in
            if process.isRunning { kill(pid, SIGKILL) }
        }
        try stdin.fileHandleForWriting.write(contentsOf: input)
        try stdin.fileHandleForWriting.close()
        let output = [UInt8](stdout.fileHandleForReading.readDataToEndOfFile())
        let errors = String(decoding: stderr.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, output, errors)
    }
}

/// A kvd with two query actors.
final class Server {
    private let process = Process()
    let ports: [Int]

    init(port: Int? = nil, arguments: [String] = []) throws {
        let base = port ?? FreePorts.take(3)
        ports = [base + 1, base + 2]
        let output = Pipe()
        process.executableURL = Programs.url("kvd")
        process.arguments = ["--port", "\(base)", "--actors", "2", "--pin", "no", "--log-level", "error"] + arguments
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        guard let line = Server.firstLine(of: output.fileHandleForReading), line.hasPrefix("{") else {
            process.terminate()
            throw ProgramError(description: "kvd did not start")
        }
    }

    var addresses: String { ports.map { "127.0.0.1:\($0)" }.joined(separator: ",") }

    /// Ends it at once, as a crash would.
    func crash() {
        guard process.isRunning else { return }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    deinit { crash() }

    /// It hangs from now on: its kernel takes connections and bytes, and it does nothing.
    func hang() { suspend(process.processIdentifier) }

    private static func firstLine(of handle: FileHandle) -> String? {
        var text: [UInt8] = []
        while !text.contains(10) {
            var ready = pollfd(fd: handle.fileDescriptor, events: Int16(POLLIN), revents: 0)
            guard poll(&ready, 1, 60_000) > 0 else { return nil }
            var chunk = [UInt8](repeating: 0, count: 4096)
            let n = read(handle.fileDescriptor, &chunk, chunk.count)
            guard n > 0 else { return nil }
            text += chunk[..<n]
        }
        return String(decoding: text.prefix { $0 != 10 }, as: UTF8.self)
    }
}

/// kv on a pseudo-terminal: what is typed and what is seen.
final class TerminalSession {
    private let process = Process()
    private let ours: Int32
    private let theirs: Int32
    private var seen: [UInt8] = []

    init(_ arguments: [String]) throws {
        var (ours, theirs) = (Int32(-1), Int32(-1))
        var size = winsize(ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0)
        guard openpty(&ours, &theirs, nil, nil, &size) == 0 else {
            throw ProgramError(description: "no pseudo-terminal")
        }
        (self.ours, self.theirs) = (ours, theirs)
        process.executableURL = Programs.url("kv")
        process.arguments = arguments
        let end = FileHandle(fileDescriptor: theirs)
        (process.standardInput, process.standardOutput, process.standardError) = (end, end, end)
        try process.run()
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        process.waitUntilExit()
        close(ours)
        close(theirs)
    }

    func type(_ text: String) { _ = text.utf8CString.withUnsafeBytes { write(ours, $0.baseAddress!, $0.count - 1) } }

    /// Reads on until `text` has been seen since the last call; false after ten seconds.
    func sees(_ text: String) -> Bool {
        let deadline = Date().addingTimeInterval(60)
        let wanted = Array(text.utf8)
        while true {
            if let found = seen.firstRange(of: wanted) {
                seen.removeSubrange(..<found.upperBound)
                return true
            }
            guard Date() < deadline else { return false }
            var ready = pollfd(fd: ours, events: Int16(POLLIN), revents: 0)
            guard poll(&ready, 1, 100) > 0 else { continue }
            var chunk = [UInt8](repeating: 0, count: 4096)
            let n = read(ours, &chunk, chunk.count)
            guard n > 0 else { return false }
            seen += chunk[..<n]
        }
    }

    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    /// The exit code, nil if it does not end within a minute.
    func exitCode() -> Int32? {
        let deadline = Date().addingTimeInterval(60)
        while process.isRunning {
            guard Date() < deadline else { return nil }
            // What it prints is read away, so that it can end.
            var ready = pollfd(fd: ours, events: Int16(POLLIN), revents: 0)
            var chunk = [UInt8](repeating: 0, count: 4096)
            if poll(&ready, 1, 5) > 0 { _ = read(ours, &chunk, chunk.count) }
        }
        return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }

    /// Whether the terminal echoes and collects lines, as it did before kv started.
    var isSane: Bool {
        var settings = termios()
        tcgetattr(theirs, &settings)
        let wanted = tcflag_t(ICANON | ECHO | ISIG)
        return settings.c_lflag & wanted == wanted && settings.c_iflag & tcflag_t(ICRNL) != 0
    }
}
