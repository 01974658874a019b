// What LATENCY GRAPH draws: as Redis 7.0.15 drew the same samples. Pure.

import KVTestTraits
import Testing

@testable import KVServer

@Suite(.blocking) struct LatencyGraphTests {
    /// Samples by how many seconds ago they were, oldest first.
    private func drawn(_ samples: [(ago: Int, millis: Int)], worst: Int) -> [String] {
        let now = 1_796_005_011
        let event = LatencyEvents.Event(
            name: "command", worstMillis: worst,
            samples: samples.map { LatencyEvents.Sample(seconds: now - $0.ago, millis: $0.millis) })
        let text = LatencyGraph.text(of: event, now: now)
        #expect(text.hasSuffix("\n"))
        return text.dropLast().split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }

    @Test func tenSamples() {
        let samples = [
            (9, 15), (8, 40), (7, 14), (6, 8), (5, 21), (4, 65), (3, 9), (2, 35), (1, 42), (0, 2),
        ]
        let wanted = [
            "command - high 65 ms, low 2 ms (all time high 65 ms)",
            "--------------------------------------------------------------------------------",
            "     #    ",
            " o   | _o ",
            " |  _| || ",
            "#|#o||o||_",
            String(repeating: " ", count: 10),
            "9876543210",
            "ssssssssss",
        ]
        #expect(drawn(samples, worst: 65) == wanted)
    }

    @Test func moreSamplesThanALineHas() {
        let samples = [
            (145, 15), (144, 40), (143, 14), (142, 8), (141, 21), (140, 65), (139, 9), (138, 35), (137, 42),
            (136, 2), (135, 106), (134, 23), (133, 52), (132, 85), (131, 12), (130, 11), (129, 79), (128, 16),
            (127, 48), (126, 77), (125, 9), (124, 74), (123, 31), (122, 35), (121, 22), (120, 57), (119, 169),
            (118, 14), (117, 33), (116, 13), (115, 72), (114, 59), (113, 9), (112, 74), (111, 18), (110, 32),
            (109, 84), (108, 83), (107, 76), (106, 9), (105, 75), (104, 89), (103, 55), (102, 15), (101, 30),
            (100, 7), (99, 74), (98, 23), (97, 39), (96, 57), (95, 20), (94, 71), (93, 19), (92, 75), (91, 43),
            (90, 76), (89, 91), (88, 25), (87, 31), (86, 83), (85, 81), (84, 86), (83, 26), (82, 54), (81, 21),
            (80, 72), (79, 14), (78, 83), (77, 17), (76, 81), (75, 31), (74, 65), (73, 104), (72, 74), (71, 68),
            (70, 45), (69, 65), (68, 77), (67, 61), (66, 54), (65, 40), (64, 33), (63, 27), (62, 38), (61, 12),
        ]
        let wanted = [
            "command - high 169 ms, low 2 ms (all time high 169 ms)",
            "--------------------------------------------------------------------------------",
            "                          #                                                     ",
            "          o               |              _              _    _          o       ",
            "     o    | _#  # _# #   _|   #o #  ### #|_   #  _ o # #|  ##| _ # # # o|#o_o#o_",
            "_#__o|_##_|o||__|o||_|##o||_#_||_|o#|||_|||_#_|o#|o|o|#||o#|||o|o|_|o|#|||||||||",
            String(repeating: " ", count: 80),
            "22222222222222222222222222111111111111111111111111111111111111111111111111111111",
            "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm",
            String(repeating: " ", count: 0),
            String(repeating: " ", count: 5),
            String(repeating: " ", count: 5),
            String(repeating: " ", count: 5),
            "##o#_",
            String(repeating: " ", count: 5),
            "11111",
            "mmmmm",
        ]
        #expect(drawn(samples, worst: 169) == wanted)
    }

    @Test func aSingleSampleIsLow() {
        let wanted = [
            "command - high 15 ms, low 15 ms (all time high 20 ms)", String(repeating: "-", count: 80), " ", " ", " ",
            "_", " ", "3", "h",
        ]
        #expect(drawn([(3 * 3600 + 7, 15)], worst: 20) == wanted)
    }

    @Test func agesHaveTheUnitInWhichTheyAreShort() {
        for (seconds, text) in [
            (-1, "0s"), (0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86_399, "23h"),
            (86_400, "1d"),
            (1_000_000, "11d"),
        ] { #expect(LatencyGraph.age(seconds) == text) }
    }
}
