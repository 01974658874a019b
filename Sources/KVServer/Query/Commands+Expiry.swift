// Deadlines and counters: EXPIRE and kin, TTL and kin, PERSIST, SETEX, GETEX, INCR and kin. Handlers; loop thread.

import CIntrinsics
import KVBase
import KVCore
import RESP

/// How a command says when: seconds or milliseconds, from now or since 1970.
struct TimeForm: Equatable {
    var isMillis: Bool
    var isAbsolute: Bool

    /// The word of SET and GETEX; nil for another one.
    init?(_ word: ByteView) {
        switch true {
        case word.equals("EX"): self.init(isMillis: false, isAbsolute: false)
        case word.equals("PX"): self.init(isMillis: true, isAbsolute: false)
        case word.equals("EXAT"): self.init(isMillis: false, isAbsolute: true)
        case word.equals("PXAT"): self.init(isMillis: true, isAbsolute: true)
        default: return nil
        }
    }

    init(isMillis: Bool, isAbsolute: Bool) { (self.isMillis, self.isAbsolute) = (isMillis, isAbsolute) }

    /// Milliseconds since 1970; nil if that is not within the years that can be stored, or overflows.
    func deadline(_ number: Int, now: Millis) -> Millis? {
        var (millis, isOverflow) = isMillis ? (number, false) : number.multipliedReportingOverflow(by: 1000)
        if isOverflow { return nil }
        if !isAbsolute { (millis, isOverflow) = millis.addingReportingOverflow(Int(now)) }
        return isOverflow || millis > RecordExtension.deadlineMax ? nil : Millis(millis)
    }
}

extension Execution {
    /// Argument `k` as the deadline of a SET or GETEX, which lies ahead of 0; nil when it was answered with an error.
    func deadline(_ k: Int, _ form: TimeForm, command: StaticString) -> Millis? {
        guard let number = integer(k) else {
            error("ERR value is not an integer or out of range")
            return nil
        }
        guard number > 0, let deadline = form.deadline(number, now: nowMillis), deadline > 0 else {
            invalidTime(command)
            return nil
        }
        return deadline
    }

    func invalidTime(_ command: StaticString) {
        output.pointee.error("ERR invalid expire time in '\(command)' command")
    }
}

extension Commands {
    // EXPIRE

    @Sendable static func expire(_ x: inout Execution) {
        expire(&x, TimeForm(isMillis: false, isAbsolute: false), "expire")
    }
    @Sendable static func pexpire(_ x: inout Execution) {
        expire(&x, TimeForm(isMillis: true, isAbsolute: false), "pexpire")
    }
    @Sendable static func expireat(_ x: inout Execution) {
        expire(&x, TimeForm(isMillis: false, isAbsolute: true), "expireat")
    }
    @Sendable static func pexpireat(_ x: inout Execution) {
        expire(&x, TimeForm(isMillis: true, isAbsolute: true), "pexpireat")
    }

    /// NX, XX, GT and LT of EXPIRE.
    private struct ExpireCondition: OptionSet {
        let rawValue: UInt8
        static let noDeadline = ExpireCondition(rawValue: 1)
        static let someDeadline = ExpireCondition(rawValue: 2)
        static let later = ExpireCondition(rawValue: 4)
        static let earlier = ExpireCondition(rawValue: 8)

        /// `now`: the key's deadline; nil: it has none, which counts as later than any.
        func holds(_ deadline: Millis, over now: Millis?) -> Bool {
            if contains(.noDeadline), now != nil { return false }
            if contains(.someDeadline), now == nil { return false }
            if contains(.later), now.map({ deadline <= $0 }) ?? true { return false }
            if contains(.earlier), now.map({ deadline >= $0 }) ?? false { return false }
            return true
        }
    }

