#!/usr/bin/env python3
"""What TLS costs the server: processor time of a GET and of a handshake, of kvd and of Redis, with and without.

    KVD_PERF_FIRST=1 python3 Perf/tls.py

KVD_PERF_FIRST=1 puts servers and load before all else that runs on the machine (chrt): without it, or a machine for
itself, the figures are of whoever else runs. redis-benchmark of 50 connections is the load, with --tls where the server has it; a server on core 0, the load on core 1.
Rounds take turns; medians [least greatest]. "Null" is Perf/secure.c: OpenSSL, epoll and nothing else, which is what no
server with this library gets below; the same without TLS stands beside. Handshakes are TLS 1.3, X25519, a certificate of
ECDSA on P-256, each with one PING, new or taking up an earlier session, one after the other or 16 at a time. What accepting
and the PING cost is in them: the same without TLS stands beside. One after the other, the server waits for the client most
of the time, so its caches are cold. Needs redis-server and redis-benchmark with TLS, and cc.
"""
import argparse
import os
import socket
import ssl
import statistics
import subprocess
import tempfile
import time

from driver import LOAD_CPU, SERVER_CPU, middle
from lab import FIRST, HERE, KVD, Server, free_base, need, spawn

PIPELINES = (1, 16, 100)
REQUESTS = {1: 300_000, 16: 2_000_000, 100: 3_000_000}
CONNECTIONS = 50
KEYS = 100_000
HANDSHAKES = 3000
AT_ONCE = (1, 16)


def certificates(folder):
    for words in (["ca"], ["server", "bench"]):
        subprocess.run([KVD, "cert", *words, "--dir", folder], check=True)
    return [os.path.join(folder, name) for name in ("bench.pem", "bench.key", "ca.pem")]


class Redis:
    """With TLS on its only port."""

    def __init__(self, certificate, key, authority):
        self.port = free_base(1)
        self.process = spawn(
            ["redis-server", "--port", "0", "--tls-port", str(self.port), "--tls-cert-file", certificate, "--tls-key-file", key,
             "--tls-ca-cert-file", authority, "--tls-auth-clients", "no", "--save", "", "--appendonly", "no", "--io-threads", "1"],
            SERVER_CPU, stdout=subprocess.DEVNULL)
        self.pid = self.process.pid

    def stop(self):
        self.process.kill()
        self.process.wait()


class Null:
    """What OpenSSL, or with no certificate a socket, costs by itself."""

    def __init__(self, program, *files):
        self.port = free_base(1)
        self.process = spawn([program, "null", str(self.port), *files], SERVER_CPU)
        self.pid = self.process.pid

    def stop(self):
        self.process.kill()
        self.process.wait()


def build(folder):
    program = os.path.join(folder, "secure")
    subprocess.run(["cc", "-O2", os.path.join(HERE, "secure.c"), "-o", program, "-lssl", "-lcrypto"], check=True)
    return program


