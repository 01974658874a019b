// Files of keys, passwords and users. Main thread, the one that takes SIGHUP, and the loop that runs ACL LOAD.

import Glibc

/// Why a file cannot be read, without its name.
struct SecretFileError: Error { let description: String }

enum SecretFile {
    private static let pieceBytes = 64 * 1024

    /// All of it, if that is no more than `bytesMax`.
    static func contents(of path: String, bytesMax: Int) throws(SecretFileError) -> [UInt8] {
        guard let file = fopen(path, "r") else { throw SecretFileError(description: String(cString: strerror(errno))) }
        defer { fclose(file) }
        var (bytes, piece) = ([UInt8](), [UInt8](repeating: 0, count: pieceBytes))
        while bytes.count <= bytesMax {
            let count = fread(&piece, 1, piece.count, file)
            if count == 0 { break }
            bytes += piece[..<count]
        }
        if ferror(file) != 0 { throw SecretFileError(description: String(cString: strerror(errno))) }
        guard bytes.count <= bytesMax else { throw SecretFileError(description: "longer than \(bytesMax) bytes") }
        return bytes
    }

    /// A line of warning where others on this machine can read it.
    static func warning(_ path: String) -> String? {
        var status = stat()
        guard stat(path, &status) == 0, status.st_mode & 0o004 != 0 else { return nil }
        return "\(path) can be read by everyone on this machine: chmod 600 \(path)"
    }
}