    private static func expire(_ x: inout Execution, _ form: TimeForm, _ name: StaticString) {
        guard x.acceptsKey(x.argument(1)), let condition = expireCondition(x) else { return }
        guard let number = x.integer(2) else { return x.error("ERR value is not an integer or out of range") }
        // Below 0 is long ago, as far as that can be told.
        let isFarBack = number < 0 && !form.isMillis && number < Int.min / 1000
        guard !isFarBack, let deadline = form.deadline(number, now: x.nowMillis) else { return x.invalidTime(name) }
        // Where the key is here and nothing is asked of it, any actor will do.
        if !condition.isEmpty || x.get(x.argument(1)) == nil, x.goesHome(1) { return }
        let key = x.store.key(x.argument(1))
        guard let current = x.store.deadline(of: key, now: x.nowMillis) else { return x.output.pointee.integer(0) }
        let now: Millis? = if case .at(let millis) = current { millis } else { nil }
        guard condition.holds(deadline, over: now) else { return x.output.pointee.integer(0) }
        switch x.store.expire(key, at: deadline, now: x.nowMillis) {
        case .absent, .unchanged: x.output.pointee.integer(0)
        case .done, .deleted: x.output.pointee.integer(1)
        case .refused: x.error(ShardState.clockError)
        }
    }

    /// Nil when it was answered with an error.
    private static func expireCondition(_ x: Execution) -> ExpireCondition? {
        var condition: ExpireCondition = []
        for k in 3..<max(3, x.count) {
            switch x.argument(k) {
            case let word where word.equals("NX"): condition.insert(.noDeadline)
            case let word where word.equals("XX"): condition.insert(.someDeadline)
            case let word where word.equals("GT"): condition.insert(.later)
            case let word where word.equals("LT"): condition.insert(.earlier)
            case let word:
                x.output.pointee.error("ERR Unsupported option \(word.printable(max: 128))")
                return nil
            }
        }
        if condition.contains(.noDeadline), condition != .noDeadline {
            x.error("ERR NX and XX, GT or LT options at the same time are not compatible")
            return nil
        }
        if condition.isSuperset(of: [.later, .earlier]) {
            x.error("ERR GT and LT options at the same time are not compatible")
            return nil
        }
        return condition
    }

    @Sendable static func persist(_ x: inout Execution) {
        guard x.acceptsKey(x.argument(1)) else { return }
        if x.goesHome(1) { return }
        switch x.store.persist(x.store.key(x.argument(1)), now: x.nowMillis) {
        case .absent, .unchanged, .deleted: x.output.pointee.integer(0)
        case .done: x.output.pointee.integer(1)
        case .refused: x.error(ShardState.clockError)
        }
    }

    // TTL

    @Sendable static func ttl(_ x: inout Execution) { tell(&x) { ($0 - $1 + 500) / 1000 } }
    @Sendable static func pttl(_ x: inout Execution) { tell(&x) { $0 - $1 } }
    @Sendable static func expiretime(_ x: inout Execution) { tell(&x) { deadline, _ in (deadline + 500) / 1000 } }
    @Sendable static func pexpiretime(_ x: inout Execution) { tell(&x) { deadline, _ in deadline } }

    private static func tell(_ x: inout Execution, _ number: (Millis, Millis) -> Millis) {
        guard x.acceptsKey(x.argument(1)) else { return }
        switch x.store.deadline(of: x.store.key(x.argument(1)), now: x.nowMillis) {
        case nil: x.output.pointee.integer(-2)
        case .never: x.output.pointee.integer(-1)
        case .at(let deadline): x.output.pointee.integer(Int(number(deadline, x.nowMillis)))
        }
    }

    // SETEX, GETEX

    @Sendable static func setex(_ x: inout Execution) {
        setex(&x, TimeForm(isMillis: false, isAbsolute: false), "setex")
    }
    @Sendable static func psetex(_ x: inout Execution) {
        setex(&x, TimeForm(isMillis: true, isAbsolute: false), "psetex")
    }

    private static func setex(_ x: inout Execution, _ form: TimeForm, _ name: StaticString) {
        guard x.acceptsKey(x.argument(1)), let deadline = x.deadline(2, form, command: name) else { return }
        var options = SetOptions()
        options.deadline = .at(deadline)
        if LargeSet.isNeeded(x, value: 3, options) { return x.session.state.pointee[.beforeLongCommand] = true }
        put(&x, x.store.key(x.argument(1)), x.argument(3), .at(deadline)) { $0.output.pointee.ok() }
    }

