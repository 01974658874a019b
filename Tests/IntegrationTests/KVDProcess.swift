// A real kvd process on free loopback ports, started and ended by a test. One thread per object.

import Foundation
import KVTestTraits
import Testing

struct ProcessError: Error, CustomStringConvertible {
    var description: String
}

final class KVDProcess {
    /// Built next to the test bundle.
    static let directory: URL = {
        let here = URL(fileURLWithPath: try! FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
        return here.deletingLastPathComponent()
    }()

    let port: Int
    let actors: Int
    let process = Process()
    /// The line kvd printed when it was ready.
    private(set) var description = ""
    private let errors = Pipe()
    private var errorsRead = Data()
    private let output = Pipe()

    var clientPort: Int { port + 1 }

    /// Starts kvd and waits until it serves. `before`: a shell fragment run first (ulimit, env).
    init(
        arguments: [String] = [], actors: Int = 1, backend: String = "auto", before: String = "", port: Int? = nil,
        isErrorPipeFull: Bool = false
    ) throws {
        if isErrorPipeFull { KVDProcess.fill(errors.fileHandleForWriting.fileDescriptor) }
        self.port = port ?? FreePorts.take(actors + 1)
        self.actors = actors
        let executable = KVDProcess.directory.appendingPathComponent("kvd").path
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments =
            ["-c", "\(before.isEmpty ? "" : before + " && ")exec \"$0\" \"$@\"", executable]
            + ["--port", "\(self.port)", "--actors", "\(actors)", "--io", backend, "--pin", "no"] + arguments
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        guard let line = firstLine(from: output.fileHandleForReading.fileDescriptor, withinMillis: 60_000) else {
            process.waitUntilExit()
            throw ProcessError(description: "kvd did not start: \(errorText)")
        }
        description = line
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        process.waitUntilExit()
    }

    /// As much as the pipe takes.
    private static func fill(_ fd: Int32) {
        let flags = fcntl(fd, F_GETFL)
        _ = fcntl(fd, F_SETFL, flags | O_NONBLOCK)
        let chunk = [UInt8](repeating: 10, count: 4096)
        while write(fd, chunk, chunk.count) > 0 {}
        _ = fcntl(fd, F_SETFL, flags)
    }

    /// What kvd wrote to standard error; only after it ended.
    var errorText: String {
        String(decoding: errorsRead + errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    }

    /// Whether kvd has written `text` to standard error, or does so within 20 seconds.
    func says(_ text: String) -> Bool {
        let fd = errors.fileHandleForReading.fileDescriptor
        let deadline = Clock.millis() + 20_000
        while !String(decoding: errorsRead, as: UTF8.self).contains(text) {
            var ready = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
            guard poll(&ready, 1, Int32(max(0, deadline - Clock.millis()))) > 0 else { return false }
            var piece = [UInt8](repeating: 0, count: 4096)
            let count = read(fd, &piece, piece.count)
            guard count > 0 else { return false }
            errorsRead += piece[..<count]
        }
        return true
    }

    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    /// It hangs from now on, until SIGCONT.
    func hang() { suspend(process.processIdentifier) }

    /// Waits for the end; the exit code, or nil if it takes longer.
    func exitCode(withinMillis: Int) -> Int32? {
        let deadline = Clock.millis() + withinMillis
        while process.isRunning {
            if Clock.millis() > deadline { return nil }
            _ = poll(nil, 0, 5)
        }
        return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }

    func connect(_ actor: Int = 1, host: UInt8 = 1) throws -> Client { try Client(port: port + actor, host: host) }

    /// Ends it; what it wrote to standard error.
    func end(_ number: Int32 = SIGKILL) -> String {
        signal(number)
        process.waitUntilExit()
        return errorText
    }

    /// The words of each line of KVD PEERS.
    func peers(host: UInt8 = 1) throws -> [[String]] {
        try connect(host: host).command("KVD", "PEERS").split(separator: "\r\n").map { $0.split(separator: " ") }
            .filter { $0.count > 1 }.map { $0.map(String.init) }
    }

    func info(_ field: String, host: UInt8 = 1) throws -> String? {
        let lines = try connect(host: host).command("INFO").split(separator: "\r\n")
        return lines.first { $0.hasPrefix(field + ":") }.map { String($0.dropFirst(field.count + 1)) }
    }

    /// Runs kvd with arguments that make it end by itself.
    static func run(_ arguments: [String], environment: [String: String] = [:]) throws -> (
        code: Int32, output: String, errors: String
    ) {
        try Tool.run(directory.appendingPathComponent("kvd").path, arguments, environment: environment)
    }
}

/// Other programs, run to their end.
enum Tool {
    /// Every executable of this name on the path, in the path's order.
    static func paths(_ name: String) -> [String] {
        let directories = (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":")
        return directories.map { "\($0)/\(name)" }.filter { FileManager.default.isExecutableFile(atPath: $0) }
    }

    static func path(_ name: String) -> String? { paths(name).first }

    static func run(
        _ executable: String, _ arguments: [String], environment: [String: String] = [:], input: String? = nil
    ) throws -> (code: Int32, output: String, errors: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let (output, errors, standardInput) = (Pipe(), Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = errors
        process.standardInput = standardInput
        try process.run()
        if let input { standardInput.fileHandleForWriting.write(Data(input.utf8)) }
        try standardInput.fileHandleForWriting.close()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        let errorText = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text, errorText)
    }
}

enum Clock {
    static func millis() -> Int {
        var t = timespec()
        clock_gettime(CLOCK_MONOTONIC, &t)
        return Int(t.tv_sec) * 1000 + Int(t.tv_nsec) / 1_000_000
    }
}
