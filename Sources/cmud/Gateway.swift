// The telnet gateway.

import CMUDCore
import Foundation

enum Gateway {
    static func address(_ text: String) -> (host: String, port: Int)? { nil }
    static func run(_ listen: String, store: any GameStore, options: Options) -> Int32 { 1 }
}
