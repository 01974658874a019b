#!/usr/bin/env python3
"""Figures of deadlines, conditional writes and counters (docs/PERFORMANCE.md), on real kvd processes. One subcommand each:

  setex      SET EX over SET at pipeline 16, in alternating rounds: rate, and CPU of the server
  touch      bytes on the wire for the EXPIRE of a session of 4 KiB
  together   a million keys with one deadline: longest turn, what is served late, bytes sent, memory afterwards
  reader     a million keys whose deadlines pass one after the other, each read around its own
  homes      CPU of SET NX and XX, which run at the key's home, over SET, two actors, pipeline 16
  hot        one counter at all actors against one key written at one: rate; messages a second
  races      a million races each of SET NX, INCR, GETDEL and EXEC at all actors of one server
  flush      FLUSHALL: seconds of the processor and longest turn
  large      longest turn of each command with a large value

Needs a release build: swift build -c release --product kvd, --product perf-driver.
"""
import argparse
import time

from driver import address, cpu_micros, find, median_of, middle, run
from lab import KVD, PERF_DRIVER, Connection, Server, fill, need
from replication import start, wait_equal

KEYS_PER_SEND = 5000


def send_all(connection, commands, each=KEYS_PER_SEND):
    for first in range(0, len(commands), each):
        connection.pipeline(commands[first:first + each])


def wall_millis(connection):
    seconds, micros = connection.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


def turns(server):
    processor, wall, above = server.longest_turns()
    return "%s of the processor, %d above 1 ms; %s by the wall" % (processor, above, wall)


def alternately(options, measured, *names):
    """`measured(name)` gives rate and CPU of a short run; medians of the ratios of neighbours, to the last name."""
    rates, processor = {n: [] for n in names}, {n: [] for n in names}
    for _ in range(options.rounds):
        round_ = {name: measured(name) for name in names}
        for name, (rate, cpu) in round_.items():
            rates[name].append(rate / round_[names[-1]][0])
            processor[name].append(cpu / round_[names[-1]][1])
    for name in names[:-1]:
        print("%-28s over %s: rate %s, CPU %s" % (name, names[-1], middle(rates[name], 3), middle(processor[name], 3)))


def setex(options):
    server = Server(1, cpu=0)
    fill(server.port + 1, 0, options.keys)
    send_all(server.connect(), [("SET", "vol:%012d" % i, b"v" * 64, "EX", 10000) for i in range(options.keys)])

    def measured(name):
        words, kind = name.split(", ")
        prefix = "vol:" if kind == "keys with a deadline" else "key:"
        found = run(address(server), server.pid, options, "-P", "16", "--ops", "custom", "--command", words, "--key-prefix", prefix)
        return median_of(find(found, "operationsPerSecond")), cpu_micros(found)

    ex, plain = "SET __key__ __data__ EX 10000", "SET __key__ __data__, keys without"
    alternately(options, measured, ex + ", keys with a deadline", plain)
    # Each gives the other one's keys another form.
    alternately(options, measured, ex + ", keys without", plain)
    server.stop()


def tag_of_the_other(server):
    """A tag whose home is the second actor: what is written there is seen there at once, else with the next message."""
    one, two = server.connect(), server.connect(1)
    for i in range(1000):
        one.call("SET", "probe", i)
        time.sleep(0.01)
        one.call("SET", "{%d}" % i, "v", "NX")
        if two.call("GET", "{%d}" % i) is not None:
            return "{%d}" % i
    raise SystemExit("no tag's home is the second actor")


def homes(options):
    server = Server(2)
    fill(server.port + 1, 0, options.keys)
    elsewhere = tag_of_the_other(server) + ":"
    send_all(server.connect(), [("SET", "%s%0*d" % (elsewhere, 16 - len(elsewhere), i), b"v" * 64) for i in range(options.keys)])
    wait_equal([server])
    fresh = 0

    def measured(name):
        nonlocal fresh
        fresh += 1
        words, kind = name.split(", ")
        keys = {"new keys": ["--keys", "100000000", "--key-prefix", "f%d:" % fresh],
                "keys of the other actor": ["--key-prefix", elsewhere], "old keys": []}[kind]
        found = run(address(server), server.pid, options, "-P", "16", "--ops", "custom", "--command", words, *keys, cpu=None)
        return median_of(find(found, "operationsPerSecond")), cpu_micros(found)

    alternately(options, measured, "SET __key__ __data__ XX, old keys", "SET __key__ __data__ NX, old keys",
                "SET __key__ __data__, old keys")
    alternately(options, measured, "SET __key__ __data__ NX, new keys", "SET __key__ __data__, new keys")
    alternately(options, measured, "SET __key__ __data__ XX, keys of the other actor",
                "SET __key__ __data__ NX, keys of the other actor", "SET __key__ __data__, keys of the other actor")
    server.stop()


