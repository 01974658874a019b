// What a program needs of a key-value store, apart from how it is reached. `KVClient` is one; tests may supply another.

/// A store of byte strings, answered by some replica of it. Every method may be called from any task at any time.
///
/// "Absent" and "failed" are told apart: an absent key is an answer (nil, false, an empty listing), a failure throws.
public protocol KeyValueStore: Sendable {
    /// The value of `key`, nil when there is none.
    func get(_ key: KVBytes) async throws(KVError) -> KVBytes?

    /// The values of `keys`; a key without one is left out. The values need not be of one moment.
    func getAll(_ keys: [KVBytes]) async throws(KVError) -> [KVBytes: KVBytes]

    /// Writes, and answers the write's stamp. A store that moves between replicas makes sure that a later `put` of this
    /// caller wins over an earlier one, whichever replicas took them.
    @discardableResult
    func put(_ key: KVBytes, _ value: KVBytes) async throws(KVError) -> KVStamp

    /// Removes `key`; false when there was nothing to remove.
    @discardableResult
    func delete(_ key: KVBytes) async throws(KVError) -> Bool

    /// The pairs whose key starts with `prefix`, in byte order of keys: those after `after` (nil: from the first), at
    /// most `limit` of them (nil: all of them). O(log n + results).
    func list(prefix: KVBytes, limit: Int?, after: KVBytes?) async throws(KVError) -> [KVPair]

    /// What happens to the connections from now on. Each caller gets a stream of its own, which keeps the last 64
    /// events that were not taken yet. A store without connections answers a stream that is finished already.
    func events() -> AsyncStream<KVEvent>
}

/// What a caller may want to know of the connections, besides the outcome of its calls.
public enum KVEvent: Hashable, Sendable {
    case connected(KVAddress)
    /// An established connection broke.
    case connectionLost(KVAddress, reason: String)
    /// A connection could not be made.
    case connectFailed(KVAddress, reason: String)
    /// From the next call on, another server is asked: it may not have seen this caller's latest writes yet.
    case failedOver(from: KVAddress, to: KVAddress, reason: String)
}

extension KeyValueStore {
    public func events() -> AsyncStream<KVEvent> { AsyncStream { $0.finish() } }

    /// One call a key.
    public func getAll(_ keys: [KVBytes]) async throws(KVError) -> [KVBytes: KVBytes] {
        var values: [KVBytes: KVBytes] = [:]
        for key in keys where values[key] == nil { values[key] = try await get(key) }
        return values
    }
}

extension KeyValueStore {
    public func get(_ key: some KVBytesConvertible) async throws(KVError) -> KVBytes? {
        try await get(key.kvBytes)
    }

    /// The value of `key` read as text, bytes or whatever else ``KVBytesReadable`` is made of; nil when there is none.
    /// Throws ``KVError/unreadable(key:as:)`` when there is one and it is not such a thing.
    ///
    ///     let name = try await store.get("user/7/name", as: String.self)
    public func get<Value: KVBytesReadable>(
        _ key: some KVBytesConvertible, as type: Value.Type
    ) async throws(KVError) -> Value? {
        let key = key.kvBytes
        guard let bytes = try await get(key) else { return nil }
        guard let value = Value(kvBytes: bytes) else { throw .unreadable(key: key, as: "\(type)") }
        return value
    }

    /// As ``getAll(_:)`` of byte strings.
    public func getAll(_ keys: [some KVBytesConvertible]) async throws(KVError) -> [KVBytes: KVBytes] {
        try await getAll(keys.map(\.kvBytes))
    }

    @discardableResult
    public func put(
        _ key: some KVBytesConvertible, _ value: some KVBytesConvertible
    ) async throws(KVError) -> KVStamp {
        try await put(key.kvBytes, value.kvBytes)
    }

    @discardableResult
    public func delete(_ key: some KVBytesConvertible) async throws(KVError) -> Bool {
        try await delete(key.kvBytes)
    }

    public func list(
        prefix: some KVBytesConvertible = "", limit: Int? = nil, after: KVBytes? = nil
    ) async throws(KVError) -> [KVPair] {
        try await list(prefix: prefix.kvBytes, limit: limit, after: after)
    }

    /// Every pair under `prefix`, fetched a page of at most `pageEntries` at a time. Each page is one call, made when
    /// its first pair is asked for; what is written meanwhile behind the last key of a page is still seen.
    ///
    ///     for try await pair in store.listAll(prefix: "user/") { print(pair.key, pair.value) }
    public func listAll(prefix: some KVBytesConvertible = "", pageEntries: Int = 1000) -> KVPairs<Self> {
        KVPairs(pages: KVPages(store: self, prefix: prefix.kvBytes, pageEntries: max(1, pageEntries)))
    }
}

/// The pairs of a listing in byte order of keys, as ``KeyValueStore/listAll(prefix:pageEntries:)`` answers it.
public struct KVPairs<Store: KeyValueStore>: AsyncSequence, Sendable {
    public typealias Element = KVPair
    public typealias Failure = KVError

    /// The same, page by page.
    public let pages: KVPages<Store>

    public func makeAsyncIterator() -> Iterator { Iterator(pages: pages.makeAsyncIterator()) }

    public struct Iterator: AsyncIteratorProtocol {
        var pages: KVPages<Store>.Iterator
        var page: [KVPair] = []
        var at = 0

        init(pages: KVPages<Store>.Iterator) { self.pages = pages }

        public mutating func next(isolation actor: isolated (any Actor)?) async throws(KVError) -> KVPair? {
            if at == page.count {
                guard let next = try await pages.next(isolation: actor) else { return nil }
                (page, at) = (next, 0)
            }
            defer { at += 1 }
            return page[at]
        }
    }
}

/// The pages of a listing, as `for try await page in store.listAll(prefix: "user/").pages`. No page is empty.
public struct KVPages<Store: KeyValueStore>: AsyncSequence, Sendable {
    public typealias Element = [KVPair]
    public typealias Failure = KVError

    let store: Store
    let prefix: KVBytes
    let pageEntries: Int

    public func makeAsyncIterator() -> Iterator { Iterator(pages: self) }

    public struct Iterator: AsyncIteratorProtocol {
        let pages: KVPages
        var after: KVBytes?
        var finished = false

        init(pages: KVPages) { self.pages = pages }

        public mutating func next(isolation actor: isolated (any Actor)?) async throws(KVError) -> [KVPair]? {
            guard !finished else { return nil }
            let (pages, after) = (pages, after)
            do {
                let page = try await pages.store.list(prefix: pages.prefix, limit: pages.pageEntries, after: after)
                finished = page.count < pages.pageEntries
                self.after = page.last?.key
                return page.isEmpty ? nil : page
            } catch {
                finished = true
                throw error
            }
        }
    }
}
