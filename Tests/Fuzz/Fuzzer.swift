// The command line of kv-fuzz: parent and worker. Main thread only.

import Foundation
import FuzzSupport
import KVBase
import KVTestSupport

enum Fuzzer {
    static let targets: [FuzzTarget] = [
        .parser, .replies, .commands, .frames, .rights, .records, .databases, .members, .links, .handshake, .canary,
        .commandsCanary, .recordsCanary, .membersCanary,
    ]

    private static let list = targets.map { target in
        "  " + target.name.padding(toLength: 17, withPad: " ", startingAt: 0) + target.about
    }.joined(separator: "\n")

    static let usage = """
        USAGE: kv-fuzz TARGET [--inputs N] [--seed N] [--from N] [--corpus FOLDER]

        Draws N inputs from the seed (and from the files of FOLDER/TARGET) and checks each. A mismatch or a crash prints
        the input's number and the command that replays it alone. Exit code 0: all well, 1: a failure, 64: bad usage.

        TARGETS
        \(list)

        EXAMPLES
          kv-fuzz parser --inputs 10000000 --seed 7
          kv-fuzz parser --seed 7 --from 123456 --inputs 1
        """

    struct Options {
        var target: FuzzTarget
        var inputs = 100_000
        var seed: UInt64 = 1
        var from = 0
        var corpus = "Tests/Fuzz/corpus"
        /// File that a worker writes the number of its current input to.
        var progress: String?
    }

    static func main(_ arguments: [String]) -> Int32 {
        if arguments.contains("--help") {
            print(usage)
            return 0
        }
        if arguments.contains("--version") {
            print("kv-fuzz \(ProductVersion.text)")
            return 0
        }
        guard let options = parse(arguments) else {
            FileHandle.standardError.write(Data((usage + "\n").utf8))
            return 64
        }
        return options.progress == nil ? supervise(options, arguments) : work(options)
    }

    private static func parse(_ arguments: [String]) -> Options? {
        guard let name = arguments.first, let target = targets.first(where: { $0.name == name }) else { return nil }
        var options = Options(target: target)
        var rest = arguments.dropFirst()
        while let flag = rest.popFirst() {
            guard let value = rest.popFirst() else { return nil }
            switch flag {
            case "--corpus": options.corpus = value
            case "--progress": options.progress = value
            default:
                guard let number = Int(value), number >= 0 else { return nil }
                switch flag {
                case "--inputs": options.inputs = number
                case "--seed": options.seed = UInt64(number)
                case "--from": options.from = number
                default: return nil
                }
            }
        }
        return options
    }

    /// Starts this program again as the worker and explains how it ended.
    private static func supervise(_ options: Options, _ arguments: [String]) -> Int32 {
        let progress = FileManager.default.temporaryDirectory
            .appendingPathComponent("kv-fuzz-\(ProcessInfo.processInfo.processIdentifier)")
        try? Data(count: 8).write(to: progress)
        defer { try? FileManager.default.removeItem(at: progress) }
        let start = Date()
        guard let status = run(arguments + ["--progress", progress.path]) else {
            print("cannot start the worker: \(String(cString: strerror(errno)))")
            return 1
        }
        let reached = (try? Data(contentsOf: progress))?.withUnsafeBytes { $0.loadUnaligned(as: Int.self) } ?? 0
        if status == 0 {
            let seconds = Date().timeIntervalSince(start)
            let rate = Int(Double(options.inputs) / max(seconds, 0.001))
            print(
                "\(options.target.name): \(options.inputs) inputs, seed \(options.seed), no failure, \(rate) inputs/s")
            return 0
        }
        let corpus = options.corpus == "Tests/Fuzz/corpus" ? "" : " --corpus \(options.corpus)"
        print("FAILED at input \(reached). Replay it alone with")
        print("  kv-fuzz \(options.target.name) --seed \(options.seed) --from \(reached) --inputs 1\(corpus)")
        return 1
    }

    /// Wait status of this program run with `arguments`; nil if it could not be started. Not Foundation's Process, in
    /// which the leak checker of an AddressSanitizer build finds a leak.
    private static func run(_ arguments: [String]) -> Int32? {
        var pid = pid_t()
        var words = (["kv-fuzz"] + arguments).map { strdup($0) } + [nil]
        defer { words.forEach { free($0) } }
        var status: Int32 = 0
        guard posix_spawn(&pid, "/proc/self/exe", nil, nil, &words, environ) == 0, waitpid(pid, &status, 0) == pid
        else { return nil }
        return status
    }

    private static func work(_ options: Options) -> Int32 {
        let fd = open(options.progress ?? "", O_RDWR)
        guard fd >= 0,
            let page = mmap(nil, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), page != MAP_FAILED
        else { return 1 }
        let failure = options.target.run(
            seed: options.seed, from: options.from, inputs: options.inputs, corpus: corpus(options)
        ) { index in
            page.storeBytes(of: index, as: Int.self)
        }
        if let failure { print(failure.message) }
        return failure == nil ? 0 : 1
    }

    /// Files in the order of their names, so that a seed means the same everywhere.
    private static func corpus(_ options: Options) -> [[UInt8]] {
        let folder = URL(fileURLWithPath: options.corpus).appendingPathComponent(options.target.name)
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return names.sorted().compactMap { name in
            (try? Data(contentsOf: folder.appendingPathComponent(name))).map { Array($0) }
        }
    }
}
