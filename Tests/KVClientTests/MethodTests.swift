// What each method sends and how it reads the answer, against a scripted server.

import KVClient
import NIOCore
import Testing

@Suite struct MethodTests {
    @Test func getAnswersValueAndNilForAbsent() async throws {
        try await withServer { exchange in
            exchange.arguments[1] == "there" ? exchange.bulk("yes") : exchange.reply("$-1\r\n")
        } _: { (client, server) async throws in
            #expect(try await client.get("there") == "yes")
            #expect(try await client.get("not there") == nil)
            #expect(server.requests == [["GET", "there"], ["GET", "not there"]])
        }
    }

    @Test func emptyValueIsNotAbsent() async throws {
        try await withServer {
            $0.reply("$0\r\n\r\n")
        } _: { (client, _) async throws in
            #expect(try await client.get("k") == KVBytes())
        }
    }

    @Test func resp3NullIsAbsent() async throws {
        try await withServer {
            $0.reply("_\r\n")
        } _: { (client, _) async throws in
            #expect(try await client.get("k") == nil)
        }
    }

    @Test func anyBytesPassUnchanged() async throws {
        let all = KVBytes((0...255).map { UInt8($0) } + [13, 10, 0, 13, 10])
        try await withServer {
            $0.reply([36] + Array("261\r\n".utf8) + all.array + [13, 10])
        } _: { (client, _) async throws in
            #expect(try await client.get(all) == all)
        }
    }

    @Test func putAsksForTheStamp() async throws {
        try await withServer {
            $0.reply(":1790000000123\r\n")
        } _: { (client, server) async throws in
            #expect(try await client.put("k", "v") == KVStamp(millis: 1_790_000_000_123))
            #expect(server.requests == [["KVD", "PUT", "k", "v"]])
        }
    }

    @Test func deleteTellsWhetherThereWasSomething() async throws {
        try await withServer { exchange in
            exchange.reply(exchange.arguments[1] == "there" ? ":1\r\n" : ":0\r\n")
        } _: { (client, server) async throws in
            #expect(try await client.delete("there"))
            #expect(try await !client.delete("gone"))
            #expect(server.requests == [["DEL", "there"], ["DEL", "gone"]])
        }
    }

    @Test func listSendsWhatWasAskedAndKeepsTheOrder() async throws {
        try await withServer {
            $0.reply("*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$0\r\n\r\n")
        } _: { (client, server) async throws in
            let pairs = try await client.list(prefix: "p/", limit: 7, after: "p/3")
            #expect(pairs == [KVPair(key: "a", value: "1"), KVPair(key: "b", value: "")])
            #expect(try await client.list().count == 2)
            #expect(server.requests == [["LIST", "p/", "LIMIT", "7", "AFTER", "p/3"], ["LIST", ""]])
        }
    }

    @Test func listReadsMapsToo() async throws {
        try await withServer {
            $0.reply("%1\r\n$1\r\na\r\n$1\r\n1\r\n")
        } _: { (client, _) async throws in
            #expect(try await client.list(prefix: "") == [KVPair(key: "a", value: "1")])
        }
    }

    @Test func listOfNothingAsksNobody() async throws {
        try await withFakeStore { (client, server) async throws in
            #expect(try await client.list(prefix: "", limit: 0) == [])
            #expect(server.requests.isEmpty)
        }
    }

    @Test func listAllWalksEveryPage() async throws {
        try await withFakeStore { (client, server) async throws in
            for index in 10..<35 { try await client.put("k/\(index)", "\(index)") }
            try await client.put("other", "x")
            var pages: [Int] = []
            var keys: [String] = []
            for try await page in client.listAll(prefix: "k/", pageEntries: 10).pages {
                pages.append(page.count)
                keys += page.map(\.key.description)
            }
            #expect(pages == [10, 10, 5])
            #expect(keys == (10..<35).map { "k/\($0)" })
        }
    }

