// What a slot knows of its record's hash beyond its place, so that splits need not read records. Decides; no state.

extension HashTable {
    /// The low 4 bits of a slot: the hash bits by which the next splits of its segment go, as many as it still has, the
    /// next one highest, behind a leading 1 that tells how many they are.
    ///
    /// A new entry has three. While a table doubles again and again, half of its entries came since their segment's
    /// last split, a quarter before that and so on, so a sixteenth has none left when it is split, and with those that
    /// got three more on such an occasion and have used them up it is a fifteenth.
    enum SplitBits {
        static let mask: UInt64 = 0xF

        /// Three bits of the hash of an entry in a segment of this depth.
        @inline(__always) static func bits(of hash: UInt64, depth: UInt64) -> UInt64 {
            8 | (hash &>> (61 &- depth)) & 7
        }
        @inline(__always) static func isEmpty(_ slot: UInt64) -> Bool { slot & mask == 1 }
        /// The bit that the next split goes by. Not of an empty one.
        @inline(__always) static func next(_ slot: UInt64) -> UInt64 {
            let ahead = slot & mask
            return ahead & 8 != 0 ? ahead &>> 2 & 1 : ahead & 4 != 0 ? ahead &>> 1 & 1 : ahead & 1
        }
        /// The slot as it is behind that split.
        @inline(__always) static func withoutNext(_ slot: UInt64) -> UInt64 {
            let ahead = slot & mask
            let left: UInt64 = ahead & 8 != 0 ? 4 | ahead & 3 : ahead & 4 != 0 ? 2 | ahead & 1 : 1
            return slot & ~mask | left
        }
    }
}
