// Nothing that another player can type, and nothing that stands in the store, reaches a terminal as a control sequence.

@testable import CMUDCore
import Foundation
import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct SafeTests {
    /// Scalars that steer a terminal, reorder or hide text.
    static func isHarmful(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0..<0x20, 0x7F..<0xA0, 0xAD, 0x61C, 0x200B...0x200C, 0x200E...0x200F, 0x2028...0x202E, 0x2060...0x206F,
            0xFEFF,
            0xE000...0xF8FF,
            0xFFF9...0xFFFB, 0xE0000...0xE0FFF, 0xF0000...0x10FFFF, 0xFE00...0xFE0F:
            true
        default: false
        }
    }

    /// A joiner that does not stand between two emoji.
    static func hasLooseJoiner(_ text: String) -> Bool {
        let scalars = Array(text.unicodeScalars)
        return scalars.indices.contains { index in
            guard scalars[index] == "\u{200D}" else { return false }
            guard index > 0, index + 1 < scalars.count else { return true }
            return [scalars[index - 1], scalars[index + 1]].contains { !$0.properties.isEmoji || $0.value < 0x100 }
        }
    }

    /// Bytes that look for trouble: raw bytes, introducers of sequences, cut UTF-8, awkward scalars.
    static func hostile(_ random: inout PRNG) -> [UInt8] {
        let pieces: [[UInt8]] = [
            [0x1B, 0x5B, 0x32, 0x4A], [0x1B, 0x5D, 0x30, 0x3B], [0x9B], [0x9D], [0x90], [0x07], [0x0D], [0x0A], [0x08],
            [0xC2, 0x9B],
            [0xE2, 0x80, 0xAE], [0xE2, 0x80, 0x8B], [0xE2, 0x80, 0xA8], [0xF3, 0xA0, 0x80, 0x81], [0xCC, 0x81],
            [0xEF, 0xBB, 0xBF],
            [0xE4, 0xB8, 0xAD], [0xF0, 0x9F, 0x98, 0x80], [0xE2, 0x80, 0x8D], [0xC0, 0x9B], [0xE0, 0x80, 0x9B],
            [0xED, 0xA0, 0x80], [0xFF],
            [0x20, 0x20],
            Array("hello".utf8), [0xEE, 0x80, 0x80], [0xE1, 0x85, 0x9F], [0x00], [0xEF, 0xBF, 0xB9],
        ]
        var bytes: [UInt8] = []
        for _ in 0..<(1 + random.below(24)) {
            switch random.below(4) {
            case 0: bytes.append(UInt8(truncatingIfNeeded: random.next()))
            case 1:
                if let scalar = Unicode.Scalar(UInt32(random.below(0x11_0000))) {
                    bytes += Array(String(Character(scalar)).utf8)
                }
            default: bytes += pieces[random.below(pieces.count)]
            }
        }
        return bytes
    }

    /// 20,000 strings here; CMUD_FUZZ=1000000 runs the long form. A failure prints the seed and the number.
    @Test func fuzzedTextNeverSteersATerminal() {
        let count = Int(ProcessInfo.processInfo.environment["CMUD_FUZZ"] ?? "") ?? 20_000
        var random = PRNG(seed: 2010)
        var bad = 0
        for index in 0..<count {
            let bytes = SafeTests.hostile(&random)
            let safe = Safe.text(bytes)
            let line = Line(safe.string, .talk).encoded(color: false)
            if safe.string.unicodeScalars.contains(where: SafeTests.isHarmful)
                || line.unicodeScalars.contains(where: SafeTests.isHarmful)
                || SafeTests.hasLooseJoiner(safe.string)
                || Columns.of(safe.string) > Safe.columnsMax || Safe.text(safe.string) != safe
            {
                bad += 1
                if bad < 5 { Issue.record("seed 2010 number \(index): \(bytes) gives \(safe.string.debugDescription)") }
            }
        }
        print("safe: \(count) strings, \(bad) bad")
        #expect(bad == 0)
    }

    @Test func textIsCleanedAsDescribed() {
        #expect(Safe.text("  a \t b\nc  ").string == "a b c")
        #expect(Safe.text("\u{1B}[31mred\u{1B}[0m").string == "[31mred[0m")
        #expect(Safe.text("e\u{301}\u{301}\u{301}\u{301}\u{301}").string.unicodeScalars.count <= 4)
        #expect(Safe.text("\u{301}x").string == "x", "a mark without a base would sit on our own text")
        #expect(Safe.text("e\u{301}").string == "\u{E9}", "composed")
        #expect(Safe.text(String(repeating: "中", count: 200)).string.count == 120, "columns, not characters")
        #expect(Safe.text([0xFF, 0x41]).string == "\u{FFFD}A")
        #expect(Safe.text("grüße 中文 😀 ok").string == "grüße 中文 😀 ok")
    }

    @Test func theLastGateDropsControlsFromAnyLine() {
        let line = Line("a\u{1B}]0;x\u{7}b\u{9B}c\nd", .name)
        #expect(line.encoded(color: false) == "a]0;xbcd")
        #expect(line.encoded(color: true) == "\u{1B}[36ma]0;xbcd\u{1B}[0m")
        #expect(Line("中é").encoded(color: false, ascii: true) == "??")
    }

    @Test func fuzzedRecordsNeverCrashADecoder() {
        var random = PRNG(seed: 440)
        var record = SlotRecord(sid: Names.identifier(5))
        record.total.bought = [9, 8, 7, 6, 5]
        record.total.addWork(77, .phd, 3)
        record.total.given = [Names.identifier(1): 5]
        record.moved = [3: Names.identifier(7)]
        let occupant = Occupant(
            pid: Names.identifier(1), place: .fence, sid: Names.identifier(2), beats: 3, moves: 1, sessionStart: 5,
            time: 6, name: "ada",
            rank: .phd, activity: .solving, isGone: false, away: Safe.text("x"), since: 2,
            lines: [RingLine(seq: 1, time: 2, talk: .say(Safe.text("hi")))])
        let seeds = [
            record.bytes, occupant.bytes,
            Verifier(salt: Array(repeating: 1, count: 16), parameters: .current, hash: Array(repeating: 2, count: 32))
                .bytes,
            Claim(pid: Names.identifier(1), name: "ada", time: 5).bytes,
        ]
        for _ in 0..<5_000 {
            var bytes = seeds[random.below(seeds.count)]
            for _ in 0..<(1 + random.below(6)) {
                let at = random.below(bytes.count)
                switch random.below(3) {
                case 0: bytes[at] = UInt8(truncatingIfNeeded: random.next())
                case 1: bytes.remove(at: at)
                default: bytes.insert(contentsOf: Array("9999999999".utf8).prefix(1 + random.below(9)), at: at)
                }
            }
            if let decoded = SlotRecord(bytes) {
                #expect(
                    decoded.total.power >= 0 && decoded.total.power <= amountMax && decoded.total.earned <= amountMax)
                #expect(decoded.options.ignored.values.allSatisfy { Names.fault($0) == nil })
            }
            if let decoded = Occupant(place: .fence, pid: Names.identifier(1), value: bytes) {
                #expect(!decoded.lines.contains { $0.text.string.unicodeScalars.contains(where: SafeTests.isHarmful) })
            }
            _ = Verifier(bytes)
            _ = Claim(key: "x/" + Names.identifier(1), value: bytes, canonical: "ada", prefix: "x/")
        }
    }

    @Test func recordsSurviveARoundTripAndStaySmall() {
        var record = SlotRecord(sid: Names.identifier(5))
        for rank in Rank.working {
            for instance in 1...40 { record.total.addWork(amountMax / 100, rank, Int64(instance)) }
            record.total.fold(rank, solvedBelow: 40)
        }
        for index in 0..<Ledger.receiversMax { record.total.given[Names.identifier(UInt64(index))] = 999_999_999 }
        for index in 0..<PlayerSettings.ignoredMax {
            record.options.ignored[Names.identifier(UInt64(index))] = "sixteen-letters-"
        }
        for index in 0..<50 {
            record.options.read(Names.identifier(UInt64(index)), upTo: 1_767_225_600_000 + Int64(index))
        }
        record.total.bought = [250, 250, 250, 250, 250]
        record.total.earned = amountMax
        (record.total.insight, record.total.studyTries) = (amountMax, amountMax)
        (record.total.cups, record.total.sips, record.total.lessons) = (amountMax, amountMax, [9, 9, 9])
        record.base = record.total
        #expect(record.bytes.count <= JSON.bytesMax, "\(record.bytes.count) bytes")
        #expect(SlotRecord(record.bytes) == record)
        #expect(record.total.work(.phd) == amountMax / 100 * 40, "folding loses no work")
        #expect(record.options.mark(Names.identifier(0)) >= 1_767_225_600_000, "an old mark is still a mark")
    }
}
