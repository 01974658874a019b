#!/usr/bin/env python3
"""Instructions per request of one or several builds of kvd, counted by callgrind: what a change costs the request path
where times differ by more than the change does.

    python3 Perf/instructions.py '.build/release/kvd --maxmemory 0' /tmp/before/kvd

A limit of memory has the allocator count it four times a second. callgrind makes a second hold a fiftieth of the
requests, so the builds are compared without one.

A server of one actor (epoll: valgrind knows it best) under callgrind answers N requests of one client, then another one
3 N; the difference by 2 N leaves start and end out. What else the server does meanwhile (timers) is in it, by the time it
takes: so the least of some rounds counts, and builds take turns. With --tls the client speaks TLS 1.3. Needs valgrind, redis-benchmark and redis-cli.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

REQUESTS = 16_000
KEYS = 1000
VALUE_BYTES = 64
START_SECONDS = 60
LOAD_SECONDS = 300


def wait_for(port, server, client):
    """Until the server answers; valgrind takes some seconds to start it."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        done = subprocess.run(["redis-cli", "-p", str(port), *client, "ping"], capture_output=True, check=False)
        if done.stdout.strip() == b"PONG":
            return
        time.sleep(0.05)
    sys.exit(f"no answer on port {port}")


def count(server_command, command, pipeline, requests, port, with_tls):
    """Instructions of the whole life of a server that answers so many requests."""
    client = ["--tls", "--insecure"] if with_tls else []
    with tempfile.TemporaryDirectory() as folder:
        log, secure = os.path.join(folder, "log"), []
        if with_tls:
            for words in (["ca"], ["server", "counted"]):
                subprocess.run([server_command[0], "cert", *words, "--dir", folder], check=True)
            secure = ["--tls-cert-file", f"{folder}/counted.pem", "--tls-key-file", f"{folder}/counted.key"]
        server = subprocess.Popen(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", f"--log-file={log}", *server_command,
             "--io", "epoll", "--actors", "1", "--port", str(port), "--pin", "no", *secure],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(port + 1, server, client)
            for name, n in (("set", KEYS * 5), (command, requests)):
                subprocess.run(
                    ["redis-benchmark", "-p", str(port + 1), "-c", "1", "-P", str(pipeline), "-n", str(n), "-r",
                     str(KEYS), "-d", str(VALUE_BYTES), "-t", name, "-q", *client],
                    stdout=subprocess.DEVNULL, check=True, timeout=LOAD_SECONDS)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=START_SECONDS)
        with open(log, encoding="utf-8") as lines:
            return int(re.search(r"refs:\s*([\d,]+)", lines.read())[1].replace(",", ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binaries", nargs="+", help="builds of kvd, compared in turns, each with arguments or without")
    parser.add_argument("--pipeline", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--commands", nargs="+", default=["get", "set"])
    parser.add_argument("--port", type=int, default=20_000 + os.getpid() % 500 * 20, help="first of some free ports")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for i, binary in enumerate(options.binaries):
            # valgrind does not read the debug information of Swift.
            path, *arguments = shlex.split(binary)
            copies.append([shutil.copy(path, f"{folder}/kvd{i}"), *arguments])
            subprocess.run(["strip", "-g", copies[-1][0]], check=True)
        print(f"instructions per request, pipeline {options.pipeline}, least of {options.rounds} rounds")
        for command in options.commands:
            least = [float("inf")] * len(copies)
            for _ in range(options.rounds):
                for i, copy in enumerate(copies):
                    port = options.port + 4 * i
                    few = count(copy, command, options.pipeline, REQUESTS, port, options.tls)
                    many = count(copy, command, options.pipeline, 3 * REQUESTS, port, options.tls)
                    least[i] = min(least[i], (many - few) / (2 * REQUESTS))
            for binary, figure in zip(options.binaries, least):
                print(f"{command.upper():4} {figure:7.1f}  {binary}")


if __name__ == "__main__":
    main()
