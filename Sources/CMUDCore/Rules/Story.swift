// The chapters of the story and the problems of each rank. Pure text, any thread.

package struct Chapter: Sendable {
    package let title: String
    package let lines: [String]

    /// The chapter that opens when somebody reaches `rank`.
    package static func of(_ rank: Rank) -> Chapter {
        switch rank {
        case .undergraduate: opening
        case .masters: masters
        case .phd: phd
        case .postdoc: postdoc
        case .professor: professor
        case .retired: retired
        }
    }

    private static let opening = Chapter(
        title: "Chapter 1: Auditing",
        lines: [
            "Pittsburgh, January 2010. It has been snowing since Tuesday, and the bus has not.",
            "You are an Undergraduate, and you are auditing 15-440, Distributed Systems: no grade, all the homework.",
            "The first handout says: pick a problem, get more machines, try not to lose any data.",
            "In the back row somebody whispers about coins you can make out of electricity.",
            "A pizza was priced in them last week. It was not a cheap pizza, and it will never get cheaper.",
            "Your laptop is old, warm and willing. The sockets on floor 5 are free.",
            "One day they will call you Professor. Tonight you have one CPU.",
            "Type `mine` to put it to work.",
        ])

    private static let masters = Chapter(
        title: "Chapter 2: Masters",
        lines: [
            "The grader accepted every byte exactly once. It printed 100/100 and then, unprompted, \"nice\".",
            "You are a Masters student now. This comes with a key to a cluster and a smaller desk.",
            "Word in the corridor: graphics cards do the same sums, ten at a time, and hotter.",
            "The shop has put GPUs in the window. Your next problem is many times the size of the last.",
        ])

    private static let phd = Chapter(
        title: "Chapter 3: PhD",
        lines: [
            "Five laptops agreed on lunch. Four of them crashed first, and the agreement held.",
            "Your advisor read the write-up on a plane and answered with one word: \"Generalize.\"",
            "You are a PhD student. Time is now measured in submissions.",
            "A fab overseas will etch your one idea into silicon, if you order enough of it: ASICs.",
        ])

    private static let postdoc = Chapter(
        title: "Chapter 4: PostDoc",
        lines: [
            "The replicas converged. You checked again with the cable pulled. They converged then, too.",
            "The committee asked one question, argued about it among themselves, and forgot to ask another.",
            "You are a PostDoc: all of the freedom, some of the salary, none of the parking.",
            "On floor 1 a machine has arrived that is in the room and, in a sense, also not. Quantum.",
        ])

    private static let professor = Chapter(
        title: "Chapter 5: Professor",
        lines: [
            "The grant ran out on the day the simulation finished. The last line of its log said: snow.",
            "It is snowing. You are a Professor. Somebody has left an apple on your desk, or a whole laptop.",
            "There is one problem left on your list, and it was there when you came.",
            "The physicists upstairs owe you a favour, and pay in dark matter.",
        ])

    private static let retired = Chapter(
        title: "Epilogue: Emeritus",
        lines: [
            "You wrote the last line of the proof, stepped back, and waited for the catch. There is none.",
            "They hang your picture on floor 9. In it you are holding a laptop with one CPU.",
            "You are Retired, with an office for life and nothing due on Friday.",
            "In the Commons a new row of laptops hums, old, warm and willing. Somebody there could use a `mentor`.",
        ])
}

/// What a problem is about, once per rank.
package struct Puzzle: Sendable {
    package let title: String
    package let text: String
    /// What it looks like when nothing comes of a step.
    package let stuck: [String]

    package static func of(_ rank: Rank) -> Puzzle {
        switch rank {
        case .undergraduate: exactlyOnce
        case .masters: lunch
        case .phd: convergence
        case .postdoc: weather
        case .professor, .retired: classes
        }
    }

    private static let exactlyOnce = Puzzle(
        title: "Exactly once",
        text: "The grader's network drops one packet in five, repeats one in seven, and delivers the rest when it "
            + "feels like it. Make every message arrive, once, in order. Test cases are cheap; there are many.",
        stuck: [
            "The acknowledgement of the acknowledgement got lost.",
            "It works on localhost. It only works on localhost.",
            "You wait for a timeout. It is a long timeout.",
        ])

    private static let lunch = Puzzle(
        title: "Five laptops and a lunch",
        text: "Five machines must agree where to eat. Any two may crash, none may be left behind, and whatever they "
            + "decide they must all have decided. Enumerate the interleavings; all of them.",
        stuck: [
            "Two leaders were elected. They have formed a committee.", "The quorum went out for coffee.",
            "You found the bug in the proof that there is no bug.",
        ])

    private static let convergence = Puzzle(
        title: "Everybody ends up agreeing",
        text: "A store on four continents takes writes everywhere, at once, with clocks that lie. Show by exhaustion "
            + "that when the shouting stops, all replicas hold the same values. Exhaustion is meant literally.",
        stuck: [
            "Two clocks ran backwards and met in the middle.", "Reviewer 2 asks for one more continent.",
            "The merge is associative, commutative and, at this hour, inscrutable.",
        ])

    private static let weather = Puzzle(
        title: "Weather on the Cut",
        text: "The grant pays for one simulation: every snowflake over the lawn between here and the library, for one "
            + "winter, to one decimal. The reviewers will go outside and check.",
        stuck: [
            "A snowflake was simulated twice. They are not supposed to be alike.",
            "The queue for the big machine moved. Back.",
            "Floating point disagreed with itself and both sides have a point.",
        ])

    private static let classes = Puzzle(
        title: "The one on everybody's list",
        text:
            "Is finding harder than checking? People you admire have looked at it until they smiled at bus stops. You "
            + "have tenure, friends with machines, and a whiteboard that takes up a wall.",
        stuck: [
            "The proof is complete, except for the part that is the proof.", "It relativizes. They always relativize.",
            "You explain it to the robot on floor 2. It asks a good question.",
        ])
}
