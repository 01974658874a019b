// A snapshot that comes in pieces from a server that runs, verified as it comes. One thread; waits for the disk.

import Glibc
import KVBase
import KVCore

/// Writes a backup: one file, or a directory for kvd --dir.
package final class SnapshotFetch {
    private let path: String
    private let folder: String?
    private let file: OutputFile
    private let number: UInt64
    private let cluster: String
    private var pending: [UInt8] = []
    private var check: SnapshotCheck?
    private var header: DiskHeader?

    /// `path` ends in / or is a directory: then it becomes one.
    package init(path: String, number: UInt64, cluster: String) throws(FileFault) {
        var status = stat()
        let isFolder = path.hasSuffix("/") || stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
        (self.number, self.cluster) = (number, cluster)
        folder = isFolder ? (path.hasSuffix("/") ? String(path.dropLast()) : path) : nil
        if let folder {
            _ = try OutputFolder(folder)
            self.path = "\(folder)/snapshot-\(number)"
        } else {
            self.path = path
        }
        file = try OutputFile(path: self.path)
    }

    /// The next piece.
    package func take(_ bytes: [UInt8]) throws(FileFault) {
        try file.write(bytes)
        pending += bytes
        var used = 0
        do {
            if check == nil, pending.count >= DiskHeader.byteCount {
                try pending.withUnsafeBytes { bytes in
                    header = try DiskHeader(reading: bytes)
                    check = try SnapshotCheck(page: bytes)
                }
                used = DiskHeader.byteCount
            }
            while check != nil, pending.count - used >= ChunkFormat.headerBytes {
                let count = try pending.withUnsafeBytes { bytes in
                    ChunkFormat.headerBytes
                        + (try check!.bodyBytes(UnsafeRawBufferPointer(rebasing: bytes[used...])))
                }
                guard pending.count - used >= count else { break }
                try pending.withUnsafeBytes { bytes in
                    try check!.take(UnsafeRawBufferPointer(rebasing: bytes[used..<(used + count)]))
                }
                used += count
            }
        } catch { throw fault(error) }
        pending.removeFirst(used)
    }

    private func fault(_ error: any Error) -> FileFault {
        (error as? DiskFault).map { DataFolder.fault(path, $0) } ?? FileFault(path, "\(error)")
    }

    /// Verified to its end and on the disk. Returns its bytes.
    package func finish(nowMillis: Int64) throws(FileFault) -> Int {
        guard pending.isEmpty, let check, let header else { throw FileFault(path, "its end is missing") }
        do throws(DiskFault) { try check.finish() } catch { throw fault(error) }
        try file.finish()
        guard let folder else { return file.bytes }
        var manifest = Manifest(cluster: cluster, name: header.name.description, isNamed: false)
        manifest.epoch = max(1, header.epoch)
        for id in header.lineage + [header.server] {
            manifest.begin(Manifest.Life(server: id, actors: 1, firstLogs: [0]))
        }
        manifest.snapshot = Manifest.Snapshot(number: number, bytes: UInt64(file.bytes), at: nowMillis)
        let text = try OutputFile(path: "\(folder)/\(DataFolder.manifestName)")
        try text.write(Array(manifest.text.utf8))
        try text.finish()
        return file.bytes
    }

    package func undo() {
        file.undo()
        if let folder {
            unlink(path)
            rmdir(folder)
        }
    }
}
