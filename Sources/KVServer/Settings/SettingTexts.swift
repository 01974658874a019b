// What people read of each setting: in --help, docs/configuration.md, kvd.conf, the man page and completions. A test
// compares the names with those of `Config.rows`. Values; any thread.

package struct SettingText: Sendable {
    package enum Group: String, CaseIterable, Sendable {
        case serving = "Serving"
        case cluster = "The cluster"
        case trust = "Servers know each other"
        case clients = "Clients"
        case disk = "The disk"
        case operation = "Operation"
        case machine = "The machine"
    }

    package var name: String
    package var group: Group
    /// What stands for the value; empty for a flag without one.
    package var value: String
    package var byDefault: String
    package var help: String
    /// The values that there are, for completions.
    package var choices: [String] = []
    /// The value is a file's or folder's path.
    package var isPath = false

    private init(
        _ name: String, _ group: Group, _ value: String, _ byDefault: String, _ help: String, choices: [String] = [],
        isPath: Bool = false
    ) {
        (self.name, self.group, self.value, self.byDefault) = (name, group, value, byDefault)
        (self.help, self.choices, self.isPath) = (help, choices, isPath)
    }

    private static let yesNo = ["yes", "no"]

    /// In the order of the pages.
    package static let all: [SettingText] = [
        SettingText("port", .serving, "P", "6000", "Port for other servers; query actor i listens for clients on P+i."),
        SettingText("actors", .serving, "N", "online cores", "Query actors, one event loop each."),
        SettingText(
            "shared-port", .serving, "Q", "off", "One more client port, spread over all query actors by the kernel."),
        SettingText("host", .serving, "H", "127.0.0.1", "Address to bind."),
        SettingText(
            "advertise", .cluster, "HOST[:PORT]", "host and port",
            "What other servers are told instead of host and port."),
        SettingText(
            "name", .cluster, "NAME", "host name and port", "Name of this server, the same over restarts and addresses."
        ),
        SettingText(
            "join", .cluster, "HOST:PORT", "none", "Any server to join, or its description line; may be given again."),
        SettingText("cluster", .cluster, "NAME", "kvd", "Servers of different clusters refuse each other."),
        SettingText(
            "serve-while-joining", .cluster, "WHETHER", "yes",
            "Answer data commands while still fetching what others have: yes or no.", choices: yesNo),
        SettingText(
            "max-lag", .cluster, "SECONDS", "off",
            "Refuse writes while one has waited longer for another server that is up."),
        SettingText(
            "clock-skew-max", .cluster, "SECONDS", "10",
            "Keep expired values so long after their deadline where it cannot be seen how far clocks differ."),
        SettingText(
            "drain-timeout", .cluster, "SECONDS", "30", "Longest time to hand over the last writes when told to stop."),
        SettingText(
            "cluster-key-file", .trust, "FILE", "none",
            "The key by which servers of the cluster know each other: kvd secret > FILE. SIGHUP reads it again.",
            isPath: true),
        SettingText(
            "peer-tls-cert", .trust, "FILE", "none", "Instead of a key: this server's certificate, PEM.", isPath: true),
        SettingText("peer-tls-key", .trust, "FILE", "none", "Its private key, PEM.", isPath: true),
        SettingText("peer-tls-ca", .trust, "FILE", "none", "Who signs the servers' certificates, PEM.", isPath: true),
        SettingText(
            "trust-the-network", .trust, "", "no",
            "Off loopback without a key or certificates: whoever reaches the port is believed.", choices: yesNo),
        SettingText(
            "requirepass-file", .clients, "FILE", "none", "The password of clients, one line. SIGHUP reads it again.",
            isPath: true),
        SettingText(
            "aclfile", .clients, "FILE", "none", "The users of clients, lines of Redis's ACL. SIGHUP reads it again.",
            isPath: true),
        SettingText(
            "protected-mode", .clients, "WHETHER", "yes",
            "Clients of other machines are refused as long as none needs a password: yes or no.", choices: yesNo),
        SettingText(
            "tls", .clients, "MODE", "required with a certificate, else off",
            "TLS with clients: off, optional or required.", choices: ["off", "optional", "required"]),
        SettingText(
            "tls-cert-file", .clients, "FILE", "none", "The certificate that clients see, PEM. SIGHUP reads it again.",
            isPath: true),
        SettingText("tls-key-file", .clients, "FILE", "none", "Its private key, PEM.", isPath: true),
        SettingText(
            "tls-ca-file", .clients, "FILE", "none", "Who signs the certificates of clients, PEM.", isPath: true),
        SettingText(
            "tls-auth-clients", .clients, "WHETHER", "optional with --tls-ca-file, else no",
            "Clients show a certificate: no, optional or yes.", choices: ["no", "optional", "yes"]),
        SettingText(
            "tls-auth-clients-user", .clients, "FIELD", "none",
            "What of a client's certificate is its user: CN or URI.", choices: ["CN", "URI"]),
        SettingText("maxclients", .clients, "N", "10000", "Connections served at once."),
        SettingText(
            "maxmemory", .clients, "BYTES", "80 % of all",
            "Memory above which clients' writes are refused: 0 for none, or as 512mb, 4gb."),
        SettingText(
            "unixsocket", .clients, "PATH", "none", "One more place for clients: a socket in the file system.",
            isPath: true),
        SettingText("unixsocketperm", .clients, "MODE", "700", "Who may use it, octal."),
        SettingText(
            "dir", .disk, "DIR", "none, memory only", "Where data is kept: it is there again after a restart.",
            isPath: true),
        SettingText(
            "appendfsync", .disk, "POLICY", "everysec",
            "When a write is on the disk: always (before it is answered), everysec or no.",
            choices: ["always", "everysec", "no"]),
        SettingText(
            "save-after-bytes", .disk, "BYTES", "auto", "Growth of the log after which a snapshot is made."),
        SettingText(
            "restore", .disk, "FILE", "none", "A backup that a new --dir begins with; needs --mode.", isPath: true),
        SettingText(
            "mode", .disk, "MODE", "none",
            "What --restore is: rejoin (newer writes win), import (new writes) or new-epoch (the truth from now on).",
            choices: ["rejoin", "import", "new-epoch"]),
        SettingText("repair", .disk, "", "no", "Start with what is intact of a damaged --dir.", choices: yesNo),
        SettingText(
            "metrics-address", .operation, "HOST:PORT", "off",
            "Metrics, health and a page about the server, by HTTP; a port alone is one of 127.0.0.1."),
        SettingText(
            "log-level", .operation, "LEVEL", "info", "trace, debug, info, notice, warning, error or critical.",
            choices: Config.logLevels),
        SettingText(
            "log-format", .operation, "FORMAT", "text", "Lines of the log as text, logfmt or json.",
            choices: ["text", "logfmt", "json"]),
        SettingText(
            "io", .machine, "BACKEND", "auto", "How sockets are served: auto, io_uring or epoll.",
            choices: ["auto", "io_uring", "epoll"]),
        SettingText("pin", .machine, "WHETHER", "yes", "Pin each loop to a core: yes or no.", choices: yesNo),
        SettingText(
            "warm-memory", .machine, "WHETHER", "yes", "Make fresh memory ready beside the loops: yes or no.",
            choices: yesNo),
    ]

    /// `KVD_PORT`.
    package var variable: String {
        "KVD_" + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
    }
}