def touch(options):
    servers = start([1, 1])
    source, target = servers[0].connect(), servers[1].connect()
    count = 10_000
    keys = ["session:%08d" % i for i in range(count)]
    send_all(source, [("SET", key, b"x" * 4096) for key in keys], 200)
    wait_equal(servers)
    time.sleep(2)
    before, began = target.info("remote_bytes_received"), time.time()
    time.sleep(2)
    idle = (target.info("remote_bytes_received") - before) / (time.time() - began)
    before, began = target.info("remote_bytes_received"), time.time()
    send_all(source, [("EXPIRE", key, 1800) for key in keys])
    deadline = time.time() + 30
    while target.call("TTL", keys[-1]) < 0 and time.time() < deadline:
        pass
    received = target.info("remote_bytes_received") - before - idle * (time.time() - began)
    print("a touch of a session of 4 KiB, key of 16 bytes: %.1f bytes on the wire each (%d touches)" % (received / count, count))
    for server in servers:
        server.stop()


def together(options):
    servers = start([1, 1])
    source, other = servers[0].connect(), servers[1].connect()
    time.sleep(2)
    before = [c.info("used_memory") for c in (source, other)]
    # Written a minute and more before it: younger values are kept.
    end = wall_millis(source) + 1000 * options.seconds_ahead
    send_all(source, [("SET", "key:%012d" % i, b"v" * 64, "PXAT", end) for i in range(options.keys)])
    wait_equal(servers)
    written = wall_millis(source)
    if written > end - 61_000:
        print("it took until %.1f s before the deadline to write them: not a minute" % ((end - written) / 1000))
    full = [c.info("used_memory") for c in (source, other)]

    def received():
        return [c.info("remote_bytes_received") for c in (source, other)]

    time.sleep(max(0, (end - 8000 - wall_millis(source)) / 1000))
    quiet = received()
    time.sleep(7)
    for c in (source, other):
        c.call("CONFIG", "RESETSTAT")
    began = received()
    latest, reads = None, 0
    probe = [("TIME",)] + [("GET", "key:%012d" % (i * 7919 % options.keys)) for i in range(50)]
    while (now := wall_millis(source)) < end + 500:
        replies = source.pipeline(probe)
        at = int(replies[0][0]) * 1000 + int(replies[0][1]) / 1000
        reads += 50
        if any(reply is not None for reply in replies[1:]):
            latest = at - end
    time.sleep(max(0, (end + 6000 - now) / 1000))
    sent = received()
    print("%d reads: the last value was served %.2f ms %s the deadline" % (reads, abs(latest), "after" if latest >= 0 else "before"))
    print("longest turn: " + turns(servers[0]) + "; the other server's: " + turns(servers[1]))
    print("bytes received in 7 s, quiet then with the deadline: %s" % [
        (b - a, d - c) for a, b, c, d in zip(quiet, began, began, sent)])
    until = time.time() + 60
    left = None
    while time.time() < until:
        left = [c.info("used_memory") for c in (source, other)]
        if all(a < b + 0.05 * (f - b) for a, b, f in zip(left, before, full)):
            break
        time.sleep(0.1)
    print("memory %s MiB, then %s, and %s after %.1f s; kept: %s" % (
        [m >> 20 for m in before], [m >> 20 for m in full], [m >> 20 for m in left],
        (wall_millis(source) - end) / 1000, [c.info("expired_kept") for c in (source, other)]))
    for server in servers:
        server.stop()


