// The example of the tutorial Sources/KVRuntime/KVRuntime.docc/TwoProcesses.md, word for word: an actor in one process
// is told and asked from another. A program: `visits-example serve`, then `visits-example visit UID NAME`.

import Glibc
import KVRuntime

enum VisitMessage: WireMessage {
    case visit(by: String)
    case count(replyTo: ActorRef<Int>)

    func encode(into writer: inout WireWriter) {
        switch self {
        case .visit(let name): writer.write(0 as UInt8); name.encode(into: &writer)
        case .count(let replyTo): writer.write(1 as UInt8); replyTo.encode(into: &writer)
        }
    }

    init(from reader: inout WireReader) throws {
        switch try reader.read(UInt8.self) {
        case 0: self = .visit(by: try String(from: &reader))
        case 1: self = .count(replyTo: try ActorRef(from: &reader))
        default: throw WireError.invalid("not a visit message")
        }
    }
}

struct Visits: Actor {
    private var names: [String] = []

    mutating func receive(_ message: VisitMessage, _ context: ActorContext<VisitMessage>) {
        switch message {
        case .visit(let name): names.append(name)
        case .count(let replyTo): replyTo.tell(names.count)
        }
    }
}

@Sendable func trust() throws -> LinkTrust {
    guard let key = getenv("VISITS_KEY") else { return .network }
    return try LinkTrust(keys: String(cString: key))
}

@Sendable func serve() throws {
    let system = try ActorSystem(listen: "127.0.0.1:0", cluster: "visits", trust: trust())
    let visits = system.start { Visits() }
    print(visits.uid)
    fflush(nil)
    while readLine() != nil {}
    system.close()
}

@Sendable func visit(_ uid: String, _ name: String) async throws {
    guard let visits = ActorRef<VisitMessage>(uid: uid) else { throw WireError.invalid("\(uid) names no actor") }
    let system = try ActorSystem(listen: "127.0.0.1:0", cluster: "visits", trust: trust())
    system.tell(visits, .visit(by: name))
    let count: Int = try await system.ask(visits) { .count(replyTo: $0) }
    print(count)
    system.close()
}

switch CommandLine.arguments.dropFirst().first {
case "serve": try serve()
case "visit" where CommandLine.arguments.count == 4: try await visit(CommandLine.arguments[2], CommandLine.arguments[3])
default: print("USAGE: visits-example serve | visit UID NAME")
}
