// The game CMUD: reads the options, picks a front end, runs it. Main thread.

import ArgumentParser
import CMUDCore
import Foundation
import KVClient

Signals.block()
let options = Options.parseOrExit()
exit(Program(options).run())
