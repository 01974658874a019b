// The one file that knows the cryptography: scrypt from swift-crypto. Any task; takes about 50 ms and 16 MiB.

import CMUDCore
import Crypto
import CryptoExtras
import Foundation

struct ScryptHasher: PasswordHasher {
    static let hashBytes = 32

    func derive(password: String, salt: [UInt8], parameters: PasswordParameters) async throws -> [UInt8] {
        let key = try KDF.Scrypt.deriveKey(
            from: Array(password.utf8), salt: salt, outputByteCount: ScryptHasher.hashBytes, rounds: parameters.rounds,
            blockSize: parameters.blockSize, parallelism: parameters.parallelism)
        return key.withUnsafeBytes { Array($0) }
    }
}