def processor_nanos(pid):
    """Of all threads."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/schedstat" % (pid, task), encoding="ascii") as fields:
            total += int(fields.read().split()[0])
    return total


def wait_for(port, context):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            return connect(port, context).close()
        except OSError:
            time.sleep(0.05)
    raise SystemExit("no answer on port %d" % port)


def connect(port, context):
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(raw) if context else raw


def benchmark(port, secure, pipeline, requests, test="get"):
    command = FIRST + ["taskset", "-c", str(LOAD_CPU), "redis-benchmark", "-p", str(port), "-c", str(CONNECTIONS), "-P", str(pipeline),
               "-n", str(requests), "-r", str(KEYS), "-d", "64", "-t", test, "-q"]
    subprocess.run(command + (["--tls", "--insecure"] if secure else []), check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=300)


def micros_of_get(pid, port, secure, pipeline, requests):
    before = processor_nanos(pid)
    benchmark(port, secure, pipeline, requests)
    return (processor_nanos(pid) - before) / requests / 1000


def micros_of_handshake(pid, port, program, how, at_once, count):
    """And how many of them took up a session."""
    before = processor_nanos(pid)
    dialled = subprocess.run(FIRST + ["taskset", "-c", str(LOAD_CPU), program, "dial", str(port), str(count), str(at_once), how],
                             check=True, capture_output=True, text=True, timeout=300)
    return (processor_nanos(pid) - before) / count / 1000, int(dialled.stdout)


def measure(options, report, tables=None, pipelines=PIPELINES):
    need(KVD, "redis-server", "redis-benchmark", "cc")
    os.sched_setaffinity(0, {LOAD_CPU})
    if FIRST:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    with tempfile.TemporaryDirectory() as folder:
        certificate, key, authority = certificates(folder)
        program = build(folder)
        context = ssl.create_default_context(cafile=authority)
        context.check_hostname = False
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        plain = Server(1, cpu=SERVER_CPU)
        secure = Server(1, cpu=SERVER_CPU, arguments=["--tls-cert-file", certificate, "--tls-key-file", key])
        redis = Redis(certificate, key, authority)
        null, socket_only = Null(program, certificate, key), Null(program)
        servers = {"plain": (plain.pid, plain.port + 1, None), "kvd": (secure.pid, secure.port + 1, context),
                   "Redis": (redis.pid, redis.port, context), "null": (null.pid, null.port, context),
                   "null without TLS": (socket_only.pid, socket_only.port, None)}
        for name, (pid, port, with_context) in servers.items():
            wait_for(port, with_context)
            if "null" not in name:
                benchmark(port, with_context is not None, 100, 5 * KEYS, "set")
        for pipeline in pipelines:
            gets(options, servers, pipeline, report, tables)
        for at_once in AT_ONCE:
            for how, goal in (("full", 350), ("resumed", 180)):
                handshakes(options, servers, program, how, at_once, goal, report)
        for how in ("full", "resumed"):
            took = [int(subprocess.run(FIRST + ["taskset", "-c", str(SERVER_CPU), program, "memory", str(HANDSHAKES), how, certificate, key],
                                       check=True, capture_output=True, text=True).stdout) for _ in range(options.rounds)]
            report("%s handshake of OpenSSL without a socket, in a program that does nothing else: µs" % how, middle(took, 0))
        for server in (plain, secure, redis, null, socket_only):
            server.stop()


def gets(options, servers, pipeline, report, tables):
    requests = int(REQUESTS[pipeline] * options.seconds)
    took = {name: [] for name in servers}
    for _ in range(options.rounds):
        for name, (pid, port, with_context) in servers.items():
            took[name].append(micros_of_get(pid, port, with_context is not None, pipeline, requests))
    of = lambda name, whose="kvd": [a / b for a, b in zip(took[whose], took[name])]
    goals = {1: (1.35, 0.75, 1.2), 16: (1.35, 0.30, 1.2), 100: (1.7, 0.15, 1.5)}[pipeline]
    report("GET over TLS 1.3, pipeline %d: µs of the processor" % pipeline,
           "%s; of plain %s; of Redis %s; of null %s" % tuple(map(middle, (took["kvd"], of("plain"), of("Redis"), of("null")))),
           "<= %.2f of plain, <= %.2f of Redis, <= %.2f of null" % goals,
           *([] if tables is None else [tables, dict(
               request="GET over TLS, pipeline %d" % pipeline, micros="%.2f" % statistics.median(took["kvd"]),
               of_Redis="%.2f" % statistics.median(of("Redis")), goal_of_Redis="<= %.2f" % goals[1])]))
    report("the same of a responder that does nothing else",
           "%s; of Redis with TLS %s; without TLS %s, of Redis with TLS %s" % tuple(map(middle, (
               took["null"], of("Redis", "null"), took["null without TLS"], of("Redis", "null without TLS")))))


def handshakes(options, servers, program, how, at_once, goal, report):
    count = int(HANDSHAKES * options.seconds)
    took = {name: [] for name in servers}
    for _ in range(options.rounds):
        for name, (pid, port, with_context) in servers.items():
            micros, resumed = micros_of_handshake(pid, port, program, how if with_context else "plain", at_once, count)
            took[name].append(micros)
            assert (resumed > count * 0.9) == (how == "resumed" and with_context is not None), (name, resumed)
    report("connection with a %s handshake and a PING, %d at a time: µs of the processor" % (how, at_once),
           "%s; Redis %s; null %s; without TLS %s; null without TLS %s" % tuple(
               middle(took[name], 0) for name in ("kvd", "Redis", "null", "plain", "null without TLS")),
           "<= %d" % goal)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="about how long a round is, times")
    parser.add_argument("--pipelines", type=int, nargs="*", default=PIPELINES)
    options = parser.parse_args()
    measure(options, lambda figure, measured, goal="": print(
        "%-66s %s%s" % (figure, measured, "   goal " + goal if goal else ""), flush=True), pipelines=options.pipelines)


if __name__ == "__main__":
    main()
