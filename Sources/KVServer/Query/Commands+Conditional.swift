// Commands that read before they write: they run at the home of their key. Handlers; loop thread.

import KVBase
import KVCore
import RESP

extension Commands {
    /// SET with options.
    static func set(_ x: inout Execution, _ options: SetOptions) {
        if options.isConditional, x.goesHome(1) { return }
        let key = x.store.key(x.argument(1))
        let old = options.isConditional ? x.get(key)?.retained() : nil
        defer { old?.release() }
        guard options.condition.holds(old?.value) else {
            return options.returnsOld ? reply(&x, old) : x.output.pointee.null(resp3: x.resp3)
        }
        put(&x, key, x.argument(2), options.deadline) {
            options.returnsOld ? reply(&$0, old) : $0.output.pointee.ok()
        }
    }

    /// The value of a record, in slices where it is large, or that there is none.
    static func reply(_ x: inout Execution, _ record: Record?) {
        guard let record else { return x.output.pointee.null(resp3: x.resp3) }
        // At a home the reply is not copied twice where that would take long.
        if record.valueCount >= (x.session.isGuest ? HomeTrip.largeReplyBytes : LargeSet.valueBytesMin) {
            x.session.continuation = LargeReply([record.retained()])
        } else {
            x.output.pointee.bulk(record.value)
        }
    }

    @Sendable static func setnx(_ x: inout Execution) {
        guard x.acceptsKey(x.argument(1)) else { return }
        if x.goesHome(1) { return }
        let key = x.store.key(x.argument(1))
        if x.get(key) != nil { return x.output.pointee.integer(0) }
        write(&x, key, x.argument(2)) { $0.output.pointee.integer(1) }
    }

    @Sendable static func getset(_ x: inout Execution) {
        guard x.acceptsKey(x.argument(1)) else { return }
        if x.goesHome(1) { return }
        let key = x.store.key(x.argument(1))
        let old = x.get(key)?.retained()
        defer { old?.release() }
        write(&x, key, x.argument(2)) { reply(&$0, old) }
    }

    @Sendable static func getdel(_ x: inout Execution) {
        guard x.acceptsKey(x.argument(1)) else { return }
        if x.goesHome(1) { return }
        let key = x.store.key(x.argument(1))
        let old = x.get(key)?.retained()
        defer { old?.release() }
        if old != nil, x.store.delete(key, now: x.nowMillis) == nil { return x.error(ShardState.clockError) }
        reply(&x, old)
    }

    /// MSETNX: all or none of the keys, none if any is there.
    @Sendable static func msetnx(_ x: inout Execution) {
        guard x.count % 2 == 1 else { return x.wrongArity("msetnx") }
        guard acceptsKeys(x, step: 2) else { return }
        let keys = stride(from: 1, to: x.count, by: 2)
        if x.goesHome(keys) { return }
        if keys.contains(where: { x.get(x.argument($0)) != nil }) { return x.output.pointee.integer(0) }
        let isDone = mset(&x, x.batch.range(x.command, 1, x.count))
        isDone ? x.output.pointee.integer(1) : x.error(ShardState.clockError)
    }

    /// DELEX key [IFEQ value | IFNE value].
    @Sendable static func delex(_ x: inout Execution) {
        if x.count == 2 { return del(&x) }
        guard x.count == 4 else { return x.wrongArity("delex") }
        if x.argument(2, is: "IFEQ") {
            delete(&x, if: .equals(x.argument(3)))
        } else if x.argument(2, is: "IFNE") {
            delete(&x, if: .differs(x.argument(3)))
        } else {
            x.error("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE")
        }
    }

    /// DELIFEQ key value.
    @Sendable static func delifeq(_ x: inout Execution) { delete(&x, if: .equals(x.argument(2))) }

    private static func delete(_ x: inout Execution, if condition: SetOptions.Condition) {
        guard x.acceptsKey(x.argument(1)) else { return }
        if x.goesHome(1) { return }
        let key = x.store.key(x.argument(1))
        guard let old = x.get(key), condition.holds(old.value) else { return x.output.pointee.integer(0) }
        x.store.delete(key, now: x.nowMillis) == nil
            ? x.error(ShardState.clockError) : x.output.pointee.integer(1)
    }

    private static func write(
        _ x: inout Execution, _ key: HashedKey, _ value: ByteView, then answer: (inout Execution) -> Void
    ) {
        guard x.store.put(key, value: value, now: x.nowMillis) != nil else { return x.error(ShardState.clockError) }
        answer(&x)
    }

    // RENAME and COPY. The value of one key becomes that of another.

    @Sendable static func rename(_ x: inout Execution) { rename(&x, onlyIfAbsent: false) }
    @Sendable static func renamenx(_ x: inout Execution) { rename(&x, onlyIfAbsent: true) }

    private static func rename(_ x: inout Execution, onlyIfAbsent: Bool) {
        guard x.acceptsKey(x.argument(1)), x.acceptsKey(x.argument(2)) else { return }
        if x.goesHome([1, 2]) { return }
        let (from, to) = (x.store.key(x.argument(1)), x.store.key(x.argument(2)))
        guard let record = x.get(from)?.retained() else { return x.error("ERR no such key") }
        defer { record.release() }
        let isSame = x.argument(1).hasBytes(x.argument(2).bytes)
        if onlyIfAbsent, isSame || x.get(to) != nil { return x.output.pointee.integer(0) }
        if !isSame {
            put(&x, to, ByteView(record.value), deadline(x, from)) { $0.store.delete(from, now: $0.nowMillis) }
            if x.get(from) != nil { return }
        }
        onlyIfAbsent ? x.output.pointee.integer(1) : x.output.pointee.ok()
    }

    /// COPY source destination [DB n] [REPLACE].
    @Sendable static func copy(_ x: inout Execution) {
        guard x.acceptsKey(x.argument(1)), x.acceptsKey(x.argument(2)) else { return }
        var (replaces, number, k) = (false, x.keyspace.number, 3)
        while k < x.count {
            if x.argument(k, is: "REPLACE") {
                replaces = true
            } else if x.argument(k, is: "DB"), k + 1 < x.count {
                guard let given = x.database(k + 1) else { return }
                (number, k) = (given, k + 1)
            } else {
                return x.error("ERR syntax error")
            }
            k += 1
        }
        x.moveKey(2, to: number)
        if x.argument(1).hasBytes(x.argument(2).bytes) {
            return x.error("ERR source and destination objects are the same")
        }
        if x.goesHome([1, 2]) { return }
        let (from, to) = (x.store.key(x.argument(1)), x.store.key(x.argument(2)))
        guard let record = x.get(from)?.retained() else { return x.output.pointee.integer(0) }
        defer { record.release() }
        if !replaces, x.get(to) != nil { return x.output.pointee.integer(0) }
        put(&x, to, ByteView(record.value), deadline(x, from)) { $0.output.pointee.integer(1) }
    }

    /// The deadline of a key, for another one.
    private static func deadline(_ x: Execution, _ key: HashedKey) -> DeadlineChoice {
        if case .at(let millis) = x.store.deadline(of: key, now: x.nowMillis) { .at(millis) } else { .none }
    }
}
