// Files that are read whole: zeros within and behind what is in them.

import Glibc
import KVBase
import KVTestTraits
import Testing

@testable import KVServer

@Suite(.blocking) struct ReadFileTests {
    @Test(arguments: [
        [0], [1], [4_096], [300_000], [0, 700_000], [300_000, 700_000], [300_000, 700_000, 10],
        [300_000, 1_500_000, 600_000, 2_000_000], [262_144, 262_144, 262_144], [1, 5_000_000, 1],
    ])
    func aFileIsReadAsItIs(_ runs: [Int]) throws {
        // Runs of bytes and of zeros in turn.
        var random = PRNG(seed: 3)
        var content: [UInt8] = []
        for (i, count) in runs.enumerated() {
            for _ in 0..<count { content.append(i % 2 == 0 ? UInt8(1 + random.below(255)) : 0) }
        }
        let folder = "/tmp/kvd-read-\(getpid())-" + runs.map { "\($0)" }.joined(separator: "-")
        #expect(mkdir(folder, 0o700) == 0)
        defer {
            unlink(folder + "/file")
            rmdir(folder)
        }
        let descriptor = open(folder + "/file", O_CREAT | O_WRONLY, 0o600)
        #expect(content.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) } == content.count)
        close(descriptor)
        let directory = open(folder, O_RDONLY | O_DIRECTORY)
        defer { close(directory) }
        let file = try ReadFile("file", in: directory)
        #expect(file.bytes.count == content.count)
        #expect(file.bytes.elementsEqual(content))
        try file.beginSync().finish()
    }
}
