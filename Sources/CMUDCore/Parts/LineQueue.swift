// What the player is asked and what they typed. A part of `GameSession`; on its thread.

import KVBase

/// A command as it was typed; one line may hold several.
struct TypedLine: Equatable {
    let text: String
    /// A semicolon stands before it that was rather meant as one: behind talk, or before what is no word.
    let isCutOff: Bool
}

/// Commands are answered one after the other; those behind the running one wait, at most `linesMax` of them.
struct LineQueue {
    static let linesMax = 20

    private var waiting: [TypedLine] = []
    /// How many things hold the next command back.
    private var underWay = 0
    private var asked = PlayerPrompt.none
    private var question: ((String) -> Void)?

    var prompt: PlayerPrompt { asked }
    var isEmpty: Bool { waiting.isEmpty }
    /// Nothing is being answered and nothing waits.
    var isIdle: Bool { underWay == 0 && waiting.isEmpty }
    var isQuestion: Bool { question != nil }

    /// False, and none of them is taken, when they are too many.
    mutating func add(_ lines: [TypedLine]) -> Bool {
        guard waiting.count + lines.count <= LineQueue.linesMax else { return false }
        waiting += lines
        return true
    }

    /// The next line that may be answered now.
    mutating func next() -> TypedLine? { underWay == 0 && !waiting.isEmpty ? waiting.removeFirst() : nil }

    mutating func clear() { waiting.removeAll() }

    /// The next command waits for as many calls of `finish`.
    mutating func begin() { underWay += 1 }
    mutating func finish() { underWay = max(0, underWay - 1) }

    mutating func show(_ prompt: PlayerPrompt) { asked = prompt }

    /// The next line goes to `answered` instead of being read as a command.
    mutating func ask(_ prompt: PlayerPrompt, _ answered: @escaping (String) -> Void) {
        (asked, question) = (prompt, answered)
    }

    /// Who waits for the line that was typed now.
    mutating func takeQuestion() -> ((String) -> Void)? {
        defer { question = nil }
        return question
    }

    func checkInvariants() {
        check(waiting.count <= LineQueue.linesMax)
        check(underWay >= 0)
    }
}
