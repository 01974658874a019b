// The users of this server as the settings say: a password, a file, or nobody needs one. Main thread, and the one that
// takes SIGHUP.

import KVBase

package struct AccessSettings: Sendable {
    var passwordFile: String?
    var usersFile: String?
    /// Clients of other machines are let in only where somebody needs a password.
    var isProtected = true

    var isEmpty: Bool { passwordFile == nil && usersFile == nil }

    /// Reads the files anew into the book. All or nothing, and all at once. Returns lines to warn with.
    func apply(to book: AccessBook) throws(AccessFileError) -> [String] {
        let reading = book.beginReading()
        let users = try usersFile.map { path throws(AccessFileError) in try AccessFile.load(path) }
        let password = try passwordFile.map { path throws(AccessFileError) in try AccessFile.password(path) }
        var warnings: [String] = []
        let namesDefault = users?.contains { $0.name == AccessBook.defaultName } ?? false
        if let users {
            book.replace(users, password: namesDefault ? nil : password, reading: reading)
        } else if let password {
            book.requirePassword(password)
        }
        if let password, let passwordFile {
            if namesDefault { warnings.append("--aclfile names the user default, so --requirepass-file is not used") }
            if let warning = SecretFile.warning(passwordFile) { warnings.append(warning) }
            if password.utf8.count < AccessUser.passwordBytesAdvised {
                warnings.append(
                    "the password of \(passwordFile) has less than \(AccessUser.passwordBytesAdvised) bytes:"
                        + " it can be guessed fast (ACL GENPASS makes a good one)")
            }
        }
        if let usersFile, let warning = SecretFile.warning(usersFile) { warnings.append(warning) }
        return warnings
    }
}
