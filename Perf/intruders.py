#!/usr/bin/env python3
"""What a thousand hostile connections to the clients' port cost those who are let in, on each backend.

    KVD_PERF_FIRST=1 python3 Perf/intruders.py [--connections 1000] [--kinds silent,half] [--backends io_uring]

The server demands TLS and a password. Kinds, one after the other, all connections of a kind at once: silent, a byte of a
ClientHello a second, half a ClientHello, changes of keys without end, records of one byte, random bytes, wrong passwords
without end, and a client that is let in, announces 64 MiB and sends nothing. Told are the server's memory above before,
p99 of a client that asks a GET every half millisecond meanwhile and before, when the last of them was closed, and which
counters of INFO counted. They come from 127.0.0.2. KVD_PERF_FIRST=1: see lab.py.
"""
import argparse
import ctypes
import multiprocessing
import os
import select
import socket
import ssl
import subprocess
import tempfile
import time

from driver import LOAD_CPU, SERVER_CPU
from lab import FIRST, KVD, Server, need

PASSWORD = b"a password that is long enough"
#: Kind to the seconds after which the server closes it.
KINDS = {"silent": 10, "byte": 10, "half": 10, "keys": 1, "records": 30, "random": 1, "passwords": 30, "announced": 60}
TELLING = ("tls_handshake_timeouts", "tls_failures", "tls_plain_refused", "acl_access_denied_auth", "disconnections", "standing")


class Libssl:
    """What Python's ssl module does not offer: changes of keys."""

    def __init__(self):
        self.lib = ctypes.CDLL("libssl.so.3")
        for name, result, arguments in (
                ("TLS_client_method", ctypes.c_void_p, []), ("SSL_CTX_new", ctypes.c_void_p, [ctypes.c_void_p]),
                ("SSL_new", ctypes.c_void_p, [ctypes.c_void_p]), ("SSL_set_fd", ctypes.c_int, [ctypes.c_void_p, ctypes.c_int]),
                ("SSL_connect", ctypes.c_int, [ctypes.c_void_p]), ("SSL_do_handshake", ctypes.c_int, [ctypes.c_void_p]),
                ("SSL_key_update", ctypes.c_int, [ctypes.c_void_p, ctypes.c_int])):
            function = getattr(self.lib, name)
            function.restype, function.argtypes = result, arguments
        self.context = self.lib.SSL_CTX_new(self.lib.TLS_client_method())

    def connect(self, raw):
        connection = self.lib.SSL_new(self.context)
        self.lib.SSL_set_fd(connection, raw.fileno())
        if self.lib.SSL_connect(connection) != 1:
            raise OSError("no handshake")
        return connection

    def change_keys(self, connection):
        self.lib.SSL_key_update(connection, 0)
        self.lib.SSL_do_handshake(connection)


def first():
    os.sched_setaffinity(0, {LOAD_CPU})
    if FIRST:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def trusting(authority):
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = False
    return context


class Good:
    """In a process of its own: asks all the time, and tells p99 of the milliseconds since it was asked last."""

    def __init__(self, port, authority):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=self.run, args=(theirs, port, authority), daemon=True)
        self.process.start()

    @staticmethod
    def run(pipe, port, authority):
        first()
        if FIRST:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
        client = trusting(authority).wrap_socket(socket.create_connection(("127.0.0.1", port)))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\nSET k v\r\n" % (len(PASSWORD), PASSWORD))
        time.sleep(0.2)
        client.recv(100)
        took = []
        while True:
            began = time.monotonic()
            client.sendall(b"GET k\r\n")
            client.recv(100)
            took.append(time.monotonic() - began)
            time.sleep(0.0005)
            if pipe.poll():
                pipe.recv()
                took.sort()
                pipe.send((took[int(len(took) * 0.99)] * 1000, len(took)))
                took = []

    def p99(self):
        self.pipe.send(0)
        return self.pipe.recv()


