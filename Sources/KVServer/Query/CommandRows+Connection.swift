// The commands of connections and the server, as Redis 7 tells of them, and what runs each. Read by every loop.

extension CommandTable {
    static let transactionRows: [CommandRow] = [
        CommandRow(
            "multi", 1, "noscript loading stale fast allow_busy", (0, 0, 0), "@fast @transaction",
            since: "1.2.0", group: "transactions", "O(1)", "Mark the start of a transaction block",
            traits: [.immediate], Commands.multi),
        CommandRow(
            "exec", 1, "noscript loading stale skip_slowlog", (0, 0, 0), "@slow @transaction",
            since: "1.2.0", group: "transactions", "Depends on commands in the transaction",
            "Execute all commands issued after MULTI", traits: [.immediate], Commands.exec),
        CommandRow(
            "discard", 1, "noscript loading stale fast allow_busy", (0, 0, 0), "@fast @transaction",
            since: "2.0.0", group: "transactions", "O(N), when N is the number of queued commands",
            "Discard all commands issued after MULTI", traits: [.immediate], Commands.discard),
        CommandRow(
            "watch", -2, "noscript loading stale fast allow_busy", (1, -1, 1), "@fast @transaction",
            specs: "RO/1/-1/1", since: "2.2.0", group: "transactions", "O(1) for every key.",
            "Watch the given keys to determine execution of the MULTI/EXEC block", traits: [.immediate],
            Commands.watch),
        CommandRow(
            "unwatch", 1, "noscript loading stale fast allow_busy", (0, 0, 0), "@fast @transaction",
            since: "2.2.0", group: "transactions", "O(1)", "Forget about all watched keys", Commands.unwatch),
    ]

    static let connectionRows: [CommandRow] = [
        CommandRow(
            "ping", -1, "fast", (0, 0, 0), "@fast @connection",
            tips: "request_policy:all_shards response_policy:all_succeeded", since: "1.0.0", group: "connection",
            "O(1)", "Ping the server", traits: [.whileReading], Commands.ping),
        CommandRow(
            "echo", 2, "loading stale fast", (0, 0, 0), "@fast @connection", since: "1.0.0", group: "connection",
            "O(1)", "Echo the given string", Commands.echo),
        CommandRow(
            "select", 2, "loading stale fast", (0, 0, 0), "@fast @connection", since: "1.0.0", group: "connection",
            "O(1)", "Change the selected database for the current connection", Commands.select),
        CommandRow(
            "hello", -1, "noscript loading stale fast no_auth allow_busy", (0, 0, 0), "@fast @connection",
            since: "6.0.0", group: "connection", "O(1)", "Handshake with Redis", Commands.hello),
        CommandRow(
            "wait", 3, "noscript", (0, 0, 0), "@slow @connection",
            tips: "request_policy:all_shards response_policy:agg_min", since: "3.0.0", group: "generic", "O(1)",
            "Wait for the synchronous replication of all the write commands sent in the context of the current connection",
            Commands.wait),
        CommandRow(
            "waitaof", 4, "noscript", (0, 0, 0), "@slow @connection",
            tips: "request_policy:all_shards response_policy:agg_min", since: "7.2.0", group: "generic", "O(1)",
            "Wait for all write commands sent in the context of the current connection to be synced to the disk",
            Commands.waitaof),
        CommandRow(
            "auth", -2, "noscript loading stale fast no_auth allow_busy", (0, 0, 0), "@fast @connection",
            since: "1.0.0", group: "connection", "O(N) where N is the number of passwords defined for the user",
            "Authenticate to the server", Commands.auth),
        CommandRow(
            "quit", -1, "noscript loading stale fast no_auth allow_busy", (0, 0, 0), "@fast @connection",
            since: "1.0.0", group: "connection", "O(1)", "Close the connection", traits: [.immediate], Commands.quit),
        CommandRow(
            "reset", 1, "noscript loading stale fast no_auth allow_busy", (0, 0, 0), "@fast @connection",
            since: "6.2.0", group: "connection", "O(1)", "Reset the connection", traits: [.immediate],
            Commands.reset),
        CommandRow(
            "client", -2, "", (0, 0, 0), "@slow", since: "2.4.0", group: "connection", "Depends on subcommand.",
            "A container for client connection commands", traits: [.subcommands, .whileReading], Commands.client),
    ]

