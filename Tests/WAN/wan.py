#!/usr/bin/env python3
"""A wide-area network on one machine: hosts as network namespaces, whose packets nsim.cc carries from one to the other,
so that TCP itself sees delay, loss and bandwidth. A proxy that ends TCP on both sides hides what a real line does to it.
Needs root, iproute2, g++ and /dev/net/tun, not the kernel's netem.

    from wan import Wan
    with Wan(2) as w:
        w.all(delay=0.250, rate=100_000)
        server = w.popen(0, ["kvd", "--host", w.ip(0), …])
        connection = w.connect(1, w.ip(0), 6001)

What `one_way`, `pair` and `all` can set: delay, jitter (seconds), loss, dup, reorder, corrupt, corruptfix (probabilities;
the last one mends TCP's checksum), rate (bytes a second), queue (seconds of it that wait before packets are dropped),
mtu (the sender of a larger packet is told), hole (larger packets vanish), down (nothing passes), kill (connections of
servers are reset).

As a program: wan.py [DELAY [RATE [BYTES]]] measures one plain TCP connection over such a path.
"""
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LIBC = ctypes.CDLL("libc.so.6", use_errno=True)
OWN_NAMESPACE = os.open("/proc/self/ns/net", os.O_RDONLY)
CLONE_NEWNET, TUNSETIFF, IFF_TUN_NO_PI = 0x40000000, 0x400454CA, 0x1001
HOSTS_MAX = 32


def refusal():
    """Why there can be no such network here, or None."""
    for program in ("ip", "g++"):
        if not shutil.which(program):
            return "%s is not installed (scripts/deps tests)" % program
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with Wan(1):
            return None
    except (OSError, RuntimeError) as problem:
        return "namespaces or /dev/net/tun are not allowed here: %s" % problem


