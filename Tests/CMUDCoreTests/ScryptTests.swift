// The password hash: what RFC 7914 says it gives, and what is refused.

import CScrypt
import Testing

@testable import CMUDCore

@Suite struct ScryptTests {
    private func derive(
        _ password: String, _ salt: String, _ rounds: UInt64, _ blockSize: UInt64, _ parallelism: UInt64
    ) -> [UInt8]? {
        let (password, salt) = (Array(password.utf8), Array(salt.utf8))
        var key = [UInt8](repeating: 0, count: 64)
        let code = cs_scrypt(
            password, password.count, salt, salt.count, rounds, blockSize, parallelism, &key, key.count)
        return code == 0 ? key : nil
    }

    /// RFC 7914, section 12. The last one is what characters' passwords take.
    @Test func theVectorsOfTheStandardAreMet() {
        #expect(
            derive("", "", 16, 1, 1)
                == Verifier.unhex(
                    "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
                        + "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906"))
        #expect(
            derive("password", "NaCl", 1024, 8, 16)
                == Verifier.unhex(
                    "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
                        + "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640"))
        #expect(
            derive("pleaseletmein", "SodiumChloride", 16384, 8, 1)
                == Verifier.unhex(
                    "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
                        + "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"))
    }

    /// Whoever can write to the store can write parameters.
    @Test func parametersThatTakeTooMuchAreRefused() {
        #expect(derive("a", "12345678", 1 << 20, 64, 1) == nil, "8 GiB")
        #expect(derive("a", "12345678", 1 << 20, 8, 1) == nil, "1 GiB")
        #expect(derive("a", "12345678", 1000, 8, 1) == nil, "no power of two")
        #expect(derive("a", "12345678", 1, 8, 1) == nil)
    }
}
