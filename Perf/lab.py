"""What the measuring scripts share: a RESP connection, a delaying proxy, kvd and its peers as child processes."""
import asyncio
import atexit
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("KVD_BUILD", os.path.join(HERE, "..", ".build", "release"))
KVD = os.path.join(BUILD, "kvd")
PERF_DRIVER = os.path.join(BUILD, "perf-driver")
KVD_MICRO = os.path.join(BUILD, "kvd-micro")
CHILDREN = []
# On a machine that does other work meanwhile: what is pinned goes before everything else. A core that is busy all the time
# is taken away for 50 ms of each second nevertheless.
FIRST = ["chrt", "-f", "1"] if os.environ.get("KVD_PERF_FIRST") else []


def spawn(arguments, cpu=None, **options):
    """A child that ends with this script; `cpu` pins it."""
    if cpu is not None:
        arguments = FIRST + ["taskset", "-c", str(cpu)] + arguments
    child = subprocess.Popen(arguments, **options)
    CHILDREN.append(child)
    return child


@atexit.register
def end_children():
    for child in CHILDREN:
        if child.poll() is None:
            child.kill()


def need(*programs):
    for program in programs:
        if not shutil.which(program) and not os.path.exists(program):
            raise SystemExit("no %s: build with `swift build -c release`, or install it (scripts/deps bench)" % program)


