// A view of bytes: what it shows, also of a buffer that has no address.

import KVBase
import KVTestTraits
import Testing

@Suite(.blocking) struct ByteViewTests {
    @Test func aViewShowsTheBytesItWasMadeOf() {
        Bytes("key").withBytes { bytes in
            let view = ByteView(bytes)
            #expect(view.count == 3 && view.start == bytes.baseAddress)
            #expect(view.bytes.elementsEqual("key".utf8))
            #expect(ByteView(bytes.baseAddress!, 2).bytes.elementsEqual("ke".utf8))
        }
    }

    @Test func aViewOfNoBytesHasAnAddressThatNobodyReads() {
        let view = ByteView(UnsafeRawBufferPointer(start: nil, count: 0))
        #expect(view.count == 0 && view.bytes.isEmpty)
        #expect(
            hashBytes(view.start, view.count, seed: 5)
                == Bytes("").withBytes { hashBytes(ByteView($0).start, 0, seed: 5) })
    }
}
