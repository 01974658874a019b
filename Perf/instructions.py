#!/usr/bin/env python3
"""Instructions per request of one or several builds of kvd, counted by callgrind: what a change costs the request path
where times differ by more than the change does.

    python3 Perf/instructions.py '.build/release/kvd --maxmemory 0' /tmp/before/kvd
    python3 Perf/instructions.py .build/release/kvd --actors 2 --commands set "set key:__rand_int__ VALUE nx" "incr hot"

A limit of memory has the allocator count it four times a second. callgrind makes a second hold a fiftieth of the
requests, so the builds are compared without one.

A command of several words is sent as it stands: `__rand_int__` becomes the number of a key, VALUE the value.

A server of one actor or several (epoll: valgrind knows it best) under callgrind answers N requests of one client, then
another one 3 N; the difference by 2 N leaves start and end out. What else the server does meanwhile (timers) is in it,
by the time it takes: so the least of some rounds counts, and builds take turns. With --tls the client speaks TLS 1.3.
Needs valgrind, redis-benchmark and redis-cli.
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


def words(command):
    """What redis-benchmark is told: the name of one of its tests, or a command."""
    return ["-t", command] if " " not in command else [w.replace("VALUE", "x" * VALUE_BYTES) for w in command.split()]


def count(server_command, command, options, requests, port, profile=None):
    """Instructions of the whole life of a server that answers so many requests."""
    client = ["--tls", "--insecure"] if options.tls else []
    with tempfile.TemporaryDirectory() as folder:
        log, secure = os.path.join(folder, "log"), []
        if options.tls:
            for what in (["ca"], ["server", "counted"]):
                subprocess.run([server_command[0], "cert", *what, "--dir", folder], check=True)
            secure = ["--tls-cert-file", f"{folder}/counted.pem", "--tls-key-file", f"{folder}/counted.key"]
        server = subprocess.Popen(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile or folder + '/out'}", f"--log-file={log}",
             *server_command,
             "--io", "epoll", "--actors", str(options.actors), "--port", str(port), "--pin", "no", *secure],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(port + 1, server, client)
            for name, n in (("set", KEYS * 5), (command, requests)):
                subprocess.run(
                    ["redis-benchmark", "-p", str(port + 1), "-c", str(options.clients), "-P", str(options.pipeline), "-n",
                     str(n), "-r", str(KEYS), "-d", str(VALUE_BYTES), "-q", *words(name), *client],
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
    parser.add_argument("--clients", type=int, default=1, help="all at the first actor")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--commands", nargs="+", default=["get", "set"])
    parser.add_argument("--profile", help="where callgrind leaves what it found in the last run of each command, numbered")
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
        for number, command in enumerate(options.commands):
            profile = options.profile and f"{options.profile}.{number}"
            least = [float("inf")] * len(copies)
            for _ in range(options.rounds):
                for i, copy in enumerate(copies):
                    port = options.port + (options.actors + 3) * i
                    few = count(copy, command, options, REQUESTS, port)
                    many = count(copy, command, options, 3 * REQUESTS, port, profile)
                    least[i] = min(least[i], (many - few) / (2 * REQUESTS))
            for binary, figure in zip(options.binaries, least):
                print(f"{command.upper():4} {figure:7.1f}  {binary}", flush=True)


if __name__ == "__main__":
    main()
