// A key with its hash: siblings agree on it, and an empty key is a key.

import KVBase
import KVTestTraits
import Testing

@testable import KVCore

@Suite(.blocking) struct HashedKeyTests {
    private func makeStore(_ index: UInt16) -> Store {
        Store(
            StoreConfig(
                hashSeed: 7, digestKey: 8, own: ActorUID(server: 1, index: index), origins: OriginTable(),
                journalCapacity: 64))
    }

    @Test func siblingsUseEachOthersKeysAndPlaceThemApart() {
        let (first, second) = (makeStore(0), makeStore(1))
        defer {
            first.destroy()
            second.destroy()
        }
        Bytes("some key").withView { view in
            let key = first.key(view)
            #expect(key.hash == second.key(view).hash && key.hash == second.hash(view))
            #expect(first.place(key.hash) != second.place(key.hash))
            #expect(second.put(key, value: view, now: 9) != nil)
            #expect(second.get(first.key(view), now: 0).map { Bytes($0.value) } == "some key")
            #expect(first.get(key, now: 0) == nil)
            // The record's own key leads to it as well.
            let record = second.find(key)!
            #expect(second.find(HashedKey(record, hash: key.hash)) == record)
            #expect(second.delete(key, now: 10)?.isTombstone == true && second.get(key, now: 0) == nil)
        }
    }

    @Test func anEmptyKeyOfABufferWithoutAddressIsTheEmptyKey() {
        let store = makeStore(0)
        defer { store.destroy() }
        let none = store.key(UnsafeRawBufferPointer(start: nil, count: 0))
        #expect(store.put("", "value of nothing", now: 3) != nil)
        #expect(store.get(none, now: 0).map { Bytes($0.value) } == "value of nothing")
        #expect(store.put(none, value: ByteView(UnsafeRawBufferPointer(start: nil, count: 0)), now: 4) != nil)
        #expect(store.value("") == "" && store.count == 1)
        store.checkInvariants()
    }
}
