// The file system of one simulated server: what its processes see, and what is left when the power goes. Used by
// SimWorld only, one thread.
package import KVBase

/// One file: as a process reads it, and as the disk has it.
package final class SimFile {
    package fileprivate(set) var shown: [UInt8]
    fileprivate var kept: [UInt8]
    /// Sectors that differ, or may: written and not synced.
    fileprivate var dirty: Set<Int> = []

    fileprivate init(_ bytes: [UInt8] = []) { (shown, kept) = (bytes, bytes) }

    fileprivate func copy() -> SimFile {
        let other = SimFile()
        (other.shown, other.kept, other.dirty) = (shown, kept, dirty)
        return other
    }

    fileprivate func grow(to count: Int) {
        if shown.count < count { shown.append(contentsOf: repeatElement(0, count: count - shown.count)) }
    }
}

/// What a sync that has begun will put on the disk.
package struct SimSync {
    fileprivate var file: SimFile
    fileprivate var sectors: [(number: Int, bytes: [UInt8])]
    fileprivate var count: Int
}

/// Data and names are durable apart: a file's bytes by `beginSync` and `endSync`, names by `syncNames`.
package final class SimDisk {
    package static let sectorBytes = 512
    /// Files that were removed and whose sectors may show up again.
    private static let removedMax = 4

    /// Writes fail; syncs fail; there is no room for another byte.
    package var failsWrites = false
    package var failsSyncs = false
    package var isFull = false
    /// How long each operation takes longer than usual.
    package var slowMillis: Millis = 0
    /// The disk holds something else than a server put there: nothing that was promised binds it.
    package var isTampered = false

    private var shown: [String: SimFile] = [:]
    private var kept: [String: SimFile] = [:]
    /// Changes of names that are not durable, in order.
    private var pending: [[(name: String, file: SimFile?)]] = []
    private var removed: [[UInt8]] = []

    package init() {}

    // MARK: What a process does

    package func names() -> [String] { shown.keys.sorted() }
    package func file(_ name: String) -> SimFile? { shown[name] }

    /// An empty file of that name, with room for so many bytes. Nil if there is none.
    package func make(_ name: String, capacity: Int) -> SimFile? {
        guard !isFull, !failsWrites else { return nil }
        let file = SimFile()
        file.shown = [UInt8](repeating: 0, count: capacity)
        change([(name, file)])
        return file
    }

    package func write(_ bytes: UnsafeRawBufferPointer, to file: SimFile, at place: Int) -> Bool {
        let isLarger = place + bytes.count > file.shown.count
        guard !failsWrites, !(isFull && isLarger), bytes.count > 0 else { return false }
        file.grow(to: place + bytes.count)
        file.shown.withUnsafeMutableBytes { shown in
            UnsafeMutableRawBufferPointer(rebasing: shown[place..<(place + bytes.count)]).copyMemory(from: bytes)
        }
        for sector in (place / SimDisk.sectorBytes)...((place + bytes.count - 1) / SimDisk.sectorBytes) {
            file.dirty.insert(sector)
        }
        return true
    }

    /// What is dirty now is what the sync is about.
    package func beginSync(_ file: SimFile) -> SimSync {
        let sectors = file.dirty.sorted().map { number -> (Int, [UInt8]) in
            let from = number * SimDisk.sectorBytes
            return (number, Array(file.shown[from..<min(file.shown.count, from + SimDisk.sectorBytes)]))
        }
        return SimSync(file: file, sectors: sectors, count: file.shown.count)
    }

    /// False if the disk did not take it: the kernel then forgets that these sectors were dirty.
    package func endSync(_ sync: SimSync) -> Bool {
        for (number, _) in sync.sectors { sync.file.dirty.remove(number) }
        guard !failsSyncs else { return false }
        let file = sync.file
        if file.kept.count < sync.count {
            file.kept.append(contentsOf: repeatElement(0, count: sync.count - file.kept.count))
        }
        for (number, bytes) in sync.sectors {
            let from = number * SimDisk.sectorBytes
            file.kept.replaceSubrange(from..<(from + bytes.count), with: bytes)
            // Written again meanwhile: what is newer is still to be synced.
            let now = file.shown[from..<min(file.shown.count, from + SimDisk.sectorBytes)]
            if !now.elementsEqual(bytes) { file.dirty.insert(number) }
        }
        return true
    }

    package func sync(_ file: SimFile) -> Bool { endSync(beginSync(file)) }

    package func rename(_ old: String, to new: String) -> Bool {
        guard let file = shown[old], !failsWrites else { return false }
        change([(old, nil), (new, file)])
        return true
    }

    package func remove(_ name: String) {
        guard let file = shown[name] else { return }
        removed.append(file.shown)
        if removed.count > SimDisk.removedMax { removed.removeFirst() }
        change([(name, nil)])
    }

    package func syncNames() -> Bool {
        guard !failsSyncs else { return false }
        for changes in pending { apply(changes, to: &kept) }
        pending = []
        return true
    }

    private func change(_ changes: [(name: String, file: SimFile?)]) {
        apply(changes, to: &shown)
        pending.append(changes)
    }

    private func apply(_ changes: [(name: String, file: SimFile?)], to names: inout [String: SimFile]) {
        for (name, file) in changes { names[name] = file }
    }

    // MARK: What happens to it

    /// The power goes: of what was not synced any part may be there, in sectors; the rest is as it was, or shows what a
    /// removed file had there.
    package func cutPower(_ random: inout PRNG) {
        let inOrder = random.chance(0.7)
        let some = random.below(pending.count + 1)
        for (i, changes) in pending.enumerated() where inOrder ? i < some : random.chance(0.5) {
            apply(changes, to: &kept)
        }
        pending = []
        let share = random.pick([0.0, 0.5, 0.9, 1.0])
        let showsOld = random.chance(0.3) && !removed.isEmpty
        let old = showsOld ? removed[random.below(removed.count)] : []
        for name in kept.keys.sorted() {
            let file = kept[name]!
            lose(file, share, old, &random)
        }
        shown = kept
        (failsWrites, failsSyncs, isFull, slowMillis) = (false, false, false, 0)
    }

    private func lose(_ file: SimFile, _ share: Double, _ old: [UInt8], _ random: inout PRNG) {
        // The size is known to the file system once the space was set aside.
        if file.kept.count < file.shown.count {
            file.kept.append(contentsOf: repeatElement(0, count: file.shown.count - file.kept.count))
        }
        for number in file.dirty.sorted() {
            let from = number * SimDisk.sectorBytes
            let range = from..<min(file.shown.count, from + SimDisk.sectorBytes)
            if random.chance(share) {
                file.kept.replaceSubrange(range, with: file.shown[range])
            } else if range.upperBound <= old.count, file.kept[range].allSatisfy({ $0 == 0 }) {
                file.kept.replaceSubrange(range, with: old[range])
            }
        }
        file.dirty = []
        file.shown = file.kept
    }

    /// A copy as another disk, as it would be if the power went now and everything had been written.
    package func image() -> SimDisk {
        let copy = SimDisk()
        for (name, file) in shown {
            let other = file.copy()
            (other.kept, other.dirty) = (other.shown, [])
            copy.shown[name] = other
        }
        copy.kept = copy.shown
        return copy
    }

    /// What lies there is replaced, by a backup or by another server's.
    package func become(_ image: SimDisk) {
        let copy = image.image()
        (shown, kept, pending, removed) = (copy.shown, copy.kept, [], [])
        isTampered = true
    }

    /// A bit of some file changes. False if there is none.
    package func flip(_ random: inout PRNG) -> Bool {
        let names = shown.keys.sorted().filter { shown[$0]!.shown.contains { $0 != 0 } }
        guard !names.isEmpty else { return false }
        let file = shown[names[random.below(names.count)]]!
        let used = (file.shown.lastIndex { $0 != 0 } ?? 0) + 1
        let place = random.below(used)
        file.shown[place] ^= 1 << UInt8(random.below(8))
        if place < file.kept.count { file.kept[place] = file.shown[place] }
        isTampered = true
        return true
    }

    package func lose() {
        (shown, kept, pending, removed) = ([:], [:], [], [])
        isTampered = true
    }

    /// Faults end.
    package func heal() { (failsWrites, failsSyncs, isFull, slowMillis) = (false, false, false, 0) }

    package var byteCount: Int { shown.values.reduce(0) { $0 + $1.shown.count } }
}
