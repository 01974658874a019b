// Fetches a server's snapshot in pieces while the server goes on. Main task.

import KVClient
import KVFiles

struct BackupFetch {
    /// A snapshot may take longer than a call, and the server says nothing before it is made.
    static let snapshotTimeout = Duration.seconds(24 * 3600)
    /// For telling a server that what it holds is not wanted any more: it finds out by itself too.
    private static let endTimeout = Duration.seconds(2)

    private let client: KVClient
    private let path: String

    init(_ client: KVClient, path: String) { (self.client, self.path) = (client, path) }

    /// Its bytes. The server holds it no longer when this ends, in whichever way.
    func run() async throws -> Int {
        let begun = try await client.withTimeout(BackupFetch.snapshotTimeout).send(["KVD", "BACKUP", "BEGIN"])
        guard let words = begun.elements, words.count == 3, let number = words[0].integer, let size = words[1].integer,
            let cluster = words[2].bytes
        else { throw FileFault(path, "the server gives no backup") }
        let result: Result<Int, any Error>
        do { result = .success(try await fetch(number, size, cluster.description)) } catch { result = .failure(error) }
        _ = try? await client.withTimeout(BackupFetch.endTimeout).send(["KVD", "BACKUP", "END", KVBytes("\(number)")])
        return try result.get()
    }

    private func fetch(_ number: Int64, _ size: Int64, _ cluster: String) async throws -> Int {
        let fetch = try SnapshotFetch(path: path, number: UInt64(number), cluster: cluster)
        do {
            var at: Int64 = 0
            while at < size {
                let piece = try await client.send(
                    ["KVD", "BACKUP", "READ", KVBytes("\(number)"), KVBytes("\(at)")])
                guard let bytes = piece.bytes, !bytes.isEmpty else { throw FileFault(path, "a piece is missing") }
                try fetch.take(bytes.array)
                at += Int64(bytes.count)
            }
            return try fetch.finish(nowMillis: Terminal.nowMillis)
        } catch {
            fetch.undo()
            throw error
        }
    }
}
