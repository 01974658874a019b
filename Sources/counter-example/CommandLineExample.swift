// The command line of the example: help, version, exit codes. Called once, by main.

import Glibc
import KVBase

enum CommandLineExample {
    /// Runs `body` and exits: 0 on success, 64 on bad usage, 1 if it threw.
    static func run(name: String, job: String, _ body: () async throws -> Void) async throws -> Never {
        switch CommandLine.arguments.dropFirst().first {
        case nil: break
        case "--help", "-h":
            print("USAGE: \(name) [--help] [--version]\n\n\(name) \(job).")
            exit(0)
        case "--version":
            print("\(name) \(ProductVersion.text)")
            exit(0)
        case let argument?:
            complain("\(name): unknown argument '\(argument)'; it takes none, see --help")
            exit(64)
        }
        do { try await body() } catch {
            complain("\(name): \(error)")
            exit(1)
        }
        exit(0)
    }

    private static func complain(_ line: String) {
        let text = line + "\n"
        _ = text.utf8.withContiguousStorageIfAvailable { write(2, $0.baseAddress!, $0.count) }
    }
}
