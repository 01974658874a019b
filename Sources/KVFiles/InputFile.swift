// A file that is read once from its beginning to its end, with the offset at hand. One thread per object.

import Glibc
import KVBase

/// What is wrong with a file, and where; one line.
package struct FileFault: Error, Equatable, CustomStringConvertible, Sendable {
    package var file: String
    /// In bytes from the beginning; nil where the whole file is meant.
    package var offset: Int?
    package var reason: String

    package init(_ file: String, at offset: Int? = nil, _ reason: String) {
        (self.file, self.offset, self.reason) = (file, offset, reason)
    }

    package var description: String { "\(file)\(offset.map { " at offset \($0)" } ?? ""): \(reason)" }
}

/// Lengths that a file says are never believed: memory grows with what was read.
package final class InputFile {
    private static let bufferBytes = 256 * 1024
    /// Memory that a length alone may take, before as much was read.
    private static let reserveBytesMax = 1024 * 1024

    package let name: String
    /// Of a regular file; nil for a pipe.
    package let size: Int?
    private let descriptor: Int32
    private let buffer: UnsafeMutableRawPointer
    private var count: Int
    private var at = 0
    /// Where the buffer begins in the file.
    private var base = 0
    /// What was consumed is added to it where it is wanted.
    package var crc: CRC64?
    private var crcAt = 0
    /// It ended, or said so, before all that was wanted was there.
    package private(set) var isShort = false

    /// `-` is standard input.
    package init(path: String) throws(FileFault) {
        name = path == "-" ? "standard input" : path
        descriptor = path == "-" ? dup(0) : open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw FileFault(path, String(cString: strerror(errno))) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT != S_IFDIR else {
            close(descriptor)
            throw FileFault(path, "it is a directory")
        }
        size = status.st_mode & S_IFMT == S_IFREG ? Int(status.st_size) : nil
        buffer = .allocate(byteCount: InputFile.bufferBytes, alignment: 16)
        count = 0
    }

    /// Bytes in memory as if they were a file.
    package init(_ bytes: [UInt8], name: String = "bytes") {
        (self.name, size, descriptor, count) = (name, bytes.count, -1, bytes.count)
        buffer = .allocate(byteCount: max(1, bytes.count), alignment: 16)
        bytes.withUnsafeBytes { if let base = $0.baseAddress { buffer.copyMemory(from: base, byteCount: $0.count) } }
    }

    deinit {
        buffer.deallocate()
        if descriptor >= 0 { close(descriptor) }
    }

    /// Of the next byte.
    package var offset: Int { base + at }

    package func fault(_ reason: String, at offset: Int? = nil) -> FileFault {
        FileFault(name, at: offset ?? self.offset, reason)
    }

    private func endFault() -> FileFault {
        isShort = true
        return fault("it ends here, in the middle of something")
    }

    /// Adds what was consumed since to the checksum.
    package func takeIntoCRC() {
        crc?.add(UnsafeRawBufferPointer(start: buffer + crcAt, count: at - crcAt))
        crcAt = at
    }

    private func fill() throws(FileFault) -> Bool {
        guard descriptor >= 0 else { return false }
        takeIntoCRC()
        base += count
        (at, count, crcAt) = (0, 0, 0)
        while true {
            let n = read(descriptor, buffer, InputFile.bufferBytes)
            if n < 0, errno == EINTR { continue }
            guard n >= 0 else { throw fault("cannot read: \(String(cString: strerror(errno)))") }
            count = n
            return n > 0
        }
    }

    package func isAtEnd() throws(FileFault) -> Bool { at == count ? !(try fill()) : false }

    /// The next byte, which stays the next one; nil at the end.
    package func peek() throws(FileFault) -> UInt8? {
        if at == count, !(try fill()) { return nil }
        return buffer.load(fromByteOffset: at, as: UInt8.self)
    }

    package func byte() throws(FileFault) -> UInt8 {
        if at == count, !(try fill()) { throw endFault() }
        defer { at += 1 }
        return buffer.load(fromByteOffset: at, as: UInt8.self)
    }

    /// So many bytes are there, as far as can be known before they are read.
    private func expect(_ wanted: Int) throws(FileFault) {
        guard wanted >= 0, size.map({ wanted <= $0 - offset }) ?? true else {
            isShort = true
            throw fault("a length of \(wanted) bytes, more than there are")
        }
    }

    package func bytes(_ wanted: Int) throws(FileFault) -> [UInt8] {
        try expect(wanted)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(min(wanted, InputFile.reserveBytesMax))
        while bytes.count < wanted {
            if at == count, !(try fill()) { throw endFault() }
            let part = min(wanted - bytes.count, count - at)
            bytes.append(contentsOf: UnsafeRawBufferPointer(start: buffer + at, count: part))
            at += part
        }
        return bytes
    }

    package func skip(_ wanted: Int) throws(FileFault) {
        try expect(wanted)
        var left = wanted
        while left > 0 {
            if at == count, !(try fill()) { throw endFault() }
            let part = min(left, count - at)
            at += part
            left -= part
        }
    }

    /// Little-endian.
    package func number(bytes count: Int) throws(FileFault) -> UInt64 {
        var value: UInt64 = 0
        for place in 0..<count { value |= UInt64(try byte()) << UInt64(8 * place) }
        return value
    }
}
