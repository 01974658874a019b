// GET, SET and their many-key forms. The single-key ones have a shorter way in Batch.swift. Loop thread.

import KVBase
import KVCore
import RESP

extension Commands {
    @Sendable static func get(_ x: inout Execution) {
        let key = x.argument(1)
        guard x.acceptsKey(key) else { return }
        if let large = Batch.get(x.store.key(key), on: x.shard.state, x.output, resp3: x.resp3) {
            x.session.continuation = LargeReply([large.retained()])
        }
    }

    @Sendable static func set(_ x: inout Execution) {
        let key = x.argument(1)
        guard x.acceptsKey(key) else { return }
        if x.count > 3 {
            guard let options = SetOptions(x) else { return }
            if LargeSet.isNeeded(x, value: 2, options) { return x.session.state.pointee[.beforeLongCommand] = true }
            return set(&x, options)
        }
        guard x.argument(2).count < LargeSet.valueBytesMin || x.session.isGuest else {
            x.session.state.pointee[.beforeLongCommand] = true
            return
        }
        Batch.set(x.store.key(key), x.argument(2), on: x.shard.state, x.output)
    }

    @Sendable static func strlen(_ x: inout Execution) {
        let key = x.argument(1)
        guard x.acceptsKey(key) else { return }
        let record = x.store.get(x.store.key(key), now: x.nowMillis)
        x.output.pointee.integer(record?.valueCount ?? 0)
    }

    /// GETRANGE and SUBSTR.
    @Sendable static func getrange(_ x: inout Execution) {
        guard var first = x.integer(2), var last = x.integer(3) else {
            return x.error("ERR value is not an integer or out of range")
        }
        let key = x.argument(1)
        guard x.acceptsKey(key) else { return }
        let value = x.get(x.store.key(key))?.value ?? UnsafeRawBufferPointer(start: nil, count: 0)
        if first < 0, last < 0, first > last { return x.output.pointee.bulk("") }
        first = max(0, first < 0 ? value.count + first : first)
        last = min(value.count - 1, max(0, last < 0 ? value.count + last : last))
        if first > last { return x.output.pointee.bulk("") }
        x.shard.state.pointee.budget.spend(TurnBudget.units(bytes: last - first))
        x.output.pointee.bulk(UnsafeRawBufferPointer(rebasing: value[first...last]))
    }

    /// In one go when the reply is small, else in slices.
    @Sendable static func mget(_ x: inout Execution) {
        guard acceptsKeys(x, step: 1) else { return }
        let (shard, keys) = (x.shard.state, x.batch.range(x.command, 1, x.count))
        let (before, hits, misses) = (
            x.output.pointee.count, shard.pointee.counters.hits, shard.pointee.counters.misses
        )
        let resp3 = x.resp3
        var isLarge = false
        x.output.pointee.arrayHeader(x.count - 1)
        whileKeys(x, keys, step: 1) { key, _ in
            let large = Batch.get(key, on: shard, x.output, resp3: resp3)
            isLarge = large != nil || x.output.pointee.count &- before > LargeSet.valueBytesMin
            return !isLarge
        }
        shard.pointee.budget.spend(TurnBudget.units(bytes: x.output.pointee.count &- before))
        guard isLarge else { return }
        x.output.pointee.count = before
        (shard.pointee.counters.hits, shard.pointee.counters.misses) = (hits, misses)
        x.output.pointee.arrayHeader(x.count - 1)
        x.session.continuation = LargeReply(records(x, keys))
    }

    @Sendable static func mset(_ x: inout Execution) {
        guard x.count % 2 == 1 else { return x.wrongArity("mset") }
        guard acceptsKeys(x, step: 2) else { return }
        let isDone = mset(&x, x.batch.range(x.command, 1, x.count))
        isDone ? x.output.pointee.ok() : x.error(ShardState.clockError)
    }

    @Sendable static func exists(_ x: inout Execution) {
        guard acceptsKeys(x, step: 1) else { return }
        x.output.pointee.integer(exists(&x, x.batch.range(x.command, 1, x.count)))
    }

    @Sendable static func del(_ x: inout Execution) {
        guard acceptsKeys(x, step: 1) else { return }
        let (deleted, isRefused, ask) = del(&x, x.batch.range(x.command, 1, x.count))
        if let ask { return x.session.continuation = HomeDelete(ask, deleted, isRefused: isRefused) }
        isRefused ? x.error(ShardState.clockError) : x.output.pointee.integer(deleted)
    }

