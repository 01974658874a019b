// How far a directory has been read, as INFO tells it.

import KVBase
import KVTestTraits
import Testing

@testable import KVServer

@Suite(.blocking) struct LoadingProgressTests {
    @Test func theRestTakesAsLongAsWhatWasRead() throws {
        let progress = LoadingProgress()
        let second: Nanos = 1_000_000_000
        #expect(progress.figures() == nil)
        progress.begin(total: 1_000, now: 5 * second)
        var figures = try #require(progress.figures(now: 5 * second))
        #expect(figures.total == 1_000 && figures.loaded == 0 && figures.percent == 0 && figures.secondsLeft == 1)
        progress.note(200)
        progress.note(50)
        figures = try #require(progress.figures(now: 8 * second))
        #expect(figures.loaded == 250 && figures.percent == 25 && figures.secondsLeft == 9)
        progress.note(900)
        figures = try #require(progress.figures(now: 8 * second))
        #expect(figures.loaded == 1_000 && figures.percent == 100 && figures.secondsLeft == 1)
        progress.end()
        #expect(progress.figures() == nil)
        progress.begin(total: 0, now: second)
        #expect(progress.figures(now: second)?.percent == 100)
    }
}
