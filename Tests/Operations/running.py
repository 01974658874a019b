"""What the checks of operations share: servers on free ports of this machine, a client, pages by HTTP, and ends."""
import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


_next_port = 12000 + os.getpid() % 400 * 20


def free_ports(count):
    """So many ports in a row on which one can listen now, below those that the kernel gives to clients; each time
    others."""
    global _next_port
    while _next_port + count < 20400:
        first, sockets = _next_port, []
        _next_port += count
        try:
            for port in range(first, first + count):
                one = socket.socket()
                sockets.append(one)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise SystemExit("no free ports")


def eventually(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def get(port, path, seconds=20):
    """Status and body of a page; (None, "") if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return None, ""


class Programs(contextlib.ExitStack):
    """Programs that end with this."""

    def __init__(self):
        super().__init__()
        self.folder = self.enter_context(tempfile.TemporaryDirectory())

    def start(self, *words, log=None):
        output = open(os.path.join(self.folder, log), "wb") if log else subprocess.DEVNULL
        process = subprocess.Popen(words, stdout=output, stderr=output)
        self.callback(self._end, process)
        return process

    @staticmethod
    def _end(process):
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self, name):
        with open(os.path.join(self.folder, name), encoding="utf-8", errors="replace") as file:
            return file.read()


class Server:
    """A kvd with a metrics port."""

    def __init__(self, programs, folder, name, actors=1, arguments=()):
        self.port = free_ports(actors + 2)
        self.client, self.metrics = self.port + 1, self.port + actors + 1
        self.name = name
        self.process = programs.start(
            os.path.join(folder, "kvd"), "--port", str(self.port), "--actors", str(actors), "--pin", "no", "--name",
            name, "--metrics-address", f"127.0.0.1:{self.metrics}", *arguments, log=name + ".log")
        eventually(f"{name} is ready", lambda: get(self.metrics, "/readyz")[0] == 200)

    def report(self):
        return json.loads(get(self.metrics, "/status.json")[1])


class Client:
    """A connection of a client; replies as bytes, one line of each or the bulk behind it."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.file = self.socket.makefile("rb")

    @staticmethod
    def request(*words):
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)

    def send(self, *words):
        self.socket.sendall(self.request(*words))

    def reply(self):
        line = self.file.readline()
        if line[:1] == b"$" and line[1:2] != b"-":
            return self.file.read(int(line[1:]) + 2)[:-2]
        if line[:1] == b"*":
            return [self.reply() for _ in range(int(line[1:]))]
        return line[:-2]

    def __call__(self, *words):
        self.send(*words)
        return self.reply()

    def close(self):
        self.socket.close()