    static let adminRows: [CommandRow] = [
        CommandRow(
            "time", 1, "loading stale fast", (0, 0, 0), "@fast", tips: "nondeterministic_output",
            since: "2.6.0", group: "server", "O(1)", "Return the current server time", Commands.time),
        CommandRow(
            "command", -1, "loading stale", (0, 0, 0), "@slow @connection", tips: "nondeterministic_output_order",
            since: "2.8.13", group: "server", "O(N) where N is the total number of Redis commands",
            "Get array of Redis command details", traits: [.subcommands], Commands.command),
        CommandRow(
            "config", -2, "", (0, 0, 0), "@slow", since: "2.0.0", group: "server", "Depends on subcommand.",
            "A container for server configuration commands", traits: [.subcommands, .whileReading], Commands.config),
        CommandRow(
            "info", -1, "loading stale", (0, 0, 0), "@slow @dangerous",
            tips: "nondeterministic_output request_policy:all_shards response_policy:special",
            since: "1.0.0", group: "server", "O(1)", "Get information and statistics about the server",
            Commands.info),
        CommandRow(
            "save", 1, "admin noscript no_async_loading no_multi", (0, 0, 0), "@admin @slow @dangerous",
            since: "1.0.0", group: "server", "O(N) where N is the total number of keys in all databases",
            "Synchronously save the dataset to disk", Commands.saveNow),
        CommandRow(
            "bgsave", -1, "admin noscript no_async_loading", (0, 0, 0), "@admin @slow @dangerous", since: "1.0.0",
            group: "server", "O(1)", "Asynchronously save the dataset to disk", Commands.bgsave),
        CommandRow(
            "bgrewriteaof", 1, "admin noscript no_async_loading", (0, 0, 0), "@admin @slow @dangerous", since: "1.0.0",
            group: "server", "O(1)", "Asynchronously rewrite the append-only file to disk", Commands.bgrewriteaof),
        CommandRow(
            "lastsave", 1, "loading stale fast", (0, 0, 0), "@admin @fast @dangerous",
            tips: "nondeterministic_output", since: "1.0.0", group: "server", "O(1)",
            "Return the Unix timestamp of the last successful save to disk", Commands.lastsave),
        CommandRow(
            "memory", -2, "", (0, 0, 0), "@slow", since: "4.0.0", group: "server", "Depends on subcommand.",
            "A container for memory diagnostics commands", traits: [.subcommands], Commands.memory),
        CommandRow(
            "slowlog", -2, "", (0, 0, 0), "@slow", since: "2.2.12", group: "server", "Depends on subcommand.",
            "A container for slow log commands", traits: [.subcommands, .whileReading], Commands.slowlog),
        CommandRow(
            "latency", -2, "", (0, 0, 0), "@slow", since: "2.8.13", group: "server", "Depends on subcommand.",
            "A container for latency diagnostics commands", traits: [.subcommands, .whileReading], Commands.latency),
        CommandRow(
            "monitor", 1, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous", since: "1.0.0",
            group: "server", "", "Listen for all requests received by the server in real time", Commands.monitor),
        CommandRow(
            "acl", -2, "", (0, 0, 0), "@slow", since: "6.0.0", group: "server", "Depends on subcommand.",
            "A container for Access List Control commands", traits: [.subcommands, .whileReading], Commands.acl),
        CommandRow(
            "kvd", -2, "", (0, 0, 0), "@slow", since: "1.0.0", group: "server", "O(1)",
            "KVD PUT key value [FLOOR ms], KVD VERSION key, KVD RESTAMP key, KVD DIGEST [ALL], KVD PEERS, KVD FORGET id",
            traits: [.subcommands, .whileReading], Commands.kvd),
    ]