class Attack:
    """One kind's connections."""

    def __init__(self, kind, port, authority, hello):
        self.kind, self.port, self.hello = kind, port, hello
        self.context, self.lib = trusting(authority), Libssl() if kind == "keys" else None
        self.links = []

    def begin(self):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=("127.0.0.2", 0))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secure = None
        if self.kind == "keys":
            raw.settimeout(None)
            secure = self.lib.connect(raw)
        elif self.kind in ("records", "passwords", "announced"):
            # Its end is seen on a second descriptor of the same socket.
            secure = self.context.wrap_socket(socket.socket(fileno=os.dup(raw.fileno())))
            secure.setblocking(False)
        if self.kind == "half":
            raw.sendall(self.hello[:len(self.hello) // 2])
        elif self.kind == "random":
            raw.sendall(b"\x16" + os.urandom(99))
        elif self.kind == "announced":
            secure.sendall(b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108864\r\n" % (len(PASSWORD), PASSWORD))
        raw.setblocking(False)
        self.links.append((raw, secure))

    def go_on(self, link, second):
        raw, secure = link
        if self.kind == "byte" and second < len(self.hello):
            raw.send(self.hello[second:second + 1])
        elif self.kind == "keys":
            for _ in range(40):
                self.lib.change_keys(secure)
        elif self.kind == "records":
            for _ in range(10):
                secure.send(b"x")
        elif self.kind == "passwords":
            secure.send(b"AUTH wrong\r\n" * 10)


def client_hello():
    outgoing = ssl.MemoryBIO()
    connection = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()


def gone(raw):
    try:
        while raw.recv(65536):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def counters(good_context, port):
    client = good_context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
    client.sendall(b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\nINFO stats\r\nQUIT\r\n" % (len(PASSWORD), PASSWORD))
    text = b""
    while piece := client.recv(65536):
        text += piece
    rows = (line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return {name: int(value) for name, value in rows if any(word in name for word in TELLING) and value.isdigit()}


def run(kind, server, good, authority, count, quiet):
    port, seconds = server.port + 1, KINDS[kind]
    context, before = trusting(authority), server.rss()
    counted, attack = counters(context, port), Attack(kind, port, authority, client_hello())
    good.p99()
    most, began, failed = 0, time.monotonic(), 0
    for _ in range(count):
        try:
            attack.begin()
        except OSError:
            failed += 1
    opened = time.monotonic()
    left, last, ticks, second = list(attack.links), 0.0, 0, -1
    while left and time.monotonic() - opened < seconds + 5:
        elapsed = int(time.monotonic() - opened)
        for link in left:
            try:
                if kind != "byte" or elapsed != second:
                    attack.go_on(link, elapsed)
            except (OSError, ssl.SSLError):
                pass
        second, ticks = elapsed, ticks + 1
        still = [link for link in left if not gone(link[0])]
        if len(still) < len(left):
            last = time.monotonic() - began
        left, most = still, max(most, server.rss() - before)
        select.select([], [], [], 0.05)
    p99, asked = good.p99()
    after = counters(context, port)
    changed = ", ".join("%s +%d" % (name, after[name] - counted.get(name, 0)) for name in after if after[name] != counted.get(name, 0))
    print("%-9s memory %+5.1f MiB  p99 %5.2f ms, %4.1f x quiet (%d GETs)  not let in %d, open at the end %d, last closed %4.1f s after the first came  %s" % (
        kind, most / 1048576, p99, p99 / quiet, asked, failed, len(left), last, changed), flush=True)
    for raw, secure in attack.links:
        raw.close()
        if hasattr(secure, "close"):
            secure.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--backends", default="io_uring,epoll")
    options = parser.parse_args()
    need(KVD)
    with tempfile.TemporaryDirectory() as folder:
        for words in (["ca"], ["server", "bench"]):
            subprocess.run([KVD, "cert", *words, "--dir", folder], check=True)
        certificate, key, authority, password = (os.path.join(folder, name) for name in ("bench.pem", "bench.key", "ca.pem", "password"))
        with open(password, "wb") as file:
            file.write(PASSWORD + b"\n")
        os.chmod(password, 0o600)
        for backend in options.backends.split(","):
            server = Server(1, cpu=SERVER_CPU, arguments=[
                "--io", backend, "--tls-cert-file", certificate, "--tls-key-file", key, "--requirepass-file", password])
            good = Good(server.port + 1, authority)
            first()
            time.sleep(1)
            good.p99()
            time.sleep(8)
            quiet, asked = good.p99()
            print("%s: p99 of a GET without them %.2f ms (%d GETs)" % (backend, quiet, asked), flush=True)
            for kind in options.kinds.split(","):
                run(kind, server, good, authority, options.connections, quiet)
            turns = server_turns(trusting(authority), server.port + 1)
            print("%s: longest turn by the processor %s" % (backend, turns), flush=True)
            good.process.kill()
            server.stop()


def server_turns(context, port):
    client = context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
    client.sendall(b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\nINFO stats\r\nQUIT\r\n" % (len(PASSWORD), PASSWORD))
    text = b""
    while piece := client.recv(65536):
        text += piece
    fields = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return "%.2f ms (%s)" % (int(fields["max_turn_cpu_micros"]) / 1000, fields["max_turn_cpu_work"])


if __name__ == "__main__":
    main()
