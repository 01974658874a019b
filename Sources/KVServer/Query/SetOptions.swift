// The options of SET, as Redis reads them. A value; loop thread.

import Glibc
import KVBase
import KVCore

/// When a SET is to be carried out, and what else it is to do.
struct SetOptions {
    enum Condition {
        case always
        /// NX, XX.
        case isAbsent, isPresent
        /// IFEQ: there, with this value. IFNE: not there, or with another value.
        case equals(ByteView), differs(ByteView)

        /// `value`: what the key has; nil if it is not there.
        func holds(_ value: UnsafeRawBufferPointer?) -> Bool {
            switch self {
            case .always: true
            case .isAbsent: value == nil
            case .isPresent: value != nil
            case .equals(let wanted): value.map { wanted.hasBytes($0) } ?? false
            case .differs(let unwanted): value.map { !unwanted.hasBytes($0) } ?? true
            }
        }
    }

    var condition = Condition.always
    /// GET: the reply is the value before.
    var returnsOld = false
    var deadline = DeadlineChoice.none
    private var form: TimeForm?
    private var place = 0

    /// Reads before it writes.
    var isConditional: Bool { if case .always = condition { returnsOld } else { true } }

    /// None.
    init() {}

    /// Those behind the value; nil when it was answered with an error.
    init?(_ x: Execution) {
        var k = 3
        while k < x.count {
            if case .always = condition, x.argument(k, is: "NX") {
                condition = .isAbsent
            } else if case .always = condition, x.argument(k, is: "XX") {
                condition = .isPresent
            } else if case .always = condition, k + 1 < x.count, x.argument(k, is: "IFEQ") {
                condition = .equals(x.argument(k + 1))
                k += 1
            } else if case .always = condition, k + 1 < x.count, x.argument(k, is: "IFNE") {
                condition = .differs(x.argument(k + 1))
                k += 1
            } else if x.argument(k, is: "GET") {
                returnsOld = true
            } else if deadline == .keep || form == nil, x.argument(k, is: "KEEPTTL") {
                deadline = .keep
            } else if deadline != .keep, k + 1 < x.count, let given = TimeForm(x.argument(k)),
                form == nil || form == given
            {
                (form, place) = (given, k + 1)
                k += 1
            } else if !isRepeated(x, k) {
                x.error("ERR syntax error")
                return nil
            }
            k += 1
        }
        guard let form else { return }
        guard let given = x.deadline(place, form, command: "set") else { return nil }
        deadline = .at(given)
    }

    /// The same word twice is as good as once.
    private func isRepeated(_ x: Execution, _ k: Int) -> Bool {
        switch condition {
        case .isAbsent: x.argument(k, is: "NX")
        case .isPresent: x.argument(k, is: "XX")
        default: false
        }
    }
}

extension ByteView {
    func hasBytes(_ other: UnsafeRawBufferPointer) -> Bool {
        count == other.count && (count == 0 || memcmp(start, other.baseAddress!, count) == 0)
    }
}
