// The addresses this process has met, numbered, and which of them are systems running here. Any thread.

import CSupport

/// Turns addresses into small numbers so that references are plain values.
///
/// Every tell reads a slot of `local` without a lock. A slot holds a system from its start until it is closed. Closed
/// systems stay allocated, because a teller on another thread may just have read the slot; a process has one or two.
enum SystemRegistry {
    /// Distinct addresses a process accepts in its life; strangers can make us learn some by sending references.
    static let addressesMax = 65_536
    static let addressBytesMax = 300

    private struct Names {
        var ids: [String: UInt32] = [:]
        var texts: [String] = []
        var closed: [ActorSystem] = []
    }

    private static let names = Locked(Names())
    nonisolated(unsafe) private static let local: UnsafeMutablePointer<UnsafeMutableRawPointer?> = {
        let slots = UnsafeMutablePointer<UnsafeMutableRawPointer?>.allocate(capacity: addressesMax)
        slots.initialize(repeating: nil, count: addressesMax)
        return slots
    }()

    static func intern(_ address: String) -> UInt32? {
        names.withLock { names in
            if let id = names.ids[address] { return id }
            guard names.texts.count < addressesMax else { return nil }
            let id = UInt32(names.texts.count)
            names.texts.append(address)
            names.ids[address] = id
            return id
        }
    }

    static func name(_ id: UInt32) -> String { names.withLock { $0.texts[Int(id)] } }

    /// Publishes a system under its address. False if another one runs there.
    static func register(_ system: ActorSystem, _ id: UInt32) -> Bool {
        names.withLock { _ in
            guard local[Int(id)] == nil else { return false }
            cs_publish_pointer(local + Int(id), Unmanaged.passRetained(system).toOpaque())
            return true
        }
    }

    static func unregister(_ system: ActorSystem, _ id: UInt32) {
        names.withLock { names in
            guard local[Int(id)] == Unmanaged.passUnretained(system).toOpaque() else { return }
            cs_publish_pointer(local + Int(id), nil)
            names.closed.append(Unmanaged.passUnretained(system).takeRetainedValue())
        }
    }

    /// Pairs with the publication in `register`.
    static func system(_ id: UInt32) -> Unmanaged<ActorSystem>? {
        cs_load_pointer(local + Int(id)).map { Unmanaged.fromOpaque($0) }
    }

    /// For a tell to a remote actor from a thread that belongs to no system: the one here that can reach others, if
    /// there is exactly one.
    static func onlySystem() -> Unmanaged<ActorSystem>? {
        names.withLock { names in
            let reaching = names.texts.indices.compactMap { system(UInt32($0)) }
                .filter { $0._withUnsafeGuaranteedRef { $0.transport != nil } }
            return reaching.count == 1 ? reaching[0] : nil
        }
    }
}
