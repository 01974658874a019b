// Who a client is, for servers that ask. A value, any thread.

/// A user's name and password, which each connection tells its server before anything else (AUTH).
///
/// Without ``KVClientConfiguration/tls`` whoever reads the line reads them.
public struct KVCredentials: Sendable, Equatable {
    /// The user; servers with one password for everybody call it `default`.
    public var user: String
    public var password: String

    public init(user: String = "default", password: String) { (self.user, self.password) = (user, password) }

    /// Of the variables `KV_USER` and `KV_PASSWORD`; nil without a password.
    ///
    /// - Parameter variable: the value of an environment's variable, or nil.
    public init?(environment variable: (String) -> String?) {
        guard let password = variable("KV_PASSWORD"), !password.isEmpty else { return nil }
        let user = variable("KV_USER") ?? ""
        self.init(user: user.isEmpty ? "default" : user, password: password)
    }
}

extension KVCredentials: CustomStringConvertible {
    /// Without the password, so that it is in no log.
    public var description: String { "user \(user)" }
}
