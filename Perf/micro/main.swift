// kvd-micro: figures of single pieces, in process, one topic per file. Prints text; exits 64 on a topic it does not
// know.

import CMemory
import Glibc
import KVBase

let arguments = Array(CommandLine.arguments.dropFirst())
let topics: [(name: String, usage: String, run: ([String]) -> Bool)] = [
    ("store", StoreBench.usage, StoreBench.run),
    ("runtime", RuntimeBench.usage, RuntimeBench.run),
    ("machine", MachineBench.usage, MachineBench.run),
]
if arguments.contains("--version") {
    print("kvd-micro \(ProductVersion.text)")
    exit(0)
}
let wantsHelp = arguments.contains("--help")
// Huge pages, as the loops of a server have them.
_ = cm_warm_this_thread(-1)
if !wantsHelp, let first = arguments.first, let topic = topics.first(where: { $0.name == first }),
    topic.run(Array(arguments.dropFirst()))
{
    exit(0)
}
print("usage: kvd-micro TOPIC FIGURE [KEYS]")
for topic in topics { print("  \(topic.name): \(topic.usage)") }
exit(wantsHelp ? 0 : 64)
