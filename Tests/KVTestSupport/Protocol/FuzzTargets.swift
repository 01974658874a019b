// The registry of fuzz targets: name to a check of one input drawn from a seed. Run by kv-fuzz and by the tests' smoke.

package import KVBase
package import RESP

package struct FuzzTarget: Sendable {
    package let name: String
    package let about: String
    /// Checks the input that `random` draws; nil if all is well, else what differs.
    package let check: @Sendable (_ random: inout PRNG, _ corpus: [[UInt8]]) -> String?

    package init(
        name: String, about: String, check: @escaping @Sendable (inout PRNG, [[UInt8]]) -> String?
    ) {
        self.name = name
        self.about = about
        self.check = check
    }

    /// Checks `inputs` inputs; a failure names the one input that shows it: `--seed seed --from index --inputs 1`.
    package func run(
        seed: UInt64, from: Int = 0, inputs: Int, corpus: [[UInt8]] = [], progress: (Int) -> Void = { _ in }
    )
        -> (index: Int, message: String)?
    {
        for index in from..<from + inputs {
            progress(index)
            var random = PRNG(seed: seed &+ UInt64(truncatingIfNeeded: index) &* 0xD134_2543_DE82_EF95)
            if let message = check(&random, corpus) { return (index, message) }
        }
        return nil
    }

    package static let parser = FuzzTarget(
        name: "parser", about: "requests: parser against a naive one, whole and cut anywhere"
    ) { random, corpus in
        checkParser(&random, corpus) {
            parseRequests($0, cutAt: $1, limits: RequestGrammar.limits, perCall: $2, obeysWanted: $3)
        }
    }

    package static let replies = FuzzTarget(
        name: "replies", about: "replies: reply parser and counter against a naive one, whole and cut anywhere"
    ) { random, corpus in
        checkReplies(&random, corpus)
    }

    /// Proves that the harness notices: a parser that forgets one command in a thousand must be caught.
    package static let canary = FuzzTarget(
        name: "canary", about: "a planted mismatch; must fail"
    ) { random, corpus in
        let drops = random.below(1000) == 0
        return checkParser(&random, corpus) {
            var parsed = parseRequests($0, cutAt: $1, limits: RequestGrammar.limits, perCall: $2, obeysWanted: $3)
            if drops { _ = parsed.items.popLast() }
            return parsed
        }
    }

    private static func checkParser(
        _ random: inout PRNG, _ corpus: [[UInt8]], _ subject: ([UInt8], [Int], Int, Bool) -> Parsed
    ) -> String? {
        let input = RequestGrammar.input(&random, corpus: corpus)
        let expected = NaiveParser.parse(input, limits: RequestGrammar.limits)
        let cuts = Cuts.random(&random, input.count)
        let perCall = random.below(3) == 0 ? 1 + random.below(3) : 1000
        for (cut, limit, obeys) in [([], 1000, false), (cuts, perCall, false), (cuts, 1000, true)]
            as [([Int], Int, Bool)]
        {
            var actual = subject(input, cut, limit, obeys)
            if expected.rest < 0 { actual.rest = expected.rest }
            if actual != expected {
                return
                    "input \(escapedText(input))\ncuts \(cut) per call \(limit) obeys \(obeys)\nexpected \(expected)\n"
                    + "actual   \(actual)"
            }
        }
        return nil
    }

    private static func checkReplies(_ random: inout PRNG, _ corpus: [[UInt8]]) -> String? {
        let input = ReplyGrammar.input(&random, corpus: corpus)
        let (values, failed) = NaiveReplyParser.parse(input)
        let cuts = Cuts.random(&random, input.count)
        for cut in [[], cuts] {
            let actual = parseReplies(input, cutAt: cut)
            if actual.values == values && actual.failed == failed { continue }
            // NaN is not equal to itself: the printed form decides.
            let (expected, shown) = ("\(values) failed \(failed)", "\(actual.values) failed \(actual.failed)")
            if shown != expected {
                return "input \(escapedText(input))\ncuts \(cut)\nexpected \(expected)\nactual   \(shown)"
            }
        }
        // The counter judges structure only; compare it where no value was malformed.
        if !failed {
            var counter = RESPReplyCounter()
            var from = 0
            for end in cuts + [input.count] {
                let ok = input[from..<end].withUnsafeBytes { counter.count($0) }
                if !ok { return "counter failed on \(escapedText(input))" }
                from = end
            }
            let count = values.count { if case .push = $0 { false } else { true } }
            if counter.replies != count {
                return "input \(escapedText(input))\ncuts \(cuts)\nreplies \(count), counted \(counter.replies)"
            }
        }
        return nil
    }
}

package enum Cuts {
    /// Ascending positions in `0...count`; sometimes every byte.
    package static func random(_ random: inout PRNG, _ count: Int) -> [Int] {
        guard count > 0 else { return [] }
        if count < 200 && random.below(8) == 0 { return Array(0..<count) }
        return (0..<random.below(6)).map { _ in random.below(count + 1) }.sorted()
    }
}

/// Values found in `input` fed in pieces; every call sees a fresh copy of exactly the bytes it may read.
package func parseReplies(_ input: [UInt8], cutAt cuts: [Int] = []) -> (values: [RESPValue], failed: Bool) {
    var parser = RESPReplyParser()
    var values: [RESPValue] = []
    var start = 0
    for end in cuts + [input.count] {
        while start < end {
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: end - start, alignment: 1)
            defer { copy.deallocate() }
            copy.copyBytes(from: input[start..<end])
            switch parser.parse(UnsafeRawBufferPointer(copy)) {
            case .reply(let value, let consumed):
                values.append(value)
                start += consumed
                continue
            case .failed: return (values, true)
            case .incomplete: break
            }
            break
        }
    }
    return (values, false)
}

/// `bytes` as a Swift or Python literal; runs of more than 16 equal bytes are shown as `<byte × count>`.
package func escapedText(_ bytes: [UInt8]) -> String {
    func one(_ byte: UInt8) -> String {
        switch byte {
        case 13: "\\r"
        case 10: "\\n"
        case 34, 92: "\\" + String(UnicodeScalar(byte))
        case 32...126: String(UnicodeScalar(byte))
        default: "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
    }
    var text = "\""
    var at = 0
    while at < bytes.count {
        let run = bytes[at...].prefix { $0 == bytes[at] }.count
        text += run > 16 ? "<\(one(bytes[at])) × \(run)>" : String(repeating: one(bytes[at]), count: run)
        at += run
    }
    return text + "\""
}
