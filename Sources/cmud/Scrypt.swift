// The one file that knows the cryptography: scrypt from OpenSSL. Any task; takes about 50 ms and 16 MiB.

import CMUDCore
import CScrypt

/// Parameters that are not allowed: more memory than the limit, or rounds that are no power of two.
struct ScryptError: Error {}

struct ScryptHasher: PasswordHasher {
    static let hashBytes = 32

    func derive(password: String, salt: [UInt8], parameters: PasswordParameters) async throws -> [UInt8] {
        let secret = Array(password.utf8)
        var key = [UInt8](repeating: 0, count: ScryptHasher.hashBytes)
        let code = cs_scrypt(
            secret, secret.count, salt, salt.count, UInt64(parameters.rounds), UInt64(parameters.blockSize),
            UInt64(parameters.parallelism), &key, key.count)
        guard code == 0 else { throw ScryptError() }
        return key
    }
}
