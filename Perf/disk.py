#!/usr/bin/env python3
"""Measures what a directory costs, beside memory only and beside Redis: python3 Perf/disk.py [ROW…]

  cpu       server CPU per SET, everysec over memory only, 50 connections, pipeline 1, 16 and 100
  lone      latency of one client's SET, p50: memory only, everysec, always
  always    acknowledged SETs a second, 50 connections: always, memory only, Redis always; fdatasync of the disk itself
  recovery  keys a second: snapshot and log, and Redis with the RDB and append-only file of the same pairs
  bytes     of a log's entry and a snapshot's, 16-byte keys and 64-byte values, over an RDB without compression

The server runs on core 0, the load on core 1. Rounds alternate; medians [least greatest]. Needs `swift build -c
release`, redis-server and redis-benchmark. --kvd and --kv name other builds, --json prints one object a line.
"""
import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "Tests", "Disk"))

from servers import Client, Folder, free_ports, run, until  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
KEYS = 1_000_000
VALUE_BYTES = 64


class Given:
    kvd = kv = ""
    rounds = 3
    json = False


def report(row, text, goal="", **values):
    if Given.json:
        print(json.dumps({"row": row, **values}), flush=True)
    else:
        print(f"{row}: {text}" + (f"  (goal {goal})" if goal else ""), flush=True)


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f} {max(values):.{digits}f}]"


class Process:
    """A server on core 0; `words` start it, `port` is where clients go."""

    def __init__(self, words, port, log):
        self.port = port
        self.log = log
        self.process = subprocess.Popen(["taskset", "-c", "0", *words], stdout=open(log, "ab"), stderr=subprocess.STDOUT)

        def ready():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1) as one:
                    one.sendall(b"PING\r\n")
                    return one.recv(64).startswith(b"+PONG")
            except OSError:
                return False
        until("the server answers", 300, ready)

    def cpu(self):
        """Seconds of processor time so far, of all its threads."""
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def end(self, number=9):
        self.process.send_signal(number)
        self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def kvd(folder, *words):
    port = free_ports(2)
    return Process([Given.kvd, "--port", str(port), "--actors", "1", *words], port + 1, folder("kvd.log"))


def redis(folder, *words):
    port = free_ports(1)
    return Process(["redis-server", "--port", str(port), "--dir", folder.path, "--save", "", *words], port,
                   folder("redis.log"))


def load(port, pipeline, requests, clients=50):
    """SETs a second; keys are drawn from a million."""
    _, output, _ = run("taskset", "-c", "1", "redis-benchmark", "-p", port, "-t", "set", "-n", requests, "-P", pipeline,
                       "-c", clients, "-r", KEYS, "-d", VALUE_BYTES, "--csv", seconds=600)
    fields = output.strip().splitlines()[-1].replace('"', "").split(",")
    return float(fields[1]), float(fields[4]) * 1000


def micros(server, pipeline, requests):
    load(server.port, pipeline, requests // 4)
    before = server.cpu()
    load(server.port, pipeline, requests)
    return (server.cpu() - before) * 1e6 / requests


def cpu():
    for pipeline, requests, goal in ((1, 400_000, 1.03), (16, 2_000_000, 1.10), (100, 3_000_000, 1.30)):
        memory, disk = [], []
        for _ in range(Given.rounds):
            with Folder() as folder, kvd(folder) as server:
                memory.append(micros(server, pipeline, requests))
            with Folder() as folder, kvd(folder, "--dir", folder("data")) as server:
                disk.append(micros(server, pipeline, requests))
        ratios = [b / a for a, b in zip(memory, disk)]
        report(f"CPU per SET, pipeline {pipeline}",
               f"memory only {spread(memory)} µs, everysec {spread(disk)} µs, ratio {spread(ratios, 3)}", f"<= {goal}",
               memory=memory, everysec=disk, ratio=ratios)


def lone():
    def median(port):
        client = Client(port)
        times = []
        for i in range(6000):
            began = time.perf_counter()
            client("SET", f"key:{i % 1000}", "x" * VALUE_BYTES)
            times.append((time.perf_counter() - began) * 1e6)
        client.close()
        return statistics.median(times[1000:])
    found = {"memory only": [], "everysec": [], "always": []}
    for _ in range(Given.rounds):
        for name in found:
            with Folder() as folder:
                words = [] if name == "memory only" else ["--dir", folder("data"), "--appendfsync", name]
                with kvd(folder, *words) as server:
                    found[name].append(median(server.port))
    rate = fdatasync_rate()
    limit = statistics.median(found["memory only"]) + 1.3e6 / rate
    text = ", ".join(f"{name} {spread(values, 0)} µs" for name, values in found.items())
    report("a lone client's SET, p50", text, f"always <= {limit:.0f} µs at {rate:.0f} fdatasync/s", **found, rate=rate)


def fdatasync_rate():
    """Of a file of 4 KiB pieces that is written over, as often as the disk can in two seconds."""
    with tempfile.NamedTemporaryFile(dir=tempfile.gettempdir()) as file:
        piece = os.urandom(4096)
        for i in range(1024):
            os.pwrite(file.fileno(), piece, i * 4096)
        os.fsync(file.fileno())
        began, count = time.monotonic(), 0
        while time.monotonic() - began < 2:
            os.pwrite(file.fileno(), piece, count % 1024 * 4096)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.monotonic() - began)


