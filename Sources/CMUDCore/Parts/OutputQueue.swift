// What the front end is to show. A part of `GameSession`; on its thread.

import KVBase

/// Outputs in order, each with the mark whether it answers a command; and the rest of a chapter that is told line by
/// line.
struct OutputQueue {
    /// Lines of a chapter and of what follows it; beyond it the chapter is told at once.
    static let heldMax = 1_000

    private var unshown: [Output] = []
    private var chapter: [Event] = []
    private var isAnswer = false
    private var isSpoken: Bool

    /// `isReader`: for a screen reader.
    init(isReader: Bool) { isSpoken = isReader }

    var isReader: Bool { isSpoken }
    /// Whether what is emitted now answers a command.
    var isAnswering: Bool { isAnswer }
    /// A chapter is being told that any key may cut short.
    var isTelling: Bool { !chapter.isEmpty }

    mutating func setReader(_ isReader: Bool) { isSpoken = isReader }

    /// Changes the mark and returns the one before.
    mutating func mark(_ isAnswering: Bool) -> Bool {
        defer { isAnswer = isAnswering }
        return isAnswer
    }

    /// A chapter is told in one piece: what the player is answered meanwhile follows it.
    mutating func emit(_ event: Event) {
        if chapter.count >= OutputQueue.heldMax { tellRest() }
        if isTelling, isAnswer || event.isHint { return chapter.append(event) }
        show(event)
    }

    private mutating func show(_ event: Event) { unshown.append(Output(event: event, isAsync: !isAnswer)) }

    mutating func tell(_ lines: [Event]) { chapter = lines }

    /// Shows the next line of the chapter. False when there is none.
    mutating func tellNext() -> Bool {
        guard isTelling else { return false }
        show(chapter.removeFirst())
        return true
    }

    /// The rest of the chapter at once.
    mutating func tellRest() {
        for event in chapter { show(event) }
        chapter = []
    }

    mutating func take() -> [Output] {
        defer { unshown.removeAll() }
        return unshown
    }

    func checkInvariants() { check(chapter.count <= OutputQueue.heldMax) }
}
