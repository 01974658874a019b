"""Servers and clients for the tests of files and disks: kvd, kv and redis-server as processes on loopback."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

NOT_ALLOWED = 77
NOT_INSTALLED = 78


def skip(why, code=NOT_ALLOWED):
    """Ends the script: what it needs is not allowed, or not installed, here."""
    print(f"skipped: {why}")
    sys.exit(code)


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def run(*words, ok=True, text=None, env=None, seconds=120):
    """A program to its end: (code, output, errors)."""
    made = subprocess.run([str(word) for word in words], input=text, capture_output=True, timeout=seconds,
                          env={**os.environ, **(env or {})})
    output, errors = made.stdout.decode("utf8", "replace"), made.stderr.decode("utf8", "replace")
    if ok:
        expect(made.returncode == 0, f"{words}: code {made.returncode}\n{output}{errors}")
    return made.returncode, output, errors


def until(what, seconds, look):
    """Polls until `look` gives something true; that."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        expect(time.monotonic() < deadline, f"not within {seconds} s: {what}")
        time.sleep(0.01)


def free_ports(count):
    """The first of so many ports in a row that nobody listens on."""
    for _ in range(200):
        base = int.from_bytes(os.urandom(2), "little") % 20000 + 10000
        held = []
        try:
            for port in range(base, base + count):
                one = socket.socket()
                held.append(one)
                one.bind(("127.0.0.1", port))
            return base
        except OSError:
            pass
        finally:
            for one in held:
                one.close()
    raise AssertionError("no free ports")


class Client:
    """A blocking RESP2 client. Errors are given as RESPError, not raised."""

    def __init__(self, port, seconds=20):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    @staticmethod
    def encode(words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)

    def send(self, *words):
        self.socket.sendall(self.encode(words))

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the connection ended")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return RESPError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        raise AssertionError(f"no reply: {line!r}")

    def __call__(self, *words):
        self.send(*words)
        return self.reply()


class RESPError(str):
    pass


class Server:
    """kvd, from its start to its end. `words`: more flags."""

    def __init__(self, kvd, *words, actors=1, port=None, wait=True, prefix=()):
        self.port = port or free_ports(actors + 1)
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [*prefix, kvd, "--port", str(self.port), "--actors", str(actors), "--pin", "no",
             *[str(word) for word in words]],
            stdout=subprocess.PIPE, stderr=self.errors)
        if wait:
            self.description = self.process.stdout.readline()
            expect(self.description, f"kvd did not start: {self.text()}")

    def client(self, actor=1):
        return Client(self.port + actor)

    def info(self, field):
        one = self.client()
        text = one("INFO").decode()
        one.close()
        for line in text.split("\r\n"):
            if line.startswith(field + ":"):
                return line[len(field) + 1:]
        return None

    def text(self):
        """What it has written to standard error so far."""
        self.errors.seek(0)
        return self.errors.read().decode("utf8", "replace")

    def end(self, number=9):
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Redis:
    """A real Redis in a folder of its own."""

    def __init__(self, folder, *words):
        path = shutil.which("redis-server")
        if not path:
            skip("redis-server is not installed", NOT_INSTALLED)
        self.folder = folder
        self.port = free_ports(1)
        self.process = subprocess.Popen(
            [path, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def ready():
            try:
                one = Client(self.port)
                answer = one("PING")
                one.close()
                return answer == "PONG"
            except OSError:
                return False
        until("redis-server answers", 10, ready)

    def client(self):
        return Client(self.port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(10)


class Folder:
    """A folder that is gone at the end."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="kvd-disk-")
        return self

    def __call__(self, name):
        return os.path.join(self.path, name)

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


def programs():
    """kvd and kv: the folder is the first argument."""
    if len(sys.argv) < 2:
        print(f"USAGE: {sys.argv[0]} FOLDER-OF-KVD-AND-KV", file=sys.stderr)
        sys.exit(64)
    return os.path.join(sys.argv[1], "kvd"), os.path.join(sys.argv[1], "kv")


def run_all(tests):
    """Each function, or those whose names are given behind the folder."""
    wanted = sys.argv[2:]
    failed = 0
    for test in tests:
        if wanted and test.__name__ not in wanted:
            continue
        try:
            test()
            print(f"ok: {test.__name__}")
        except (AssertionError, EOFError, OSError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"FAILED: {test.__name__}: {error}")
    sys.exit(1 if failed else 0)
