// The commands of one received buffer, as plain structs in storage that one loop reuses for ever. Owned by one thread.

public import KVBase

/// One parsed command: a run of `argumentCount` entries of the batch's argument array. An oversized command has none:
/// something it carried was over the limits and was skipped; it is answered with an error and the connection kept.
@usableFromInline package struct ParsedCommand {
    @usableFromInline package var firstArgument: Int32
    @usableFromInline package var argumentCount: Int32
    @usableFromInline package var isOversized: Bool
    /// Oversized because of how many arguments were announced.
    package internal(set) var hasTooManyArguments = false
    /// Bytes from the start of the parsed input to the end of this command: for a caller that stops behind it.
    package internal(set) var end: Int32 = 0

    @inlinable @inline(__always)
    package init(firstArgument: Int32, argumentCount: Int32, isOversized: Bool = false) {
        self.firstArgument = firstArgument
        self.argumentCount = argumentCount
        self.isOversized = isOversized
    }
}

/// Pointers and counts only, so passing it `inout` costs nothing. Grows with what was received, never with what a
/// client announced; `reset()` gives the memory of an unusually large command back.
@usableFromInline package struct CommandBatch {
    @usableFromInline package private(set) var commands: UnsafeMutablePointer<ParsedCommand>
    /// Views into the caller's input (or into the batch's scratch for a quoted inline argument). Valid until the input
    /// moves or the batch is reset, whichever comes first.
    @usableFromInline package private(set) var arguments: UnsafeMutablePointer<ByteView>
    /// Commands parsed so far.
    @usableFromInline package internal(set) var count = 0
    @usableFromInline package internal(set) var argumentCount = 0
    private var commandCapacity: Int
    private var argumentCapacity: Int
    /// Blocks of unescaped inline arguments, each beginning with the address of the next; nil in normal traffic.
    private var scratch: UnsafeMutableRawPointer?

    private static let commandsStart = 256
    private static let argumentsStart = 1024
    /// A batch that grew beyond this gives its memory back when it is reset.
    private static let argumentsKeptMax = 64 * 1024

    package init() {
        commandCapacity = Self.commandsStart
        argumentCapacity = Self.argumentsStart
        commands = .allocate(capacity: commandCapacity)
        arguments = .allocate(capacity: argumentCapacity)
    }

    /// Frees the storage; the batch must not be used afterwards.
    package func deallocate() {
        freeScratch()
        commands.deallocate()
        arguments.deallocate()
    }

    /// Forgets all commands. O(1) in normal traffic.
    package mutating func reset() {
        count = 0
        argumentCount = 0
        if scratch != nil {
            freeScratch()
            scratch = nil
        }
        if argumentCapacity > Self.argumentsKeptMax {
            arguments.deallocate()
            argumentCapacity = Self.argumentsStart
            arguments = .allocate(capacity: argumentCapacity)
        }
    }

    @inlinable @inline(__always)
    package subscript(_ index: Int) -> ParsedCommand { commands[index] }

    /// The argument at `index` of the whole batch: `command.firstArgument + k`.
    @inlinable @inline(__always)
    package func argument(_ index: Int) -> ByteView { arguments[index] }

    /// Argument `k` of `command`; `k` must be below its `argumentCount`.
    @inlinable @inline(__always)
    package func argument(_ k: Int, of command: ParsedCommand) -> ByteView {
        arguments[Int(command.firstArgument) &+ k]
    }

    // Filling; only the parser does.

    /// Room for one more command and `extra` more arguments.
    @inline(__always)
    mutating func reserve(_ extra: Int) {
        if count == commandCapacity || argumentCount &+ extra > argumentCapacity { grow(extra) }
    }

    @inline(never)
    private mutating func grow(_ extra: Int) {
        if count == commandCapacity {
            commands = Self.regrown(commands, count, commandCapacity * 2)
            commandCapacity *= 2
        }
        if argumentCount + extra > argumentCapacity {
            let capacity = max(argumentCapacity * 2, argumentCount + extra)
            // All of the old storage: a command being parsed has arguments behind `argumentCount` already.
            arguments = Self.regrown(arguments, argumentCapacity, capacity)
            argumentCapacity = capacity
        }
    }

    private static func regrown<T>(_ old: UnsafeMutablePointer<T>, _ count: Int, _ capacity: Int)
        -> UnsafeMutablePointer<T>
    {
        let new = UnsafeMutablePointer<T>.allocate(capacity: capacity)
        new.update(from: old, count: count)
        old.deallocate()
        return new
    }

    /// Appends the `n` arguments already stored behind `argumentCount` as one command.
    @inline(__always)
    mutating func commit(_ n: Int) {
        commands[count] = ParsedCommand(
            firstArgument: Int32(truncatingIfNeeded: argumentCount), argumentCount: Int32(truncatingIfNeeded: n))
        count &+= 1
        argumentCount &+= n
    }

    /// Appends a command of `n` arguments that lie elsewhere one behind the other, and stay there as long as the batch
    /// is used. `lengths`: theirs, four bytes each, in the processor's order.
    package mutating func append(_ n: Int, lengths: UnsafeRawPointer, _ bytes: UnsafeRawPointer) {
        reserve(n)
        var place = bytes
        for k in 0..<n {
            let length = Int(lengths.loadUnaligned(fromByteOffset: 4 &* k, as: Int32.self))
            arguments[argumentCount &+ k] = ByteView(place, length)
            place += length
        }
        commit(n)
    }

    /// Notes where the last command ended.
    @inline(__always)
    func markEnd(_ offset: Int) {
        if count > 0 { commands[count &- 1].end = Int32(truncatingIfNeeded: offset) }
    }

    mutating func commitOversized(hasTooManyArguments: Bool) {
        reserve(0)
        commands[count] = ParsedCommand(
            firstArgument: Int32(truncatingIfNeeded: argumentCount), argumentCount: 0, isOversized: true)
        commands[count].hasTooManyArguments = hasTooManyArguments
        count += 1
    }

    /// `bytes` of storage that lives until `reset()`.
    mutating func scratch(_ bytes: Int) -> UnsafeMutablePointer<UInt8> {
        let header = MemoryLayout<UnsafeMutableRawPointer?>.size
        let block = UnsafeMutableRawPointer.allocate(byteCount: header + bytes, alignment: 16)
        block.storeBytes(of: scratch, as: UnsafeMutableRawPointer?.self)
        scratch = block
        return (block + header).bindMemory(to: UInt8.self, capacity: bytes)
    }

    private func freeScratch() {
        var next = scratch
        while let block = next {
            next = block.load(as: UnsafeMutableRawPointer?.self)
            block.deallocate()
        }
    }
}
