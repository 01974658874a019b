#!/usr/bin/env python3
"""Random commands to kvd and to a real Redis, side by side: one client each, few keys, every reply compared.

    python3 Tests/Differential/differ.py --kvd .build/debug/kvd --commands 1000000 [--seed N] [--actors 3]
    python3 Tests/Differential/differ.py --kvd .build/debug/kvd --options 3 [--actors 3]

Starts both servers on free loopback ports and ends them. Both see one clock, which stands still but for the jumps that
are a part of the test (clock.c), so times are compared to the millisecond. `--options N`: every sequence of up to N
options of the commands that have some, right and wrong ones, on keys in each state. Replies that differ on purpose are
in DIFFERENT, with the reason; docs/protocol.md lists them. A difference ends the run with the commands that led to it
and exit code 1.

Where the machine leaves an actor of kvd without a processor for a second, a command is answered with BUSY and not run.
Then both servers are emptied and the run goes on; how often is told at the end, and more than a few times is a failure.
"""

import argparse
import itertools
import mmap
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

BATCH = 64
SHOWN = 40
DATABASES = 3
# Of so many batches, one is followed by a jump of the clock.
BATCHES_PER_JUMP = 20
# Milliseconds: from the next moment to longer than all deadlines that are given.
JUMPS = [1, 1, 2, 99, 1000, 60_000, 100_001, 1_000_000, 10**9 + 10**6]
SETTLE_SECONDS = 20
YEAR_9999_MILLIS = 253_402_300_799_999
# Absolute deadlines are whole seconds.
SECOND = 1000
# Commands for each that may be answered with BUSY.
COMMANDS_PER_BUSY = 5_000
# DBSIZE is without an expired key so long after its deadline.
COUNTED_MILLIS = 200

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

    def __init__(self, seed, expiry, clock):
        self.random = random.Random(seed)
        self.expiry = expiry
        self.clock = clock

    def key(self):
        return self.random.choice(self.KEYS)

    def value(self):
        return self.random.choice(self.VALUES)

    def pick(self, *words):
        return self.random.choice(words)

    def some(self, make, most=3):
        return [make() for _ in range(self.random.randint(1, most))]

    def seconds(self):
        return b"%d" % self.random.choice([1, 100, 1000, 10**6])

    def ahead(self, unit):
        return b"%d" % ((self.clock.millis // 1000 + self.random.choice([1, 2, 1000, 10**6])) * unit)

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
        span = self.random.choice([self.random.randrange(1, 4), self.random.randrange(1000, 10**6), 1000, -5, 0])
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
    """Whether two replies mean the same."""
    if command[0].upper() == b"KEYS" and isinstance(ours, list) and isinstance(theirs, list):
        return sorted(ours) == sorted(theirs)
    return ours == theirs


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


class Clock:
    """The wall clock of both servers."""

    def __init__(self, folder):
        self.file = os.path.join(folder, "clock")
        self.library = os.path.join(folder, "clock.so")
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock.c")
        compiler = shutil.which("cc") or shutil.which("clang") or sys.exit("no C compiler: the clock cannot be made")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", self.library, source], check=True)
        with open(self.file, "wb") as file:
            file.write(bytes(8))
        with open(self.file, "r+b") as file:
            self.shared = mmap.mmap(file.fileno(), 8)
        self.millis = 0
        # No whole second, as absolute deadlines are.
        self.forward(int(time.time()) * SECOND + 1)

    def forward(self, millis):
        self.millis += millis
        self.shared[:8] = struct.pack("=q", self.millis * 1_000_000)

    @property
    def environment(self):
        return dict(os.environ, LD_PRELOAD=self.library, CLOCK_FILE=self.file)


def start(arguments, port, folder, environment):
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, env=environment)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process
        except OSError:
            time.sleep(0.02)
    process.kill()
    sys.exit("no answer from " + arguments[0])


class Pair:
    """Both servers' clients, and what was said last."""

    def __init__(self, options, ports, clock):
        self.options, self.clock = options, clock
        self.kvd, self.redis = (Client(port) for port in ports)
        # Deadlines are asked for apart from what is compared.
        self.asking = Client(ports[1])
        self.history, self.queued, self.sent = [], [], 0
        self.busy, self.was_busy = 0, False
        # The number of keys is that of Redis, which counts expired ones until somebody looks at them.
        self.counts_agree = True

    def run(self, batch, differences=None):
        """Whether all replies are alike. If not, they are shown, or added to `differences`. Behind one of BUSY nothing is
        compared."""
        self.kvd.send(batch)
        self.redis.send(batch)
        self.was_busy = False
        for command in batch:
            ours, theirs = self.kvd.read(), self.redis.read()
            self.history.append((command, ours, theirs))
            self.sent += 1
            self.was_busy |= isinstance(ours, tuple) and ours[1].startswith(b"BUSY ")
            if self.was_busy or self.are_alike(command, ours, theirs):
                pass
            elif differences is not None:
                differences.append((command, ours, theirs))
            else:
                print(f"seed {self.options.seed}, command {self.sent}: replies differ")
                for c, o, t in self.history[-SHOWN:]:
                    print(f"  {show(c)}\n      kvd   {o!r}\n      redis {t!r}")
                return False
            self.note(command, theirs)
        del self.history[:-SHOWN]
        if self.was_busy:
            self.begin_anew()
        return True

    def begin_anew(self):
        """A command was not run here: both forget everything."""
        self.busy += 1
        for client in (self.kvd, self.redis):
            client.send([[b"DISCARD"], [b"UNWATCH"], [b"FLUSHALL"], [b"SELECT", b"0"]])
            for _ in range(4):
                client.read()
        self.queued = []
        self.counts_agree = False

    def is_too_busy(self):
        if self.busy <= 1 + self.sent // COMMANDS_PER_BUSY:
            return False
        print(f"seed {self.options.seed}, command {self.sent}: BUSY {self.busy} times")
        return True

    def forward(self, millis, keys):
        """Moves the clock, but not to a millisecond that is a deadline: Redis shows the value in it, kvd does not."""
        looks = []
        for number in range(DATABASES):
            looks += [[b"SELECT", b"%d" % number], *([b"PEXPIRETIME", key] for key in keys)]
        self.asking.send(looks)
        taken = {self.asking.read() for _ in looks}
        while self.clock.millis + millis in taken or (self.clock.millis + millis) % SECOND == 0:
            millis += 1
        self.clock.forward(millis)

    def are_alike(self, command, ours, theirs):
        """EXEC's replies are compared one by one, by the commands they answer."""
        name = command[0].upper()
        if name == b"EXEC" and isinstance(ours, list) and isinstance(theirs, list):
            return len(ours) == len(theirs) and all(
                self.are_alike(c, o, t) or (self.options.actors > 1 and c[0].upper() in OF_THE_ACTOR)
                for c, o, t in zip(self.queued, ours, theirs))
        if name == b"DBSIZE" and not self.counts_agree and isinstance(ours, int):
            return isinstance(theirs, int)
        return alike(command, ours, theirs)

    def note(self, command, theirs):
        name = command[0].upper()
        if theirs == ("status", b"QUEUED"):
            self.queued.append(command)
        elif name in (b"EXEC", b"DISCARD", b"MULTI") and not isinstance(theirs, tuple):
            self.queued = []
        elif name == b"MULTI" and theirs == ("status", b"OK"):
            self.queued = []

    def settle(self, commands):
        """Once Redis has looked at all keys, both count the same: kvd a fifth of a second after a deadline."""
        looks = []
        for number in range(DATABASES):
            looks += [[b"SELECT", b"%d" % number], [b"EXISTS", *commands.KEYS]]
        counts = [word for n in range(DATABASES) for word in ([b"SELECT", b"%d" % n], [b"DBSIZE"])]
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            self.forward(COUNTED_MILLIS, commands.KEYS)
            for client in (self.kvd, self.redis):
                client.send([[b"DISCARD"]] + looks)
                for _ in range(len(looks) + 1):
                    client.read()
            # Nothing may expire in the last step, so a few of them may be needed.
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                replies = []
                for client in (self.kvd, self.redis):
                    client.send(counts)
                    replies.append([client.read() for _ in counts])
                if replies[0] == replies[1]:
                    break
                time.sleep(0.005)
            if replies[0] == replies[1]:
                break
            if time.monotonic() > deadline:
                print(f"seed {self.options.seed}, command {self.sent}: so many keys: {replies}")
                return False
        self.queued = []
        self.counts_agree = True
        return True


def run(options, ports, clock):
    pair = Pair(options, ports, clock)
    commands = Commands(options.seed, not options.no_expiry, clock)
    while pair.sent < options.commands:
        if not pair.run([commands.next() for _ in range(min(BATCH, options.commands - pair.sent))]):
            return 1
        if pair.is_too_busy():
            return 1
        if options.no_expiry or commands.random.randrange(BATCHES_PER_JUMP) > 0:
            continue
        pair.forward(commands.random.choice(JUMPS), commands.KEYS)
        pair.counts_agree = False
        if commands.random.randrange(2) == 0 and not pair.settle(commands):
            return 1
    print(f"{pair.sent} commands, seed {options.seed}: all replies alike, {pair.busy} of BUSY")
    return 0


class Options:
    """Every sequence of up to so many options, right and wrong ones, for every state of a key."""

    MAX, MIN = b"9223372036854775807", b"-9223372036854775808"
    NUMBERS = [
        b"100", b"0", b"-1", b"1.5", b"x", b"", b" 1", b"01", b"+1", b"-0", b"1e3", MAX, MIN, b"9223372036854775808",
        b"9223372036854775", b"9223372036854776", b"-9223372036854775", b"-9223372036854776", b"1" * 30]

    def __init__(self, clock, most):
        self.clock, self.most = clock, most

    def sequences(self, tokens, fewer=0):
        for count in range(self.most - fewer + 1):
            for chosen in itertools.product(tokens, repeat=count):
                yield [word for token in chosen for word in token]

    def times(self):
        """Options with a time; far ones are in the future, near ones in the past."""
        ahead = self.clock.millis + 10**8
        return [
            [b"EX", b"100"], [b"PX", b"100000"], [b"EXAT", b"%d" % (ahead // 1000)], [b"PXAT", b"%d" % ahead],
            [b"EXAT", b"1"], [b"PXAT", b"1"], [b"ex", b"0"], [b"PX", b"-1"], [b"EX", b"x"], [b"PX"], [b"EX"],
            [b"EX", self.MAX], [b"EXAT", b"9223372036854776"]]

    def commands(self, key, other):
        times = self.times()
        for words in self.sequences([[b"NX"], [b"xx"], [b"GET"], [b"KEEPTTL"], [b"WHAT"], *times]):
            yield [b"SET", key, b"new", *words]
        for words in self.sequences([[b"PERSIST"], [b"KEEPTTL"], *times], 1):
            yield [b"GETEX", key, *words]
        for name in (b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT"):
            now = self.clock.millis // (1 if name.startswith(b"P") else 1000) if name.endswith(b"AT") else 0
            # Later than the deadline that a key may have, and earlier.
            whens = [b"%d" % (now + 10**6), b"%d" % (now + 1)]
            # Milliseconds beyond the year 9999 are refused here, and not there.
            whens += [n for n in self.NUMBERS if not (name.startswith(b"P") and len(n) > 14 and n[:1] != b"-")]
            for when in whens:
                for words in self.sequences([[b"NX"], [b"XX"], [b"GT"], [b"lt"], [b"WHAT"]], 1):
                    yield [name, key, when, *words]
        for words in self.sequences([[b"REPLACE"], [b"DB"], [b"DB", b"0"], [b"db", b"1"], [b"DB", b"16"], [b"DB", b"x"],
                                     [b"DB", self.MAX], [b"WHAT"]]):
            yield [b"COPY", key, other, *words]
        for number in self.NUMBERS:
            yield from (
                [b"INCRBY", key, number], [b"DECRBY", key, number], [b"SETEX", key, number, b"new"], [b"PSETEX", key, number, b"new"],
                [b"SET", key, b"new", b"EX", number], [b"SET", key, b"new", b"PX", number], [b"GETEX", key, b"EXAT", number],
                [b"SELECT", number], [b"WAIT", b"0", number], [b"SET", key, number], [b"GETRANGE", key, number, b"-1"])
        for first, last in itertools.product([b"0", b"-1", b"-100", b"2", b"100", b"x", self.MAX, self.MIN], repeat=2):
            yield [b"GETRANGE", key, first, last]

    def states(self, key):
        """What leads to each state of a key."""
        return [
            [], [[b"SET", key, b"old"]], [[b"SET", key, b"9223372036854775806"]], [[b"SET", key, b"7", b"PX", b"500000"]],
            [[b"SET", key, b"7"], [b"PEXPIRE", key, b"500000"]], [[b"SET", key, b"old", b"PX", b"5"]], [[b"SET", key, b"01"]],
            [[b"INCRBY", key, b"-9223372036854775807"]]]

    def cases(self):
        """Of each case what comes before, and what is compared."""
        for state in range(len(self.states(b""))):
            for number, command in enumerate(self.commands(b"k", b"o")):
                key, other = b"k%d" % number, b"o%d" % (number % 3)
                command = [key if word == b"k" and k == 1 else other if word == b"o" and k == 2 else word
                           for k, word in enumerate(command)]
                after = [[b"SELECT", b"0"], [b"GET", key], [b"PEXPIRETIME", key]]
                yield self.states(key)[state], [command, *after]


def is_beyond_9999(command, ours):
    """Refused here, as deadlines end with the year 9999, and not there."""
    return isinstance(ours, tuple) and ours[1].startswith(b"ERR invalid expire time in") and any(
        word.isdigit() and int(word) * 1000 > YEAR_9999_MILLIS for word in command[2:])


def run_chunk(pair, chunk):
    """Replies that differ; again where one was of BUSY."""
    while True:
        found = []
        pair.run([[b"FLUSHALL"]] + [command for before, _ in chunk for command in before], found)
        was_busy = pair.was_busy
        # The states of keys have one that expires in between.
        pair.clock.forward(10)
        pair.run([c for _, commands in chunk for c in commands], found)
        if not (was_busy or pair.was_busy) or pair.is_too_busy():
            return found


def try_options(options, ports, clock):
    pair, cases = Pair(options, ports, clock), Options(clock, options.options).cases()
    count, on_purpose, different = 0, 0, []
    while chunk := list(itertools.islice(cases, BATCH)):
        found = run_chunk(pair, chunk)
        if pair.is_too_busy():
            return 1
        count += len(chunk)
        # Then the key is another one there, too.
        excused = {command[1] for command, ours, _ in found if is_beyond_9999(command, ours)}
        on_purpose += len(excused)
        different += [each for each in found if each[0][1] not in excused]
    for command, ours, theirs in different[:SHOWN]:
        print(f"  {show(command)}\n      kvd   {ours!r}\n      redis {theirs!r}")
    print(f"{count} commands with options, {pair.sent} in all: {len(different)} replies differ, "
          f"beside {on_purpose} deadlines beyond the year 9999, {pair.busy} of BUSY")
    return 1 if different else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kvd", required=True)
    parser.add_argument("--commands", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--no-expiry", action="store_true", help="without expiry and counters")
    parser.add_argument("--options", type=int, metavar="N", help="every sequence of up to N options, not random commands")
    options = parser.parse_args()
    redis = shutil.which("redis-server")
    if not redis:
        print("redis-server is not installed: nothing is compared")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(folder)
        first, other = free_ports(options.actors + 1), free_port()
        kvd = [os.path.abspath(options.kvd), "--port", str(first), "--actors", str(options.actors), "--pin", "no"]
        servers = [start(kvd, first + 1, folder, clock.environment)]
        try:
            servers.append(
                start([redis, "--port", str(other), "--save", "", "--bind", "127.0.0.1"], other, folder, clock.environment))
            go = run if options.options is None else try_options
            return go(options, (first + 1, other), clock)
        finally:
            for server in servers:
                server.terminate()
                server.wait()


if __name__ == "__main__":
    sys.exit(main())
