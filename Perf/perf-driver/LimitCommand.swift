// `perf-driver limit`: the null responder, the floor that the kernel sets for any server. Main thread, until killed.

import ArgumentParser
import CPerf
import Foundation

struct LimitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "limit",
        abstract: "Answer every request with one fixed value without reading it: what the kernel alone costs.",
        discussion: """
            Prints one line when ready. Measure it like a server: perf-driver --server 127.0.0.1:7000 --server-pid PID.
            Needs io_uring. Counts '*' in what arrives, so keys and values must not contain any.
            """)

    @Option(help: "Numeric address to listen on.")
    var host = "127.0.0.1"

    @Option(help: "Port to listen on.")
    var port: UInt16 = 7000

    @Option(help: "Bytes of the value in each answer.")
    var valueSize: UInt32 = 64

    @Option(help: "CPU to pin to.")
    var cpu: Int?

    func run() throws {
        guard port > 0 else { throw ValidationError("--port must be 1 to 65535") }
        guard valueSize >= 1, valueSize <= 65_536 else { throw ValidationError("--value-size must be 1 to 65536") }
        if let cpu { try pin(to: cpu) }
        let listener = cperf_null_responder_listen(host, port)
        guard listener >= 0 else {
            throw DriverError("cannot listen on \(host):\(port): \(errorText(-listener)); choose another --port")
        }
        FileHandle.standardOutput.write(Data("{\"address\":\"\(host):\(port)\",\"pid\":\(getpid())}\n".utf8))
        let failure = cperf_null_responder_run(listener, valueSize)
        throw DriverError("io_uring: \(errorText(-failure)); the kernel or the container may not permit it")
    }
}
