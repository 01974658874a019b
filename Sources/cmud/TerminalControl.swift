// The terminal's modes: raw for the editor, echo for passwords, and always back to what they were. Main thread only.

import Foundation
import Synchronization

enum TerminalControl {
    /// The modes found at the start, kept so that every way out of the program can restore them.
    nonisolated(unsafe) private static var original: termios?

    static func isTerminal(_ descriptor: Int32) -> Bool { isatty(descriptor) == 1 }

    static func setEcho(_ isOn: Bool) {
        var modes = termios()
        guard tcgetattr(STDIN_FILENO, &modes) == 0 else { return }
        if isOn { modes.c_lflag |= tcflag_t(ECHO) } else { modes.c_lflag &= ~tcflag_t(ECHO) }
        tcsetattr(STDIN_FILENO, TCSANOW, &modes)
    }

    /// Keys one by one, no echo, no signals from keys, output as it is written.
    static func enterRaw() {
        var modes = termios()
        guard tcgetattr(STDIN_FILENO, &modes) == 0 else { return }
        if original == nil {
            original = modes
            atexit { TerminalControl.leaveRaw() }
        }
        modes.c_iflag &= ~tcflag_t(ICRNL | IXON | BRKINT | INPCK | ISTRIP)
        modes.c_lflag &= ~tcflag_t(ECHO | ICANON | IEXTEN | ISIG)
        modes.c_oflag &= ~tcflag_t(OPOST)
        modes.c_cflag |= tcflag_t(CS8)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &modes)
    }

    /// Safe to call at any time, from `atexit` too.
    static func leaveRaw() {
        guard var modes = original else { return }
        tcsetattr(STDIN_FILENO, TCSADRAIN, &modes)
    }

    static func size() -> (columns: Int, rows: Int)? {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
        return (Int(size.ws_col), Int(size.ws_row))
    }
}
