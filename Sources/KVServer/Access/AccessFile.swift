// Users in a file, a line each, and a password in one. Main thread, and the loop that runs ACL LOAD or SAVE.

import Glibc
import KVBase
import KVFiles

/// What is wrong with a file, one line.
package struct AccessFileError: Error, CustomStringConvertible { package let description: String }

package enum AccessFile {
    private static let bytesMax = 4 * 1024 * 1024

    /// Reads all users, or says which line is wrong and why.
    package static func load(_ path: String) throws(AccessFileError) -> [AccessUser] {
        try parse(try contents(of: path), path)
    }

    package static func parse(_ text: String, _ path: String) throws(AccessFileError) -> [AccessUser] {
        var users: [AccessUser] = []
        var names: Set<String> = []
        // By bytes: a space behind some characters (U+0602) is one character with them, and no space.
        let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            let words = line.split(whereSeparator: isSpace).map { String(decoding: $0, as: UTF8.self) }
            guard let first = words.first else { continue }
            func failure(_ why: String) -> AccessFileError {
                AccessFileError(description: "\(path):\(index + 1): \(why)")
            }
            guard first.lowercased() == "user" else { throw failure("a line has to begin with the word user") }
            guard words.count > 1, words[1].utf8.count <= AccessUser.nameBytesMax else {
                throw failure("the user's name is missing or too long")
            }
            guard names.insert(words[1]).inserted else {
                throw failure("Duplicate user '\(words[1])' found. A user can only be defined once")
            }
            guard users.count < AccessBook.usersMax else { throw failure("too many users") }
            var user = AccessUser(words[1])
            if let (rule, error) = user.apply(all: Array(words.dropFirst(2))) {
                throw failure("\(AccessUser.shown(rule)): \(error)")
            }
            users.append(user)
        }
        return users
    }

    static func isSpace(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || (9...13).contains(byte) }

    /// Writes all users; the file is the old one or the new one, never a part.
    static func save(_ users: [AccessUser], to path: String) throws(AccessFileError) {
        let text = users.map { $0.line + "\n" }.joined()
        do throws(FileFault) { try OutputFile.replace(path, with: Array(text.utf8)) } catch {
            throw AccessFileError(description: error.description)
        }
    }

    /// The one line of a file with a password.
    package static func password(_ path: String) throws(AccessFileError) -> String {
        let text = try contents(of: path)
        let line = text.last?.isNewline == true ? text.dropLast() : text[...]
        guard !line.isEmpty, !line.contains(where: \.isNewline) else {
            throw AccessFileError(description: "\(path) has to be one line, the password")
        }
        return String(line)
    }

    private static func contents(of path: String) throws(AccessFileError) -> String {
        do throws(SecretFileError) {
            let bytes = try SecretFile.contents(of: path, bytesMax: bytesMax)
            if let text = String(validating: bytes, as: UTF8.self) { return text }
        } catch { throw AccessFileError(description: "\(path): \(error.description)") }
        throw AccessFileError(description: "\(path): not UTF-8 text")
    }
}
