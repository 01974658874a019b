#!/usr/bin/env python3
"""What a thousand hostile connections to the server port cost a cluster of two that has a key.

Of each kind at once: silent, a byte a second, half of a first message, random bytes, a first message replayed from a
server that has the key, the first message of a server with another key, HTTP, and halves of first messages on
connections that all end at once after two seconds. Told are the server's memory above before, the time until the last
one is closed, how many were counted (bad_frames), the slowest replicated write and the p99 of GET meanwhile, the
longest turn by the processor's clock and what it did, and how many took more than a millisecond, beside the same
without them. Each kind meets a server that was just started, as memory that an
earlier kind took would hide what a later one takes; the line at the end of several rounds has their medians.

  python3 Perf/hostile.py --kvd .build/release/kvd [--connections 1000] [--kinds silent,http] [--rounds 5]

A second --kvd is measured in turns with the first.
"""
import argparse
import itertools
import json
import os
import selectors
import socket
import subprocess
import tempfile
import time

HELLO = bytes.fromhex("16030100f1010000ed0303") + bytes(range(200))

# For how long each kind is watched, in seconds; the bound for a connection is 5.
WATCHED = 8


def rss(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb")

    def ask(self, *words):
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        line = self.file.readline()
        if line[:1] == b"$" and line[1:2] != b"-":
            return self.file.read(int(line[1:]) + 2)[:-2]
        return line.strip()

    def field(self, section, name):
        text = self.ask(b"INFO", section).decode()
        return next(line.split(":")[1] for line in text.splitlines() if line.startswith(name + ":"))

    def counted(self):
        return int(self.field(b"actors", "bad_frames"))

    def turns(self):
        """The longest turn in milliseconds of the processor, what it did, and how many took more than one."""
        return (int(self.field(b"stats", "max_turn_cpu_micros")) / 1000, self.field(b"stats", "max_turn_cpu_work"),
                int(self.field(b"stats", "turns_over_1ms")))


def start(kvd, port, key, join=None):
    for _ in range(100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port + 1))
                break
            except OSError:
                time.sleep(0.05)
    words = [kvd, "--port", str(port), "--actors", "1", "--cluster-key-file", key, "--host", "127.0.0.1"]
    server = subprocess.Popen(words + (["--join", join] if join else []), stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
    json.loads(server.stdout.readline())
    return server


def probe(a, b, seconds, every=None):
    """Slowest visibility of a write at the other server and p99 of GET, in milliseconds."""
    end, lags, gets, number = time.monotonic() + seconds, [], [], 0
    while time.monotonic() < end:
        number += 1
        value = b"%d-%d" % (os.getpid(), number) + os.urandom(4).hex().encode()
        began = time.monotonic()
        a.ask(b"SET", b"probe", value)
        while b.ask(b"GET", b"probe") != value and time.monotonic() - began < 10:
            pass
        lags.append((time.monotonic() - began) * 1000)
        for _ in range(50):
            began = time.monotonic()
            a.ask(b"GET", b"probe")
            gets.append((time.monotonic() - began) * 1000)
        if every:
            every()
    return max(lags), sorted(gets)[int(len(gets) * 0.99)]


def first_words(kind, captures):
    if kind in captures:
        return captures[kind]
    if kind == "silent":
        return b""
    if kind == "slow":
        return HELLO[:1]
    if kind in ("half", "hangup"):
        return HELLO[:100]
    if kind == "random":
        return os.urandom(64)
    return b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def attack(kind, port, count, captures):
    links, opened = [], time.monotonic()
    for _ in range(count):
        link = socket.socket()
        link.settimeout(5)
        try:
            link.connect(("127.0.0.1", port))
            link.sendall(first_words(kind, captures))
        except OSError:
            pass
        link.setblocking(False)
        links.append(link)
    return links, opened


def record(kvd, key, port):
    """The first bytes that a server with the key says to a port."""
    listener = socket.create_server(("127.0.0.1", 0))
    other = start(kvd, port, key, join=f"127.0.0.1:{listener.getsockname()[1]}")
    listener.settimeout(10)
    taken = listener.accept()[0].recv(4096)
    other.kill()
    other.wait()
    return taken


class Watch:
    """The hostile connections of one kind, looked at between the clients' questions."""

    def __init__(self, kind, pid, before, links, opened):
        self.kind, self.pid, self.before, self.opened = kind, pid, before, opened
        self.left, self.selector, self.gone, self.most = set(links), selectors.DefaultSelector(), 0.0, 0.0
        self.said = opened
        for link in links:
            self.selector.register(link, selectors.EVENT_READ)

    def look(self):
        self.most = max(self.most, rss(self.pid) - self.before)
        for event, _ in self.selector.select(0):
            link = event.fileobj
            try:
                if link.recv(4096):
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            self.selector.unregister(link)
            self.left.discard(link)
            self.gone = time.monotonic() - self.opened
        if self.kind == "hangup" and self.left and time.monotonic() - self.opened > 2:
            for link in self.left:
                self.selector.unregister(link)
                link.close()
            self.left, self.gone = set(), time.monotonic() - self.opened
        if self.kind == "slow" and time.monotonic() - self.said > 1:
            self.said = time.monotonic()
            for link in list(self.left):
                try:
                    link.send(b"\x03")
                except OSError:
                    pass


def meet(kind, kvd, options, key, captures):
    """One kind against a fresh cluster of two. Slowest write, p99 of GET, memory, when the last was closed, turns."""
    one = start(kvd, options.port, key)
    two = start(kvd, options.port + 10, key, join=f"127.0.0.1:{options.port}")
    try:
        a, b = Client(options.port + 1), Client(options.port + 11)
        probe(a, b, 2)
        before, counted = rss(one.pid), a.counted()
        a.ask(b"CONFIG", b"RESETSTAT")
        if kind == "quiet":
            (lag, p99), watch = probe(a, b, WATCHED), None
        else:
            links, opened = attack(kind, options.port, options.connections, captures)
            watch = Watch(kind, one.pid, before, links, opened)
            lag, p99 = probe(a, b, WATCHED, watch.look)
        longest, work, long = a.turns()
        line = (f"{kind:9} slowest write {lag:6.0f} ms  GET p99 {p99:5.2f} ms  longest turn {longest:5.2f} ms "
                f"({work}), {long} above 1")
        if watch:
            line += (f"  memory +{watch.most:5.1f} MiB  open after {WATCHED} s {len(watch.left)}  last closed "
                     f"{watch.gone:4.1f} s  counted {a.counted() - counted}")
            for link in links:
                link.close()
        print(line, flush=True)
        return lag, p99, watch.most if watch else 0.0, watch.gone if watch else 0.0, longest, long
    finally:
        for server in (one, two):
            server.kill()
            server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kvd", action="append")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--port", type=int, default=27100)
    parser.add_argument("--kinds", default="silent,slow,half,random,replayed,key,http,hangup")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    programs = options.kvd or [".build/release/kvd"]
    with tempfile.TemporaryDirectory() as folder:
        keys = [os.path.join(folder, name) for name in ("key", "other")]
        for path in keys:
            with open(path, "w") as f:
                f.write(subprocess.run([programs[0], "secret"], check=True, capture_output=True, text=True).stdout)
        # Each program's own words: builds may differ in them.
        # A server that was killed may hold its port for a while.
        ports = itertools.count(options.port + 20, 10)
        captures = {kvd: {"replayed": record(kvd, keys[0], next(ports)), "key": record(kvd, keys[1], next(ports))}
                    for kvd in programs}
        found = {(kind, kvd): [] for kind in ["quiet"] + options.kinds.split(",") for kvd in programs}
        for _ in range(options.rounds):
            for (kind, kvd), results in found.items():
                if len(programs) > 1:
                    print(kvd, end=": ")
                results.append(meet(kind, kvd, options, keys[0], captures[kvd]))
        if options.rounds > 1:
            for (kind, kvd), results in found.items():
                tell(kind, kvd if len(programs) > 1 else "", results)


def tell(kind, kvd, results):
    """Medians, some with least and greatest."""
    lag, p99, most, gone, longest, long = (sorted(r[i] for r in results) for i in range(6))
    middle = len(results) // 2

    def three(values, places=2):
        return f"{values[middle]:.{places}f} [{values[0]:.{places}f} {values[-1]:.{places}f}]"

    print(f"{kind:9} {kvd} median: slowest write {lag[middle]:.0f} ms, GET p99 {three(p99)} ms, "
          f"memory +{three(most, 1)} MiB, last closed {gone[middle]:.1f} s, longest turn {three(longest)} ms, "
          f"{long[middle]} above 1")


if __name__ == "__main__":
    main()