    // The work on a range of arguments, for whole commands and for the slices of long ones. Keys are hashed 64 at a
    // time, and their memory is asked for a little ahead of each.

    /// What the keys have now, for a reply in slices: retained.
    static func records(_ x: Execution, _ range: Range<Int>) -> [Record?] {
        var records: [Record?] = []
        forEachKey(x, range, step: 1) { key, _ in
            records.append(x.store.get(key, now: x.nowMillis)?.retained())
        }
        let found = records.reduce(0) { $0 + ($1 == nil ? 0 : 1) }
        x.shard.state.pointee.counters.hits &+= found
        x.shard.state.pointee.counters.misses &+= range.count - found
        return records
    }

    /// False if a key is left as it was, because others would refuse the stamp.
    static func mset(_ x: inout Execution, _ range: Range<Int>) -> Bool {
        let now = x.nowMillis
        var isDone = true
        forEachKey(x, range, step: 2) { key, k in
            if x.store.put(key, value: x.batch.argument(k + 1), now: now) == nil { isDone = false }
        }
        return isDone
    }

    static func exists(_ x: inout Execution, _ range: Range<Int>) -> Int {
        var found = 0
        forEachKey(x, range, step: 1) { key, _ in
            if x.store.get(key, now: x.nowMillis) != nil { found += 1 }
        }
        x.shard.state.pointee.counters.hits &+= found
        x.shard.state.pointee.counters.misses &+= range.count - found
        return found
    }

    /// Deletes those of the keys that are here and have their home here, and asks the homes of the others that are
    /// here: only there it is certain who deletes a key first. `isRefused`: a key is left as it was, because others
    /// would refuse the stamp.
    static func del(_ x: inout Execution, _ range: Range<Int>) -> (deleted: Int, isRefused: Bool, ask: HomeAsk?) {
        let now = x.nowMillis
        let homes = x.session.isGuest ? nil : x.shard.homes
        var (deleted, isRefused, elsewhere) = (0, false, [Int: [Bytes]]())
        forEachKey(x, range, step: 1) { key, _ in
            if let homes, x.get(key) != nil {
                let home = homes.home(of: key.view, x.store)
                if home != x.shard.index { return elsewhere[home, default: []].append(Bytes(key.view.bytes)) }
            }
            if x.store.delete(key, now: now) != nil { deleted += 1 } else if x.get(key) != nil { isRefused = true }
        }
        guard let homes, !elsewhere.isEmpty else { return (deleted, isRefused, nil) }
        return (deleted, isRefused, HomeDelete.ask(x, homes, elsewhere))
    }

    /// Checks every key's length before anything is read or written, so that such a command fails as a whole.
    static func acceptsKeys(_ x: Execution, step: Int) -> Bool {
        var k = 1
        while k < x.count {
            guard x.acceptsKey(x.argument(k)) else { return false }
            k += step
        }
        return true
    }

    @inline(__always)
    private static func forEachKey(
        _ x: Execution, _ range: Range<Int>, step: Int, _ body: (HashedKey, Int) -> Void
    ) {
        whileKeys(x, range, step: step) {
            body($0, $1)
            return true
        }
    }

    /// Until `body` returns false.
    @inline(__always)
    private static func whileKeys(
        _ x: Execution, _ range: Range<Int>, step: Int, _ body: (HashedKey, Int) -> Bool
    ) {
        let shard = x.shard.state
        var next = range.lowerBound
        while next < range.upperBound {
            let end = min(next + ShardState.keysTogether * step, range.upperBound)
            let count = (end - next + step - 1) / step
            shard.pointee.keysAhead.reset()
            for i in 0..<count {
                shard.pointee.keysAhead.keys[i].view = x.batch.argument(next &+ i &* step)
            }
            x.store.prepare(&shard.pointee.keysAhead, to: count)
            for i in 0..<count {
                if shard.pointee.keysAhead.isDue(i) { x.store.look(&shard.pointee.keysAhead) }
                guard body(shard.pointee.keysAhead.keys[i], next &+ i &* step) else { return }
            }
            next = end
        }
    }
}

extension CommandBatch {
    /// Arguments `from ..< to` of `command` as indices into the whole batch.
    func range(_ command: ParsedCommand, _ from: Int, _ to: Int) -> Range<Int> {
        Int(command.firstArgument) + from..<Int(command.firstArgument) + to
    }
}
