// What the program says before there is a game: bad options, a port that is taken. Pure text, any thread.

package enum Complaint {
    /// Bad usage in one line: the first sentence of what the parser said, and where to read more.
    package static func usage(_ message: String) -> String {
        var text = GameCommand.trimmed(message.split(whereSeparator: \.isNewline).first.map(String.init) ?? "")
        while text.last == "." || text.last == ";" { text.removeLast() }
        return "cmud: \(text.isEmpty ? "bad usage" : text); see cmud --help"
    }

    /// Why a gateway could not begin: what stands in the way and what to do, from the error number of the system.
    package static func listen(_ host: String, _ port: Int, errorNumber: Int32?) -> String {
        let place = "\(host):\(port)"
        switch errorNumber {
        case 98?, 48?:  // EADDRINUSE on Linux and on macOS
            return "\(place) is taken by another program; end it, or choose another port with --listen"
        case 13?: return "\(place) is not for this user; choose a port above 1023 with --listen"
        case 99?, 49?:  // EADDRNOTAVAIL
            return "\(host) is no address of this machine; try --listen 127.0.0.1:\(port)"
        case let number?: return "cannot listen on \(place) (system error \(number)); try another port with --listen"
        case nil: return "\(host) is not known as an address; try --listen 127.0.0.1:\(port)"
        }
    }
}
