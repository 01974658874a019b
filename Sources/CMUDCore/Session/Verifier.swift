// What the store keeps instead of a password. Pure, any thread.

/// The value of `auth/<pid>`. It stops users of the stock client only: whoever can write to the store can replace it.
package struct Verifier: Equatable, Sendable {
    package var salt: [UInt8]
    package var parameters: PasswordParameters
    package var hash: [UInt8]

    package init(salt: [UInt8], parameters: PasswordParameters, hash: [UInt8]) {
        (self.salt, self.parameters, self.hash) = (salt, parameters, hash)
    }

    package var bytes: [UInt8] {
        JSON.object([
            ("v", .number(1)), ("kdf", .string("scrypt")), ("n", .number(Int64(parameters.rounds))),
            ("r", .number(Int64(parameters.blockSize))), ("p", .number(Int64(parameters.parallelism))),
            ("salt", .string(Verifier.hex(salt))), ("ver", .string(Verifier.hex(hash))),
        ]).bytes
    }

    /// The value that stands for "no password": an open character.
    package static let open = JSON.object([("v", .number(1)), ("kdf", .string("none"))]).bytes

    package init?(_ bytes: [UInt8]) {
        guard let json = JSON.parse(bytes), json["v"]?.int == 1, json["kdf"]?.text == "scrypt",
            let salt = json["salt"]?.text.flatMap(Verifier.unhex), let hash = json["ver"]?.text.flatMap(Verifier.unhex),
            let rounds = json["n"]?.int, let blockSize = json["r"]?.int, let parallelism = json["p"]?.int,
            (1...1 << 20).contains(rounds), (1...64).contains(blockSize), (1...16).contains(parallelism),
            salt.count >= 8, hash.count >= 16
        else { return nil }
        self.init(
            salt: salt,
            parameters: PasswordParameters(
                rounds: Int(rounds), blockSize: Int(blockSize), parallelism: Int(parallelism)),
            hash: hash)
    }

    static func hex(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }

    static func unhex(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count % 2 == 0, digits.count <= 256 else { return nil }
        var bytes: [UInt8] = []
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let byte = UInt8(String(decoding: digits[index...(index + 1)], as: UTF8.self), radix: 16) else {
                return nil
            }
            bytes.append(byte)
        }
        return bytes
    }
}