def reader(options):
    server = Server(1)
    connection = server.connect()
    began = wall_millis(connection) + 1000 * options.seconds_ahead
    span = 1000 * options.span
    connection.call("CONFIG", "RESETSTAT")
    ends = [began + i * span // options.keys for i in range(options.keys)]
    send_all(connection, [("SET", "key:%012d" % i, b"v", "PXAT", end) for i, end in enumerate(ends)])
    if wall_millis(connection) > began:
        raise SystemExit("the machine is too slow: more --seconds-ahead")
    late, latest, early, seen, gone = 0, 0, 0, 0, 0
    while (now := wall_millis(connection)) < began + span:
        near = int((now - began) * options.keys / span)
        keys = [i for i in range(near - 400, near + 800, 8) if 0 <= i < options.keys]
        if not keys:
            time.sleep(0.01)
            continue
        replies = connection.pipeline([("TIME",)] + [("GET", "key:%012d" % i) for i in keys] + [("TIME",)])
        first, last = ((int(t[0]) * 1000 + int(t[1]) / 1000) for t in (replies[0], replies[-1]))
        for i, reply in zip(keys, replies[1:-1]):
            if reply is not None:
                seen += 1
                late += first >= ends[i]
                latest = max(latest, first - ends[i])
            else:
                gone += 1
                early += last < ends[i]
    print("%d keys: of %d reads %d were answered with the value, %d of them late, by %.2f ms at most; %d without, %d of them early" % (
        options.keys, seen + gone, seen, late, latest, gone, early))
    time.sleep(1)
    print("keys left a second after the last deadline: %d" % connection.call("DBSIZE"))
    print("longest turn: " + turns(server))
    server.stop()


def hot(options):
    server = Server(2)
    ends = [address(server), "127.0.0.1:%d" % (server.port + 2)]

    def measured(name):
        command, places = name.split(", ")
        urls = ends if places == "both actors" else ends[:1]
        arguments = ["-P", "16", "-c", "16", "--ops", "custom", "--command", command]
        for url in urls[1:]:
            arguments += ["--server", url]
        found = run(urls[0], ",".join([str(server.pid)] * len(urls)), options, *arguments, cpu=None)
        return median_of(find(found, "operationsPerSecond")), cpu_micros(found)

    alternately(options, measured, "INCR hot, both actors", "INCR hot, one actor", "SET hot 1, one actor")
    print("at most %d messages a second from one actor to another" % server.connect().info("max_message_rate"))
    server.stop()


BUSY = object()


def read(client):
    """A reply, or BUSY: a home had no processor for a second, and the command was not run."""
    try:
        return client.read()
    except RuntimeError as error:
        if str(error).startswith("BUSY"):
            return BUSY
        raise


def batches(options, clients, commands, replies=1):
    """Sends the same commands at all actors at once, batch by batch; yields the last of so many replies to each."""
    for first in range(0, options.races, KEYS_PER_SEND):
        numbers = range(first, min(first + KEYS_PER_SEND, options.races))
        for client in clients:
            client.socket.sendall(b"".join(commands(i) for i in numbers))
        read_all = [[[read(client) for _ in range(replies)][-1] for _ in numbers] for client in clients]
        yield numbers, read_all


def races(options):
    server = Server(options.actors)
    clients = [server.connect(actor) for actor in range(options.actors)]
    encode = Connection.encode
    busy = 0

    def run(each):
        """Replies of those that were run."""
        nonlocal busy
        busy += sum(reply is BUSY for reply in each)
        return [reply for reply in each if reply is not BUSY]

    def told(name, text):
        nonlocal busy
        print("%s: %s, %d of BUSY" % (name, text, busy), flush=True)
        busy = 0

    of = "%d races of %d clients" % (options.races, options.actors)
    wrong = 0
    for numbers, replies in batches(options, clients, lambda i: encode("SET", "lock:%d" % i, "v", "NX")):
        for each in map(run, zip(*replies)):
            wrong += sum(reply is not None for reply in each) != min(1, len(each))
    told("SET NX", "%s, %d without exactly one winner" % (of, wrong))
    seen, wrong, count = set(), 0, 0
    for numbers, replies in batches(options, clients, lambda i: encode("INCR", "counter")):
        for each in map(run, replies):
            wrong += each != sorted(each)
            seen.update(each)
            count += len(each)
    told("INCR", "%d, numbers told: %d, the greatest %d, in a wrong order %d" % (count, len(seen), max(seen), wrong))
    wrong = 0
    for first in range(0, options.races, KEYS_PER_SEND):
        numbers = range(first, min(first + KEYS_PER_SEND, options.races))
        # A value that the home has.
        giver, left = clients[first // KEYS_PER_SEND % options.actors], list(numbers)
        while left:
            giver.socket.sendall(b"".join(encode("SET", "lock:%d" % i, i, "GET") for i in left))
            left = [i for i, reply in [(i, read(giver)) for i in left] if reply is BUSY]
        for client in clients:
            client.socket.sendall(b"".join(encode("GETDEL", "lock:%d" % i) for i in numbers))
        replies = [[read(client) for _ in numbers] for client in clients]
        for i, each in zip(numbers, map(run, zip(*replies))):
            wrong += [reply for reply in each if reply is not None] != [b"%d" % i][:len(each)]
    told("GETDEL", "%s, %d without exactly one that got it" % (of, wrong))
    seen, wrong, count = set(), 0, 0
    one = encode("MULTI") + encode("INCR", "{t}a") + encode("INCR", "{t}b") + encode("EXEC")
    for numbers, replies in batches(options, clients, lambda i: one, 4):
        for each in map(run, replies):
            count += len(each)
            for a, b in each:
                wrong += a != b
                seen.add(a)
    told("EXEC of two INCR", "%d, numbers told: %d, the greatest %d, not the same in one transaction: %d" % (
        count, len(seen), max(seen), wrong))
    server.stop()


def flush(options):
    for actors in (1, 2):
        server = Server(actors)
        connection = server.connect()
        # In no order.
        for first in range(0, options.keys, KEYS_PER_SEND):
            connection.pipeline([("SET", "key:%012d" % (i * 2654435761 % 10**12), b"v" * 64)
                                 for i in range(first, min(first + KEYS_PER_SEND, options.keys))])
        wait_equal([server])
        time.sleep(2)
        connection.call("CONFIG", "RESETSTAT")
        began, before = time.time(), server.cpu_seconds()
        connection.call("FLUSHALL")
        answered = time.time() - began, server.cpu_seconds() - before
        wait_equal([server])
        everywhere = server.cpu_seconds() - before
        time.sleep(20)
        print("FLUSHALL of %d keys, %d actors: %.2f s, %.2f of the processor; %.2f until all actors have it, %.2f in the next 20 s;"
              " longest turn %s" % (options.keys, actors, *answered, everywhere, server.cpu_seconds() - before - everywhere,
                                    turns(server)))
        server.stop()


def large(options):
    server = Server(options.actors)
    c = server.connect()
    count = iter(range(10**6))

    def transaction(*commands):
        c.call("MULTI")
        for command in commands:
            c.call(*command)
        c.call("EXEC")

    for size in options.sizes:
        v = b"x" * size
        c.call("SET", "k", v)
        commands = {
            "SET": lambda: c.call("SET", "k", v),
            "SET EX": lambda: c.call("SET", "k", v, "EX", 100),
            "SET KEEPTTL": lambda: c.call("SET", "k", v, "KEEPTTL"),
            "SETEX": lambda: c.call("SETEX", "k", 100, v),
            "SET NX": lambda: c.call("SET", "n%d" % next(count), v, "NX"),
            "SET XX GET": lambda: c.call("SET", "k", v, "XX", "GET"),
            "SET IFEQ": lambda: c.call("SET", "k", v, "IFEQ", v),
            "GETSET": lambda: c.call("GETSET", "k", v),
            "GETEX": lambda: c.call("GETEX", "k", "EX", 100),
            "COPY": lambda: c.call("COPY", "k", "c%d" % next(count)),
            "RENAME, twice": lambda: (c.call("RENAME", "k", "r"), c.call("RENAME", "r", "k")),
            "MSETNX of two": lambda: c.call("MSETNX", "m%d" % next(count), v, "m%d" % next(count), v),
            "MULTI, SET, EXEC": lambda: transaction(("SET", "k", v)),
            "MULTI, GET, EXEC": lambda: transaction(("GET", "k")),
        }
        for name, command in commands.items():
            c.call("CONFIG", "RESETSTAT")
            for _ in range(options.rounds):
                command()
            print("%9d bytes, %d actors, %-18s %s" % (size, options.actors, name, turns(server)), flush=True)
        c.call("FLUSHALL")
    server.stop()


def main():
    need(KVD, PERF_DRIVER)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    figures = {f.__name__: f for f in (setex, touch, together, reader, homes, hot, races, flush, large)}
    parser.add_argument("figure", choices=figures)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--seconds-ahead", type=int, default=120, help="from the first write to the first deadline")
    parser.add_argument("--span", type=int, default=20, help="seconds over which deadlines are spread")
    parser.add_argument("--actors", type=int, default=4)
    parser.add_argument("--races", type=int, default=1_000_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256 << 10, 1 << 20, 8 << 20, 32 << 20])
    options = parser.parse_args()
    figures[options.figure](options)


if __name__ == "__main__":
    main()
