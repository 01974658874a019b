// The game CMUD: reads the options, picks a front end, runs it. Main thread.

import ArgumentParser
import CMUDCore
import Foundation
import KVClient

TerminalSignals.block()
exit(Program(readOptions()).run())

/// The options; what is wrong with them is one line on standard error and exit code 64.
func readOptions() -> Options {
    do { return try Options.parse() } catch {
        let code = Options.exitCode(for: error)
        if code == .success { Options.exit(withError: error) }
        FileHandle.standardError.write(Data((Complaint.usage(Options.message(for: error)) + "\n").utf8))
        exit(64)
    }
}
