// The directory of --dir: whether it may be used, its lock, its manifest, its files by name. Main thread at the start;
// later whichever thread writes the manifest.

import Glibc
import KVBase
import KVCore

final class DataDirectory: @unchecked Sendable {
    let path: String
    let descriptor: Int32
    private let lock: DirectoryLock
    private let isMade: Bool
    /// The manifest was written: what was made stays.
    private var isUsed = false
    /// As it was when the server started; nil in a new directory.
    let manifest: Manifest?

    private static let manifestName = DiskNames.manifest
    /// What may lie in a directory that has no manifest yet.
    private static let harmless: Set<String> = [DirectoryLock.name, manifestName + ".new", "lost+found"]

    private init(path: String, descriptor: Int32, lock: DirectoryLock, isMade: Bool, manifest: Manifest?) {
        (self.path, self.descriptor, self.lock, self.isMade) = (path, descriptor, lock, isMade)
        self.manifest = manifest
    }

    deinit {
        lock.end(leavesNothing: !isUsed, in: descriptor)
        close(descriptor)
        if isMade, !isUsed { rmdir(path) }
    }

    /// Opens the directory, or makes it. Nothing in it is changed when this throws.
    static func open(_ path: String, cluster: String) throws(StartFailure) -> DataDirectory {
        let isMade = mkdir(path, 0o700) == 0
        if !isMade, errno != EEXIST { throw failure(path, String(cString: strerror(errno))) }
        let descriptor = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(path, String(cString: strerror(errno))) }
        do throws(StartFailure) {
            guard faccessat(descriptor, ".", R_OK | W_OK | X_OK, 0) == 0 else {
                let reason = String(cString: strerror(errno))
                throw failure(path, "\(reason); give the user that runs kvd the right to read and write there")
            }
            _ = try read(path, descriptor, cluster: cluster)
            let lock: DirectoryLock
            do throws(DirectoryLock.Refusal) { lock = try DirectoryLock(in: descriptor) } catch {
                throw failure(path, error.reason)
            }
            do throws(StartFailure) {
                // Again: whoever had the lock may have just left.
                let manifest = try read(path, descriptor, cluster: cluster)
                return DataDirectory(path: path, descriptor: descriptor, lock: lock, isMade: isMade, manifest: manifest)
            } catch {
                lock.end(leavesNothing: true, in: descriptor)
                throw error
            }
        } catch {
            close(descriptor)
            if isMade { rmdir(path) }
            throw error
        }
    }

    private static func failure(_ path: String, _ reason: String) -> StartFailure {
        StartFailure(description: "cannot use --dir \(path): \(reason)")
    }

    private static func read(
        _ path: String, _ descriptor: Int32, cluster: String
    ) throws(StartFailure) -> Manifest? {
        let names = names(in: descriptor)
        guard names.contains(manifestName) else {
            if let foreign = names.first(where: { !harmless.contains($0) }) {
                throw failure(path, "it holds '\(foreign)' and was not made by kvd; give an empty or a new directory")
            }
            return nil
        }
        let text: String
        do throws(DiskError) {
            let file = try ReadFile(manifestName, in: descriptor)
            text = String(decoding: file.bytes.prefix(Manifest.bytesMax), as: UTF8.self)
        } catch { throw failure(path, error.description) }
        let manifest: Manifest
        do throws(Manifest.Fault) { manifest = try Manifest(parsing: text) } catch {
            if case .newer(let version) = error {
                throw failure(path, "a later release of kvd wrote it (format \(version)); use that release")
            }
            throw failure(path, "its MANIFEST is damaged; restore a backup, or give a new directory")
        }
        guard manifest.cluster == cluster else {
            throw failure(
                path, "it belongs to cluster '\(manifest.cluster)', not '\(cluster)'; give another --dir or --cluster")
        }
        return manifest
    }

    /// Writes the manifest anew; on the disk when this returns. Waits for it.
    func write(_ manifest: Manifest) throws(DiskError) {
        let temporary = DataDirectory.manifestName + ".new"
        let file = openat(descriptor, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw DiskError("make MANIFEST") }
        defer { close(file) }
        let text = Array(manifest.text.utf8)
        var failure: DiskError?
        if Glibc.write(file, text, text.count) != text.count {
            failure = DiskError("write MANIFEST", errno == 0 ? ENOSPC : errno)
        } else if fsync(file) != 0 {
            failure = DiskError("sync MANIFEST")
        } else if renameat(descriptor, temporary, descriptor, DataDirectory.manifestName) != 0 {
            failure = DiskError("rename MANIFEST")
        }
        if let failure {
            _ = unlinkat(descriptor, temporary, 0)
            throw failure
        }
        isUsed = true
        guard fsync(descriptor) == 0 else { throw DiskError("sync the directory") }
    }

    // Files.

    static func logName(_ server: UInt64, _ actor: Int, _ number: UInt64) -> String {
        DiskNames.log(server, actor, number)
    }

    static func snapshotName(_ number: UInt64) -> String { DiskNames.snapshot(number) }

    func names() -> [String] { DataDirectory.names(in: descriptor) }

    private static let asideStart = "damaged-"

    /// A damaged file stays under another name, for whoever wants to look at it, when it is needed no more.
    func setAside(_ name: String) { _ = linkat(descriptor, name, descriptor, DataDirectory.asideStart + name, 0) }

    /// Of all files that were set aside, and that nobody has removed.
    var quarantinedBytes: Int {
        bytes(of: DataDirectory.names(in: descriptor).filter { $0.hasPrefix(DataDirectory.asideStart) })
    }

    /// Of all these files that are there.
    func bytes(of names: [String]) -> Int {
        names.reduce(0) { total, name in
            var status = stat()
            return fstatat(descriptor, name, &status, 0) == 0 ? total + Int(status.st_size) : total
        }
    }

    func remove(_ name: String) { _ = unlinkat(descriptor, name, 0) }

    /// Removes what a process that ended in the middle left.
    func tidy(_ manifest: Manifest) { for name in manifest.leftovers(among: names()) { remove(name) } }

    private static func names(in descriptor: Int32) -> [String] {
        let copy = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard copy >= 0, let stream = fdopendir(copy) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }
}
