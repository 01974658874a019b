// Systems that prove themselves by a key: who is believed, who is told what, how a key is replaced.

import Glibc
import KVBase
import KVTestTraits
import Testing

@testable import KVRuntime

@Suite struct LinkTrustTests {
    private static func key(_ byte: UInt8) -> [UInt8] { [UInt8](repeating: byte, count: ClusterKey.bytes) }

    private func node(_ keys: UInt8..., cluster: String = "test") throws -> Node {
        try Node(backends[0], cluster: cluster, trust: keys.isEmpty ? .network : .keys(keys.map(Self.key)))
    }

    /// Whether a note told by `a` reaches `b` and is answered.
    private func talks(_ a: Node, _ b: Node) async throws -> Bool {
        let log = Log()
        a.system.tell(b.system.start { Recorder(log: log) }, .add(7))
        return await eventuallyYielding(seconds: 2) { !log.all.isEmpty || !a.problems.withLock { $0 }.isEmpty }
            && !log.all.isEmpty
    }

    @Test(arguments: backends) func messagesOfAnySizePassEncryptedBothWays(_ backend: LoopBackend) async throws {
        let trust = LinkTrust.keys([Self.key(1)])
        let (a, b) = (try Node(backend, trust: trust), try Node(backend, trust: trust, loops: 2))
        defer { a.close(); b.close() }
        let (notes, sizes) = (Log(), Log())
        let receiver = b.system.start(on: 1) { Recorder(log: notes) }
        let blobs = b.system.start(on: 0) { BlobCounter(log: sizes) }
        for i in 0..<3000 { a.system.tell(receiver, .add(i)) }
        for size in [1, 16_384, 1 << 20, 8 << 20] { a.system.tell(blobs, Blob([UInt8](repeating: 3, count: size))) }
        let sum: Int = try await a.system.ask(receiver) { .read(replyTo: $0) }
        #expect(sum == 3000 * 2999 / 2 && notes.all == Array(0..<3000))
        #expect(await eventuallyYielding(seconds: 20) { sizes.all.count == 4 })
        #expect(sizes.all == [1, 16_384, 1 << 20, 8 << 20])
        #expect(a.system.statistics.remoteDropped == 0)
    }

    @Test func onlyWhoHasTheKeyIsBelieved() async throws {
        for (stranger, itsWord, ourWord) in [
            (try node(2), "does not accept this server's key", "another cluster's key"),
            (try node(1, cluster: "other"), "does not accept this server's key", "another cluster's key"),
            (try node(), "links are protected there", "does not speak TLS"),
        ] {
            let b = try node(1)
            defer { b.close() }
            #expect(try await !talks(stranger, b))
            let theirs = stranger.problems.withLock { $0 }.joined(separator: "\n")
            #expect(theirs.contains(itsWord), "\(theirs)")
            #expect(
                await eventuallyYielding(seconds: 2) { b.problems.withLock { $0.contains { $0.contains(ourWord) } } })
            #expect(b.system.statistics.badFrames > 0)
            stranger.close()
        }
    }

    /// Install the new key everywhere, exchange the two, take the old one out: nobody is ever without a link.
    @Test func aKeyIsReplacedStepByStep() async throws {
        let (old, both, swapped) = (try node(1), try node(1, 2), try node(2, 1))
        defer { old.close(); both.close(); swapped.close() }
        #expect(try await talks(old, both))
        #expect(try await talks(both, old))
        #expect(try await talks(both, swapped))
        #expect(try await talks(swapped, both))
        let new = try node(2)
        defer { new.close() }
        #expect(try await talks(swapped, new))
        #expect(try await !talks(old, new))
        try old.system.replaceTrust(.keys([Self.key(2)]))
        old.problems.withLock { $0 = [] }
        #expect(
            await eventuallyYielding(seconds: 5) {
                old.system.tell(ActorRef<Note>(address: new.system.address, counter: 1)!, .add(1))
                return old.changes.withLock { $0.contains { $0.isUp && $0.peerAddress == new.system.address } }
            })
    }

    @Test func keysAreRead() throws {
        let text = try #require(ClusterKey.make())
        #expect(text.count == 64)
        let parsed = try ClusterKey.parse("# of the cluster\n\n  \(text.uppercased())  # made today\n\(text)\n")
        #expect(parsed.count == 2 && parsed[0] == parsed[1] && SecureHash.hexadecimal(parsed[0]) == text)
        for bad in [
            "", "# nothing", "abc", String(text.dropLast()), text + "00", text + "\n" + text + "\n" + text, "é" + text,
        ] {
            #expect(throws: LinkTrustError.self, "\(bad)") { try ClusterKey.parse(bad) }
        }
    }

    @Test func certificatesOfOneAuthorityAndClusterAreBelieved() async throws {
        let folder = TemporaryFolder()
        defer { folder.remove() }
        try LinkCertificate(role: .authority, cluster: "test", name: "ca", days: 1).make(in: folder.path)
        #expect(throws: LinkTrustError.self, "no key is overwritten") {
            try LinkCertificate(role: .authority, cluster: "test", name: "ca", days: 1).make(in: folder.path)
        }
        func trust(_ name: String, cluster: String = "test") throws -> LinkTrust {
            try LinkCertificate(role: .server, cluster: cluster, name: name, hosts: ["a.example", "::1"], days: 1)
                .make(in: folder.path)
            return .certificates(
                certificate: "\(folder.path)/\(name).pem", key: "\(folder.path)/\(name).key",
                authority: "\(folder.path)/ca.pem")
        }
        let a = try Node(backends[0], trust: try trust("a"))
        let b = try Node(backends[0], trust: try trust("b"))
        defer { a.close(); b.close() }
        #expect(try await talks(a, b))
        // The same authority serves two clusters: that is not enough.
        #expect(throws: LinkTrustError.self) { try Node(backends[0], trust: try trust("c", cluster: "other")) }
        let other = try Node(backends[0], cluster: "other", trust: try trust("d", cluster: "other"))
        defer { other.close() }
        #expect(try await !talks(other, b))
        for bad in ["a,b", "x y=z", "URI:kvd://test/root"] {
            #expect(throws: LinkTrustError.self, "\(bad)") {
                try LinkCertificate(role: .server, cluster: "test", name: "e", hosts: [bad], days: 1).make(
                    in: folder.path)
            }
        }
    }
}

/// A folder of its own, gone with its files when it is removed.
struct TemporaryFolder {
    let path: String

    init() {
        var template = Array(("/tmp/kvd-test-" + String(repeating: "X", count: 6)).utf8CString)
        path = String(cString: mkdtemp(&template))
    }

    func remove() {
        guard let folder = opendir(path) else { return }
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            unlink("\(path)/\(name)")
        }
        closedir(folder)
        rmdir(path)
    }
}
