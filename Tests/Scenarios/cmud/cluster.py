"""Two real kvd servers with a slow link between them, and players on real pseudo-terminals."""

import os
import re
import select
import signal
import socket
import subprocess
import threading
import time

import pexpect


class SlowLink:
    """Forwards TCP to `target`, every byte `delay` seconds late; can be cut and healed."""

    def __init__(self, port, target, delay):
        self.target, self.delay, self.is_cut = target, delay, False
        self.pairs = []
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.is_cut:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target), 2)
            except OSError:
                client.close()
                continue
            self.pairs.append((client, server))
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client), daemon=True).start()

    def _pump(self, source, sink):
        waiting = []
        try:
            while True:
                timeout = max(0, waiting[0][0] - time.monotonic()) if waiting else None
                if select.select([source], [], [], timeout)[0]:
                    data = source.recv(65536)
                    if not data:
                        break
                    waiting.append((time.monotonic() + self.delay, data))
                while waiting and waiting[0][0] <= time.monotonic():
                    sink.sendall(waiting.pop(0)[1])
        except (OSError, ValueError):
            pass
        for end in (source, sink):
            try:
                end.close()
            except OSError:
                pass

    def cut(self):
        self.is_cut = True
        for pair in self.pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.pairs = []

    def heal(self):
        self.is_cut = False


class Cluster:
    """Servers A and B: clients at port+1, the link between them through a proxy each way."""

    def __init__(self, kvd, base=25000, delay=0.25):
        self.kvd, self.base = kvd, base
        self.links = [SlowLink(base + 50, base, delay), SlowLink(base + 60, base + 10, delay)]
        self.servers = [self._start(0), None]
        self.servers[1] = self._start(1)
        self.addresses = [f"127.0.0.1:{base + 1}", f"127.0.0.1:{base + 11}"]

    def _start(self, index):
        port = self.base + 10 * index
        command = [self.kvd, "--port", str(port), "--actors", "1", "--advertise", f"127.0.0.1:{self.base + 50 + 10 * index}"]
        if index == 1:
            command += ["--join", f"127.0.0.1:{self.base + 50}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout.readline().startswith("{"), "kvd did not say that it is ready"
        return process

    def kill(self, index):
        self.servers[index].send_signal(signal.SIGKILL)
        self.servers[index].wait()

    def cut(self):
        for link in self.links:
            link.cut()

    def heal(self):
        for link in self.links:
            link.heal()

    def close(self):
        for server in self.servers:
            if server.poll() is None:
                server.terminate()
                try:
                    server.wait(5)
                except subprocess.TimeoutExpired:
                    server.kill()
        for link in self.links:
            link.listener.close()


ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Player:
    """One cmud on a pseudo-terminal of 200 columns."""

    program = "cmud"

    def __init__(self, address, name, *arguments, env=None, rows=40, columns=200):
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("NO_COLOR", "CLICOLOR", "FORCE_COLOR"))}
        variables.update({"TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": "1"})
        variables.update(env or {})
        self.name = name
        arguments = list(arguments) or ["--story", "off"]
        target = [address] if address else ["--solo"]
        named = ["--name", name] if name else []
        self.tty = pexpect.spawn(
            self.program, target + named + arguments, env=variables, dimensions=(rows, columns), encoding="utf-8",
            codec_errors="replace", timeout=20)
        self.tty.delaybeforesend = None
        self.tty.delayafterclose = 0.05
        self.seen = ""

    def ready(self, timeout=20):
        return self.expect("(mining) > ", timeout)

    def expect(self, text, timeout=20):
        start = time.monotonic()
        self.tty.expect_exact(text, timeout)
        self.seen += self.tty.before + self.tty.after
        return time.monotonic() - start

    def type(self, line):
        self.tty.send(line + "\r")

    def drain(self, seconds):
        """Reads for a while without expecting anything."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                self.seen += self.tty.read_nonblocking(65536, 0.1)
            except pexpect.TIMEOUT:
                pass
            except pexpect.EOF:
                return

    def coins_told(self):
        return sum(int(n.replace(",", "")) for n in re.findall(r"A block! \+([\d,]+) coin", ESCAPES.sub("", self.seen)))

    def work_told(self):
        return sum(int(n.replace(",", "")) for n in re.findall(r"Progress: \+([\d,]+)", ESCAPES.sub("", self.seen)))

    def quit(self):
        if self.tty.isalive():
            self.type("quit")
            self.finish()

    def finish(self, timeout=15):
        try:
            self.tty.expect(pexpect.EOF, timeout)
            self.seen += self.tty.before
        except pexpect.TIMEOUT:
            pass
        self.tty.close(force=True)
        return self.tty.exitstatus

    def kill(self):
        self.drain(0.2)
        self.tty.kill(signal.SIGKILL)
        self.tty.close(force=True)


def script(program, address, name, commands, *arguments, env=None, timeout=60):
    """Runs commands without a terminal; returns the output and the exit code."""
    variables = dict(os.environ)
    variables.update(env or {})
    run = subprocess.run(
        [program, address, "--name", name, "--story", "off", "-e", commands, *arguments], capture_output=True, text=True,
        timeout=timeout, stdin=subprocess.DEVNULL, env=variables)
    return run.stdout + run.stderr, run.returncode


def number(label, text):
    found = re.findall(label + r": ([\d,]+)", text)
    return int(found[-1].replace(",", "")) if found else None
