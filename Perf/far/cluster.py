"""kvd servers on the hosts of a wide-area network, and connections to them."""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "..", "Tests", "WAN"), os.path.join(HERE, "..")]

import lab  # noqa: E402
from wan import Wan  # noqa: E402

PORT = 41000
# What every server gets. --pin no: all servers of a cluster would pin themselves to the same core.
SERVER_FLAGS = ["--pin", "no"]
# Given where the program knows them.
FLAGS_IF_KNOWN = [["--trust-the-network"], ["--protected-mode", "no"]]
# A loss that the log tells of.
LOST = re.compile(r"\blost \d|connection (was )?lost|reconnect", re.IGNORECASE)

options = {"bin": lab.BUILD, "flags": [], "keep_logs": False, "congestion": None}
known = {}


def server_flags():
    """Flags of every server; --help is asked once."""
    program = os.path.join(options["bin"], "kvd")
    if program not in known:
        text = subprocess.run([program, "--help"], capture_output=True, text=True).stdout
        known[program] = [w for f in FLAGS_IF_KNOWN if f[0] + " " in text or f[0] + "\n" in text for w in f]
    return SERVER_FLAGS + known[program] + options["flags"]


class Connection(lab.Connection):
    """A RESP2 connection from a host to a server; made again by whoever needs it."""

    def __init__(self, wan, host, address, port, timeout=60):
        self.socket = wan.connect(host, address, port, timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb", 1 << 20)

    def read(self):
        """An error is an answer among others: a pipeline's replies stay in step."""
        try:
            return super().read()
        except RuntimeError as refused:
            return refused

    def close(self):
        self.file.close()
        self.socket.close()


class Server:
    """One kvd process on one host. `join`: hosts, or addresses as text."""

    def __init__(self, cluster, host, join=(), actors=1, wait=True, arguments=(), port=PORT):
        self.cluster, self.wan, self.host, self.actors, self.port = cluster, cluster.wan, host, actors, port
        self.ip = self.wan.ip(host)
        self.log_path = os.path.join(cluster.folder, "host%d-%d.log" % (host, time.time_ns()))
        command = [os.path.join(options["bin"], "kvd"), "--host", self.ip, "--port", str(port), "--actors", str(actors)]
        command += server_flags()
        for to in join:
            command += ["--join", "%s:%d" % (self.wan.ip(to), PORT) if isinstance(to, int) else to]
        self.command = command + list(arguments)
        self.starter, self.begin = os.getpid(), time.monotonic()
        with open(self.log_path, "wb") as log:
            self.process = self.wan.popen(host, self.command, stdout=subprocess.PIPE, stderr=log)
        if wait:
            self.ready()

    def ready(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("kvd did not start: " + self.log())
        return json.loads(line)

    def connect(self, actor=0, within=10):
        """A connection from its own host: clients are near. Tries again while the server is starting."""
        deadline = time.monotonic() + within
        while True:
            try:
                return Connection(self.wan, self.host, self.ip, self.port + 1 + actor)
            except OSError:
                if time.monotonic() > deadline or self.has_ended():
                    raise
                time.sleep(0.001)

    def has_ended(self):
        """False where it is not this process that started it: only a parent can know."""
        return os.getpid() == self.starter and self.process.poll() is not None

    def ask(self, *words):
        with contextlib.closing(self.connect()) as connection:
            return connection.call(*words)

    def info(self, section="all"):
        text = self.ask(*(["INFO"] + ([] if section == "all" else [section]))).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def rss(self):
        with contextlib.suppress(OSError):
            for line in open("/proc/%d/status" % self.process.pid):
                if line.startswith("VmRSS"):
                    return int(line.split()[1]) * 1024
        return 0

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def links_lost(self):
        """Lines of the log that tell of a lost link."""
        return sum(1 for line in self.log().splitlines() if LOST.search(line))

    def terminate(self, within=60):
        """SIGTERM: exit code (None: killed after `within`) and seconds."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within), time.monotonic() - begin
        except subprocess.TimeoutExpired:
            self.kill()
            return None, time.monotonic() - begin

    def kill(self):
        self.process.kill()
        self.process.wait()


class Cluster:
    """A network of `servers` hosts for servers, and two more for the control: one plain TCP connection over a path of
    the same properties that shares nothing with the servers' paths but the processor."""

    def __init__(self, servers=2, **path):
        self.count = servers
        self.folder = tempfile.mkdtemp(prefix="kvd-links-")
        self.children = []
        self.wan = Wan(servers + 2, prefix="links", server_port=PORT, congestion=options["congestion"])
        self.control = (servers, servers + 1)
        self.wan.all(**path)

    def start(self, host, join=(), **options):
        return Server(self, host, join, **options)

    def path(self, **properties):
        """Between all servers."""
        for a in range(self.count):
            for b in range(self.count):
                if a != b:
                    self.wan.one_way(a, b, **properties)

    def wire(self, before=None):
        """IP bytes sent so far between servers, as {(from, to): bytes}; less what was there `before`."""
        rows = self.wan.stats()["pairs"]
        now = {(r[0], r[1]): r[3] for r in rows if r[0] < self.count and r[1] < self.count}
        return {k: v - (before or {}).get(k, 0) for k, v in now.items()}

    def messages_a_second(self):
        """Largest number of messages of one ordered pair of actors in any one-second window, counted on the wire."""
        stats = self.wan.stats()
        return max((r[5] for r in stats["rates"]), default=0), stats["unread"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            if child.is_alive():
                child.kill()
            child.join()
        self.wan.close()
        if not options["keep_logs"]:
            shutil.rmtree(self.folder, ignore_errors=True)


def all_up(servers, within=30):
    """Seconds until every server says that every other one is up; None after `within`."""
    begin = time.monotonic()
    connections = [s.connect() for s in servers]
    while time.monotonic() - begin < within:
        if all(c.call("INFO", "replication").count(b"state=up") >= len(servers) - 1 for c in connections):
            return time.monotonic() - begin
        time.sleep(0.005)
    return None


def equal(servers, within=60):
    """Seconds until all digests are equal; None after `within`."""
    begin = time.monotonic()
    connections = [s.connect(a) for s in servers for a in range(s.actors)]
    while time.monotonic() - begin < within:
        if len({c.call("KVD", "DIGEST") for c in connections}) == 1:
            return time.monotonic() - begin
        time.sleep(0.02)
    return None


def fill(server, count, size, tag="k", first=0):
    """`count` keys of `size` bytes; returns key and value bytes of all of them."""
    connection, total = server.connect(), 0
    batch = max(1, min(1000, (4 << 20) // max(size, 1)))
    for at in range(first, first + count, batch):
        commands = [("SET", "%s:%08d" % (tag, i), os.urandom(8) * (size // 8) + b"x" * (size % 8))
                    for i in range(at, min(at + batch, first + count))]
        for answer in connection.pipeline(commands):
            if isinstance(answer, RuntimeError):
                raise answer
        total += sum(len(key) + len(value) for _, key, value in commands)
    connection.close()
    return total
