// A smoke of the fuzz targets with fixed seeds, and proof that it notices. In process, but for `links`.

import FuzzSupport
import KVCore
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

    @Test(arguments: [(FuzzTarget.members, 12), (.links, 600), (.handshake, 600)])
    func whoIsNoHonestMemberDoesNoHarm(_ target: FuzzTarget, inputs: Int) {
        let failure = target.run(seed: 1, inputs: inputs)
        #expect(
            failure == nil,
            "kv-fuzz \(target.name) --seed 1 --from \(failure?.index ?? 0) --inputs 1\n\(failure?.message ?? "")")
    }

    @Test(.enabled(if: PlantedMistakes.isPossible)) func anEntryInTheVictimsNameIsNoticed() {
        #expect(FuzzTarget.membersCanary.run(seed: 1, inputs: 12) != nil)
    }

    @Test func aForgottenWriteIsNoticed() {
        #expect(FuzzTarget.commandsCanary.run(seed: 1, inputs: 150) != nil)
    }
}
