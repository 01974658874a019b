#!/usr/bin/env python3
"""What it costs and does that servers know each other by a key. One subcommand per figure:

  entry      processor time of a replicated write of 64 bytes, with a key over without, in alternating rounds
  handshake  processor time of a link's handshake, each side
  rotation   a key is replaced on three servers under load: links lost, slowest write until it is everywhere
  wrong      a server with another key: the lines on both sides, and what it was told

`hostile.py` measures what strangers cost. Needs a release build: swift build -c release --product kvd
"""
import argparse
import os
import random
import signal
import subprocess
import tempfile
import time

from lab import HERE, KVD, Connection, Server, fill, need

# Of each cluster in a round, and in how many parts.
ENTRIES = 100_000
PARTS = 20


def secret():
    return subprocess.run([KVD, "secret"], check=True, capture_output=True, text=True).stdout


def write(path, *lines):
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write("".join(lines))
    os.chmod(path + ".new", 0o600)
    os.rename(path + ".new", path)


def await_up(servers, within=30):
    deadline = time.time() + within
    while any(s.info("replication").get("servers") != str(len(servers)) for s in servers):
        if time.time() > deadline:
            raise SystemExit("the servers did not find each other")
        time.sleep(0.05)


def processor_seconds(server):
    """Of all threads, to the nanosecond."""
    base, total = "/proc/%d/task" % server.pid, 0
    for task in os.listdir(base):
        with open(os.path.join(base, task, "schedstat"), encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def cluster(arguments, others):
    servers = [Server(1, arguments=arguments)]
    servers += [Server(1, join=[servers[0].address], arguments=arguments) for _ in range(others)]
    await_up(servers)
    return servers


def entry(options):
    """Three clusters take turns, part by part, so that what else the machine does meets all of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "key")
        write(path, secret())
        kinds = {"alone": cluster([], 0), "plain": cluster([], 1), "sealed": cluster(["--cluster-key-file", path], 1)}
        found = []
        for number in range(options.rounds):
            used = dict.fromkeys(kinds, 0.0)
            for part in range(PARTS):
                names = list(kinds)
                random.shuffle(names)
                at = (number * PARTS + part) * ENTRIES // PARTS
                for name in names:
                    before = sum(processor_seconds(s) for s in kinds[name])
                    fill(kinds[name][0].port + 1, at, ENTRIES // PARTS)
                    for server in kinds[name]:
                        server.await_keys(at + ENTRIES // PARTS)
                    used[name] += sum(processor_seconds(s) for s in kinds[name]) - before
            cost = {name: (used[name] - used["alone"]) / ENTRIES * 1e6 for name in ("plain", "sealed")}
            found.append(cost["sealed"] / cost["plain"])
            print(f"round {number + 1}: {cost['plain']:.2f} µs an entry without, {cost['sealed']:.2f} µs with a key: {found[-1]:.2f}")
        found.sort()
        print(f"CPU per replicated entry with TLS over without: {found[len(found) // 2]:.2f} [{found[0]:.2f} {found[-1]:.2f}]")


def handshake(_):
    with tempfile.TemporaryDirectory() as folder:
        program, tls = os.path.join(folder, "handshake"), os.path.join(HERE, "..", "CSupport", "tls")
        subprocess.run(["cc", "-O2", "-I", os.path.join(tls, "include"), os.path.join(HERE, "handshake.c"),
                        os.path.join(tls, "tls.c"), "-o", program, "-lssl", "-lcrypto"], check=True)
        rounds = [list(map(int, subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()))
                  for _ in range(5)]
        for name, at in (("dialler", 0), ("acceptor", 2)):
            median, late = [sorted(r[i] for r in rounds)[2] for i in (at, at + 1)]
            print(f"handshake, {name}: {median} µs of a processor, 99 of 100 within {late} µs")


def rotation(_):
    with tempfile.TemporaryDirectory() as folder:
        old, new = secret(), secret()
        paths = [os.path.join(folder, f"key{i}") for i in range(3)]
        for path in paths:
            write(path, old)
        log = open(os.path.join(folder, "log"), "w+", encoding="utf-8")
        # What the servers log.
        errors = os.dup(2)
        os.dup2(log.fileno(), 2)
        servers, command = [], ["--log-level", "info", "--cluster-key-file"]
        for path in paths:
            join = [servers[0].address] if servers else []
            servers.append(Server(1, join=join, arguments=command + [path]))
        await_up(servers)
        clients = [s.connect() for s in servers]

        def load(seconds):
            worst, end, number = 0.0, time.time() + seconds, 0
            while time.time() < end:
                number += 1
                fill(servers[0].port + 1, number * 500, 500)
                value, begin = b"%f" % time.time(), time.time()
                clients[0].call("SET", "probe", value)
                for other in clients[1:]:
                    while other.call("GET", "probe") != value:
                        time.sleep(0.001)
                worst = max(worst, time.time() - begin)
            return worst * 1000

        print(f"before: slowest write until it is everywhere {load(3):.0f} ms")
        for name, lines in (("installed", (old, new)), ("exchanged", (new, old)), ("taken out", (new,))):
            for path, server in zip(paths, servers):
                write(path, *lines)
                os.kill(server.pid, signal.SIGHUP)
            print(f"{name}: slowest write until it is everywhere {load(4):.0f} ms")
        counted = sum(int(s.info("actors")["bad_frames"]) for s in servers)
        fourth = Server(1, join=[servers[0].address], arguments=command + [paths[0]])
        await_up(servers + [fourth])
        os.dup2(errors, 2)
        log.seek(0)
        lost = sum("lost " in line or "no answer" in line for line in log)
        print(f"links lost {lost}, refused {counted}; a fourth server joins with the new key alone")
        log.close()


def wrong(_):
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("key", "other")]
        for path in paths:
            write(path, secret())
        logs = [open(os.path.join(folder, name), "w+", encoding="utf-8") for name in ("log1", "log2")]
        ports, servers = (28900, 28910), []
        for number, (path, log) in enumerate(zip(paths, logs)):
            join = ["--join", f"127.0.0.1:{ports[0]}"] if number else []
            servers.append(subprocess.Popen([KVD, "--port", str(ports[number]), "--actors", "1", "--cluster-key-file", path] + join,
                                            stdout=subprocess.PIPE, stderr=log, text=True))
            servers[-1].stdout.readline()
            Connection(ports[number] + 1).call("SET", f"of{number}", "v")
        time.sleep(8)
        sizes = [Connection(port + 1).call("DBSIZE") for port in ports]
        for server, log in zip(servers, logs):
            server.kill()
            server.wait()
            log.seek(0)
            for line in log:
                if "key" in line and "secret" not in line:
                    print(line.rstrip()[:200])
        print(f"keys of each: {sizes}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=["entry", "handshake", "rotation", "wrong"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    need(KVD)
    {"entry": entry, "handshake": handshake, "rotation": rotation, "wrong": wrong}[options.figure](options)


if __name__ == "__main__":
    main()