def always():
    found = {"kvd always": [], "kvd memory only": [], "Redis always": []}
    rates = []
    for _ in range(Given.rounds):
        rates.append(fdatasync_rate())
        with Folder() as folder, kvd(folder, "--dir", folder("data"), "--appendfsync", "always") as server:
            found["kvd always"].append(load(server.port, 1, 150_000)[0])
        with Folder() as folder, kvd(folder) as server:
            found["kvd memory only"].append(load(server.port, 1, 300_000)[0])
        with Folder() as folder, redis(folder, "--appendonly", "yes", "--appendfsync", "always") as server:
            found["Redis always"].append(load(server.port, 1, 150_000)[0])
    goal = 0.8 * min(statistics.median(found["kvd memory only"]), 50 * statistics.median(rates))
    text = ", ".join(f"{name} {spread(values, 0)}" for name, values in found.items())
    report("always, 50 connections, SETs/s", f"{text}, fdatasync {spread(rates, 0)}", f">= {goal:.0f}", **found,
           rates=rates)


def fill(port, count=KEYS):
    """`key:` and 12 digits, each once; values of 64 bytes that nothing compresses."""
    client = Client(port, seconds=120)
    piece = 1000
    for start in range(0, count, piece):
        values = os.urandom(VALUE_BYTES * piece)
        client.socket.sendall(b"".join(
            b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$64\r\n%s\r\n" % (i, values[(i - start) * 64:(i - start) * 64 + 64])
            for i in range(start, start + piece)))
        for _ in range(piece):
            client.reply()
    return client


def info(client, field):
    text = client("INFO").decode()
    return re.search(rf"^{field}:(.*)\r$", text, re.M).group(1)


def seconds_loading(client):
    until("it is loaded", 120, lambda: info(client, "loading") == "0")
    return float(info(client, "recovery_seconds"))


def redis_seconds(folder, *words):
    with redis(folder, *words) as server:
        until("it is loaded", 120, lambda: info(Client(server.port), "loading") == "0")
        with open(folder("redis.log")) as file:
            return float(re.findall(r"DB loaded from .*: ([0-9.]+) seconds", file.read())[-1])


def recovery():
    rows = {"snapshot": [], "log": [], "RDB": [], "append-only file": []}
    for _ in range(Given.rounds):
        with Folder() as folder:
            words = ["--dir", folder("data"), "--save-after-bytes", str(1 << 40)]
            with kvd(folder, *words) as server:
                client = fill(server.port)
                run(Given.kv, "--server", f"127.0.0.1:{server.port}", "export", "--rdb", folder("dump.rdb"))
            with kvd(folder, *words) as server:
                client = Client(server.port, seconds=120)
                rows["log"].append(KEYS / seconds_loading(client))
                assert client("DBSIZE") == KEYS and client("SAVE") == "OK"
            with kvd(folder, *words) as server:
                client = Client(server.port)
                rows["snapshot"].append(KEYS / seconds_loading(client))
                assert client("DBSIZE") == KEYS
            rows["RDB"].append(KEYS / redis_seconds(folder, "--dbfilename", "dump.rdb"))
        with Folder() as folder:
            words = ["--appendonly", "yes", "--aof-use-rdb-preamble", "no"]
            with redis(folder, *words) as server:
                fill(server.port).close()
                server.end(15)
            rows["append-only file"].append(KEYS / redis_seconds(folder, *words))
    middle = {name: statistics.median(values) for name, values in rows.items()}
    millions = {name: spread([value / 1e6 for value in values]) for name, values in rows.items()}
    report("recovery of a snapshot, M keys/s",
           f"{millions['snapshot']}, Redis RDB {millions['RDB']}, ratio {middle['snapshot'] / middle['RDB']:.2f}",
           ">= 3 and >= 4 x", **rows)
    report("recovery of a log, M records/s",
           f"{millions['log']}, Redis AOF {millions['append-only file']}, "
           f"ratio {middle['log'] / middle['append-only file']:.2f}", ">= 1.5 and >= 3 x")


def bytes_of_files():
    with Folder() as folder, kvd(folder, "--dir", folder("data"), "--save-after-bytes", str(1 << 40)) as server:
        client = fill(server.port)
        log = int(info(client, "aof_current_size")) / KEYS
        assert client("SAVE") == "OK"
        snapshot = sum(os.path.getsize(folder("data/" + name)) for name in os.listdir(folder("data"))
                       if name.startswith("snapshot-")) / KEYS
        run(Given.kv, "--server", f"127.0.0.1:{server.port}", "export", "--rdb", folder("dump.rdb"))
        rdb = os.path.getsize(folder("dump.rdb")) / KEYS
    report("bytes of a log's entry", f"{log:.1f}", "<= 94", log=log)
    report("bytes of a snapshot's entry", f"{snapshot:.1f}, RDB without compression {rdb:.1f}, ratio {snapshot / rdb:.3f}",
           "<= 0.95 x", snapshot=snapshot, rdb=rdb)


FIGURES = {"cpu": cpu, "lone": lone, "always": always, "recovery": recovery, "bytes": bytes_of_files}


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*FIGURES, []])
    parser.add_argument("--kvd", default=".build/release/kvd")
    parser.add_argument("--kv", default=".build/release/kv")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.parse_args(namespace=Given)
    for tool in (Given.kvd, Given.kv, "redis-server", "redis-benchmark", "taskset"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing")
    for name in Given.rows or FIGURES:
        FIGURES[name]()


if __name__ == "__main__":
    main()
