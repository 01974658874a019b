// Writing settings back into the configuration file. The loop that runs CONFIG REWRITE; the file is small.

import Glibc
import KVBase
import KVFiles

enum ConfigFile {
    private static let bytesMax = 1024 * 1024

    /// Sets `values` at their lines, those that are not there at the end, and leaves everything else as it is. The new
    /// file takes the place of the old one in one step.
    static func rewrite(_ path: String, _ values: [(String, String)]) throws(ConfigError) {
        let bytes: [UInt8]
        do throws(SecretFileError) { bytes = try SecretFile.contents(of: path, bytesMax: bytesMax) } catch {
            throw ConfigError("\(path): \(error.description)")
        }
        let text = rewritten(String(decoding: bytes, as: UTF8.self), values)
        var old = stat()
        let mode = stat(path, &old) == 0 ? old.st_mode & 0o777 : 0o640
        do throws(FileFault) { try OutputFile.replace(path, with: Array(text.utf8), mode: mode) } catch {
            throw ConfigError(error.description)
        }
    }

    static func rewritten(_ text: String, _ values: [(String, String)]) -> String {
        var lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if lines.last == "" { lines.removeLast() }
        for (name, value) in values {
            let line = "\(name) \(value)"
            let place = lines.lastIndex { $0.split(whereSeparator: \.isWhitespace).first.map(String.init) == name }
            if let place { lines[place] = line } else { lines.append(line) }
        }
        return lines.joined(separator: "\n") + "\n"
    }
}
