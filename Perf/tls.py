#!/usr/bin/env python3
"""What TLS costs the server: processor time of a GET and of a handshake, of kvd and of Redis, with and without.

    KVD_PERF_FIRST=1 python3 Perf/tls.py

KVD_PERF_FIRST=1 puts servers and load before all else that runs on the machine (chrt): without it, or a machine for
itself, the figures are of whoever else runs. redis-benchmark of 50 connections is the load, with --tls where the server has it; a server on core 0, the load on core 1.
Rounds take turns; medians [least greatest]. Handshakes are made one after the other by Python's ssl: TLS 1.3, X25519, a
certificate of ECDSA on P-256, each with one PING, new or taking up the session before. What accepting and the PING
cost is in them: the same without TLS stands beside. Needs redis-server and redis-benchmark with TLS.
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
from lab import FIRST, KVD, Server, free_base, need, spawn

PIPELINES = (1, 16, 100)
REQUESTS = {1: 300_000, 16: 2_000_000, 100: 3_000_000}
CONNECTIONS = 50
KEYS = 100_000
HANDSHAKES = 1500


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


def connect(port, context, session=None):
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(raw, session=session) if context else raw


def benchmark(port, secure, pipeline, requests, test="get"):
    command = FIRST + ["taskset", "-c", str(LOAD_CPU), "redis-benchmark", "-p", str(port), "-c", str(CONNECTIONS), "-P", str(pipeline),
               "-n", str(requests), "-r", str(KEYS), "-d", "64", "-t", test, "-q"]
    subprocess.run(command + (["--tls", "--insecure"] if secure else []), check=True, stdout=subprocess.DEVNULL)


def micros_of_get(pid, port, secure, pipeline, requests):
    before = processor_nanos(pid)
    benchmark(port, secure, pipeline, requests)
    return (processor_nanos(pid) - before) / requests / 1000


def micros_of_handshake(pid, port, context, resumes, count):
    """And how many of them took up a session."""
    session, resumed = None, 0
    before = processor_nanos(pid)
    for _ in range(count):
        with connect(port, context, session) as client:
            client.sendall(b"PING\r\n")
            client.recv(100)
            if context and resumes:
                session, resumed = client.session, resumed + client.session_reused
    return (processor_nanos(pid) - before) / count / 1000, resumed


def measure(options, report, tables=None):
    need(KVD, "redis-server", "redis-benchmark")
    os.sched_setaffinity(0, {LOAD_CPU})
    if FIRST:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    with tempfile.TemporaryDirectory() as folder:
        certificate, key, authority = certificates(folder)
        context = ssl.create_default_context(cafile=authority)
        context.check_hostname = False
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        plain = Server(1, cpu=SERVER_CPU)
        secure = Server(1, cpu=SERVER_CPU, arguments=["--tls-cert-file", certificate, "--tls-key-file", key])
        redis = Redis(certificate, key, authority)
        servers = {"plain": (plain.pid, plain.port + 1, None), "kvd": (secure.pid, secure.port + 1, context),
                   "Redis": (redis.pid, redis.port, context)}
        for pid, port, with_context in servers.values():
            wait_for(port, with_context)
            benchmark(port, with_context is not None, 100, 5 * KEYS, "set")
        for pipeline in PIPELINES:
            requests = int(REQUESTS[pipeline] * options.seconds)
            took = {name: [] for name in servers}
            for _ in range(options.rounds):
                for name, (pid, port, with_context) in servers.items():
                    took[name].append(micros_of_get(pid, port, with_context is not None, pipeline, requests))
            of_plain = [a / b for a, b in zip(took["kvd"], took["plain"])]
            of_redis = [a / b for a, b in zip(took["kvd"], took["Redis"])]
            goals = {1: (1.35, 0.75), 16: (1.35, 0.30), 100: (1.7, 0.15)}[pipeline]
            report("GET over TLS 1.3, pipeline %d: µs of the processor" % pipeline,
                   "%s; of plain %s; of Redis %s" % (middle(took["kvd"]), middle(of_plain), middle(of_redis)),
                   "<= %.2f of plain, <= %.2f of Redis" % goals,
                   *([] if tables is None else [tables, dict(
                       request="GET over TLS, pipeline %d" % pipeline, micros="%.2f" % statistics.median(took["kvd"]),
                       of_Redis="%.2f" % statistics.median(of_redis), goal_of_Redis="<= %.2f" % goals[1])]))
        count = int(HANDSHAKES * options.seconds)
        for what, resumes, goal in (("full", False, 350), ("resumed", True, 180)):
            took = {name: [] for name in servers}
            for _ in range(options.rounds):
                for name, (pid, port, with_context) in servers.items():
                    micros, resumed = micros_of_handshake(pid, port, with_context, resumes, count)
                    took[name].append(micros)
                    assert not (resumes and with_context) or resumed == count - 1, (name, resumed)
            report("connection with a %s handshake and a PING: µs of the processor" % what,
                   "%s; Redis %s; without TLS %s" % (middle(took["kvd"], 0), middle(took["Redis"], 0), middle(took["plain"], 0)),
                   "<= %d" % goal)
        for server in (plain, secure, redis):
            server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="about how long a round is, times")
    options = parser.parse_args()
    measure(options, lambda figure, measured, goal="": print("%-66s %s   goal %s" % (figure, measured, goal), flush=True))


if __name__ == "__main__":
    main()
