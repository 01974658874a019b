// The counter of the actor library's documentation: defines messages and an actor, tells it, asks it, prints 3. A
// program.

import KVRuntime

enum CounterMessage: WireMessage {
    case add(Int)
    case read(replyTo: ActorRef<Int>)

    func encode(into writer: inout WireWriter) {
        switch self {
        case .add(let amount): writer.write(0 as UInt8); amount.encode(into: &writer)
        case .read(let replyTo): writer.write(1 as UInt8); replyTo.encode(into: &writer)
        }
    }

    init(from reader: inout WireReader) throws {
        switch try reader.read(UInt8.self) {
        case 0: self = .add(try Int(from: &reader))
        case 1: self = .read(replyTo: try ActorRef(from: &reader))
        default: throw WireError.invalid("not a counter message")
        }
    }
}

struct Counter: Actor {
    private var value = 0

    mutating func receive(_ message: CounterMessage, _ context: ActorContext<CounterMessage>) {
        switch message {
        case .add(let amount): value += amount
        case .read(let replyTo): replyTo.tell(value)
        }
    }
}

@Sendable func count() async throws {
    let system = try ActorSystem()
    let counter = system.start { Counter() }
    counter.tell(.add(1))
    counter.tell(.add(2))
    let value: Int = try await system.ask(counter) { .read(replyTo: $0) }
    print(value)
    system.close()
}

try await CommandLineExample.run(name: "counter-example", job: "tells a counter actor to add, asks it, prints 3", count)
