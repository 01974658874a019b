// The commands of keys and values, as Redis 7 tells of them, and what runs each. Read by every loop.

extension CommandTable {
    static let stringRows: [CommandRow] = [
        CommandRow(
            "get", 2, "readonly fast", (1, 1, 1), "@read @string @fast", specs: "RO access/1/0/1",
            since: "1.0.0", group: "string", "O(1)", "Get the value of a key", Commands.get),
        CommandRow(
            "set", -3, "write denyoom", (1, 1, 1), "@write @string @slow",
            specs: "RW access update variable_flags/1/0/1/RW and ACCESS due to the optional `GET` argument",
            since: "1.0.0", group: "string", "O(1)", "Set the string value of a key", Commands.set),
        CommandRow(
            "put", -3, "write denyoom", (1, 1, 1), "@write @string @slow",
            specs: "RW access update variable_flags/1/0/1/RW and ACCESS due to the optional `GET` argument",
            since: "1.0.0", group: "string", "O(1)", "Set the value of a key (alias of SET)", Commands.set),
        CommandRow(
            "setnx", 3, "write denyoom fast", (1, 1, 1), "@write @string @fast", specs: "OW insert/1/0/1",
            since: "1.0.0", group: "string", "O(1)", "Set the value of a key, only if the key does not exist",
            Commands.setnx),
        CommandRow(
            "getset", 3, "write denyoom fast", (1, 1, 1), "@write @string @fast", specs: "RW access update/1/0/1",
            since: "1.0.0", group: "string", "O(1)", "Set the string value of a key and return its old value",
            Commands.getset),
        CommandRow(
            "getdel", 2, "write fast", (1, 1, 1), "@write @string @fast", specs: "RW access delete/1/0/1",
            since: "6.2.0", group: "string", "O(1)", "Get the value of a key and delete the key", Commands.getdel),
        CommandRow(
            "mget", -2, "readonly fast", (1, -1, 1), "@read @string @fast", tips: "request_policy:multi_shard",
            specs: "RO access/1/-1/1", since: "1.0.0", group: "string",
            "O(N) where N is the number of keys to retrieve.", "Get the values of all the given keys",
            traits: [.manyKeys], Commands.mget),
        CommandRow(
            "mset", -3, "write denyoom", (1, -1, 2), "@write @string @slow",
            tips: "request_policy:multi_shard response_policy:all_succeeded", specs: "OW update/1/-1/2",
            since: "1.0.1", group: "string", "O(N) where N is the number of keys to set.",
            "Set multiple keys to multiple values", traits: [.manyKeys], Commands.mset),
        CommandRow(
            "msetnx", -3, "write denyoom", (1, -1, 2), "@write @string @slow",
            tips: "request_policy:multi_shard response_policy:agg_min", specs: "OW insert/1/-1/2",
            since: "1.0.1", group: "string", "O(N) where N is the number of keys to set.",
            "Set multiple keys to multiple values, only if none of the keys exist", Commands.msetnx),
        CommandRow(
            "strlen", 2, "readonly fast", (1, 1, 1), "@read @string @fast", specs: "RO/1/0/1",
            since: "2.2.0", group: "string", "O(1)", "Get the length of the value stored in a key", Commands.strlen),
        CommandRow(
            "getrange", 4, "readonly", (1, 1, 1), "@read @string @slow", specs: "RO access/1/0/1",
            since: "2.4.0", group: "string", "O(N) where N is the length of the returned string.",
            "Get a substring of the string stored at a key", Commands.getrange),
        CommandRow(
            "substr", 4, "readonly", (1, 1, 1), "@read @string @slow", specs: "RO access/1/0/1",
            since: "1.0.0", group: "string", "O(N) where N is the length of the returned string.",
            "Get a substring of the string stored at a key", Commands.getrange),
        CommandRow(
            "setex", 4, "write denyoom", (1, 1, 1), "@write @string @slow", specs: "OW update/1/0/1",
            since: "2.0.0", group: "string", "O(1)", "Set the value and expiration of a key", Commands.setex),
        CommandRow(
            "psetex", 4, "write denyoom", (1, 1, 1), "@write @string @slow", specs: "OW update/1/0/1",
            since: "2.6.0", group: "string", "O(1)", "Set the value and expiration in milliseconds of a key",
            Commands.psetex),
        CommandRow(
            "getex", -2, "write fast", (1, 1, 1), "@write @string @fast",
            specs: "RW access update/1/0/1/RW and UPDATE because it changes the TTL", since: "6.2.0", group: "string",
            "O(1)", "Get the value of a key and optionally set its expiration", Commands.getex),
        CommandRow(
            "incr", 2, "write denyoom fast", (1, 1, 1), "@write @string @fast", specs: "RW access update/1/0/1",
            since: "1.0.0", group: "string", "O(1)", "Increment the integer value of a key by one", Commands.incr),
        CommandRow(
            "decr", 2, "write denyoom fast", (1, 1, 1), "@write @string @fast", specs: "RW access update/1/0/1",
            since: "1.0.0", group: "string", "O(1)", "Decrement the integer value of a key by one", Commands.decr),
        CommandRow(
            "incrby", 3, "write denyoom fast", (1, 1, 1), "@write @string @fast", specs: "RW access update/1/0/1",
            since: "1.0.0", group: "string", "O(1)", "Increment the integer value of a key by the given amount",
            Commands.incrby),
        CommandRow(
            "decrby", 3, "write denyoom fast", (1, 1, 1), "@write @string @fast", specs: "RW access update/1/0/1",
            since: "1.0.0", group: "string", "O(1)", "Decrement the integer value of a key by the given number",
            Commands.decrby),
    ]

