// TLS of the side that dials, as bytes in and bytes out: for tests and measurements. One thread at a time.

import CTLS
package import KVBase

package final class SecureDialer {
    private let context: OpaquePointer
    private let raw: OpaquePointer
    /// The handshake is done.
    package private(set) var isDone = false
    /// The peer said that no more follows.
    package private(set) var hasEnded = false
    /// What is to be sent.
    package var output = OutputBuffer()

    /// `files` may be empty: then no certificate is shown, and whoever answers is believed. `version`: 12 or 13 for TLS
    /// 1.2 or 1.3 only, 0 for either.
    package init(_ files: SecureFiles = SecureFiles(certificate: [], key: []), version: Int32 = 0) throws(SecureFault) {
        var made: OpaquePointer?
        let context = try SecureContext.withRaw(files, tickets: []) { raw, which, error in
            cs_front_context_dialer(&raw, version, &which, error)
        }
        made = cs_front_new(context)
        guard let made else {
            cs_front_context_release(context)
            throw SecureFault(file: nil, description: "memory is short")
        }
        (self.context, raw) = (context, made)
        _ = cs_front_handshake(made, nil, 0)
        takeHeld()
    }

    deinit {
        cs_front_free(raw)
        cs_front_context_release(context)
        output.deallocate()
    }

    /// What is to be sent, copied and taken away.
    package func takeOutput() -> [UInt8] {
        defer { output.count = 0 }
        return Array(output.bytes)
    }

    /// Takes what came; decrypted bytes go to `body`.
    package func receive(_ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) throws(SecureFault)
    {
        var next = bytes.baseAddress
        if !isDone {
            let result = cs_front_handshake(raw, bytes.baseAddress, bytes.count)
            takeHeld()
            guard result >= 0 else { throw failure }
            if result == 0 { return }
            (isDone, next) = (true, nil)
        }
        let room = bytes.count + Int(CS_FRONT_RECORD_BYTES)
        let at = UnsafeMutableRawPointer.allocate(byteCount: room, alignment: 64)
        defer { at.deallocate() }
        var result: Int32
        repeat {
            var filled = 0
            result = cs_front_open(raw, next, bytes.count, at, room, &filled)
            if filled > 0 { body(UnsafeRawBufferPointer(start: at, count: filled)) }
            next = nil
        } while result == 1
        takeHeld()
        hasEnded = hasEnded || result == -2
        if result == -1 { throw failure }
    }

    /// Encrypts to the end of `output`.
    package func seal(_ bytes: UnsafeRawBufferPointer) throws(SecureFault) {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return }
        let room = cs_front_sealed_max(bytes.count)
        output.reserve(room)
        let sealed = cs_front_seal(raw, base, bytes.count, output.base + output.count, room)
        guard sealed >= 0 else { throw failure }
        output.count += sealed
        takeHeld()
    }

    /// Has both sides change their keys, from the next record on.
    package func changeKeys() throws(SecureFault) { if cs_front_change_keys(raw) != 0 { throw failure } }

    /// Says that no more follows.
    package func end() {
        cs_front_end(raw)
        takeHeld()
    }

    private var failure: SecureFault {
        SecureFault(file: nil, description: String(cString: cs_front_error(raw)))
    }

    private func takeHeld() {
        let waiting = cs_front_pending(raw)
        guard waiting > 0 else { return }
        output.reserve(waiting)
        cs_front_take(raw, output.base + output.count)
        output.count += waiting
    }
}
