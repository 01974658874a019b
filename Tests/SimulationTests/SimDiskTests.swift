// The simulated disk loses what a disk may lose, and nothing else.
import KVBase
import KVSim
import KVTestTraits
import Testing

@Suite("Disk of the simulation", .blocking)
struct SimDiskTests {
    private func write(_ disk: SimDisk, _ file: SimFile, _ byte: UInt8, count: Int, at place: Int) -> Bool {
        [UInt8](repeating: byte, count: count).withUnsafeBytes { disk.write($0, to: file, at: place) }
    }

    /// A file of four sectors whose name and first two are on the disk.
    private func world() throws -> (SimDisk, SimFile) {
        let disk = SimDisk()
        let file = try #require(disk.make("a", capacity: 2048))
        #expect(write(disk, file, 1, count: 1024, at: 0) && disk.sync(file) && disk.syncNames())
        return (disk, file)
    }

    @Test("what was synced is there after a power cut, the rest in whole sectors or not at all")
    func power() throws {
        var (kept, lost, torn) = (0, 0, 0)
        for seed in UInt64(1)...100 {
            let (disk, file) = try world()
            #expect(write(disk, file, 2, count: 1024, at: 1024))
            var random = PRNG(seed: seed)
            disk.cutPower(&random)
            let left = try #require(disk.file("a")).shown
            #expect(left[..<1024].allSatisfy { $0 == 1 })
            let sectors = [left[1024..<1536], left[1536...]].map { sector in
                sector.allSatisfy { $0 == 2 } ? 2 : sector.allSatisfy { $0 == 0 } ? 0 : 1
            }
            #expect(!sectors.contains(1))
            if sectors == [2, 2] { kept += 1 } else if sectors == [0, 0] { lost += 1 } else { torn += 1 }
        }
        #expect(kept > 5 && lost > 5 && torn > 5, "\(kept) kept, \(lost) lost, \(torn) torn")
    }

    @Test("a name is not on the disk before names are synced")
    func names() throws {
        var outcomes: Set<[String]> = []
        for seed in UInt64(1)...40 {
            let (disk, _) = try world()
            #expect(disk.rename("a", to: "b"))
            #expect(disk.names() == ["b"])
            var random = PRNG(seed: seed)
            disk.cutPower(&random)
            outcomes.insert(disk.names())
        }
        #expect(outcomes == [["a"], ["b"]])
    }

    @Test("after a sync that failed the next one says that all is well, and the bytes are lost")
    func failedSync() throws {
        for seed in UInt64(1)...20 {
            let (disk, file) = try world()
            #expect(write(disk, file, 2, count: 1024, at: 1024))
            disk.failsSyncs = true
            #expect(!disk.sync(file))
            disk.failsSyncs = false
            #expect(disk.sync(file))
            #expect(file.shown[1024...].allSatisfy { $0 == 2 }, "the page cache has them")
            var random = PRNG(seed: seed)
            disk.cutPower(&random)
            let left = try #require(disk.file("a")).shown
            #expect(left[1024...].allSatisfy { $0 == 0 })
        }
    }

    @Test("a full disk takes what has its place already, a backup is what was there")
    func fullAndBackup() throws {
        let (disk, file) = try world()
        disk.isFull = true
        #expect(write(disk, file, 3, count: 512, at: 1536))
        #expect(!write(disk, file, 3, count: 512, at: 2048))
        #expect(disk.make("b", capacity: 0) == nil)
        disk.heal()
        let image = disk.image()
        #expect(write(disk, file, 4, count: 2048, at: 0))
        disk.become(image)
        let back = try #require(disk.file("a")).shown
        #expect(back[0] == 1 && back[1536] == 3 && disk.isTampered)
    }
}
