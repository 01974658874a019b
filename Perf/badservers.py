#!/usr/bin/env python3
"""Servers that come with what is wrong, one kind after the other, to a cluster of two real servers: another key, no key,
another cluster, another version of the protocol, a certificate that is over, a name that is taken, links that only ping,
invented members, messages that never end, a member at an address of somebody else.

For each: the line on this side, what the other side was told or logged, what INFO counts, what it cost (memory above
before, links), and the slowest write from one server to the other meanwhile.

  python3 Perf/badservers.py [--kvd .build/release/kvd] [--only TEXT]
"""
import argparse
import atexit
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import tempfile
import time

PART = 64 * 1024
MIB = 1024 * 1024
HELLO, WELCOME, REJECT, DATA, PING, TAILED, PART_KIND = 1, 2, 3, 4, 5, 7, 8
PROTOCOL = 2


# What servers say to each other: docs/replication.md 5.1, Sources/KVRuntime/Remote/LinkFrame.swift.

def _table():
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        yield n


CRC = list(_table())


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def link_frame(kind, contents=b"", number=0):
    length = struct.pack("<I", 8 + len(contents))
    body = struct.pack("<BBHI", 3, kind, number, crc32c(length)) + contents
    return length + struct.pack("<I", crc32c(body)) + body


def text(word):
    return struct.pack("<I", len(word)) + word.encode()


def hello(address, target, server, version=PROTOCOL, cluster="kvd", port=9, name=""):
    said = text(cluster) + text(address) + text(target) + struct.pack("<QHQ", server, version, 0)
    return link_frame(HELLO, said + struct.pack("<H", port) + text(name) + b"\0" + struct.pack("<Q", 0))


def message(contents):
    """For the first query actor."""
    return link_frame(DATA, struct.pack("<IQQ", 0, 1, 0) + contents)