    @Test func listAllGivesPairAfterPair() async throws {
        try await withFakeStore { (client, server) async throws in
            for index in 10..<35 { try await client.put("k/\(index)", "\(index)") }
            let before = server.requests.count
            var pairs: [KVPair] = []
            for try await pair in client.listAll(prefix: "k/", pageEntries: 10) {
                // A page is asked for when its first pair is, not before.
                #expect(server.requests.count - before == pairs.count / 10 + 1)
                pairs.append(pair)
            }
            #expect(pairs == (10..<35).map { KVPair(key: KVBytes("k/\($0)"), value: KVBytes("\($0)")) })
            for try await pair in client.listAll(prefix: "none/") { Issue.record("a pair: \(pair)") }
        }
    }

    @Test func getAllAsksForAThousandKeysAtATime() async throws {
        try await withFakeStore { (client, server) async throws in
            try await client.put("a", "1")
            try await client.put("b", "2")
            let before = server.requests.count
            #expect(try await client.getAll(["a", "none", "b", "a"]) == ["a": "1", "b": "2"])
            #expect(server.requests.count == before + 1)
            #expect(try await client.getAll([String]()).isEmpty)
            #expect(server.requests.count == before + 1, "nothing is asked for no keys")
            let many = (0..<2001).map { "k\($0)" } + ["b"]
            #expect(try await client.getAll(many) == ["b": "2"])
            #expect(server.requests.dropFirst(before + 1).map(\.count) == [1001, 1001, 3])
        }
    }

    @Test func valuesAreReadAsWhatTheyAre() async throws {
        try await withFakeStore { (client, _) async throws in
            try await client.put("text", ByteBuffer(string: "größer"))
            #expect(try await client.get("text", as: String.self) == "größer")
            #expect(try await client.get("text", as: ByteBuffer.self) == ByteBuffer(string: "größer"))
            #expect(try await client.get("text", as: [UInt8].self) == Array("größer".utf8))
            #expect(try await client.get("none", as: String.self) == nil)
        }
        try await withServer {
            $0.reply([36, 49, 13, 10, 0xFF, 13, 10])
        } _: { (client, _) async throws in
            let error = await failure { try await client.get("k", as: String.self) }
            #expect(error == .unreadable(key: "k", as: "String"))
            #expect("\(error!)" == "the value of k is no String")
            #expect(error?.mayHaveExecuted == false && error?.isStoreUnavailable == false)
        }
    }

    @Test func listAllOfNothingHasNoPage() async throws {
        try await withFakeStore { (client, _) async throws in
            for try await page in client.listAll(prefix: "none/").pages { Issue.record("a page: \(page)") }
        }
    }

    @Test func listAllWithAFullLastPageEnds() async throws {
        try await withFakeStore { (client, _) async throws in
            for index in 0..<4 { try await client.put("k\(index)", "") }
            var pages = 0
            for try await page in client.listAll(pageEntries: 2).pages { pages += page.isEmpty ? 100 : 1 }
            #expect(pages == 2)
        }
    }