def run(*arguments):
    ended = subprocess.run(arguments, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError("%s: %s" % (" ".join(arguments), ended.stderr.strip()))


def enter(namespace):
    """The calling thread, its new sockets and its children."""
    if LIBC.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def simulator():
    """The program made of nsim.cc, kept between runs."""
    source = os.path.join(HERE, "nsim.cc")
    built = os.path.join(tempfile.gettempdir(), "nsim-%d-%d" % (os.getuid(), os.stat(source).st_mtime_ns))
    if not os.path.exists(built):
        fresh = "%s.%d" % (built, os.getpid())
        run("g++", "-O2", "-std=c++17", "-o", fresh, source)
        os.rename(fresh, built)
    return built


class Host:
    """One network namespace with one TUN device."""

    def __init__(self, name, address):
        self.name, self.namespace, self.device = name, None, None
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
        run("ip", "netns", "add", name)
        try:
            run("ip", "-n", name, "link", "set", "lo", "up")
            self.namespace = os.open("/run/netns/" + name, os.O_RDONLY)
            with self:
                self.device = os.open("/dev/net/tun", os.O_RDWR)
                fcntl.ioctl(self.device, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN_NO_PI))
            os.set_inheritable(self.device, True)
            run("ip", "-n", name, "addr", "add", address + "/24", "dev", "tun0")
            run("ip", "-n", name, "link", "set", "tun0", "up", "txqueuelen", "10000")
        except (OSError, RuntimeError):
            self.remove()
            raise

    def __enter__(self):
        enter(self.namespace)

    def __exit__(self, *_):
        enter(OWN_NAMESPACE)

    def use(self, congestion):
        """The kernel lets a namespace choose only among what the machine allows to everybody."""
        allowed = open("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read().split()
        if congestion not in allowed:
            raise RuntimeError("congestion control %s is not among those allowed here: %s" % (congestion, " ".join(allowed)))
        with self, open("/proc/sys/net/ipv4/tcp_congestion_control", "w") as setting:
            setting.write(congestion)

    def remove(self):
        for descriptor in (self.namespace, self.device):
            if descriptor is not None:
                os.close(descriptor)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


class Wan:
    """Hosts 0 … count-1. Several networks can exist at the same time."""

    made = 0

    def __init__(self, count, prefix="wan", server_port=None, congestion=None):
        """`congestion`: TCP's congestion control on every host, as cubic, bbr or reno; else the machine's."""
        assert count <= HOSTS_MAX
        self.hosts, self.processes, self.speaking, self.simulator = [], [], threading.Lock(), None
        Wan.made += 1
        try:
            for i in range(count):
                self.hosts.append(Host("%s%d-%d-%d" % (prefix, os.getpid(), Wan.made, i), self.ip(i)))
            for host in self.hosts if congestion else []:
                host.use(congestion)
            devices = [h.device for h in self.hosts]
            self.simulator = subprocess.Popen(
                [simulator(), str(count)] + [str(d) for d in devices], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                pass_fds=devices, text=True)
        except (OSError, RuntimeError):
            self.close()
            raise
        if server_port:
            self.ask("port %d" % server_port)

    @staticmethod
    def ip(i):
        return "10.77.0.%d" % (i + 1)

    def congestion(self):
        with self.hosts[0], open("/proc/sys/net/ipv4/tcp_congestion_control") as setting:
            return setting.read().strip()

    def host(self, i):
        """Sockets and processes made by this thread inside the with block belong to host i."""
        return self.hosts[i]

    def popen(self, i, arguments, **options):
        with self.hosts[i]:
            process = subprocess.Popen(arguments, **options)
        self.processes.append(process)
        return process

    def connect(self, i, address, port, timeout=60):
        """A TCP connection from host i."""
        with self.hosts[i]:
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(timeout)
        try:
            made.connect((address, port))
        except OSError:
            made.close()
            raise
        return made

    def listen(self, i, port, backlog=128):
        with self.hosts[i]:
            return socket.create_server((self.ip(i), port), backlog=backlog)

    def ask(self, line):
        with self.speaking:
            self.simulator.stdin.write(line + "\n")
            self.simulator.stdin.flush()
            return self.simulator.stdout.readline().strip()

    def order(self, line):
        answer = self.ask(line)
        if answer != "ok":
            raise RuntimeError("%s: %s" % (line, answer or "nsim has ended"))

    def one_way(self, a, b, **properties):
        for name, value in properties.items():
            self.order("set %d %d %s %g" % (a, b, name, value))

    def pair(self, a, b, **properties):
        self.one_way(a, b, **properties)
        self.one_way(b, a, **properties)

    def all(self, **properties):
        self.one_way(-1, -1, **properties)

    def clear(self):
        self.order("clear")

    def reset(self):
        self.order("reset")

    def stats(self):
        """pairs: [from, to, packets, bytes, lost, duplicated, corrupted, too big, reordered] of each direction. rates:
        [sender's host, sender, target's host, target, messages, most in one second, bytes] of each ordered pair of
        actors. kinds: frames by type. unread: connections whose messages could not be counted."""
        return json.loads(self.ask("stats"))

    def wire_bytes(self, a, b):
        """IP bytes from a to b so far; what is sent counts, also if it is lost on the way."""
        return next(row[3] for row in self.stats()["pairs"] if row[:2] == [a, b])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        if self.simulator:
            with contextlib.suppress(OSError):
                self.simulator.stdin.close()
            self.simulator.wait()
        for host in self.hosts:
            host.remove()
        self.hosts = []


def transfer(wan, source, target, count, port=9000, within=600):
    """Seconds until `count` bytes of one plain TCP connection have arrived, its handshake included; None if too late."""
    server = wan.listen(target, port)
    server.settimeout(within)
    arrived = []

    def take():
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            connection.settimeout(within)
            left = count
            while left > 0:
                got = len(connection.recv(1 << 18))
                if not got:
                    return
                left -= got
            arrived.append(time.monotonic())
            connection.close()

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    begin = time.monotonic()
    with contextlib.suppress(OSError):
        connection = wan.connect(source, wan.ip(target), port, timeout=within)
        connection.sendall(bytes(count))
        taker.join(max(0, begin + within - time.monotonic()))
        connection.close()
    server.close()
    return arrived[0] - begin if arrived else None


def stream(wan, source, target, size, every, seconds, port=9001):
    """Messages of `size` bytes each `every` seconds over one plain TCP connection: [(seconds since the first was sent,
    seconds until it has arrived as a whole)]."""
    server, found, begin = wan.listen(target, port), [], []

    def take():
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            pending = bytearray()
            while data := connection.recv(1 << 18):
                pending += data
                while len(pending) >= size:
                    sent_at, = struct.unpack_from("d", pending)
                    found.append((sent_at - begin[0], time.monotonic() - sent_at))
                    del pending[:size]
            connection.close()

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    connection = wan.connect(source, wan.ip(target), port)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    begin.append(time.monotonic())
    due = begin[0]
    while due < begin[0] + seconds:
        connection.sendall(struct.pack("d", time.monotonic()) + bytes(size - 8))
        due += every
        time.sleep(max(0, due - time.monotonic()))
    connection.close()
    taker.join(30)
    server.close()
    return found


def main(delay=0.25, rate=0, count=4 << 20):
    with Wan(2) as wan:
        wan.all(delay=delay, rate=rate)
        seconds = transfer(wan, 0, 1, int(count))
        print("%.1f MB over one TCP connection at %.0f ms one way, %s: %s" % (
            count / 1e6, delay * 1e3, "%.0f kB/s" % (rate / 1e3) if rate else "unlimited",
            "%.2f s" % seconds if seconds else "not in time"))


if __name__ == "__main__":
    main(*(float(a) for a in sys.argv[1:]))