class Connection:
    """One blocking RESP2 connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb", 1 << 20)

    @staticmethod
    def encode(*words):
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            word = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
        return b"".join(parts)

    def read(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("closed by the server")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            count = int(rest)
            return None if count < 0 else self.file.read(count + 2)[:-2]
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"-":
            raise RuntimeError(rest.decode())
        return rest

    def call(self, *words):
        self.socket.sendall(self.encode(*words))
        return self.read()

    def list_everything(self):
        """Reads the whole reply as it comes; keys and values must hold no line ends."""
        self.socket.sendall(self.encode("LIST"))
        # Two of them make an element.
        left = 2 * int(self.file.readline()[1:-2])
        while left > 0:
            left -= self.file.read1(1 << 20).count(b"\n")

    def pipeline(self, commands):
        self.socket.sendall(b"".join(self.encode(*c) for c in commands))
        return [self.read() for _ in commands]

    def info(self, field):
        for line in self.call("INFO").decode().splitlines():
            if line.startswith(field + ":"):
                return int(line.split(":", 1)[1])
        raise KeyError(field)


class Proxy:
    """Delays every byte by `delay` seconds each way, or cuts the link. Runs an event loop in a thread of its own."""

    def __init__(self, target, delay=0.0):
        self.target, self.delay, self.is_cut = target, delay, False
        self.writers = set()
        self.loop = asyncio.new_event_loop()
        self.port = None
        ready = threading.Event()

        def run():
            asyncio.set_event_loop(self.loop)
            server = self.loop.run_until_complete(asyncio.start_server(self.accept, "127.0.0.1", 0))
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            self.loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        ready.wait()

    def cut(self, is_cut):
        self.is_cut = is_cut
        if is_cut:
            self.loop.call_soon_threadsafe(lambda: [w.transport.abort() for w in list(self.writers)])

    async def accept(self, reader, writer):
        if self.is_cut:
            writer.transport.abort()
            return
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, upstream[1]}
        await asyncio.gather(self.pump(reader, upstream[1]), self.pump(upstream[0], writer), return_exceptions=True)
        self.writers -= {writer, upstream[1]}

    async def pump(self, reader, writer):
        queue = asyncio.Queue()

        async def deliver():
            while True:
                due, chunk = await queue.get()
                wait = due - self.loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                if not chunk:
                    writer.close()
                    return
                writer.write(chunk)
                await writer.drain()

        task = self.loop.create_task(deliver())
        try:
            while True:
                chunk = await reader.read(1 << 18)
                queue.put_nowait((self.loop.time() + self.delay, chunk))
                if not chunk:
                    break
            await task
        except OSError:
            task.cancel()
            writer.transport.abort()


def free_base(count):
    while True:
        base = random.randrange(27000, 59000)
        try:
            held = []
            for port in range(base, base + count + 1):
                s = socket.socket()
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(("127.0.0.1", port))
                held.append(s)
            return base
        except OSError:
            continue
        finally:
            for s in held:
                s.close()


class Server:
    def __init__(self, actors, join=None, delay=None, cpu=None, arguments=(), kvd=KVD):
        self.actors, self.port = actors, free_base(actors)
        self.proxy = Proxy(self.port, delay) if delay is not None else None
        self.address = "127.0.0.1:%d" % (self.proxy.port if self.proxy else self.port)
        command = [kvd, "--port", str(self.port), "--actors", str(actors), "--advertise", self.address, "--log-level", "error"]
        for address in join or []:
            command += ["--join", address]
        self.process = spawn(command + list(arguments), cpu, stdout=subprocess.PIPE)
        self.description = json.loads(self.process.stdout.readline())

    def connect(self, actor=0):
        return Connection(self.port + 1 + actor)

    @property
    def pid(self):
        return self.process.pid

    def cpu_seconds(self):
        fields = open("/proc/%d/stat" % self.process.pid).read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def await_keys(self, count):
        client = self.connect()
        while client.call("DBSIZE") < count:
            time.sleep(0.05)

    def put_aside(self):
        """How often the first loop's thread gave way to another one, and the milliseconds it was ready to run and was not."""
        base = "/proc/%d/task/%d/" % (self.pid, self.loop_thread())
        status = dict(line.split(":", 1) for line in open(base + "status"))
        return int(status["nonvoluntary_ctxt_switches"]), int(open(base + "schedstat").read().split()[1]) / 1e6

    def loop_thread(self):
        """Of the first loop. A server that has just begun to serve may not have named it yet."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for task in os.listdir("/proc/%d/task" % self.pid):
                if open("/proc/%d/task/%s/comm" % (self.pid, task)).read().strip() == "kvd-1":
                    return int(task)
        raise RuntimeError("no thread kvd-1")

    def info(self, section):
        return dict(line.split(":", 1) for line in self.connect().call("INFO", section).decode().splitlines() if ":" in line)

    def pages_late(self):
        """Fresh huge pages that were not ready as a loop first used them; all that were used. As of a tenth of a second ago."""
        fields = self.info("memory")
        return int(fields["fresh_pages_late"]), int(fields["fresh_pages_late"]) + int(fields["fresh_pages_ready"])

    def longest_turns(self):
        """By the processor and by the wall, each with what it did; how many were above 1 ms by the processor."""
        fields = self.info("stats")
        return ["%.2f ms (%s)" % (int(fields[name + "_micros"]) / 1000, fields[name + "_work"])
                for name in ("max_turn_cpu", "max_turn")] + [int(fields["turns_over_1ms"])]

    def rss(self):
        for line in open("/proc/%d/status" % self.process.pid):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


def stolen_millis(cpu):
    """What the hypervisor took of a core so far."""
    for line in open("/proc/stat"):
        words = line.split()
        if words[0] == "cpu%d" % cpu:
            return int(words[8]) * 1000 / os.sysconf("SC_CLK_TCK")
    return 0


class Peer:
    """Another server on one port: redis-server, memcached or the null responder."""

    def __init__(self, kind, cpu=None):
        self.port = free_base(1)
        command = {
            "redis": ["redis-server", "--port", str(self.port), "--save", "", "--appendonly", "no", "--io-threads", "1"],
            "memcached": ["memcached", "-l", "127.0.0.1", "-p", str(self.port), "-t", "1", "-m", "4096", "-c", "4096"],
            "null": [PERF_DRIVER, "limit", "--port", str(self.port)],
        }[kind]
        if kind == "memcached" and os.getuid() == 0:
            command += ["-u", "root"]
        self.process = spawn(command, cpu, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.time() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if time.time() > deadline:
                    raise SystemExit("%s did not start" % command[0])
                time.sleep(0.02)

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        self.process.kill()
        self.process.wait()


def fill(port, first, count, size=64, tag="key", value=None):
    """`count` keys of 16 bytes from `first` on, pipelined."""
    connection = Connection(port)
    body = value or b"v" * size
    for at in range(first, first + count, 1000):
        connection.pipeline([("SET", "%s:%012d" % (tag, i), body) for i in range(at, min(at + 1000, first + count))])


def percentile(sorted_values, p):
    return sorted_values[min(len(sorted_values) - 1, int(p / 100 * len(sorted_values)))]