def varint(value):
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def rows_frame(sender, receiver, rows, cluster="kvd"):
    """A frame of replication that brings rows: (id, address)."""
    cluster_id = 0xCBF29CE484222325
    for byte in cluster.encode():
        cluster_id = (cluster_id ^ byte) * 0x100000001B3 % 2**64
    out = b"\0" + struct.pack("<Q", sender) + varint(0) + b"\0" + struct.pack("<Q", receiver)
    out += varint(2) + varint(2 * int(time.time() * 1000)) + varint(0) + varint(0)
    out += varint(0) + struct.pack("<Q", 0) + varint(0) + varint(0) + varint(0) + struct.pack("<Q", 0) + varint(len(rows))
    known = {sender: 1, receiver: 2}
    for server, address in rows:
        if server in known:
            out += varint(known[server])
        else:
            known[server] = len(known) + 1
            out += b"\0" + struct.pack("<Q", server)
        out += varint(0) + b"\1" + varint(1) + varint(len(address)) + address.encode() + varint(0) + b"\0"
    out += b"\0" + varint(0)
    summed = struct.pack("<Q", cluster_id) + out
    return b"\1" + struct.pack("<IBI", 0x4644564B, 4, crc32c(summed)) + summed


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb")

    def ask(self, *words):
        words = [w.encode() if isinstance(w, str) else w for w in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        line = self.file.readline()
        if line[:1] == b"$" and line[1:2] != b"-":
            return self.file.read(int(line[1:]) + 2)[:-2]
        return line.strip()


class Server:
    def __init__(self, options, folder, port, *words, join=None):
        self.port, self.log = port, os.path.join(folder, f"log-{port}-{time.monotonic_ns()}")
        command = [options.kvd, "--host", "127.0.0.1", "--port", str(port), "--actors", "1", *words]
        command += ["--join", join] if join else []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(self.log, "w", encoding="utf-8"), text=True)
        atexit.register(self.process.kill)
        first = self.process.stdout.readline()
        self.id = int(json.loads(first)["id"], 16) if first else 0

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def client(self):
        return Client(self.port + 1)

    def info(self, field):
        found = re.search(rf"^{field}:(.*)\r$", self.client().ask("INFO").decode(), re.M)
        return found.group(1) if found else None

    def lines(self, pattern):
        with open(self.log, encoding="utf-8") as log:
            return [line.rstrip() for line in log if re.search(pattern, line)]

    def await_line(self, pattern, within=15):
        end = time.monotonic() + within
        while time.monotonic() < end:
            if lines := self.lines(pattern):
                return short(lines[0])
            time.sleep(0.05)
        return "NO LINE"

    def rss(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

    def stop(self):
        self.process.kill()
        self.process.wait()


def short(line):
    return re.sub(r"^\S+ +\S+ +", "", line)[:230]


class Member:
    """A connection with a certificate of the cluster, and what is said over it."""

    def __init__(self, world, server, id, said=None):
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(world.path("ca.pem"))
        context.load_cert_chain(world.path("bad.pem"), world.path("bad.key"))
        self.socket = context.wrap_socket(plain)
        self.socket.sendall(said or hello("127.0.0.1:9", server.address, id))
        self.kind, self.answer = self.receive()

    def receive(self):
        head = self.exactly(8)
        if len(head) < 8:
            return 0, b""
        body = self.exactly(struct.unpack("<I", head[:4])[0])
        return body[1], body[4:]

    def exactly(self, count):
        out = b""
        while len(out) < count:
            try:
                more = self.socket.recv(count - len(out))
            except OSError:
                more = b""
            if not more:
                break
            out += more
        return out

    def send(self, data):
        """Whether it could be said."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def is_closed(self):
        self.socket.settimeout(0.0)
        try:
            while self.socket.recv(65536):
                pass
            return True
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        except OSError:
            return True
        finally:
            self.socket.settimeout(20)


class World:
    """Two servers that know each other, and a folder with keys and certificates."""

    def __init__(self, options, folder, protection):
        self.options, self.folder, self.port = options, folder, options.port + 100
        words = self.with_key("key") if protection == "key" else self.with_certificate("a")
        self.a = Server(options, folder, options.port, *words)
        words = self.with_key("key") if protection == "key" else self.with_certificate("b") + ["--name", "b"]
        self.b = Server(options, folder, options.port + 10, *words, join=self.a.address)
        self.clients = self.a.client(), self.b.client()
        self.number = 0
        end = time.monotonic() + 20
        while self.a.info("servers") != "2" and time.monotonic() < end:
            time.sleep(0.1)
        self.memory, self.bad, self.slowest = self.a.rss(), int(self.a.info("bad_frames")), 0.0

    def path(self, name):
        return os.path.join(self.folder, name)

    def with_key(self, name):
        return ["--cluster-key-file", self.path(name)]

    def with_certificate(self, name):
        return ["--peer-tls-cert", self.path(name + ".pem"), "--peer-tls-key", self.path(name + ".key"),
                "--peer-tls-ca", self.path("ca.pem")]

    def start(self, *words):
        self.port += 10
        return Server(self.options, self.folder, self.port, *words, join=self.a.address)

    def probe(self, seconds=0.0):
        """Writes at one server, looks at the other."""
        end = time.monotonic() + seconds
        while True:
            self.number += 1
            value, began = b"%d" % self.number, time.monotonic()
            self.clients[0].ask("SET", "probe", value)
            while self.clients[1].ask("GET", "probe") != value and time.monotonic() - began < 20:
                time.sleep(0.002)
            self.slowest = max(self.slowest, (time.monotonic() - began) * 1000)
            if time.monotonic() >= end:
                return

    def tell(self, what, here, there, **more):
        self.probe()
        counted = int(self.a.info("bad_frames")) - self.bad
        print(f"\n{what}\n  here    {here}\n  there   {there}\n  counted bad_frames +{counted}"
              + "".join(f", {name} {value}" for name, value in more.items())
              + f"\n  cost    memory +{self.a.rss() - self.memory:.1f} MiB; slowest write meanwhile {self.slowest:.0f} ms; "
              f"servers {self.a.info('servers')}", flush=True)

    def stop(self):
        self.a.stop()
        self.b.stop()


def came_with(what, words, here, there):
    def run(world):
        other = world.start(*words(world))
        try:
            world.probe(3)
            one, two = world.a.await_line(here), other.await_line(there)
            world.tell(what, one, two, lines_here=len(world.a.lines(here)), lines_there=len(other.lines(there)),
                       keys_there=other.client().ask("DBSIZE").decode() if other.id else "it did not start")
        finally:
            other.stop()
    return run


def version(world):
    member = Member(world, world.a, 77, hello("127.0.0.1:9", world.a.address, 77, version=99))
    world.tell("another version of the protocol", world.a.await_line("version 99"), member.answer[5:].decode())


def expired(world):
    other = world.start(*world.with_certificate("over"))
    try:
        world.probe(3)
        world.tell("a certificate that is over", world.a.await_line("expired"), other.await_line("expired"))
    finally:
        other.stop()


def pings(world):
    ping, members, refused = link_frame(PING), [], 0
    for number in range(1024):
        members.append(Member(world, world.a, 10_000 + number))
        if number % 100 == 0:
            world.probe()
    for _ in range(3):
        for member in members:
            refused += not member.send(ping)
        world.probe()
    late = world.start(*world.with_certificate("late"))
    try:
        end = time.monotonic() + 20
        while late.client().ask("GET", "probe") == b"$-1" and time.monotonic() < end:
            time.sleep(0.05)
        joined = late.client().ask("GET", "probe") != b"$-1"
        closed = sum(m.is_closed() for m in members)
        world.tell("1,024 links that only ping", world.a.await_line("all links are taken"), f"{closed} of them closed",
                   lines_here=len(world.a.lines("all links are taken")), a_real_server_joins=joined)
    finally:
        late.stop()


def invented(world):
    member = Member(world, world.a, 0x5757)
    for batch in range(6):
        rows = [(0x5757, "127.0.0.1:9")] + [(10_000 + 100 * batch + i, "127.0.0.1:9") for i in range(100)]
        member.send(message(rows_frame(0x5757, world.a.id, rows)))
        world.probe(0.5)
    line = "more servers than there is room for"
    world.tell("600 invented members", world.a.await_line(line), f"link open: {not member.is_closed()}",
               rows_refused_total=world.a.info("rows_refused_total"), lines_here=len(world.a.lines(line)))


def unfinished(world):
    begin = link_frame(TAILED, struct.pack("<IQQ", 64 * MIB, 1, 0) + b"\1", 1)
    part = link_frame(PART_KIND, bytes(PART), 1)
    members, most, sent = [], 0.0, 0
    for number in range(100):
        member = Member(world, world.a, 20_000 + number)
        members.append(member)
        member.send(begin)
        for _ in range(20 * MIB // PART):
            if not member.send(part):
                break
            sent += PART
        most = max(most, world.a.rss() - world.memory)
        if number % 10 == 0:
            world.probe()
    closed = sum(m.is_closed() for m in members)
    line = "bytes of unfinished messages"
    world.tell("100 unfinished messages of 20 MiB", world.a.await_line(line), f"{closed} of 100 closed",
               lines_here=len(world.a.lines(line)), sent_MiB=sent // MIB, most_memory_MiB=f"+{most:.0f}")


def foreign(world):
    bystander = socket.create_server(("127.0.0.1", 0))
    bystander.settimeout(0.2)
    address = f"127.0.0.1:{bystander.getsockname()[1]}"
    world.clients[0].ask("SET", "secret-key", "secret-value")
    member = Member(world, world.a, 0x5757)
    member.send(message(rows_frame(0x5757, world.a.id, [(0x5757, "127.0.0.1:9"), (0xB57A, address)])))
    words, times, end, began = [], [], time.monotonic() + 30, time.monotonic()
    while time.monotonic() < end:
        try:
            caller = bystander.accept()[0]
        except OSError:
            world.probe()
            continue
        times.append(time.monotonic() - began)
        caller.settimeout(1)
        try:
            words.append(caller.recv(65536))
            caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        except OSError:
            pass
        caller.close()
    world.tell("a member at an address of somebody else", world.a.await_line(re.escape(address)),
               f"{len(times)} connections in 30 s (at {', '.join(f'{t:.0f}' for t in times)} s), at most {max(map(len, words))} bytes "
               f"each, of data {sum(b'secret' in w for w in words)}", lines_here=len(world.a.lines(re.escape(address))))


KINDS = [
    ("key", came_with("another key", lambda w: w.with_key("other"), "another cluster's key", "does not accept this server's key")),
    ("key", came_with("no key", lambda w: [], "does not speak TLS", "links are protected there")),
    ("key", came_with("another cluster, the same key", lambda w: w.with_key("key") + ["--cluster", "other"],
                      "another cluster's key", "does not accept this server's key")),
    ("certificate", version), ("certificate", expired),
    ("certificate", came_with("a name that a living server has", lambda w: w.with_certificate("b") + ["--name", "b"],
                              "which belongs to the server", "belongs to the server|has this name|the name b")),
    ("certificate", pings), ("certificate", invented), ("certificate", unfinished), ("certificate", foreign),
]


def expire(folder, kvd):
    """A certificate whose time is over, as `kvd cert` makes none."""
    kvd("cert", "server", "over", "--dir", folder)

    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)
    with open(os.path.join(folder, "over.ext"), "w", encoding="ascii") as file:
        file.write("subjectAltName=URI:kvd://kvd/over,IP:127.0.0.1\n")
    openssl("req", "-new", "-key", "over.key", "-subj", "/CN=over", "-out", "over.csr")
    openssl("x509", "-req", "-in", "over.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "-1",
            "-extfile", "over.ext", "-out", "over.pem")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kvd", default=os.path.join(os.path.dirname(__file__), "..", ".build", "release", "kvd"))
    parser.add_argument("--port", type=int, default=27300)
    parser.add_argument("--only", type=int, help="the number of one kind, from 1")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        def kvd(*words):
            return subprocess.run([options.kvd, *words], check=True, capture_output=True, text=True).stdout
        for name in ("key", "other"):
            with open(os.path.join(folder, name), "w", encoding="ascii") as file:
                file.write(kvd("secret"))
        kvd("cert", "ca", "--dir", folder)
        for name in ("a", "b", "bad", "late"):
            kvd("cert", "server", name, "--dir", folder)
        expire(folder, kvd)
        for number, (protection, run) in enumerate(KINDS, 1):
            if options.only in (None, number):
                world = World(options, folder, protection)
                try:
                    run(world)
                finally:
                    world.stop()


if __name__ == "__main__":
    main()
