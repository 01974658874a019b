// From the protocol's replies to the results of the client's methods. Pure, any thread.

extension KVReply {
    func asValue() throws(KVError) -> KVBytes? {
        switch self {
        case .bytes(let bytes): return bytes
        case .null: return nil
        default: throw unexpected("a value")
        }
    }

    func asStamp() throws(KVError) -> KVStamp {
        guard case .integer(let millis) = self else { throw unexpected("a stamp") }
        return KVStamp(millis: millis)
    }

    func asCount() throws(KVError) -> Int64 {
        guard case .integer(let count) = self else { throw unexpected("a number") }
        return count
    }

    func asPairs() throws(KVError) -> [KVPair] {
        guard let elements, elements.count % 2 == 0 else { throw unexpected("a list of pairs") }
        var pairs: [KVPair] = []
        pairs.reserveCapacity(elements.count / 2)
        for index in stride(from: 0, to: elements.count, by: 2) {
            guard case .bytes(let key) = elements[index], case .bytes(let value) = elements[index + 1] else {
                throw unexpected("a list of pairs")
            }
            pairs.append(KVPair(key: key, value: value))
        }
        return pairs
    }

    /// A value or nil for each of `count` keys.
    func asValues(count: Int) throws(KVError) -> [KVBytes?] {
        guard let elements, elements.count == count else { throw unexpected("\(count) values") }
        var values: [KVBytes?] = []
        values.reserveCapacity(count)
        for element in elements { values.append(try element.asValue()) }
        return values
    }

    private func unexpected(_ wanted: String) -> KVError {
        let text = String("\(self)".prefix(80))
        return .server("answered \(text) where \(wanted) was expected")
    }
}
