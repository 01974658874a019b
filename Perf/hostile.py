#!/usr/bin/env python3
"""What a thousand hostile connections to the server port cost a cluster of two that has a key.

Of each kind at once: silent, a byte a second, half of a TLS handshake, random bytes, a replayed handshake, another
key's handshake, HTTP. Told are the server's memory above before, the time until the last one is closed, how many were
counted (bad_frames), the slowest replicated write and the p99 of GET meanwhile, beside the same without them.

  python3 Perf/hostile.py --kvd .build/release/kvd [--connections 1000] [--kinds silent,http]
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


def first_words(kind):
    if kind == "silent":
        return b""
    if kind == "slow":
        return HELLO[:1]
    if kind in ("half", "key"):
        return HELLO[:100] if kind == "half" else HELLO
    if kind == "random":
        return os.urandom(64)
    return b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def attack(kind, port, count, capture):
    links, opened = [], time.monotonic()
    for _ in range(count):
        link = socket.socket()
        link.settimeout(5)
        try:
            link.connect(("127.0.0.1", port))
            link.sendall(capture if kind == "replayed" else first_words(kind))
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kvd", default=".build/release/kvd")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--port", type=int, default=27100)
    parser.add_argument("--kinds", default="silent,slow,half,random,replayed,key,http")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        key = os.path.join(folder, "key")
        with open(key, "w") as f:
            f.write(subprocess.run([options.kvd, "secret"], check=True, capture_output=True, text=True).stdout)
        capture = record(options.kvd, key, options.port + 20)
        one = start(options.kvd, options.port, key)
        two = start(options.kvd, options.port + 10, key, join=f"127.0.0.1:{options.port}")
        try:
            a, b = Client(options.port + 1), Client(options.port + 11)
            time.sleep(2)
            lag, p99 = probe(a, b, 5)
            print(f"{'quiet':9} slowest write {lag:6.0f} ms  GET p99 {p99:5.2f} ms")
            for kind in options.kinds.split(","):
                before, counted = rss(one.pid), a.counted()
                links, opened = attack(kind, options.port, options.connections, capture)
                left, selector, gone, most = set(links), selectors.DefaultSelector(), 0.0, 0.0
                for link in links:
                    selector.register(link, selectors.EVENT_READ)

                said = [time.monotonic()]

                def look():
                    nonlocal gone, most
                    most = max(most, rss(one.pid) - before)
                    for event, _ in selector.select(0):
                        link = event.fileobj
                        try:
                            if link.recv(4096):
                                continue
                        except BlockingIOError:
                            continue
                        except OSError:
                            pass
                        selector.unregister(link)
                        left.discard(link)
                        gone = time.monotonic() - opened
                    if kind == "slow" and time.monotonic() - said[0] > 1:
                        said[0] = time.monotonic()
                        for link in list(left):
                            try:
                                link.send(b"\x03")
                            except OSError:
                                pass

                lag, p99 = probe(a, b, 14, look)
                print(f"{kind:9} slowest write {lag:6.0f} ms  GET p99 {p99:5.2f} ms  memory +{most:5.1f} MiB  "
                      f"open after 14 s {len(left)}  last closed {gone:4.1f} s  counted {a.counted() - counted}")
                for link in links:
                    link.close()
        finally:
            for server in (one, two):
                server.kill()
                server.wait()


if __name__ == "__main__":
    main()
