// Verifies every byte of a data directory or a backup. One thread.

import Glibc
import KVBase
import KVCore

package struct DataCheck {
    /// What is said of one file.
    package struct Line: Equatable {
        package var text: String
        package var isDamage: Bool
    }

    package private(set) var lines: [Line] = []
    package private(set) var files = 0
    package private(set) var bytes = 0

    package var isIntact: Bool { !lines.contains(where: \.isDamage) }

    /// Throws if there is nothing to be checked at all.
    package init(_ path: String) throws(FileFault) {
        let folder = try DataFolder(path)
        if folder.manifest != nil {
            files += 1
            bytes += (try? InputFile(path: path + "/" + DataFolder.manifestName))?.size ?? 0
        }
        if let snapshot = folder.snapshot {
            do throws(FileFault) {
                let size = try DataCheck.check(snapshot: snapshot)
                note(snapshot, size)
                let named = folder.manifest?.snapshot?.bytes
                if let named, named != UInt64(size) {
                    damage(FileFault(snapshot, "it has \(size) bytes, and the manifest says \(named)"))
                }
            } catch { damage(error) }
        }
        for log in folder.logs { check(log, in: path) }
    }

    private mutating func note(_ path: String, _ size: Int) {
        files += 1
        bytes += size
        lines.append(Line(text: "\(path): \(size) bytes, intact", isDamage: false))
    }

    private mutating func damage(_ fault: FileFault) {
        lines.append(Line(text: fault.description, isDamage: true))
    }

    private mutating func check(_ log: DataFolder.Log, in path: String) {
        let store = DataFolder.emptyStore()
        defer { store.destroy() }
        do throws(FileFault) {
            let findings = try DataFolder.findings(log, Recovery(stores: [store], now: 0), in: path)
            for file in log.files {
                let size = (try? InputFile(path: file.path))?.size ?? 0
                guard findings.contains(where: { $0.path == file.path }) else {
                    note(file.path, size)
                    continue
                }
                files += 1
                bytes += size
            }
            for (file, finding) in findings { tell(file, finding) }
        } catch { damage(error) }
    }

    private mutating func tell(_ file: String, _ finding: LogFinding) {
        switch finding {
        case .torn(_, let at):
            lines.append(
                Line(
                    text: "\(file): intact up to offset \(at), where a write was interrupted that nobody was told of",
                    isDamage: false))
        case .unwritten(_, let at):
            damage(FileFault(file, at: at, "bytes are missing that were not on the disk when the machine stopped"))
        case .damaged(_, let at): damage(FileFault(file, at: at, "it is damaged"))
        }
    }

    /// Chunk by chunk, as it may be as large as memory. Returns its bytes.
    static func check(snapshot path: String) throws(FileFault) -> Int {
        let file = try InputFile(path: path)
        let page = try file.bytes(DiskHeader.byteCount)
        do {
            var check = try page.withUnsafeBytes { try SnapshotCheck(page: $0) }
            while !(try file.isAtEnd()) {
                var chunk = try file.bytes(ChunkFormat.headerBytes)
                let length = try chunk.withUnsafeBytes { try check.bodyBytes($0) }
                chunk += try file.bytes(length)
                try chunk.withUnsafeBytes { try check.take($0) }
            }
            try check.finish()
        } catch let error as DiskFault { throw DataFolder.fault(path, error) } catch {
            throw error as? FileFault ?? FileFault(path, "\(error)")
        }
        return file.offset
    }
}