    static let keyspaceRows: [CommandRow] = [
        CommandRow(
            "del", -2, "write", (1, -1, 1), "@keyspace @write @slow",
            tips: "request_policy:multi_shard response_policy:agg_sum", specs: "RM delete/1/-1/1",
            since: "1.0.0", group: "generic", "O(N) where N is the number of keys that will be removed.",
            "Delete a key", traits: [.manyKeys], Commands.del),
        CommandRow(
            "delete", -2, "write", (1, -1, 1), "@keyspace @write @slow",
            tips: "request_policy:multi_shard response_policy:agg_sum", specs: "RM delete/1/-1/1",
            since: "1.0.0", group: "generic", "O(N) where N is the number of keys that will be removed.",
            "Delete keys (alias of DEL)", traits: [.manyKeys], Commands.del),
        CommandRow(
            "unlink", -2, "write fast", (1, -1, 1), "@keyspace @write @fast",
            tips: "request_policy:multi_shard response_policy:agg_sum", specs: "RM delete/1/-1/1",
            since: "4.0.0", group: "generic", "O(1) for each key removed regardless of its size.",
            "Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking.",
            traits: [.manyKeys], Commands.del),
        CommandRow(
            "delex", -2, "write fast", (1, 1, 1), "@write @string @fast", specs: "RW access delete/1/0/1",
            since: "6.2.0", group: "string", "O(1)", "Delete a key if its value is, or is not, the given one",
            Commands.delex),
        CommandRow(
            "delifeq", 3, "write fast", (1, 1, 1), "@write @string @fast", specs: "RW access delete/1/0/1",
            since: "6.2.0", group: "string", "O(1)", "Delete a key if its value is the given one", Commands.delifeq),
        CommandRow(
            "exists", -2, "readonly fast", (1, -1, 1), "@keyspace @read @fast",
            tips: "request_policy:multi_shard response_policy:agg_sum", specs: "RO/1/-1/1",
            since: "1.0.0", group: "generic", "O(N) where N is the number of keys to check.",
            "Determine if a key exists", traits: [.manyKeys], Commands.exists),
        CommandRow(
            "touch", -2, "readonly fast", (1, -1, 1), "@keyspace @read @fast",
            tips: "request_policy:multi_shard response_policy:agg_sum", specs: "RO/1/-1/1",
            since: "3.2.1", group: "generic", "O(N) where N is the number of keys that will be touched.",
            "Alters the last access time of a key(s). Returns the number of existing keys specified.",
            Commands.touch),
        CommandRow(
            "type", 2, "readonly fast", (1, 1, 1), "@keyspace @read @fast", specs: "RO/1/0/1",
            since: "1.0.0", group: "generic", "O(1)", "Determine the type stored at key", Commands.type),
        CommandRow(
            "rename", 3, "write", (1, 2, 1), "@keyspace @write @slow",
            specs: "RW access delete/1/0/1;OW update/2/0/1", since: "1.0.0", group: "generic", "O(1)", "Rename a key",
            Commands.rename),
        CommandRow(
            "renamenx", 3, "write fast", (1, 2, 1), "@keyspace @write @fast",
            specs: "RW access delete/1/0/1;OW insert/2/0/1", since: "1.0.0", group: "generic", "O(1)",
            "Rename a key, only if the new key does not exist", Commands.renamenx),
        CommandRow(
            "copy", -3, "write denyoom", (1, 2, 1), "@keyspace @write @slow",
            specs: "RO access/1/0/1;OW update/2/0/1", since: "6.2.0", group: "generic",
            "O(N) worst case for collections, where N is the number of nested items. O(1) for string values.",
            "Copy a key", Commands.copy),
        CommandRow(
            "object", -2, "", (0, 0, 0), "@slow", since: "2.2.3", group: "generic", "Depends on subcommand.",
            "A container for object introspection commands", traits: [.subcommands], Commands.object),
        CommandRow(
            "list", -1, "readonly", (0, 0, 0), "@keyspace @read @slow", since: "1.0.0", group: "generic",
            "O(N) with N being the number of keys in the database.",
            "All pairs whose key starts with a prefix, in byte order: LIST [prefix] [LIMIT n] [AFTER key]",
            Commands.list),
        CommandRow(
            "keys", 2, "readonly", (0, 0, 0), "@keyspace @read @slow @dangerous",
            tips: "request_policy:all_shards nondeterministic_output_order", since: "1.0.0", group: "generic",
            "O(N) with N being the number of keys in the database.", "Find all keys matching the given pattern",
            Commands.keys),
        CommandRow(
            "scan", -2, "readonly", (0, 0, 0), "@keyspace @read @slow",
            tips: "nondeterministic_output request_policy:special", since: "2.8.0", group: "generic",
            "O(1) for every call.", "Incrementally iterate the keys space", Commands.scan),
        CommandRow(
            "randomkey", 1, "readonly", (0, 0, 0), "@keyspace @read @slow",
            tips: "request_policy:all_shards nondeterministic_output", since: "1.0.0", group: "generic", "O(1)",
            "Return a random key from the keyspace", Commands.randomkey),
        CommandRow(
            "dbsize", 1, "readonly fast", (0, 0, 0), "@keyspace @read @fast",
            tips: "request_policy:all_shards response_policy:agg_sum", since: "1.0.0", group: "server", "O(1)",
            "Return the number of keys in the selected database", Commands.dbsize),
        CommandRow(
            "flushdb", -1, "write", (0, 0, 0), "@keyspace @write @slow @dangerous",
            tips: "request_policy:all_shards response_policy:all_succeeded", since: "1.0.0", group: "server",
            "O(N) where N is the number of keys in the selected database",
            "Remove all keys from the current database", Commands.flushdb),
        CommandRow(
            "flushall", -1, "write", (0, 0, 0), "@keyspace @write @slow @dangerous",
            tips: "request_policy:all_shards response_policy:all_succeeded", since: "1.0.0", group: "server",
            "O(N) where N is the total number of keys in all databases", "Remove all keys from all databases",
            Commands.flushall),
        CommandRow(
            "expire", -3, "write fast", (1, 1, 1), "@keyspace @write @fast", specs: "RW update/1/0/1",
            since: "1.0.0", group: "generic", "O(1)", "Set a key's time to live in seconds", Commands.expire),
        CommandRow(
            "pexpire", -3, "write fast", (1, 1, 1), "@keyspace @write @fast", specs: "RW update/1/0/1",
            since: "2.6.0", group: "generic", "O(1)", "Set a key's time to live in milliseconds", Commands.pexpire),
        CommandRow(
            "expireat", -3, "write fast", (1, 1, 1), "@keyspace @write @fast", specs: "RW update/1/0/1",
            since: "1.2.0", group: "generic", "O(1)", "Set the expiration for a key as a UNIX timestamp",
            Commands.expireat),
        CommandRow(
            "pexpireat", -3, "write fast", (1, 1, 1), "@keyspace @write @fast", specs: "RW update/1/0/1",
            since: "2.6.0", group: "generic", "O(1)",
            "Set the expiration for a key as a UNIX timestamp specified in milliseconds", Commands.pexpireat),
        CommandRow(
            "persist", 2, "write fast", (1, 1, 1), "@keyspace @write @fast", specs: "RW update/1/0/1",
            since: "2.2.0", group: "generic", "O(1)", "Remove the expiration from a key", Commands.persist),
        CommandRow(
            "ttl", 2, "readonly fast", (1, 1, 1), "@keyspace @read @fast", tips: "nondeterministic_output",
            specs: "RO access/1/0/1", since: "1.0.0", group: "generic", "O(1)",
            "Get the time to live for a key in seconds", Commands.ttl),
        CommandRow(
            "pttl", 2, "readonly fast", (1, 1, 1), "@keyspace @read @fast", tips: "nondeterministic_output",
            specs: "RO access/1/0/1", since: "2.6.0", group: "generic", "O(1)",
            "Get the time to live for a key in milliseconds", Commands.pttl),
        CommandRow(
            "expiretime", 2, "readonly fast", (1, 1, 1), "@keyspace @read @fast", specs: "RO access/1/0/1",
            since: "7.0.0", group: "generic", "O(1)", "Get the expiration Unix timestamp for a key",
            Commands.expiretime),
        CommandRow(
            "pexpiretime", 2, "readonly fast", (1, 1, 1), "@keyspace @read @fast", specs: "RO access/1/0/1",
            since: "7.0.0", group: "generic", "O(1)", "Get the expiration Unix timestamp for a key in milliseconds",
            Commands.pexpiretime),
    ]
}
