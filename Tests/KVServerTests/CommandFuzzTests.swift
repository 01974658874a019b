// A smoke of the fuzz targets `commands`, `frames`, `rights` and `records` with fixed seeds, and proof that it notices.
// In process.

import FuzzSupport
import KVTestSupport
import KVTestTraits
import Testing

@Suite(.blocking) struct CommandFuzzTests {
    @Test func sequencesAgreeWithTheModel() {
        let failure = FuzzTarget.commands.run(seed: 1, inputs: 150)
        #expect(
            failure == nil,
            "kv-fuzz commands --seed 1 --from \(failure?.index ?? 0) --inputs 1\n\(failure?.message ?? "")")
    }

    @Test func damagedFramesDoNoHarm() {
        let failure = FuzzTarget.frames.run(seed: 1, inputs: 40)
        #expect(
            failure == nil,
            "kv-fuzz frames --seed 1 --from \(failure?.index ?? 0) --inputs 1\n\(failure?.message ?? "")")
    }

    @Test func rulesAreRefusedOrReadBack() {
        let failure = FuzzTarget.rights.run(seed: 1, inputs: 1500)
        #expect(
            failure == nil,
            "kv-fuzz rights --seed 1 --from \(failure?.index ?? 0) --inputs 1\n\(failure?.message ?? "")")
    }

    @Test func recordsAreTheSameHoweverTheyAreCut() {
        let failure = FuzzTarget.records.run(seed: 1, inputs: 400)
        #expect(
            failure == nil,
            "kv-fuzz records --seed 1 --from \(failure?.index ?? 0) --inputs 1\n\(failure?.message ?? "")")
    }

    @Test func aLostByteIsNoticed() {
        #expect(FuzzTarget.recordsCanary.run(seed: 1, inputs: 400) != nil)
    }

    @Test func aForgottenWriteIsNoticed() {
        #expect(FuzzTarget.commandsCanary.run(seed: 1, inputs: 150) != nil)
    }
}
