// kv-fuzz: runs a registered fuzz target over many seeded inputs, in a child process so that a crash names its input.

import Foundation
import KVBase
import KVTestSupport

exit(Fuzzer.main(Array(CommandLine.arguments.dropFirst())))
