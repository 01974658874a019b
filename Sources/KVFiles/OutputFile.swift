// Files that have their name only when all of them is on the disk. One thread; waits for the disk.

package import Glibc
import KVBase

/// `-` is standard output. Takes the place of a file of that name in one step, with `mode` for its rights.
package final class OutputFile {
    private let path: String
    private let descriptor: Int32
    private let isTemporary: Bool
    package private(set) var bytes = 0

    private static let end = ".new"

    package init(path: String, mode: mode_t = 0o600) throws(FileFault) {
        self.path = path
        isTemporary = path != "-"
        descriptor =
            isTemporary ? open(path + OutputFile.end, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode) : dup(1)
        guard descriptor >= 0 else { throw FileFault(path, String(cString: strerror(errno))) }
    }

    deinit { close(descriptor) }

    /// A file of that name is this from now on, or what it was.
    package static func replace(_ path: String, with bytes: [UInt8], mode: mode_t = 0o600) throws(FileFault) {
        let file = try OutputFile(path: path == "-" ? "./-" : path, mode: mode)
        do throws(FileFault) {
            try file.write(bytes)
            try file.finish()
        } catch {
            file.undo()
            throw error
        }
    }

    package func write(_ bytes: UnsafeRawBufferPointer) throws(FileFault) {
        var done = 0
        while done < bytes.count {
            let n = Glibc.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
            if n < 0, errno == EINTR { continue }
            guard n > 0 else { throw failure("cannot write") }
            done += n
        }
        self.bytes += done
    }

    package func write(_ bytes: [UInt8]) throws(FileFault) {
        var fault: FileFault?
        bytes.withUnsafeBytes { bytes in
            do throws(FileFault) { try write(bytes) } catch { fault = error }
        }
        if let fault { throw fault }
    }

    private func failure(_ what: String) -> FileFault {
        FileFault(path == "-" ? "standard output" : path, "\(what): \(String(cString: strerror(errno)))")
    }

    /// All of it is on the disk, and it has its name.
    package func finish() throws(FileFault) {
        guard isTemporary else { return }
        guard fsync(descriptor) == 0 else { throw failure("cannot sync") }
        guard rename(path + OutputFile.end, path) == 0 else { throw failure("cannot rename") }
        let folder = path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        let parent = open(path.contains("/") ? folder + "/" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        defer { if parent >= 0 { close(parent) } }
        guard parent >= 0, fsync(parent) == 0 else { throw failure("cannot sync its directory") }
    }

    /// Nothing is left of it.
    package func undo() { if isTemporary { unlink(path + OutputFile.end) } }
}

/// A directory that is made, or was empty.
final class OutputFolder {
    private let path: String
    private let isMade: Bool
    private var names: [String] = []

    init(_ path: String) throws(FileFault) {
        self.path = path
        isMade = mkdir(path, 0o700) == 0
        if !isMade, errno != EEXIST { throw FileFault(path, String(cString: strerror(errno))) }
        guard let stream = opendir(path) else { throw FileFault(path, String(cString: strerror(errno))) }
        defer { closedir(stream) }
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if ![".", "..", "lost+found"].contains(name) {
                throw FileFault(path, "it holds '\(name)'; give a new or an empty directory")
            }
        }
    }

    func write(_ bytes: [UInt8], as name: String) throws(FileFault) {
        let file = try OutputFile(path: path + "/" + name)
        names.append(name)
        try file.write(bytes)
        try file.finish()
    }

    func copy(_ source: String, as name: String, pieceBytes: Int) throws(FileFault) {
        let from = try InputFile(path: source)
        let file = try OutputFile(path: path + "/" + name)
        names.append(name)
        var left = from.size ?? 0
        while left > 0 {
            let count = min(left, pieceBytes)
            try file.write(try from.bytes(count))
            left -= count
        }
        try file.finish()
    }

    func undo() {
        for name in names {
            unlink("\(path)/\(name)")
            unlink("\(path)/\(name).new")
        }
        if isMade { rmdir(path) }
    }
}