    @Test func sendPassesAnyCommand() async throws {
        try await withServer {
            $0.reply("*3\r\n:1\r\n+PONG\r\n*1\r\n$-1\r\n")
        } _: { (client, server) async throws in
            #expect(
                try await client.send(["ANY", "thing"]) == .array([.integer(1), .status("PONG"), .array([.null])]))
            #expect(server.requests == [["ANY", "thing"]])
        }
    }

    @Test func sendOfNothingIsRefusedHere() async throws {
        let client = KVClient(servers: [.local], configuration: .patient)
        _ = await failure { try await client.send([]) }
    }

    @Test func serverErrorKeepsItsWordsAndTheConnection() async throws {
        try await withServer { exchange in
            exchange.arguments[0] == "GET" ? exchange.bulk("v") : exchange.reply("-ERR value is too large\r\n")
        } _: { (client, server) async throws in
            let error = await failure { try await client.put("k", "v") }
            #expect(error == .server("ERR value is too large"))
            #expect(error?.mayHaveExecuted == false)
            #expect(try await client.get("k") == "v")
            #expect(server.connections == 1)
        }
    }

    @Test func anAnswerOfTheWrongKindIsAnErrorNotACrash() async throws {
        try await withServer {
            $0.reply("*1\r\n:1\r\n")
        } _: { (client, _) async throws in
            _ = await failure { try await client.get("k") }
            _ = await failure { try await client.put("k", "v") }
            _ = await failure { try await client.delete("k") }
            _ = await failure { try await client.list(prefix: "k") }
        }
    }

    @Test func pipelineGoesOutInOrderAndAnswersEachCall() async throws {
        try await withFakeStore { (client, server) async throws in
            let (stamp, before, gone, after, page) = try await client.withPipeline { pipeline in
                let stamp = pipeline.put("a", "1")
                let before = pipeline.get("a")
                let gone = pipeline.delete("a")
                return (stamp, before, gone, pipeline.get("a"), pipeline.list(prefix: ""))
            }
            #expect(try stamp.value.millis > 0)
            #expect(try before.value == "1")
            #expect(try gone.value)
            #expect(try after.value == nil)
            #expect(try page.value == [])
            #expect(server.requests.map { $0[0] } == ["KVD", "GET", "DEL", "GET", "LIST"])
        }
    }

    @Test func pipelineToldErrorsOfItsCallsSeparately() async throws {
        try await withFakeStore { (client, _) async throws in
            let (bad, good) = try await client.withPipeline { ($0.send(["NONSENSE"]), $0.get("absent")) }
            #expect(throws: KVError.server("ERR unknown command 'NONSENSE'")) { try bad.value }
            #expect(try good.value == nil)
        }
    }

    @Test func emptyPipelineAsksNobody() async throws {
        let client = KVClient(servers: [KVAddress(host: "127.0.0.1", port: 1)], configuration: .patient)
        #expect(try await client.withPipeline { $0.count } == 0)
    }

    @Test func pendingBeforeThePipelineRanSaysSo() async throws {
        try await withFakeStore { (client, _) async throws in
            let failed = try await client.withPipeline { pipeline in
                let pending = pipeline.get("k")
                return (try? pending.value) == nil
            }
            #expect(failed)
        }
    }
}

@Suite struct AddressTests {
    @Test(arguments: [
        ("127.0.0.1:6001", "127.0.0.1", 6001), ("[::1]:1", "::1", 1), ("store.example:65535", "store.example", 65535),
    ])
    func readsHostAndPort(text: String, host: String, port: Int) {
        let address = KVAddress(text)
        #expect(address == KVAddress(host: host, port: port))
        #expect(address?.description == text)
    }

    @Test(arguments: [
        "", ":", "host", "host:", ":1", "host:0", "host:65536", "host:x", "::1:1", "h st:1", "host:+1", "a\n:1",
    ])
    func refusesWhatIsNoAddress(text: String) { #expect(KVAddress(text) == nil) }

    @Test func readsLists() {
        #expect(KVAddress.list("a:1,b:2")?.map(\.description) == ["a:1", "b:2"])
        #expect(KVAddress.list(" a:1 , b:2 ")?.map(\.description) == ["a:1", "b:2"])
        for bad in ["", ",", "a:1,", "a:1,,b:2", "a:1 b:2"] { #expect(KVAddress.list(bad) == nil, "\(bad)") }
        #expect(throws: KVError.self) { try KVClient(servers: "nonsense") }
    }

    @Test func textAndBytesAgree() {
        #expect(KVBytes("é") == [0xC3, 0xA9])
        #expect(KVBytes([0xFF]).text == nil)
        #expect(KVBytes("é").text == "é")
        #expect(KVBytes([0xFF]) > KVBytes("zzz"))
        #expect(KVBytes("abc").hasPrefix("ab"))
    }
}
