#!/usr/bin/env python3
"""Random commands to kvd and to a real Redis, side by side: one client each, few keys, every reply compared.

    python3 Tests/Differential/differ.py --kvd .build/debug/kvd --commands 1000000 [--seed N] [--actors 3]

Starts both servers on free loopback ports and ends them. Replies that differ on purpose are in DIFFERENT, with the
reason; docs/protocol.md lists them. A difference ends the run with the commands that led to it and exit code 1.
"""

import argparse
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

BATCH = 64
SHOWN = 40

# Redis 7.0 does not have these: their replies are those of Redis 8.4 and Valkey 9, and are not compared here.
NEWER = ["IFEQ", "IFNE", "DELEX", "DELIFEQ"]

# Replies that are another one on purpose.
DIFFERENT = {
    b"KEYS": "sorted here, in any order there",
    b"SCAN": "cursors are other numbers, and pages are in byte order",
    b"RANDOMKEY": "random",
    b"OBJECT": "IDLETIME and REFCOUNT are constants",
}


class Client:
    """Sends commands and reads replies as values; errors are ('error', text)."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb")

    def send(self, commands):
        parts = []
        for command in commands:
            parts.append(b"*%d\r\n" % len(command))
            for word in command:
                parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.socket.sendall(b"".join(parts))

    def read(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("the connection ended")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return ("status", rest)
        if kind == b"-":
            return ("error", rest)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self.file.read(size + 2)[:-2]
        if kind == b"*":
            count = int(rest)
            return None if count < 0 else [self.read() for _ in range(count)]
        raise ValueError("unknown reply %r" % line)


class Commands:
    """What is sent: mostly right, sometimes wrong in one word."""

    KEYS = [b"a", b"b", b"c", b"{t}1", b"{t}2", b"", b"\xff", b"\xff\x01x"]
    VALUES = [b"", b"0", b"1", b"2", b"10", b"-1", b"9223372036854775807", b"text", b"01", b" 1", b"x" * 50, b"3.5"]
    TIMES = [b"0", b"-1", b"1", b"100", b"1000", b"100000", b"9223372036854775807", b"x", b"1.5", b""]

    def __init__(self, seed, expiry):
        self.random = random.Random(seed)
        self.expiry = expiry

    def key(self):
        return self.random.choice(self.KEYS)

    def value(self):
        return self.random.choice(self.VALUES)

    def pick(self, *words):
        return self.random.choice(words)

    def some(self, make, most=3):
        return [make() for _ in range(self.random.randint(1, most))]

    def seconds(self):
        return b"%d" % self.random.choice([100, 1000, 10**6])

    def ahead(self, unit):
        return b"%d" % ((int(time.time()) + self.random.choice([1000, 10**6])) * unit)

    def options(self):
        words = []
        choices = [[b"NX"], [b"XX"], [b"GET"], [b"nx"], [b"WHAT"]]
        if self.expiry:
            choices += [
                [b"EX", self.seconds()], [b"PX", b"100000"], [b"EXAT", self.ahead(1)], [b"PXAT", self.ahead(1000)],
                [b"KEEPTTL"], [b"EX", self.random.choice(self.TIMES)], [b"EX"], [b"PX", b"x"],
            ]
        for _ in range(self.random.choice([1, 1, 1, 2, 2, 3])):
            words += self.random.choice(choices)
        return words

    def pairs(self):
        return [word for _ in range(self.random.randint(1, 3)) for word in (self.key(), self.value())]

    def plain(self):
        r = self.random.randrange(28)
        if r <= 1:
            return [b"GET", self.key()]
        if r <= 3:
            return [b"SET", self.key(), self.value()]
        if r <= 6:
            return [b"SET", self.key(), self.value(), *self.options()]
        return self.random.choice(
            [
                [b"SETNX", self.key(), self.value()],
                [b"GETSET", self.key(), self.value()],
                [b"GETDEL", self.key()],
                [b"MSET", *self.pairs()],
                [b"MSETNX", *self.pairs()],
                [b"MGET", *self.some(self.key)],
                [b"DEL", *self.some(self.key)],
                [b"UNLINK", *self.some(self.key)],
                [b"EXISTS", *self.some(self.key)],
                [b"TOUCH", *self.some(self.key)],
                [b"STRLEN", self.key()],
                [b"GETRANGE", self.key(), self.pick(b"0", b"-3", b"x", b"2"), self.pick(b"-1", b"1", b"100")],
                [b"SUBSTR", self.key(), self.pick(b"0", b"-3"), self.pick(b"-1", b"1")],
                [b"RENAME", self.key(), self.key()],
                [b"RENAMENX", self.key(), self.key()],
                [b"COPY", self.key(), self.key()],
                [b"COPY", self.key(), self.key(), self.pick(b"REPLACE", b"DB", b"replace")],
                [b"COPY", self.key(), self.key(), b"DB", self.pick(b"0", b"1", b"16", b"x"), b"REPLACE"],
                [b"TYPE", self.key()],
                [b"OBJECT", b"ENCODING", self.key()],
                [b"DBSIZE"],
                [b"KEYS", self.pick(b"*", b"a", b"{*", b"?", b"[ab]")],
                [b"SELECT", self.pick(b"0", b"0", b"1", b"2", b"16", b"-1", b"x")],
                [self.pick(b"FLUSHDB", b"FLUSHALL"), *self.pick([], [], [b"SYNC"], [b"WHAT"])]
                if self.random.randrange(10) == 0
                else [b"PING"],
            ]
        )

    def timed(self):
        name = self.pick(b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT")
        unit = 1000 if name.startswith(b"P") else 1
        # Rarely twice the same: which of two equal spans ends later is a matter of the millisecond.
        span = self.random.choice([self.random.randrange(1000, 10**6), self.random.randrange(1000, 10**6), -5, 0])
        when = self.ahead(unit) if name.endswith(b"AT") else b"%d" % (unit * span)
        if self.random.randrange(8) == 0:
            # Milliseconds beyond the year 9999 are refused here, and not there.
            when = self.random.choice(self.TIMES[1:2] + self.TIMES[7 if unit > 1 else 6 :])
        return self.random.choice(
            [
                [name, self.key(), when],
                [name, self.key(), when, self.pick(b"NX", b"XX", b"GT", b"LT", b"gt", b"WHAT")],
                [name, self.key(), when, self.pick(b"NX", b"XX"), self.pick(b"GT", b"LT", b"XX")],
                [self.pick(b"TTL", b"EXPIRETIME"), self.key()],
                [self.pick(b"PTTL", b"PEXPIRETIME"), self.key()],
                [b"PERSIST", self.key()],
                [b"SETEX", self.key(), self.pick(self.seconds(), b"0", b"-1", b"x", b"9223372036854775807"), self.value()],
                [b"PSETEX", self.key(), self.pick(b"100000", b"0", b"x"), self.value()],
                [b"GETEX", self.key(), *self.pick([], [b"PERSIST"], [b"EX", self.seconds()], [b"PXAT", self.ahead(1000)], [b"KEEPTTL"], [b"EX", b"0"])],
                [self.pick(b"INCR", b"DECR"), self.key()],
                [self.pick(b"INCRBY", b"DECRBY"), self.key(), self.pick(b"1", b"-7", b"9223372036854775807", b"-9223372036854775808", b"x")],
            ]
        )

    def broken(self):
        return self.random.choice(
            [
                [b"GET"], [b"SET", b"a"], [b"MSET", b"a"], [b"MSET", b"a", b"1", b"b"], [b"MSETNX", b"a", b"1", b"b"], [b"GETDEL"],
                [b"RENAME", b"a"], [b"COPY", b"a"], [b"NOSUCH", b"a"], [b"SELECT"], [b"WAIT", b"x", b"0"], [b"WAIT", b"0", b"-1"],
                [b"WAIT", b"0", b"x"], [b"OBJECT", b"FREQ", b"a"], [b"OBJECT", b"WHAT", b"a"], [b"OBJECT"], [b"TYPE"],
                [b"GETRANGE", b"a", b"1"], [b"EXISTS"], [b"DEL"], [b"TOUCH"], [b"WATCH"], [b"SETNX", b"a"], [b"GETSET", b"a"],
            ]
        )

    def next(self):
        r = self.random.randrange(100)
        if r < 4:
            return [self.pick(b"MULTI", b"MULTI", b"DISCARD")]
        if r < 9:
            return [b"EXEC"]
        if r < 12:
            return [b"WATCH", *self.some(self.key, 2)]
        if r < 13:
            return [b"UNWATCH"]
        if r < 17:
            return self.broken()
        if self.expiry and r < 50:
            return self.timed()
        return self.plain()


# In a transaction they see the keys of the actor that runs it.
OF_THE_ACTOR = (b"DBSIZE", b"KEYS")


def alike(command, ours, theirs):
    """Whether two replies mean the same; times may be a little apart."""
    if ours == theirs:
        return True
    name = command[0].upper()
    if isinstance(ours, list) and isinstance(theirs, list) and name == b"KEYS":
        return sorted(ours) == sorted(theirs)
    if name in (b"TTL", b"PTTL") and isinstance(ours, int) and isinstance(theirs, int):
        return abs(ours - theirs) <= (1 if name == b"TTL" else 2000) and (ours > 0) == (theirs > 0)
    if name in (b"EXPIRETIME", b"PEXPIRETIME") and isinstance(ours, int) and isinstance(theirs, int):
        return abs(ours - theirs) <= (1 if name == b"EXPIRETIME" else 2000) and (ours > 0) == (theirs > 0)
    return False


def compare(queued, command, ours, theirs, actors):
    """EXEC's replies are compared one by one, by the commands they answer."""
    if command[0].upper() == b"EXEC" and isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(
            alike(c, o, t) or (actors > 1 and c[0] in OF_THE_ACTOR) for c, o, t in zip(queued, ours, theirs))
    return alike(command, ours, theirs)


