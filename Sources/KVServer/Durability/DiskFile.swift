// A file of a data directory: made, written, made durable, read. The thread that owns it; what may wait for the disk
// says so.

import Glibc
import KVBase
import KVCore
import KVRuntime

/// What the system says against it.
struct DiskError: Error, CustomStringConvertible {
    var code: Int32
    var operation: String

    init(_ operation: String, _ code: Int32 = errno) { (self.operation, self.code) = (operation, code) }

    var reason: String { String(cString: strerror(code)) }
    var description: String { "cannot \(operation): \(reason)" }
}

/// A file that is written from its beginning on. Closed with its last reference.
final class DiskFile: @unchecked Sendable {
    let name: String
    let header: DiskHeader
    let descriptor: Int32
    /// Bytes that are set aside on the disk.
    let capacity: Int
    /// Where the next bytes go. Who writes.
    var end = DiskHeader.byteCount

    private init(name: String, header: DiskHeader, descriptor: Int32, capacity: Int) {
        (self.name, self.header, self.descriptor, self.capacity) = (name, header, descriptor, capacity)
    }

    deinit { close(descriptor) }

    /// Zeros are written in pieces of so many bytes.
    private static let pieceBytes = 1024 * 1024

    /// Makes a file whose header, and space for `capacity` bytes, are on the disk when it has its name. `isWritten`:
    /// the space is written once, so that syncing what is written over it need not tell the file system of it. Leaves
    /// nothing behind when it throws. Waits for the disk.
    static func make(
        _ name: String, _ header: DiskHeader, capacity: Int, isWritten: Bool = false, isTemporary: Bool = false,
        in directory: Int32
    ) throws(DiskError) -> DiskFile {
        let temporary = name + ".new"
        let descriptor = openat(directory, temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw DiskError("make \(name)") }
        let file = DiskFile(name: name, header: header, descriptor: descriptor, capacity: capacity)
        do throws(DiskError) {
            if capacity > DiskHeader.byteCount {
                let failure = posix_fallocate(descriptor, 0, off_t(capacity))
                guard failure == 0 else { throw DiskError("set \(capacity) bytes aside for \(name)", failure) }
            }
            if isWritten { try file.writeZeros() }
            try file.write(header.encoded(), count: DiskHeader.byteCount, at: 0)
            if isTemporary { return file }
            try file.giveName(in: directory)
        } catch {
            _ = unlinkat(directory, temporary, 0)
            throw error
        }
        return file
    }

    /// What was written is on the disk, and the file has its name there. Waits for the disk.
    func giveName(in directory: Int32) throws(DiskError) {
        guard fsync(descriptor) == 0 else { throw DiskError("sync \(name)") }
        guard renameat(directory, name + ".new", directory, name) == 0 else { throw DiskError("rename \(name)") }
        guard fsync(directory) == 0 else { throw DiskError("sync the directory of \(name)") }
    }

    private func writeZeros() throws(DiskError) {
        let zeros = [UInt8](repeating: 0, count: DiskFile.pieceBytes)
        var at = 0
        while at < capacity {
            let count = min(zeros.count, capacity - at)
            try write(zeros, count: count, at: at)
            at += count
        }
    }

    private func write(_ bytes: [UInt8], count: Int, at place: Int) throws(DiskError) {
        let failure = bytes.withUnsafeBytes { bytes -> DiskError? in
            do throws(DiskError) { try write(UnsafeRawBufferPointer(rebasing: bytes[..<count]), at: place) } catch {
                return error
            }
            return nil
        }
        if let failure { throw failure }
    }

    /// Into the page cache, as a rule.
    func write(_ bytes: UnsafeRawBufferPointer, at place: Int) throws(DiskError) {
        var done = 0
        while done < bytes.count {
            let n = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(place + done))
            if n < 0, errno == EINTR { continue }
            guard n > 0 else { throw DiskError("write \(name)", n == 0 ? ENOSPC : errno) }
            done += n
        }
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws(DiskError) {
        try write(bytes, at: end)
        end += bytes.count
    }

    /// Reads back what was written: `bytes` is filled, but for what lies behind the file's end. Returns how much that
    /// is.
    /// Waits for the disk.
    func read(_ bytes: UnsafeMutableRawBufferPointer, at place: Int) throws(DiskError) -> Int {
        var done = 0
        while done < bytes.count {
            let n = pread(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(place + done))
            if n < 0, errno == EINTR { continue }
            guard n >= 0 else { throw DiskError("read \(name)") }
            if n == 0 { break }
            done += n
        }
        return done
    }

