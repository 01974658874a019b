// One pass over what is imported, item by item. One thread.

/// Where items come from.
package protocol ItemSource: AnyObject {
    /// The next item; nil at the end.
    func next() throws(FileFault) -> FileItem?
    /// Bytes read so far, of all parts.
    var bytesRead: Int { get }
    /// Where the last part ends in the middle of a command, once there is no next item.
    var short: FileFault? { get }
}

/// Each part is an RDB file, commands, or the one with the other behind it.
package final class ImportCursor: ItemSource {
    private var parts: [String]
    private let checksOnly: Bool
    private var file: InputFile?
    private var database: RDBReader?
    private var before = 0
    package private(set) var short: FileFault?

    /// `checksOnly`: values of RDB parts are empty.
    package init(_ file: ImportFile, checksOnly: Bool = false) {
        (parts, self.checksOnly) = (file.parts.reversed(), checksOnly)
    }

    /// Of one part that is open already.
    package init(_ file: InputFile, checksOnly: Bool = false) throws(FileFault) {
        (parts, self.checksOnly) = ([], checksOnly)
        try begin(file)
    }

    package var bytesRead: Int { before + (file?.offset ?? 0) }

    private func begin(_ file: InputFile) throws(FileFault) {
        before = bytesRead
        self.file = file
        database = try file.peek() == RDBReader.magic[0] ? try RDBReader(file, checksOnly: checksOnly) : nil
    }

    package func next() throws(FileFault) -> FileItem? {
        while true {
            guard let file else {
                guard let part = parts.popLast() else { return nil }
                try begin(try InputFile(path: part))
                continue
            }
            if let item = try database?.next() { return item }
            database = nil
            do throws(CommandFault) {
                if let command = try CommandReader(file).next() { return .command(command) }
            } catch {
                switch error {
                case .bad(let fault): throw fault
                case .short(let fault):
                    guard parts.isEmpty else { throw fault }
                    short = fault
                }
            }
            guard let part = parts.popLast() else { return nil }
            try begin(try InputFile(path: part))
        }
    }
}
