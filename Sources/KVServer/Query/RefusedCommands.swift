// Commands of Redis that are refused on purpose, with a page that says why. Any thread.

import KVBase

/// Two servers that change a part of one value at the same time would silently lose one of the changes; and what is not
/// there yet. Anything else that Redis has is unknown.
enum RefusedCommands {
    private static let names: Set<String> = Set(
        """
        append setrange setbit getbit bitcount bitpos bitop bitfield bitfield_ro incrbyfloat lcs pfadd pfcount pfmerge
        lpush rpush lpushx rpushx lpop rpop llen lindex lset linsert lrange ltrim lrem lpos lmove lmpop rpoplpush blpop
        brpop blmove blmpop brpoplpush sadd srem sismember smismember scard smembers spop srandmember smove sinter
        sinterstore sintercard sunion sunionstore sdiff sdiffstore sscan hset hsetnx hget hmset hmget hdel hlen hstrlen
        hincrby hincrbyfloat hkeys hvals hgetall hexists hrandfield hscan zadd zincrby zrem zcard zcount zrange
        zrangebyscore zrevrange zrevrangebyscore zrangebylex zrevrangebylex zrangestore zrank zrevrank zscore zmscore
        zpopmin zpopmax bzpopmin bzpopmax zmpop bzmpop zremrangebyrank zremrangebyscore zremrangebylex zlexcount
        zrandmember zinter zinterstore zintercard zunion zunionstore zdiff zdiffstore zscan geoadd geodist geohash
        geopos georadius georadiusbymember georadius_ro georadiusbymember_ro geosearch geosearchstore xadd xlen xrange
        xrevrange xread xreadgroup xgroup xack xclaim xautoclaim xdel xtrim xinfo xpending xsetid sort sort_ro dump
        restore eval evalsha eval_ro evalsha_ro script fcall fcall_ro function swapdb move migrate
        """.split(whereSeparator: \.isWhitespace).map(String.init))

    /// The line for a command that is refused; nil for one that nobody knows.
    static func reply(to name: ByteView) -> String? {
        let name = name.lowercased
        guard names.contains(name) else { return nil }
        return "ERR '\(name)' is refused: docs/data-model.md, section 5, says why"
    }
}
