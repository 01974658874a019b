// Sends what a file holds to the server, in batches. Main task.

import ArgumentParser
import KVBase
import KVClient
import KVFiles

struct Importer {
    /// Of one batch, which is one pipeline.
    private static let batchCommandsMax = 512
    private static let batchBytesMax = 1024 * 1024
    /// Refusals that are told one by one.
    private static let refusalsTold = 5
    /// With these the server takes nothing at all.
    private static let endings = [
        "MISCONF", "OOM", "LOADING", "LEAVING", "LAG", "CLOCK", "NOAUTH", "NOPERM", "READONLY",
    ]

    private let client: KVClient
    private let options: CommonOptions
    private let pace: ImportPace

    init(_ client: KVClient, _ options: CommonOptions, _ pace: ImportPace) {
        (self.client, self.options, self.pace) = (client, options, pace)
    }

    private struct Tally {
        var refused = 0
        var isShort: FileFault?
    }

    func run(_ path: String) async throws {
        var sieve = ImportSieve()
        var tally = Tally()
        if DataFolder.isOne(path) {
            // Verified first, as any other file.
            let check = try DataCheck(path)
            if let damage = check.lines.first(where: \.isDamage) { throw FileFault(path, damage.text) }
            try await send(try PairCursor(DataFolder(path), now: Terminal.nowMillis), of: nil, &sieve, &tally)
        } else {
            let file = try ImportFile(path: path)
            if file.bytes != nil {
                let all = ImportCursor(file, checksOnly: true)
                while let item = try all.next() { sieve.look(item) }
            }
            try await send(ImportCursor(file), of: file.bytes, &sieve, &tally)
        }
        report(path, sieve, tally)
        if tally.refused > 0 { throw ExitCode(Runner.failed) }
    }

    /// The second pass: batch by batch, no faster than wanted.
    private func send(
        _ items: any ItemSource, of total: Int?, _ sieve: inout ImportSieve, _ tally: inout Tally
    ) async throws {
        let start = ContinuousClock.now
        var progress = ProgressLine(total: total)
        var batch: [ImportSieve.Sending] = []
        var (bytes, sent) = (0, 0)
        while let item = try items.next() {
            guard let sending = sieve.take(item, now: Terminal.nowMillis) else { continue }
            if let last = batch.last,
                last.database != sending.database || bytes >= Importer.batchBytesMax
                    || batch.count >= Importer.batchCommandsMax
            {
                tally.refused += try await deliver(batch, after: sent)
                sent += batch.count
                batch.removeAll(keepingCapacity: true)
                bytes = 0
                progress.show(at: items.bytesRead, keys: sent)
                try await wait(sent, since: start)
            }
            bytes += sending.arguments.reduce(16) { $0 + $1.count + 16 }
            batch.append(sending)
        }
        tally.refused += try await deliver(batch, after: sent)
        tally.isShort = items.short
        progress.clear()
    }

    private func wait(_ sent: Int, since start: ContinuousClock.Instant) async throws {
        guard let rate = pace.rate else { return }
        try await Task.sleep(until: start + .seconds(Double(sent) / Double(rate)), clock: .continuous)
    }

    /// Returns how many the server refused.
    private func deliver(_ batch: [ImportSieve.Sending], after sent: Int) async throws -> Int {
        guard let database = batch.first?.database else { return 0 }
        let results: [KVPending<KVReply>]
        do {
            results = try await client.withPipeline { pipeline in
                let before = pipeline.send(["SELECT", KVBytes("\(database)")])
                let all = batch.map { pipeline.send($0.arguments.map { KVBytes($0.array) }) }
                pipeline.send(["SELECT", "0"])
                return [before] + all
            }
        } catch {
            throw FileFault(
                "after \(sent) keys", "\(Runner.advice(error)); run it again: what was written is written once more")
        }
        _ = try results[0].value
        var refused = 0
        for (result, sending) in zip(results.dropFirst(), batch) {
            do throws(KVError) { _ = try result.value } catch {
                guard case .server(let text) = error else { throw error }
                if Importer.endings.contains(where: { text.hasPrefix($0 + " ") }) {
                    throw FileFault("after \(sent) keys", "the server refuses writes: \(text)")
                }
                refused += 1
                if refused <= Importer.refusalsTold {
                    let key = sending.arguments.count > 1 ? sending.arguments[1] : ""
                    Terminal.complain("refused: \(Text.escaped(KVBytes(key.array))): \(Text.escaped(KVBytes(text)))")
                }
            }
        }
        return refused
    }

    private func report(_ path: String, _ sieve: ImportSieve, _ tally: Tally) {
        let leftOut = sieve.leftOut.sorted { $0.key < $1.key }
        if options.json {
            let rows = leftOut.map { "\(Text.json($0.key)):\($0.value)" }.joined(separator: ",")
            return Terminal.write(
                "{\"written\":\(sieve.sent - tally.refused),\"refused\":\(tally.refused),\"expired\":\(sieve.expired),"
                    + "\"flushed\":\(sieve.flushed),\"left_out\":{\(rows)}}\n")
        }
        Terminal.write("\(path): \(sieve.sent - tally.refused) written\n")
        if sieve.expired > 0 { Terminal.write("expired already: \(sieve.expired)\n") }
        if sieve.flushed > 0 { Terminal.write("before a FLUSHALL or FLUSHDB: \(sieve.flushed)\n") }
        for (what, count) in leftOut { Terminal.write("left out, \(what): \(count)\n") }
        if tally.refused > 0 { Terminal.complain("\(tally.refused) refused by the server") }
        if let fault = tally.isShort {
            Terminal.complain("\(fault); what is before was taken, as Redis does")
        }
    }
}
