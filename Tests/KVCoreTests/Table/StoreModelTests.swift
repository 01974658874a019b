// The store against a plain model over long random sequences of every operation.

import KVBase
import KVCore
import KVTestTraits
import Testing

@Suite(.blocking) struct StoreModelTests {
    /// What a random sequence draws its keys and values from.
    struct Mix {
        var keys: Int
        var longKeys = false
        var binary = false
        var hashMask: UInt64 = .max

        func key(_ random: inout PRNG) -> Bytes {
            let number = random.below(keys)
            if binary {
                // Few distinct bytes, many lengths, so that keys are prefixes of each other; the empty key too.
                var key = PRNG(seed: UInt64(number))
                return Bytes((0..<key.below(7)).map { _ in [0, 1, 0x7F, 0x80, 0xFF][key.below(5)] })
            }
            if longKeys && number % 5 == 0 { return Bytes("key:" + String(repeating: "x", count: 100 + number)) }
            return Bytes("key:\(number)")
        }

        func value(_ random: inout PRNG) -> Bytes {
            let count = random.chance(0.05) ? random.below(2000) : random.below(40)
            let byte = UInt8(random.below(256))
            return Bytes([UInt8](repeating: byte, count: count))
        }
    }

    static func run(_ mix: Mix, seed: UInt64, steps: Int) {
        var random = PRNG(seed: seed)
        let pair = ModelledStore(hashMask: mix.hashMask)
        let others = (1...3).map { ActorUID(server: UInt64($0) * 5, index: 1) }
        var now: Millis = 1_700_000_000_000
        for step in 0..<steps {
            if random.chance(0.3) { now += Millis(random.below(3)) }
            if random.chance(0.001) { now -= 1000 }
            let key = mix.key(&random)
            let agreed: Bool
            switch random.below(100) {
            case 0..<35: agreed = pair.put(key, mix.value(&random), now: now)
            case 35..<37: agreed = pair.put(key, mix.value(&random), now: now, floor: now + Millis(random.below(5)))
            case 37..<52: agreed = pair.delete(key, now: now)
            case 52..<72:
                let version = Version(
                    ms: now + Millis(random.below(7)) - 3, uid: others[random.below(3)], seq: UInt64(random.below(5)))
                // Equal versions carry equal content, as they do in a cluster.
                var content = PRNG(seed: UInt64(version.ms) &* 31 &+ version.seq &+ version.uid.server << 40)
                let value: Bytes? = content.chance(0.3) ? nil : mix.value(&content)
                agreed = pair.merge(key, value, version, byReference: random.chance(0.5))
            case 72..<82: agreed = pair.dropTombstone(key)
            case 82..<90: agreed = pair.agreesOn(key)
            case 90..<91: agreed = listAgrees(pair, key, &random)
            default: agreed = pair.agreesOn(mix.key(&random))
            }
            #expect(agreed, "step \(step); replay: StoreModelTests.run(\(mix), seed: \(seed), steps: \(step + 1))")
            if !agreed { return }
            if step % 2000 == 1999 {
                #expect(
                    pair.agrees(),
                    "after step \(step); replay: StoreModelTests.run(\(mix), seed: \(seed), steps: \(step + 1))")
            }
        }
        #expect(pair.agrees(), "at the end; replay: StoreModelTests.run(\(mix), seed: \(seed), steps: \(steps))")
    }

    static func listAgrees(_ pair: ModelledStore, _ key: Bytes, _ random: inout PRNG) -> Bool {
        let prefix = Bytes(Array(key.array.prefix(random.below(key.count + 1))))
        let after: Bytes? = random.chance(0.5) ? key : nil
        // Within a leaf, or over many leaves and groups of entries.
        let isLong = random.chance(0.5)
        let limit = random.below(isLong ? 1500 : 20)
        var expected: [Bytes] = []
        var at = pair.lowerBound(prefix)
        if let after {
            at = max(at, pair.lowerBound(after))
            if at < pair.liveKeys.count, pair.liveKeys[at] == after { at += 1 }
        }
        while at < pair.liveKeys.count, expected.count < limit, pair.liveKeys[at].hasPrefix(prefix) {
            expected.append(pair.liveKeys[at])
            at += 1
        }
        return pair.store.listing(prefix: prefix, after: after, pageLimit: isLong ? 400 : 7, limit: limit) == expected
    }

    @Test(arguments: 1...3) func agreesWithAModelOnFewKeys(seed: Int) {
        StoreModelTests.run(Mix(keys: 40), seed: UInt64(seed), steps: 3000)
    }

    @Test(arguments: 1...2) func agreesWithAModelOnManyKeys(seed: Int) {
        StoreModelTests.run(Mix(keys: 2000, longKeys: true), seed: UInt64(seed), steps: 6000)
    }

    @Test(arguments: 1...3) func agreesWithAModelOnBinaryKeys(seed: Int) {
        StoreModelTests.run(Mix(keys: 1000, binary: true), seed: UInt64(seed), steps: 3000)
    }

    /// Whole hashes collide: 16 different ones, then 1,024 that differ in the tag alone, then in the bucket alone.
    @Test(arguments: [0xF << 60, 0x3FF << 25, 0x3FF << 38] as [UInt64])
    func agreesWithAModelWhenHashesCollide(mask: UInt64) {
        StoreModelTests.run(Mix(keys: 300, hashMask: mask), seed: 9, steps: 1500)
        StoreModelTests.run(Mix(keys: 200, binary: true, hashMask: mask), seed: 10, steps: 1500)
    }
}
