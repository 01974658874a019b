// What a link believes of its path, fed with what kernels report of paths like that.

import CSupport
import Testing

@testable import KVRuntime

@Suite struct LinkFlowTests {
    /// A path of `trip` ms, a stream of `bytesPerSecond`, seconds of it; the kernel reports `kernelTrip`.
    private func flow(trip: Int64, kernelTrip: (Int64) -> Int64, bytesPerSecond: Int, seconds: Int64) -> LinkFlow {
        var flow = LinkFlow()
        for millis in stride(from: Int64(0), to: seconds * 1000, by: 5) {
            let written = bytesPerSecond * Int(millis) / 1000
            let acknowledged = bytesPerSecond * Int(max(0, millis - trip)) / 1000
            var read = cs_conn_flow()
            read.unacked = UInt32(written - acknowledged)
            read.rate = UInt64(bytesPerSecond)
            read.round_trip = UInt32(kernelTrip(millis) * 1000)
            flow.note(read, held: 0, written: written, millis * 1_000_000)
        }
        return flow
    }

    @Test func aSteadyPathHasNoWindow() {
        let flow = flow(trip: 500, kernelTrip: { _ in 500 }, bytesPerSecond: 100_000, seconds: 30)
        #expect(flow.window == nil)
        #expect(flow.bytesPerSecond == 100_000)
    }

    /// Over a path that loses packets one sample in a hundred may be half the truth: that is no queue.
    @Test func aRoundTripThatWasMeasuredTooShortIsNoQueue() {
        let flow = flow(trip: 500, kernelTrip: { $0 % 500 == 0 ? 247 : 500 }, bytesPerSecond: 100_000, seconds: 30)
        #expect(flow.window == nil)
    }

    @Test func aQueueOnTheWayMakesAWindow() {
        var growing = LinkFlow()
        for millis in stride(from: Int64(0), to: 20_000, by: 5) {
            // The queue grows by 50 ms a second from the second second on.
            let trip = 100 + max(0, millis - 1000) / 20
            let written = 1000 * Int(millis)
            var read = cs_conn_flow()
            read.unacked = UInt32(min(written, 1000 * Int(trip)))
            read.rate = 1_000_000
            read.round_trip = UInt32(trip * 1000)
            growing.note(read, held: 0, written: written, millis * 1_000_000)
        }
        let window = growing.window ?? .max
        #expect(window < 250_000, "\(window) bytes")
    }
}

@Suite struct LeastRoundTripTests {
    @Test func itIsTheShortestTimeFromGivingToAcknowledging() {
        var trips = LeastRoundTrip()
        #expect(trips.leastMillis == nil)
        for (millis, given, acknowledged) in [(0, 10, 0), (300, 30, 0), (520, 30, 10), (900, 60, 30), (1360, 60, 60)] {
            trips.note(given: given, acknowledged: acknowledged, Int64(millis) * 1_000_000)
        }
        #expect(trips.leastMillis == 460)
    }

    @Test func aPathThatBecameLongerIsSeenAfterAWhile() {
        var trips = LeastRoundTrip()
        func stream(from: Int64, to: Int64, trip: Int64) {
            for millis in stride(from: from, to: to, by: 20) {
                trips.note(given: Int(millis) + 1, acknowledged: Int(max(0, millis - trip)), millis * 1_000_000)
            }
        }
        stream(from: 0, to: 10_000, trip: 100)
        #expect((100...120).contains(trips.leastMillis ?? 0))
        stream(from: 10_000, to: 330_000, trip: 300)
        #expect((300...320).contains(trips.leastMillis ?? 0))
    }
}

@Suite struct LinkCongestionTests {
    /// 50 segments a second, `lost` of them in each; what is chosen after each second.
    private func choices(seconds: Int64, _ lost: (Int64) -> UInt32) -> [LinkCongestion.Choice] {
        var congestion = LinkCongestion()
        var read = cs_conn_flow()
        return (1...seconds).map { second in
            read.segments += 50
            read.repeated += lost(second)
            _ = congestion.note(read, isKnownLossy: false, second * 1_000_000_000)
            return congestion.choice
        }
    }

    /// BBR halts a stream for the first time after ten seconds.
    @Test func aPathThatLosesNothingIsKnownBeforeTenSeconds() {
        let choices = choices(seconds: 9) { _ in 0 }
        #expect(choices.first == .system && choices.last == .byLoss)
    }

    @Test func onePacketInAHundredIsNoticed() {
        let choices = choices(seconds: 100) { $0 % 2 == 0 ? 1 : 0 }
        #expect(choices[4] == .system && choices[5] == .byRate && choices.last == .byRate)
        // Once it is calm for a minute that is over.
        let calmed = self.choices(seconds: 200) { $0 < 100 && $0 % 2 == 0 ? 1 : 0 }
        #expect(calmed[150] == .byRate && calmed[160] == .byLoss)
    }

    /// Slow start fills a queue beyond its end; a single loss happens anywhere.
    @Test func aFewLossesAreNone() {
        #expect(choices(seconds: 60) { $0 <= 2 ? 15 : 0 }.last == .byLoss)
        #expect(!choices(seconds: 100) { $0 % 10 == 0 ? 1 : 0 }.contains(.byRate))
    }

    @Test func whatIsAskedOfTheKernel() {
        var congestion = LinkCongestion()
        #expect(congestion.wanted("bbr").isEmpty && congestion.wanted("cubic").isEmpty)
        var read = cs_conn_flow()
        read.segments = 1
        let isChanged = congestion.note(read, isKnownLossy: true, 1)
        #expect(isChanged && congestion.wanted("cubic") == ["bbr"] && congestion.wanted("bbr").isEmpty)
    }
}
