// The file that says which process uses a data directory. Main thread.

import Glibc

/// Ends with the process, or with `end`.
struct DirectoryLock {
    static let name = "LOCK"
    /// Whoever had it and was refused may take the file away in between.
    private static let triesMax = 100

    struct Refusal: Error {
        let reason: String
    }

    private let file: Int32
    private let isMade: Bool

    init(in directory: Int32) throws(Refusal) {
        for _ in 0..<DirectoryLock.triesMax {
            var file = openat(directory, DirectoryLock.name, O_RDWR | O_CLOEXEC)
            let isMade = file < 0 && errno == ENOENT
            if isMade { file = openat(directory, DirectoryLock.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600) }
            if file < 0, isMade, errno == EEXIST { continue }
            guard file >= 0 else {
                throw Refusal(reason: "cannot make its LOCK: \(String(cString: strerror(errno)))")
            }
            guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
                let holder = DirectoryLock.holder(file)
                close(file)
                throw Refusal(reason: "the process \(holder) uses it; stop that one or give another --dir")
            }
            guard DirectoryLock.isNamed(file, directory) else {
                close(file)
                continue
            }
            let text = Array("\(getpid())\n".utf8)
            _ = ftruncate(file, 0)
            _ = pwrite(file, text, text.count, 0)
            (self.file, self.isMade) = (file, isMade)
            return
        }
        throw Refusal(reason: "other processes take its LOCK again and again")
    }

    /// The file still has its name: nobody took it away before it was locked.
    private static func isNamed(_ file: Int32, _ directory: Int32) -> Bool {
        var (ours, named) = (stat(), stat())
        return fstat(file, &ours) == 0 && fstatat(directory, name, &named, 0) == 0 && ours.st_ino == named.st_ino
    }

    private static func holder(_ file: Int32) -> String {
        var text = [UInt8](repeating: 0, count: 32)
        let count = pread(file, &text, text.count, 0)
        return String(decoding: text.prefix(max(0, count)).prefix { $0 != 10 }, as: UTF8.self)
    }

    /// `leavesNothing`: the file goes too, if it was made here.
    func end(leavesNothing: Bool, in directory: Int32) {
        if leavesNothing, isMade { _ = unlinkat(directory, DirectoryLock.name, 0) }
        close(file)
    }
}