    /// Of commands with subcommands, under their whole names.
    static let subcommandRows: [SubcommandRow] = [
        SubcommandRow("client|id", 2, "noscript loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow("client|setname", 3, "noscript loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow("client|getname", 2, "noscript loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow("client|setinfo", 4, "noscript loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow(
            "client|info", 2, "noscript loading stale", (0, 0, 0), "@slow @connection", tips: "nondeterministic_output"),
        SubcommandRow(
            "client|list", -2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous @connection",
            tips: "nondeterministic_output"),
        SubcommandRow(
            "client|kill", -3, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous @connection"),
        SubcommandRow(
            "client|pause", -3, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous @connection"),
        SubcommandRow(
            "client|unpause", 2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous @connection"),
        SubcommandRow(
            "client|unblock", -3, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous @connection"),
        SubcommandRow("client|getredir", 2, "noscript loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow("client|reply", 3, "noscript loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow(
            "client|no-evict", 3, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous @connection"),
        SubcommandRow("client|no-touch", 3, "noscript loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow("client|tracking", -3, "noscript loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow("client|help", 2, "loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow("config|get", -3, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow(
            "config|set", -4, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous",
            tips: "request_policy:all_nodes response_policy:all_succeeded"),
        SubcommandRow("config|rewrite", 2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("config|resetstat", 2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("config|help", 2, "loading stale", (0, 0, 0), "@slow"),
        SubcommandRow("command|count", 2, "loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow(
            "command|docs", -2, "loading stale", (0, 0, 0), "@slow @connection", tips: "nondeterministic_output_order"),
        SubcommandRow("command|getkeys", -4, "loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow("command|getkeysandflags", -4, "loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow(
            "command|info", -2, "loading stale", (0, 0, 0), "@slow @connection", tips: "nondeterministic_output_order"),
        SubcommandRow(
            "command|list", -2, "loading stale", (0, 0, 0), "@slow @connection", tips: "nondeterministic_output_order"),
        SubcommandRow("command|help", 2, "loading stale", (0, 0, 0), "@slow @connection"),
        SubcommandRow(
            "object|encoding", 3, "readonly", (2, 2, 1), "@keyspace @read @slow", tips: "nondeterministic_output",
            specs: "RO/2/0/1"),
        SubcommandRow(
            "object|freq", 3, "readonly", (2, 2, 1), "@keyspace @read @slow", tips: "nondeterministic_output",
            specs: "RO/2/0/1"),
        SubcommandRow(
            "object|idletime", 3, "readonly", (2, 2, 1), "@keyspace @read @slow", tips: "nondeterministic_output",
            specs: "RO/2/0/1"),
        SubcommandRow(
            "object|refcount", 3, "readonly", (2, 2, 1), "@keyspace @read @slow", tips: "nondeterministic_output",
            specs: "RO/2/0/1"),
        SubcommandRow("object|help", 2, "loading stale", (0, 0, 0), "@keyspace @slow"),
        SubcommandRow("memory|usage", -3, "readonly", (2, 2, 1), "@read @slow", specs: "RO/2/0/1"),
        SubcommandRow(
            "memory|stats", 2, "", (0, 0, 0), "@slow",
            tips: "nondeterministic_output request_policy:all_shards response_policy:special"),
        SubcommandRow(
            "memory|doctor", 2, "", (0, 0, 0), "@slow",
            tips: "nondeterministic_output request_policy:all_shards response_policy:special"),
        SubcommandRow(
            "memory|purge", 2, "", (0, 0, 0), "@slow", tips: "request_policy:all_shards response_policy:all_succeeded"),
        SubcommandRow(
            "slowlog|get", -2, "admin loading stale", (0, 0, 0), "@admin @slow @dangerous",
            tips: "request_policy:all_nodes nondeterministic_output"),
        SubcommandRow(
            "slowlog|len", 2, "admin loading stale", (0, 0, 0), "@admin @slow @dangerous",
            tips: "request_policy:all_nodes response_policy:agg_sum nondeterministic_output"),
        SubcommandRow(
            "slowlog|reset", 2, "admin loading stale", (0, 0, 0), "@admin @slow @dangerous",
            tips: "request_policy:all_nodes response_policy:all_succeeded"),
        SubcommandRow("slowlog|help", 2, "loading stale", (0, 0, 0), "@slow"),
        SubcommandRow(
            "latency|latest", 2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous",
            tips: "nondeterministic_output request_policy:all_nodes response_policy:special"),
        SubcommandRow(
            "latency|history", 3, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous",
            tips: "nondeterministic_output request_policy:all_nodes response_policy:special"),
        SubcommandRow(
            "latency|histogram", -2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous",
            tips: "nondeterministic_output request_policy:all_nodes response_policy:special"),
        SubcommandRow(
            "latency|doctor", 2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous",
            tips: "nondeterministic_output request_policy:all_nodes response_policy:special"),
        SubcommandRow(
            "latency|graph", 3, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous",
            tips: "nondeterministic_output request_policy:all_nodes response_policy:special"),
        SubcommandRow(
            "latency|reset", -2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous",
            tips: "request_policy:all_nodes response_policy:all_succeeded"),
        SubcommandRow("latency|help", 2, "loading stale", (0, 0, 0), "@slow"),
        SubcommandRow("memory|help", 2, "loading stale", (0, 0, 0), "@slow"),
        SubcommandRow("acl|cat", -2, "noscript loading stale", (0, 0, 0), "@slow"),
        SubcommandRow("acl|deluser", -3, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("acl|dryrun", -4, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("acl|genpass", -2, "noscript loading stale", (0, 0, 0), "@slow"),
        SubcommandRow("acl|getuser", 3, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("acl|help", 2, "loading stale", (0, 0, 0), "@slow"),
        SubcommandRow("acl|list", 2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("acl|load", 2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("acl|log", -2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("acl|save", 2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("acl|setuser", -3, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("acl|users", 2, "admin noscript loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("acl|whoami", 2, "noscript loading stale", (0, 0, 0), "@slow"),
        SubcommandRow("kvd|put", -4, "write", (2, 2, 1), "@write @slow", specs: "OW update/2/0/1"),
        SubcommandRow("kvd|version", 3, "readonly", (2, 2, 1), "@read @slow", specs: "RO/2/0/1"),
        SubcommandRow(
            "kvd|restamp", 3, "write admin", (2, 2, 1), "@write @admin @slow @dangerous",
            specs: "RW access update/2/0/1"),
        SubcommandRow("kvd|digest", -2, "readonly", (0, 0, 0), "@read @slow"),
        SubcommandRow("kvd|peers", 2, "readonly", (0, 0, 0), "@read @slow"),
        SubcommandRow("kvd|forget", 3, "admin", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("kvd|status", -2, "admin loading stale", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("kvd|backup", -3, "admin noscript", (0, 0, 0), "@admin @slow @dangerous"),
        SubcommandRow("kvd|doctor", 2, "admin loading stale", (0, 0, 0), "@admin @slow @dangerous"),
    ]
}
