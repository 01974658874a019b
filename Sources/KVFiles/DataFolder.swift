// A data directory or a backup of kvd, read from outside: by whoever checks it, or wants its pairs. One thread.

import Glibc
import KVBase
import KVCore

/// What lies in it, by its manifest. A backup that is one file is a snapshot without a manifest.
package struct DataFolder {
    static let manifestName = "MANIFEST"

    package let path: String
    let manifest: Manifest?
    /// Paths of the files that count: the snapshot, and the files of each log in their order.
    let snapshot: String?
    let logs: [Log]

    struct Log {
        var server: UInt64
        var actor: Int
        var first: UInt64
        var files: [(number: UInt64, path: String)]
    }

    /// Whether a path leads to one of these.
    package static func isOne(_ path: String) -> Bool {
        var status = stat()
        guard stat(path, &status) == 0 else { return false }
        if status.st_mode & S_IFMT == S_IFDIR { return access(path + "/" + manifestName, F_OK) == 0 }
        guard let file = try? InputFile(path: path), let start = try? file.bytes(8) else { return false }
        return start == Array("kvd-data".utf8)
    }

    package init(_ path: String) throws(FileFault) {
        var status = stat()
        guard stat(path, &status) == 0 else { throw FileFault(path, String(cString: strerror(errno))) }
        self.path = path
        guard status.st_mode & S_IFMT == S_IFDIR else {
            (manifest, snapshot, logs) = (nil, path, [])
            return
        }
        let manifest = try DataFolder.readManifest(path)
        self.manifest = manifest
        snapshot = manifest.snapshot.map { "\(path)/snapshot-\($0.number)" }
        let names = DataFolder.logs(in: path)
        logs = manifest.lives.flatMap { life in
            (0..<life.actors).filter { life.firstLogs[$0] > 0 }.map { actor in
                let first = life.firstLogs[actor]
                let files = names.filter { $0.server == life.server && $0.actor == actor && $0.number >= first }
                return Log(
                    server: life.server, actor: actor, first: first,
                    files: files.map { ($0.number, "\(path)/\($0.name)") }.sorted { $0.0 < $1.0 })
            }
        }
    }

    private static func readManifest(_ folder: String) throws(FileFault) -> Manifest {
        let path = folder + "/" + manifestName
        let file = try InputFile(path: path)
        guard let size = file.size, size <= Manifest.bytesMax else { throw FileFault(path, "it is too large") }
        let text = String(decoding: try file.bytes(size), as: UTF8.self)
        do throws(Manifest.Fault) { return try Manifest(parsing: text) } catch {
            switch error {
            case .damaged: throw FileFault(path, at: 0, "it is damaged")
            case .newer(let version): throw FileFault(path, "a later release of kvd wrote it (format \(version))")
            }
        }
    }

    private static func logs(in folder: String) -> [(name: String, server: UInt64, actor: Int, number: UInt64)] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var found: [(name: String, server: UInt64, actor: Int, number: UInt64)] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            let parts = name.split(separator: "-")
            guard parts.count == 4, parts[0] == "log", let server = UInt64(parts[1], radix: 16),
                let actor = Int(parts[2]), let number = UInt64(parts[3])
            else { continue }
            found.append((name, server, actor, number))
        }
        return found
    }

    // MARK: Reading

    /// A whole file.
    static func bytes(_ path: String) throws(FileFault) -> [UInt8] {
        let file = try InputFile(path: path)
        return try file.bytes(file.size ?? 0)
    }

    static func fault(_ path: String, _ fault: DiskFault) -> FileFault {
        if case .damaged(let at) = fault { return FileFault(path, at: at, "it is damaged") }
        return FileFault(path, fault.description)
    }

    /// Reads all of it into a store. Throws where something is damaged.
    func load(into store: Store, now: Int64) throws(FileFault) {
        let recovery = Recovery(stores: [store], now: now)
        if let snapshot {
            let bytes = try DataFolder.bytes(snapshot)
            do { try bytes.withUnsafeBytes { try recovery.readSnapshot($0) } } catch {
                throw (error as? DiskFault).map { DataFolder.fault(snapshot, $0) } ?? FileFault(snapshot, "\(error)")
            }
        }
        for log in logs {
            for (file, finding) in try DataFolder.findings(log, recovery, in: path) {
                if case .damaged(_, let at) = finding { throw FileFault(file, at: at, "it is damaged") }
            }
        }
        _ = recovery.finish(lineage: [])
    }

    /// Reads the files of one log; what is wrong with which.
    static func findings(
        _ log: Log, _ recovery: Recovery, in path: String
    ) throws(FileFault) -> [(path: String, finding: LogFinding)] {
        func name(_ number: UInt64) -> String {
            "\(path)/log-\(Manifest.hex(log.server))-\(log.actor)-\(number)"
        }
        guard log.files.first?.number == log.first else { throw FileFault(name(log.first), "it is missing") }
        let contents = try log.files.map { file throws(FileFault) in try DataFolder.bytes(file.path) }
        // They stay where they are: the arrays are not touched again before the end.
        let buffers = contents.map { bytes in
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 16)
            copy.copyBytes(from: bytes)
            return copy
        }
        defer { for buffer in buffers { buffer.deallocate() } }
        var parts: [LogFileBytes] = []
        for (index, file) in log.files.enumerated() {
            let bytes = UnsafeRawBufferPointer(
                rebasing: UnsafeRawBufferPointer(buffers[index])[..<contents[index].count])
            do throws(DiskFault) {
                let header = try DiskHeader(reading: bytes)
                guard header.kind == .log, header.server == log.server, header.actor == log.actor,
                    header.number == file.number
                else { throw .header }
                parts.append(LogFileBytes(header: header, bytes: bytes))
            } catch { throw DataFolder.fault(file.path, error) }
        }
        do throws(DiskFault) {
            return try recovery.readLog(parts).map { finding in
                switch finding {
                case .torn(let file, _), .unwritten(let file, _), .damaged(let file, _): (name(file), finding)
                }
            }
        } catch { throw DataFolder.fault(log.files.last!.path, error) }
    }
}