    /// Stores a value. One whose deadline has passed is not shown: the key is deleted.
    static func put(
        _ x: inout Execution, _ key: HashedKey, _ value: ByteView, _ deadline: DeadlineChoice,
        then answer: (inout Execution) -> Void
    ) {
        if case .at(let millis) = deadline, millis <= x.nowMillis {
            if x.get(key) != nil, x.store.delete(key, now: x.nowMillis) == nil { return x.error(ShardState.clockError) }
        } else if x.store.put(key, value: value, deadline: deadline, now: x.nowMillis) == nil {
            return x.error(ShardState.clockError)
        }
        answer(&x)
    }

    /// GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST].
    @Sendable static func getex(_ x: inout Execution) {
        guard x.acceptsKey(x.argument(1)) else { return }
        var (form, place, persists, k) = (nil as TimeForm?, 0, false, 2)
        while k < x.count {
            if form == nil, x.argument(k, is: "PERSIST") {
                persists = true
            } else if !persists, k + 1 < x.count, let given = TimeForm(x.argument(k)), form == nil || form == given {
                (form, place) = (given, k + 1)
                k += 1
            } else {
                return x.error("ERR syntax error")
            }
            k += 1
        }
        if x.count > 2, x.goesHome(1) { return }
        let key = x.store.key(x.argument(1))
        guard let record = x.get(key)?.retained() else { return x.output.pointee.null(resp3: x.resp3) }
        defer { record.release() }
        if let form {
            guard let deadline = x.deadline(place, form, command: "getex") else { return }
            if x.store.expire(key, at: deadline, now: x.nowMillis) == .refused { return x.error(ShardState.clockError) }
        } else if persists, x.store.persist(key, now: x.nowMillis) == .refused {
            return x.error(ShardState.clockError)
        }
        reply(&x, record)
    }

    // INCR

    @Sendable static func incr(_ x: inout Execution) { add(&x, 1) }
    @Sendable static func decr(_ x: inout Execution) { add(&x, -1) }

    @Sendable static func incrby(_ x: inout Execution) {
        guard let step = x.integer(2) else { return x.error("ERR value is not an integer or out of range") }
        add(&x, step)
    }

    @Sendable static func decrby(_ x: inout Execution) {
        guard let step = x.integer(2) else { return x.error("ERR value is not an integer or out of range") }
        guard step != .min else { return x.error("ERR decrement would overflow") }
        add(&x, -step)
    }

    private static func add(_ x: inout Execution, _ step: Int) {
        guard x.acceptsKey(x.argument(1)) else { return }
        if x.goesHome(1) { return }
        reply(x.store.increment(x.store.key(x.argument(1)), by: Int64(step), now: x.nowMillis), x.output)
    }

    @inline(__always)
    static func reply(_ outcome: IncrementOutcome, _ output: UnsafeMutablePointer<OutputBuffer>) {
        switch outcome {
        case .value(let sum): output.pointee.integer(Int(sum))
        case .overflow: output.pointee.error("ERR increment or decrement would overflow")
        case .notAnInteger: output.pointee.error("ERR value is not an integer or out of range")
        case .tooManyParts:
            output.pointee.error(
                "ERR 1024 actors have counted at this key since it was last written; SET it, and try again later")
        case .refused: output.pointee.error(ShardState.clockError)
        }
    }
}

extension Shard {
    /// INCR of a key in the form in which it is stored, at its home: noted as one of the table is. Returns how long
    /// it took.
    func increment(_ key: HashedKey, _ output: UnsafeMutablePointer<OutputBuffer>) -> UInt64 {
        let (began, before) = (ci_ticks(), output.pointee.count)
        Commands.reply(state.pointee.store.increment(key, by: 1, now: state.pointee.nowMillis), output)
        noteCommand((CommandTable.incrRow, false), output, from: before)
        let ticks = ci_ticks() &- began
        state.pointee.ticksOfTable &+= ticks
        state.pointee.times.note(CommandTable.incrRow, ticks: ticks)
        return ticks
    }
}