    /// Waits for the disk.
    func sync() throws(DiskError) { guard fdatasync(descriptor) == 0 else { throw DiskError("sync \(name)") } }
}

/// A whole file, read into memory: what the disk says against that is an error here, and no signal later.
final class ReadFile {
    /// Read at a time: as much as caches near the processor hold.
    private static let pieceBytes = 256 * 1024

    let name: String
    let bytes: UnsafeRawBufferPointer
    private let descriptor: Int32
    private let capacity: Int

    /// Waits for the disk.
    init(_ name: String, in directory: Int32) throws(DiskError) {
        self.name = name
        descriptor = openat(directory, name, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw DiskError("open \(name)") }
        do throws(DiskError) { (bytes, capacity) = try ReadFile.read(descriptor, name) } catch {
            close(descriptor)
            throw error
        }
    }

    deinit {
        munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), capacity)
        close(descriptor)
    }

    private static func read(
        _ descriptor: Int32, _ name: String
    ) throws(DiskError) -> (bytes: UnsafeRawBufferPointer, capacity: Int) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw DiskError("read \(name)") }
        // One byte more: the read that finds the end wants room too.
        var capacity = Int(status.st_size) + 1
        var base = try ReadFile.memory(capacity, name)
        do throws(DiskError) {
            var count = try fill(base, capacity, descriptor, name)
            // What has no size beforehand, as a pipe, ends where it ends.
            while count == capacity {
                let larger = try memory(2 * capacity, name)
                memcpy(larger, base, count)
                munmap(base, capacity)
                (base, capacity) = (larger, 2 * capacity)
                count += try fill(base + count, capacity - count, descriptor, name)
            }
            return (UnsafeRawBufferPointer(start: base, count: count), capacity)
        } catch {
            munmap(base, capacity)
            throw error
        }
    }

    /// Fresh memory, all zeros. In huge pages where there are such: to find and to give back as many small ones takes
    /// longer than what is read into them.
    private static func memory(_ count: Int, _ name: String) throws(DiskError) -> UnsafeMutableRawPointer {
        let made = mmap(nil, count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let made, made != MAP_FAILED else { throw DiskError("read \(name)", ENOMEM) }
        madvise(made, count, MADV_HUGEPAGE)
        return made
    }

    /// Reads into memory of zeros; returns how many bytes there are. Zeros are not copied once a piece was nothing
    /// else: behind a log there are megabytes of them, and memory that nobody touches need not be found.
    private static func fill(
        _ base: UnsafeMutableRawPointer, _ capacity: Int, _ descriptor: Int32, _ name: String
    ) throws(DiskError) -> Int {
        var scratch: UnsafeMutableRawPointer?
        defer { free(scratch) }
        var count = 0
        while count < capacity {
            let n = Glibc.read(descriptor, scratch ?? base + count, min(capacity - count, pieceBytes))
            if n < 0, errno == EINTR { continue }
            guard n >= 0 else { throw DiskError("read \(name)") }
            if n == 0 { break }
            let isEmpty = isZero(UnsafeRawPointer(scratch ?? base + count), n)
            if let scratch, !isEmpty { memcpy(base + count, scratch, n) }
            if isEmpty, scratch == nil { scratch = malloc(pieceBytes) }
            count += n
        }
        return count
    }

    private static func isZero(_ bytes: UnsafeRawPointer, _ count: Int) -> Bool {
        // The first byte is, and each is as the one before.
        bytes.load(as: UInt8.self) == 0 && memcmp(bytes, bytes + 1, count - 1) == 0
    }

    /// What was read here may be in the page cache only: the disk begins with it, while other things are done.
    func beginSync() throws(DiskError) -> SyncUnderWay { try SyncUnderWay(name, descriptor) }
}

/// A file that is on its way to the disk.
final class SyncUnderWay {
    let name: String
    private let descriptor: Int32

    init(_ name: String, _ descriptor: Int32) throws(DiskError) {
        self.name = name
        self.descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
        guard self.descriptor >= 0 else { throw DiskError("sync \(name)") }
        // No promise: `finish` is.
        Machine.beginWriting(self.descriptor)
    }

    deinit { close(descriptor) }

    /// Waits for the disk.
    func finish() throws(DiskError) { guard fdatasync(descriptor) == 0 else { throw DiskError("sync \(name)") } }
}
