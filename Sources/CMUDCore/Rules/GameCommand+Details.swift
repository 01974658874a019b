// What `help COMMAND` adds to the one line that `help` has: numbers, limits, what follows. Pure text, any thread.

extension GameCommand {
    package var details: String {
        switch self {
        case .mine:
            "A try takes 2 to 4 s and finds a block nine times in ten, worth 1 coin up to your power; each other miner in "
                + "the room adds 5 in 100. N is at most 100; talking and looking work meanwhile."
        case .stop: "The try under way is given up; what was found or solved before it is yours already."
        case .shop: "It comes with you everywhere. A unit's price grows by 15 % with each one you own."
        case .buy:
            "`buy cpu` buys as many as you can pay, `buy cpu 2` two, `buy max` spends all on whatever gives most "
                + "power for the coins. Better hardware is sold from each rank on."
        case .coffee:
            "A cup lasts 60 tries of any kind, each a quarter shorter, but hands shake: 5 more steps in 100 break "
                + "something. It costs three times your power in coins, and everybody in the room gets one."
        case .study:
            "A try brings 4 insight nine times in ten, and 1 more for each other person who studies in the room, up to 8."
        case .learn:
            "A lesson takes 60 insight. Each further one in a subject adds half of the one before. Alone it shows what "
                + "you know and what each would add."
        case .inv: "Power is what counts: a GPU is worth 10 CPUs, an ASIC 100, and so on by tens."
        case .solve:
            "A step takes 2 to 4 s and does as much work as your power, if nothing breaks: one step in ten costs a "
                + "quarter of one kind of your machines. A long run stops by itself when a quarter of your power is lost."
        case .problem:
            "Everybody of your rank works on the same one. You rise when it is solved and a tenth of one is your work; "
                + "what you did for an earlier one counts."
        case .resign: "Mining and walking are only possible away from the whiteboard."
        case .mentor: "A fifth of your power goes into each step, and nothing of yours can break."
        case .story: "In full telling any key shows the rest at once."
        case .hint: "It looks at what you have and says the next good step, whether hints are on or off."
        case .hints: "Without a word it says which they are. They are kept with your character."
        case .say: "At most 240 characters. `;;` writes a semicolon, a single `;` begins the next command."
        case .emote: "What you type follows your name, so it reads best in the third person."
        case .tell: "The beginning of a name is enough if it fits only one. The last eight to each person are kept."
        case .reply: "It goes to whoever told you something last, wherever both of you are by now."
        case .shout: "Everybody who is online hears it, whatever room they are in."
        case .who: "Link lost means that nothing was heard of somebody for 15 s; after a minute they are not shown."
        case .where: "It asks the store anew each time."
        case .gift: "At most a tenth of all you ever earned on one day, and never to yourself."
        case .ignore: "Without a name it lists whom you ignore. They are not told."
        case .unignore: "What they said meanwhile is not shown afterwards."
        case .away: "`away` alone ends it again. Tells reach you all the same."
        case .history: "It counts what was said or done where you were, at most 200 lines of this session."
        case .look: "Of a person: rank, what they do, since when, and how long ago they typed."
        case .map: "With `all` also who was last seen where, and how long ago."
        case .move: "The place alone is enough: `fence`, `5`. Others see you leave and arrive."
        case .stats: "Of somebody else it shows all but the coins."
        case .scores: "A `?` marks a record that play cannot have produced. The retired stand in a hall of fame."
        case .paint: "One coat every five minutes each; all who come by read the last one, and who it was."
        case .help: "`help people` lists a group: play, people, world, session."
        case .set: "Alone it lists all settings; a setting without a word says how it is."
        case .brief: "Without a word it says which. Brief leaves out what a place looks like, not who is there."
        case .password: "It is asked for twice and never shown. An empty one opens the name to everybody."
        case .rename: "It takes four seconds, in which other servers may object. The old name is free again."
        case .quit: "The end of the input, Ctrl-D and closing the window do the same."
        }
    }
}
