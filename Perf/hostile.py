#!/usr/bin/env python3
"""What a thousand hostile connections to the server port cost a cluster of two that has a key.

Of each kind at once: silent, a byte a second, half of a first message, random bytes, a first message replayed from a
server that has the key, the first message of a server with another key, HTTP. Told are the server's memory above
before, the time until the last one is closed, how many were counted (bad_frames), the slowest replicated write and the
p99 of GET meanwhile, beside the same without them. Each kind meets a server that was just started, as memory that an
earlier kind took would hide what a later one takes; the line at the end of several rounds has their medians.

  python3 Perf/hostile.py --kvd .build/release/kvd [--connections 1000] [--kinds silent,http] [--rounds 5]
"""
import argparse
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

    def counted(self):
        text = self.ask(b"INFO", b"actors").decode()
        return int(next(line.split(":")[1] for line in text.splitlines() if line.startswith("bad_frames")))


def start(kvd, port, key, join=None):
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
    if kind == "half":
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
        if self.kind == "slow" and time.monotonic() - self.said > 1:
            self.said = time.monotonic()
            for link in list(self.left):
                try:
                    link.send(b"\x03")
                except OSError:
                    pass


def meet(kind, options, key, captures):
    """One kind against a fresh cluster of two. Slowest write, p99 of GET, memory, when the last was closed."""
    one = start(options.kvd, options.port, key)
    two = start(options.kvd, options.port + 10, key, join=f"127.0.0.1:{options.port}")
    try:
        a, b = Client(options.port + 1), Client(options.port + 11)
        probe(a, b, 2)
        if kind == "quiet":
            lag, p99 = probe(a, b, WATCHED)
            print(f"{kind:9} slowest write {lag:6.0f} ms  GET p99 {p99:5.2f} ms", flush=True)
            return lag, p99, 0.0, 0.0
        before, counted = rss(one.pid), a.counted()
        links, opened = attack(kind, options.port, options.connections, captures)
        watch = Watch(kind, one.pid, before, links, opened)
        lag, p99 = probe(a, b, WATCHED, watch.look)
        print(f"{kind:9} slowest write {lag:6.0f} ms  GET p99 {p99:5.2f} ms  memory +{watch.most:5.1f} MiB  "
              f"open after {WATCHED} s {len(watch.left)}  last closed {watch.gone:4.1f} s  "
              f"counted {a.counted() - counted}", flush=True)
        for link in links:
            link.close()
        return lag, p99, watch.most, watch.gone
    finally:
        for server in (one, two):
            server.kill()
            server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kvd", default=".build/release/kvd")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--port", type=int, default=27100)
    parser.add_argument("--kinds", default="silent,slow,half,random,replayed,key,http")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        keys = [os.path.join(folder, name) for name in ("key", "other")]
        for path in keys:
            with open(path, "w") as f:
                f.write(subprocess.run([options.kvd, "secret"], check=True, capture_output=True, text=True).stdout)
        captures = {"replayed": record(options.kvd, keys[0], options.port + 20),
                    "key": record(options.kvd, keys[1], options.port + 20)}
        found = {kind: [] for kind in ["quiet"] + options.kinds.split(",")}
        for _ in range(options.rounds):
            for kind, results in found.items():
                results.append(meet(kind, options, keys[0], captures))
        if options.rounds > 1:
            for kind, results in found.items():
                lag, p99, most, gone = (sorted(r[i] for r in results) for i in range(4))
                middle = len(results) // 2
                print(f"{kind:9} median: slowest write {lag[middle]:.0f} ms, GET p99 {p99[middle]:.2f} ms, memory "
                      f"+{most[middle]:.1f} MiB [{most[0]:.1f} {most[-1]:.1f}], last closed {gone[middle]:.1f} s")


if __name__ == "__main__":
    main()
