// Whether keys wait to be counted out. A part of `Replica`; on its actor's thread.

struct ExpiryWork {
    private var underWay = false

    var isUnderWay: Bool { underWay }

    mutating func begin() { underWay = true }
    mutating func end() { underWay = false }
}