def show(command):
    return " ".join(repr(word)[1:] for word in command)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def free_ports(count):
    """The first of so many in a row."""
    while True:
        first = free_port()
        try:
            held = [socket.create_server(("127.0.0.1", first + k)) for k in range(count)]
        except OSError:
            continue
        for s in held:
            s.close()
        return first


def start(arguments, port, folder):
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process
        except OSError:
            time.sleep(0.02)
    process.kill()
    sys.exit("no answer from " + arguments[0])


def run(options, ports):
    kvd, redis = (Client(port) for port in ports)
    commands = Commands(options.seed, not options.no_expiry)
    history, queued, is_queueing = [], [], False
    sent = 0
    while sent < options.commands:
        batch = [commands.next() for _ in range(min(BATCH, options.commands - sent))]
        kvd.send(batch)
        redis.send(batch)
        for command in batch:
            ours, theirs = kvd.read(), redis.read()
            history.append((command, ours, theirs))
            if not compare(queued, command, ours, theirs, options.actors):
                print(f"seed {options.seed}, command {sent + 1}: replies differ")
                for c, o, t in history[-SHOWN:]:
                    print(f"  {show(c)}\n      kvd   {o!r}\n      redis {t!r}")
                return 1
            if theirs == ("status", b"QUEUED"):
                queued.append(command)
            elif command[0].upper() in (b"EXEC", b"DISCARD", b"MULTI") and not isinstance(theirs, tuple):
                queued = []
            elif command[0].upper() == b"MULTI" and theirs == ("status", b"OK"):
                queued = []
            sent += 1
        del history[:-SHOWN]
    print(f"{sent} commands, seed {options.seed}: all replies alike")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kvd", required=True)
    parser.add_argument("--commands", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--no-expiry", action="store_true", help="without expiry and counters")
    options = parser.parse_args()
    redis = shutil.which("redis-server")
    if not redis:
        print("redis-server is not installed: nothing is compared")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        first, other = free_ports(options.actors + 1), free_port()
        kvd = [os.path.abspath(options.kvd), "--port", str(first), "--actors", str(options.actors), "--pin", "no"]
        servers = [start(kvd, first + 1, folder)]
        try:
            servers.append(
                start([redis, "--port", str(other), "--save", "", "--bind", "127.0.0.1"], other, folder))
            return run(options, (first + 1, other))
        finally:
            for server in servers:
                server.terminate()
                server.wait()


if __name__ == "__main__":
    sys.exit(main())
