#!/usr/bin/env python3
"""What must not happen to a metrics port and to settings, tried on a real server:
Tests/Operations/bad_requests.py --bin FOLDER [--requests N]

A port that is taken, requests in pieces, thousands at once, ones that never end, unknown paths, other methods, scrapes
while the query actors have all they can do, and names of settings that are misspelt. Each is answered or refused within
bounds; a client of a query actor notices none of it. Prints what was found.
"""
import argparse
import os
import resource
import socket
import subprocess
import sys
import threading
import time

from running import Client, Programs, Server, free_ports, get

# Of the server: connections of the port, and seconds for a request that has begun.
CONNECTIONS_MAX = 64
REQUEST_SECONDS_MAX = 5


class Wrong(list):
    def check(self, what, is_right, found):
        print(f"{'' if is_right else 'WRONG: '}{what}: {found}")
        if not is_right:
            self.append(what)


def ask(port, request, pause=0.0, piece=None):
    """The status line of the answer, and how long it took."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
        try:
            for at in range(0, len(request), piece or len(request)):
                one.sendall(request[at:at + (piece or len(request))])
                if pause:
                    time.sleep(pause)  # This is the slowness that is tried.
            answer = one.recv(65536)
        except (BrokenPipeError, ConnectionResetError):
            answer = one.recv(65536)
    return answer.split(b"\r\n")[0].decode(), time.monotonic() - began


class Watch(threading.Thread):
    """A client of a query actor: how long its GETs take."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.client, self.isOver, self.times = Client(port), threading.Event(), []
        self.client("SET", "k", "v")

    def run(self):
        while not self.isOver.wait(0.005):
            began = time.monotonic()
            self.client("GET", "k")
            self.times.append(time.monotonic() - began)

    def end(self):
        self.isOver.set()
        self.join()
        times = sorted(self.times)
        return {"GETs": len(times), "median ms": round(times[len(times) // 2] * 1000, 2),
                "p99 ms": round(times[len(times) * 99 // 100] * 1000, 2)}


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def taken_port(options, wrong):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        done = subprocess.run([f"{options.bin}/kvd", "--port", str(free_ports(2)), "--actors", "1", "--metrics-address",
                               f"127.0.0.1:{port}"], capture_output=True, text=True, timeout=30, check=False)
    line = done.stderr.strip().splitlines()[-1]
    wrong.check("a metrics port that is taken", done.returncode == 1 and not done.stdout
                and line.endswith(f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another "
                                  "--metrics-address"), f"exit {done.returncode}, {line}")


def shapes(server, wrong):
    page = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    wrong.check("a page's request byte by byte", ask(server.metrics, page, piece=1)[0] == "HTTP/1.1 200 OK", "200")
    line, took = ask(server.metrics, page * 3, pause=0.25, piece=1)
    wrong.check("one that takes longer than it may", "408" in line and took < 3 * REQUEST_SECONDS_MAX,
                f"{line} after {took:.1f} s")
    for path, wanted in (("/nosuch", 404), ("/metrics/", 404), ("/../etc/passwd", 404), ("/%2e%2e/etc/passwd", 404),
                         ("/" + "a" * 7000, 404), ("/" + "a" * 9000, 431)):
        found = ask(server.metrics, f"GET {path} HTTP/1.1\r\n\r\n".encode())[0]
        wrong.check(f"GET {path[:20]}", str(wanted) in found, found)
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"):
        found = ask(server.metrics, f"{method} /metrics HTTP/1.1\r\n\r\n".encode())[0]
        wrong.check(f"{method} /metrics", "405" in found, found)
    for name, request, wanted in (
            ("a command of Redis", b"*1\r\n$4\r\nPING\r\n\r\n", "400"),
            ("TLS", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", "400"),
            ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
            ("a body", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n123456789", "413")):
        found = ask(server.metrics, request)[0]
        wrong.check(name, wanted in found, found)


def thousands(server, requests, wrong):
    """As many pieces of requests at once as files allow, then whole ones one after the other."""
    watch, before = Watch(server.client), resident(server.process.pid)
    watch.start()
    began, open_ones, refused = time.monotonic(), [], 0
    for _ in range(requests):
        try:
            one = socket.create_connection(("127.0.0.1", server.metrics), timeout=20)
            one.sendall(b"GET / HTTP/1.1\r\nHo")
            open_ones.append(one)
        except OSError:
            refused += 1
        if len(open_ones) >= 900:
            # Those that were refused have been told; the rest stays.
            left = []
            for old in open_ones:
                old.setblocking(False)
                try:
                    if old.recv(100):
                        refused += 1
                        old.close()
                        continue
                except BlockingIOError:
                    left.append(old)
                    continue
                except OSError:
                    refused += 1
                old.close()
            open_ones = left
    held = len(open_ones)
    took = time.monotonic() - began
    grown = (resident(server.process.pid) - before) >> 10
    for one in open_ones:
        one.close()
    wrong.check(f"{requests} connections with a piece of a request", refused >= requests - 900 and grown < 16 << 10,
                f"{refused} refused or ended, {held} left, {took:.1f} s, {grown} KiB more resident")
    deadline = time.monotonic() + 30
    while get(server.metrics, "/healthz")[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    began, codes = time.monotonic(), {}
    for _ in range(requests // 10):
        found = ask(server.metrics, b"GET / HTTP/1.0\r\n\r\n")[0].split(" ")[1]
        codes[found] = codes.get(found, 0) + 1
    wrong.check(f"{requests // 10} pages, a connection each", set(codes) <= {"200", "503"} and codes.get("200", 0) > 0,
                f"{codes} in {time.monotonic() - began:.1f} s")
    figures = watch.end()
    wrong.check("a client of a query actor meanwhile", figures["GETs"] > 20 and figures["p99 ms"] < 500, figures)


def commands(server):
    return sum(actor["commands"] for actor in server.report()["actors"])


def saturated(server, wrong):
    """Scrapes while both loops have more to do than they can."""
    loads = [subprocess.Popen(["redis-benchmark", "-p", str(server.client + place), "-c", "50", "-P", "100", "-n",
                               "100000000", "-t", "get", "-q"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
             for place in range(2)]
    try:
        times, codes, before = [], set(), commands(server)
        began = time.monotonic()
        while time.monotonic() < began + 5:
            at = time.monotonic()
            code, body = get(server.metrics, "/metrics")
            codes.add((code, "kvd_actors_answering 2" in body))
            times.append(time.monotonic() - at)
            time.sleep(0.2)
        rate = (commands(server) - before) / 5
    finally:
        for load in loads:
            load.kill()
            load.wait()
    wrong.check("scrapes while the loops are saturated", codes == {(200, True)} and max(times) < 1.5,
                f"{len(times)} scrapes, {max(times) * 1000:.0f} ms at most, at {rate:.0f} requests a second")


def names(options, wrong):
    with Programs() as programs:
        config = os.path.join(programs.folder, "kvd.conf")
        for text, wanted in (("port 7000\nactorz 2\n", "line 2: actorz: unknown setting; did you mean actors?"),
                             ("maxclient 5\n", "line 1: maxclient: unknown setting; did you mean maxclients?"),
                             ("qwertyuiop 5\n", "line 1: qwertyuiop: unknown setting, and none has a name like it; "
                              "kvd --help lists all of them"),
                             ("metrics_address 1\n",
                              "line 1: metrics_address: unknown setting; did you mean metrics-address?")):
            with open(config, "w", encoding="utf-8") as file:
                file.write(text)
            for command in (["check-config", "--config", config], ["--config", config]):
                done = subprocess.run([f"{options.bin}/kvd", *command], capture_output=True, text=True, timeout=30,
                                      check=False)
                said = done.stderr.strip()
                wrong.check(f"kvd {command[0]} with {text.split()[-2]}",
                            done.returncode == 64 and f"{config} {wanted}" in said, f"exit {done.returncode}, {said}")
        done = subprocess.run([f"{options.bin}/kvd", "--metrics-adress", "9121"], capture_output=True, text=True,
                              timeout=30, check=False)
        wrong.check("a unit with --metrics-adress", done.returncode == 64
                    and "--metrics-adress: unknown setting; did you mean metrics-address?" in done.stderr,
                    f"exit {done.returncode}, {done.stderr.strip().splitlines()[0]}")
        done = subprocess.run([f"{options.bin}/kvd", "check-config"], capture_output=True, text=True, timeout=30,
                              check=False, env={**os.environ, "KVD_MAXCLIENT": "7"})
        wrong.check("an environment with KVD_MAXCLIENT", done.returncode == 0
                    and "KVD_MAXCLIENT is not a setting and is ignored; did you mean KVD_MAXCLIENTS?" in done.stderr,
                    f"exit {done.returncode}, {done.stderr.strip()[-90:]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="folder with kvd")
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    wrong = Wrong()
    taken_port(options, wrong)
    names(options, wrong)
    with Programs() as programs:
        server = Server(programs, options.bin, "one", actors=2)
        shapes(server, wrong)
        thousands(server, options.requests, wrong)
        saturated(server, wrong)
        wrong.check("the server afterwards", server.process.poll() is None and get(server.metrics, "/readyz")[0] == 200,
                    get(server.metrics, "/readyz"))
    print(f"{len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
