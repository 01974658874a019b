// What a loop knows of every socket, and the listening kind. Loop's thread (creation: before the loop runs, too).

import CSupport
import Glibc
import Synchronization

/// Base of connections and listeners: the object behind the token of an event. The loop holds a reference from
/// creation until the closed event, so an object is alive whenever one of its events arrives.
public class LoopSocket {
    /// Unmanaged for speed: a socket is used on its loop's thread only, which holds the loop.
    let loopReference: Unmanaged<Loop>
    package var loop: Loop { loopReference.takeUnretainedValue() }
    /// nil before it was opened and from the closed event on.
    var handle: OpaquePointer?
    /// Position in the loop's list.
    var listIndex = -1

    init(loop: Loop) { loopReference = Unmanaged.passUnretained(loop) }

    var token: UnsafeMutableRawPointer { Unmanaged.passUnretained(self).toOpaque() }

    /// The last event. `reason` is 0 or a negative errno.
    func didClose(reason: Int32) {}

    package var localAddress: SocketAddress? {
        var raw = cs_address()
        guard let handle, cs_conn_local_address(handle, &raw) == 0 else { return nil }
        return SocketAddress(raw)
    }

    /// Closes at once; what was not sent is lost. Harmless when closed already.
    package func close() {
        if let handle { cs_conn_close(handle) }
    }
}

/// Decides what to do with new connections of a listener. Subclassed; called on the loop's thread.
open class Acceptor {
    package init() {}

    /// The handler of a new connection. nil refuses it: what was appended to its output is sent, then it closes.
    open func accepted(_ connection: Connection) -> ConnectionHandler? { nil }

    /// What a client reads whose connection cannot be served because the process is out of descriptors.
    open var overloadedReply: StaticString { "-ERR max number of clients reached\r\n" }
}

package final class Listener: LoopSocket {
    private let acceptor: Acceptor
    private let secure: SecurePort?
    private let hasClosed = Atomic(false)

    init(loop: Loop, acceptor: Acceptor, secure: SecurePort?) {
        (self.acceptor, self.secure) = (acceptor, secure)
        super.init(loop: loop)
    }

    func didAccept(_ fd: Int32) {
        let connection = Connection(loop: loop)
        loop.adopt(connection, fd)
        if let secure { connection.begin(secure) }
        if let handler = acceptor.accepted(connection) {
            connection.handler = handler
            connection.outputMayHaveGrown()
        } else {
            connection.refuse()
        }
    }

    /// Closes, but takes those first whose connections the kernel has made already: one turn, or a few. Whoever comes
    /// between the last look and the end, microseconds, is cut off.
    package func finish() {
        if let handle { cs_listener_finish(handle) }
    }

    /// From any thread.
    package var isClosed: Bool { hasClosed.load(ordering: .acquiring) }

    override func didClose(reason: Int32) { hasClosed.store(true, ordering: .releasing) }

    func didOverload(_ fd: Int32) {
        // Where all speak TLS it would be no word of theirs.
        let reply: StaticString = secure?.countsFromArrival ?? false ? "" : acceptor.overloadedReply
        cs_loop_refuse(loop.handle, fd, reply.utf8Start, reply.utf8CodeUnitCount)
    }
}
