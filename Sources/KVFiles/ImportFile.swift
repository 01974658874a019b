// A file of pairs in any form that is read: RDB, append-only in one or several parts, commands. One thread.

import Glibc
import KVBase

package enum ImportForm: String, Sendable {
    case rdb = "RDB"
    case commands = "commands"
    case appendOnly = "append-only file"
}

/// Each pass opens the parts anew (`ImportCursor`).
package struct ImportFile: Sendable {
    /// Of a manifest that names the parts of an append-only file.
    private static let manifestBytesMax = 1024 * 1024
    private static let manifestEnd = ".manifest"

    package let path: String
    /// In the order in which they count.
    package let parts: [String]
    package let form: ImportForm
    /// Of all parts; nil if it is a pipe.
    package let bytes: Int?

    /// Looks at how the file begins.
    package init(path: String) throws(FileFault) {
        self.path = path
        var status = stat()
        if path != "-", stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
            let manifest = try ImportFile.manifest(inFolder: path)
            (parts, form) = (try ImportFile.parts(ofManifest: manifest), .appendOnly)
        } else if path.hasSuffix(ImportFile.manifestEnd) {
            (parts, form) = (try ImportFile.parts(ofManifest: path), .appendOnly)
        } else {
            parts = [path]
            // What comes by a pipe can be read once, and is taken for commands.
            form = path == "-" ? .commands : try ImportFile.isRDB(path) ? .rdb : .commands
        }
        bytes = path == "-" ? nil : try ImportFile.size(of: parts)
    }

    private static func isRDB(_ path: String) throws(FileFault) -> Bool {
        let file = try InputFile(path: path)
        guard let first = try file.peek() else { throw FileFault(path, "it is empty") }
        return first == RDBReader.magic[0]
    }

    private static func size(of parts: [String]) throws(FileFault) -> Int? {
        var total = 0
        for part in parts {
            guard let size = try InputFile(path: part).size else { return nil }
            total += size
        }
        return total
    }

    private static func manifest(inFolder folder: String) throws(FileFault) -> String {
        guard let stream = opendir(folder) else { throw FileFault(folder, String(cString: strerror(errno))) }
        defer { closedir(stream) }
        var found: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasSuffix(manifestEnd) { found.append(name) }
        }
        guard found.count == 1 else {
            throw FileFault(folder, "\(found.count) files end in \(manifestEnd), not one; name the file to import")
        }
        return folder + "/" + found[0]
    }

    /// `file NAME seq N type b|h|i` a line: the base, and what was written since. History no longer counts.
    private static func parts(ofManifest path: String) throws(FileFault) -> [String] {
        let file = try InputFile(path: path)
        guard let size = file.size, size <= manifestBytesMax else { throw FileFault(path, "it is too large") }
        let text = String(decoding: try file.bytes(size), as: UTF8.self)
        let folder = path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
        var parts: [(kind: String, number: Int, name: String)] = []
        for (line, words) in text.split(separator: "\n").map({ ($0, $0.split(separator: " ").map(String.init)) })
        where !line.hasPrefix("#") {
            var fields: [String: String] = [:]
            for place in stride(from: 0, to: words.count - 1, by: 2) { fields[words[place]] = words[place + 1] }
            guard let name = fields["file"], let number = fields["seq"].flatMap({ Int($0) }),
                let kind = fields["type"], !name.contains("/")
            else { throw FileFault(path, "the line '\(line.prefix(80))' names no part") }
            if kind != "h" { parts.append((kind, number, name)) }
        }
        guard !parts.isEmpty else { throw FileFault(path, "it names no part") }
        parts.sort { ($0.kind, $0.number) < ($1.kind, $1.number) }
        return parts.map { path.contains("/") ? folder + "/" + $0.name : $0.name }
    }
}
