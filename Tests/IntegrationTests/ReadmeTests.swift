// README's blocks, run exactly as they are printed: two servers pasted at once, and the Swift program on them. In a
// folder of another name and a network of its own, since the blocks have fixed ports.

import Foundation
import KVTestTraits
import Testing

@Suite(.blocking, .serialized) struct ReadmeTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// The first block of README in `language` that holds `text`.
    private static func block(_ language: String, with text: String) throws -> String {
        let page = try String(contentsOf: root.appendingPathComponent("README.md"), encoding: .utf8)
        let blocks = page.components(separatedBy: "```\(language)\n").dropFirst()
            .map { $0.components(separatedBy: "```")[0] }
        return try #require(blocks.first { $0.contains(text) }, "README has no \(language) block with \(text)")
    }

    /// A folder in which the blocks find what they name. The block's build line finds a `swift` that has nothing to do:
    /// what it would build is the kvd that this test was built with.
    private static func folder() throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("another-name-\(getpid())")
        let (release, path) = (folder.appendingPathComponent(".build/release"), folder.appendingPathComponent("path"))
        for made in [release, path] {
            try FileManager.default.createDirectory(at: made, withIntermediateDirectories: true)
        }
        let swift = path.appendingPathComponent("swift")
        try "#!/bin/sh\nexit 0\n".write(to: swift, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: swift.path)
        for program in ["kvd", "client-example"] {
            try FileManager.default.createSymbolicLink(
                at: release.appendingPathComponent(program),
                withDestinationURL: KVDProcess.directory.appendingPathComponent(program))
        }
        return folder
    }

    @Test(.waitingLimit) func theBlocksRunAsPrinted() throws {
        guard let unshare = Tool.path("unshare"), let ip = Tool.path("ip"), Tool.path("redis-cli") != nil else {
            return skip("unshare, ip or redis-cli is not installed", isTool: true)
        }
        guard try Tool.run(unshare, ["--net", ip, "link", "set", "lo", "up"]).code == 0 else {
            return skip("this process may not make a network of its own", isTool: false)
        }
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        try Self.block("sh", with: "--join").write(
            to: folder.appendingPathComponent("block.sh"), atomically: true, encoding: .utf8)
        let script = """
            \(ip) link set lo up && cd "$0" && PATH="$PWD/path:$PATH"
            trap 'jobs -p >pids; kill $(cat pids); wait' EXIT
            . ./block.sh
            until redis-cli -p 7001 INFO replication | grep -q state=up; do sleep 0.1; done
            .build/release/client-example
            """
        let ended = try Tool.run("/usr/bin/timeout", ["60", unshare, "--net", "sh", "-c", script, folder.path])
        #expect(ended.code == 0, "\(ended.errors)")
        let lines = ended.output.split(separator: "\n").map(String.init)
        #expect(lines.filter { $0.hasPrefix("{\"id\":") }.count == 2, "two servers describe themselves")
        #expect(lines.contains("OK") && lines.contains("Pittsburgh"), "\(ended.output)")
        #expect(lines.contains { $0.hasPrefix("Ada, written at ") } && lines.contains("user/7/name Ada"))
        #expect(lines.last == "no a no b")
    }

    /// What is not installed is a failure where KVD_REQUIRE_TOOLS is set, as the CI does; what is not allowed, nowhere.
    private func skip(_ why: String, isTool: Bool) {
        print("README's blocks are not run: \(why)")
        #expect(!isTool || ProcessInfo.processInfo.environment["KVD_REQUIRE_TOOLS"] == nil, "\(why)")
    }
}
