// The parts a simulated world is made of: event queue, clocks, random streams, network, pace, report lines.
import KVBase
import KVCore
import KVSim
import KVTestTraits
import Testing

@Suite("Parts of the simulated world", .blocking)
struct WorldPartsTests {
    @Test("events come out by time, equal times in the order they were put in")
    func queueOrder() {
        var random = PRNG(seed: 7)
        var queue = SimQueue()
        for number in 0..<2_000 { queue.push(.tick, at: SimTime(random.below(50)), number) }
        var last = (time: SimTime(-1), number: Int32(-1))
        var count = 0
        while let event = queue.pop() {
            #expect(event.time > last.time || (event.time == last.time && event.a > last.number))
            last = (time: event.time, number: event.a)
            count += 1
        }
        #expect(count == 2_000)
    }

    @Test("a wall clock steps, drifts, stands still, runs backwards and is set right")
    func clocks() {
        var clock = SimClock(monotonicPPM: 100, monotonicBase: 5 * simSecond)
        #expect(clock.wallMillis(at: 2 * simSecond) == simEpochMillis + 2_000)
        clock.step(at: 2 * simSecond, byMillis: -500)
        #expect(clock.errorMillis(at: 3 * simSecond) == -500)
        clock.setRate(at: 3 * simSecond, ppm: -1_000_000)
        #expect(clock.wallMillis(at: 3 * simSecond) == clock.wallMillis(at: 9 * simSecond))
        clock.setRate(at: 9 * simSecond, ppm: -2_000_000)
        #expect(clock.wallMillis(at: 10 * simSecond) < clock.wallMillis(at: 9 * simSecond))
        clock.correct(at: 10 * simSecond)
        #expect(clock.errorMillis(at: 20 * simSecond) == 0)
        #expect(clock.monotonicMillis(at: 1_000 * simSecond) == 1_005_100)
    }

    @Test("one seed gives one set of options, and seeds differ")
    func options() {
        let first = SimOptions.swarm(seed: 11)
        #expect(first.description == SimOptions.swarm(seed: 11).description)
        let all = (1..<200).map { SimOptions.swarm(seed: $0) }
        #expect(Set(all.map(\.description)).count == all.count)
        #expect(all.contains { $0.profile == .calm } && all.contains { $0.profile == .lossy })
        for (fault, name) in SimFaults.names {
            #expect((1..<2_000).contains { SimOptions.swarm(seed: $0).faults.contains(fault) }, "\(name) never")
        }
    }

    @Test("the eleventh message within a closed second breaks the pace, the eleventh after it does not")
    func pace() {
        var pace = SimPace(slots: 2)
        for number in 0..<30 {
            #expect(pace.note(from: 0, to: 1, server: nil, now: SimTime(number) * 105 * simMillisecond) == nil)
        }
        var fast = SimPace(slots: 2)
        var broken = false
        for number in 0..<11 {
            broken = fast.note(from: 0, to: 1, server: nil, now: SimTime(number) * 100 * simMillisecond) != nil
        }
        #expect(broken)
        var two = SimPace(slots: 2)
        #expect(two.note(from: 0, to: 5, server: 1, now: 0) == nil)
        #expect(two.note(from: 0, to: 6, server: 1, now: 0)?.invariant == "I6")
    }

    @Test("a stream link keeps order and holds back during a cut; a reset loses what is in flight")
    func network() {
        var options = SimOptions(seed: 1)
        options.servers = 2
        options.actors = [1, 1]
        var random = SimRandom(seed: 1).network
        let network = SimNetwork(options: options, random: &random)
        var queue = SimQueue()
        func send(_ byte: UInt8, _ now: SimTime) {
            let message = SimMessage(
                from: ActorUID(server: 1, index: 1), to: ActorUID(server: 2, index: 1), fromSlot: 0, toSlot: 1,
                bytes: [byte])
            network.send(message, now: now, queue: &queue, random: &random)
        }
        for byte in 0..<50 { send(UInt8(byte), SimTime(byte)) }
        var arrived: [UInt8] = []
        while let event = queue.pop() {
            if let message = network.arrive(Int(event.a), now: event.time, random: &random) {
                arrived += message.bytes
            }
        }
        #expect(arrived == Array(0..<50))
        network.block(0, 1)
        send(99, simSecond)
        let event = queue.pop()!
        #expect(network.arrive(Int(event.a), now: event.time, random: &random) == nil)
        network.reset(0, 1, now: event.time)
        #expect(network.counters.lost == 1)
    }

    @Test("an outcome survives its line of text")
    func reportLine() {
        var outcome = SimOutcome(seed: 42)
        outcome.traceHash = 0xDEAD_BEEF
        outcome.events = 5
        outcome.simulatedMillis = 777
        outcome.points.hit("scan asked", 3)
        outcome.points.hit("net: lost")
        let calm = SimOutcome(line: Substring(outcome.line))
        #expect(calm?.traceHash == 0xDEAD_BEEF && calm?.violation == nil && calm?.points.count("scan asked") == 3)
        outcome.violation = SimViolation("I7", "key with spaces\nand lines")
        let broken = SimOutcome(line: Substring(outcome.line))
        #expect(broken?.violation?.invariant == "I7" && broken?.violation?.detail == "key with spaces and lines")
        #expect(SimOutcome(line: "S 42") == nil)
    }
}
