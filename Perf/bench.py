#!/usr/bin/env python3
"""Measures kvd against Redis, memcached and the null responder on this machine; one figure per name, or all.

  cpu          server CPU per GET and SET, 50 connections, pipeline 1, 16 and 100, 1 M keys x 64 B
  tail         latency of GET from p50 to p99.99 against Redis, closed loop and at 30, 60 and 90 % of capacity
  connections  the same with 1,000 connections, pipeline 1
  values       the same with 1 KiB and 16 KiB values
  commands     server CPU of other commands with a key, pipeline 16, against Redis
  list         LIST of 100 among 1 M keys against SCAN MATCH and ZRANGEBYLEX
  memory       bytes per key, ordered index included; each further actor
  actors       two actors against one: GET only, 95/5, one hot key
  deltas       p99.9 of GET at half of the closed loop's throughput while a sibling applies 200 k deltas a second
  stall        longest turn of a loop at 10 M keys, by the processor and by the wall, and the longest time a client
               waits: growth, LIST of everything, digest, join; what the machine itself takes, for comparison
  start        start of the process to its first reply
  tls          server CPU of GET over TLS against none and against Redis with TLS, and of handshakes (Perf/tls.py)
  idle         CPU of an idle cluster of four servers with 1 M keys

The servers run on core 0, the load on core 1; for `actors` every core carries a loop and its load, for `deltas` the
second one a loop and both loads.
KVD_PERF_FIRST=1 puts servers and load before all else that runs on the machine (chrt).
Ratios are of neighbouring rounds; medians [least greatest]. Writes Perf/results/DATE.md and .json with --write.
"""
import argparse
import datetime
import json
import multiprocessing
import os
import platform
import random
import re
import statistics
import subprocess
import tempfile
import time

from driver import (LOAD_CPU, SERVER_CPU, address, compare, cpu_micros, find, grow, median_of, microseconds,
                    middle, ratio, ratios, run)
from lab import HERE, KVD, KVD_MICRO, PERF_DRIVER, Connection, Peer, Server, fill, need, percentile, stolen_millis
import replication
import tables
import tails
import tls
from tables import FIGURES, MACHINE, REQUESTS, TURNS, stalls, turn

ROWS = []
# What measures the figure that is under way.
COMMAND = ""
# Of the start: a run may go on past midnight.
TODAY = datetime.date.today().isoformat()


# Columns that are no words of this language.
NAMES = {"micros": "µs"}


def report(figure, measured, goal="", table="", cells=None):
    """One line of the results: printed at once, kept for the file of the day. `cells` are its values one by one, by
    column, for the documents' table of that name."""
    ROWS.append({"figure": figure, "measured": measured, "goal": goal, "command": COMMAND, "table": table,
                 "cells": {NAMES.get(name) or name.replace("_", " "): value for name, value in (cells or {}).items()}})
    print("%-66s %-46s %s" % (figure, measured, ("goal " + goal) if goal else ""), flush=True)


GOALS = {
    ("get", 1): "<= 0.85 of Redis, <= 1.05 of null", ("get", 16): "<= 0.38, <= 1.08", ("get", 100): "<= 0.17, <= 1.4",
    ("set", 1): "<= 0.85 of Redis", ("set", 16): "<= 0.40", ("set", 100): "<= 0.20",
}


def goals(text):
    """The first is of Redis, the second of the null responder."""
    return dict(zip(("goal_of_Redis", "goal_of_null"), re.findall(r"<= [\d.]+", text)))


def cpu(options):
    kvd, redis, null = Server(1, cpu=SERVER_CPU), Peer("redis", SERVER_CPU), Peer("null", SERVER_CPU)
    # kvd and the null responder next to each other: their ratio is the closest one.
    targets = [("redis", address(redis), redis.pid), ("kvd", address(kvd), kvd.pid), ("null", address(null), null.pid)]
    first = True
    for pipeline in (1, 16, 100):
        for op in ("get", "set"):
            plot = ["--svg", results_stem() + ".svg"] if options.write and (op, pipeline) == ("get", 1) else []
            rows = compare(targets, options, "--ops", op, "-P", str(pipeline), *plot, load=first)
            first = False
            report("CPU per %s, pipeline %d" % (op.upper(), pipeline),
                   "kvd %.3f us = %.3f of Redis (%.3f), %s of null (%.3f)" % (
                       microseconds(rows["kvd"]), ratio(rows, "kvd", "redis"), microseconds(rows["redis"]),
                       middle(ratios(rows, "kvd", "null"), 3), microseconds(rows["null"])),
                   GOALS[(op, pipeline)], REQUESTS, dict(request="%s, pipeline %d" % (op.upper(), pipeline),
                       micros="%.3f" % microseconds(rows["kvd"]), of_Redis="%.3f" % ratio(rows, "kvd", "redis"),
                       of_null="%.3f" % statistics.median(ratios(rows, "kvd", "null")), **goals(GOALS[(op, pipeline)])))
        # In turn: the comparisons above are a minute apart, in which the machine may have become another.
        pairs = []
        for _ in range(max(options.rounds, 7)):
            get, put = (cpu_micros(run(address(kvd), kvd.pid, options, "--ops", op, "-P", str(pipeline))) for op in ("get", "set"))
            pairs.append(put / get)
        report("SET over GET, pipeline %d" % pipeline, middle(pairs), "<= 1.15", FIGURES,
               dict(figure="SET over GET, pipeline %d" % pipeline, measured="%.2f" % statistics.median(pairs), goal="<= 1.15"))
    for server in (kvd, redis, null):
        server.stop()


def against_both(options, what, *arguments, size=64, keys=None):
    """GET and SET against Redis and memcached."""
    options = argparse.Namespace(**{**vars(options), "keys": keys or options.keys})
    kvd, redis, memcached = Server(1, cpu=SERVER_CPU), Peer("redis", SERVER_CPU), Peer("memcached", SERVER_CPU)
    targets = [("redis", address(redis), redis.pid), ("kvd", address(kvd), kvd.pid),
               ("memcached", "memcached://" + address(memcached), memcached.pid)]
    for op in ("get", "set"):
        rows = compare(targets, options, "--ops", op, "--value-size", str(size), *arguments, load=op == "get")
        report("CPU per %s, %s" % (op.upper(), what),
               "kvd %.3f us = %.3f of Redis, %.3f of memcached" % (
                   microseconds(rows["kvd"]), ratio(rows, "kvd", "redis"), ratio(rows, "kvd", "memcached")),
               "< 1 of each", REQUESTS, dict(request="%s, %s" % (op.upper(), what), micros="%.3f" % microseconds(rows["kvd"]),
               of_Redis="%.3f" % ratio(rows, "kvd", "redis"), of_memcached="%.3f" % ratio(rows, "kvd", "memcached"),
               goal_of_Redis="< 1", goal_of_memcached="< 1"))
    for server in (kvd, redis, memcached):
        server.stop()


def tail(options):
    tails.measure(options, report)


def connections(options):
    against_both(options, "1,000 connections, pipeline 1", "-c", "1000", "-P", "1")


def values(options):
    against_both(options, "1 KiB values, pipeline 1", size=1024, keys=min(options.keys, 200_000))
    against_both(options, "16 KiB values, pipeline 1", size=16384, keys=min(options.keys, 20_000))


def commands(options):
    kvd, redis = Server(1, cpu=SERVER_CPU), Peer("redis", SERVER_CPU)
    targets = [("redis", address(redis), redis.pid), ("kvd", address(kvd), kvd.pid)]
    first = True
    keys = " ".join(["__key__"] * 10)
    pairs = " ".join(["__key__ __data__"] * 10)
    for name, command in (("EXISTS", "EXISTS __key__"), ("STRLEN", "STRLEN __key__"), ("MGET of 10 keys", "MGET " + keys),
                          ("MSET of 10 keys", "MSET " + pairs), ("DEL and SET in turn", None)):
        # What is deleted is put back meanwhile.
        arguments = ["--ops", "custom", "--command", command] if command else ["--ops", "delete:50,set:50"]
        rows = compare(targets, options, "-P", "16", *arguments, load=first)
        first = False
        report("CPU per %s, pipeline 16" % name, "kvd %.3f us = %.3f of Redis (%.3f)" % (
            microseconds(rows["kvd"]), ratio(rows, "kvd", "redis"), microseconds(rows["redis"])), "", REQUESTS,
            dict(request="%s, pipeline 16" % name, micros="%.3f" % microseconds(rows["kvd"]),
            of_Redis="%.3f" % ratio(rows, "kvd", "redis")))
    for server in (kvd, redis):
        server.stop()


def listing(options):
    kvd, redis = Server(1, cpu=SERVER_CPU), Peer("redis", SERVER_CPU)
    targets = [("redis", address(redis), redis.pid), ("kvd", address(kvd), kvd.pid)]
    compare(targets, options, "--duration", "0.2", "--rounds", "1", load=True)
    connection = Connection(redis.port)
    # SCAN first: the sorted set would be one more key in its way.
    # One operation is a whole scan, of as many requests as it takes.
    scans = run(address(redis), redis.pid, options, "--ops", "scan", "--list-count", "100", "-c", "1", "--requests", "3")
    scan = cpu_micros(scans) * find(scans, "requests") / find(scans, "operations")
    # In an order as random as that of the keys in kvd: neither has the neighbours of a key beside it in memory.
    numbers = list(range(options.keys))
    random.Random(1).shuffle(numbers)
    for at in range(0, options.keys, 1000):
        connection.socket.sendall(connection.encode(
            "ZADD", "z", *[word for i in numbers[at:at + 1000] for word in ("0", "key:%012d" % i)]))
        connection.read()
    for pipeline in ("1", "4"):
        ours, lex = [], []
        for _ in range(options.rounds):
            ours.append(cpu_micros(run(address(kvd), kvd.pid, options, "--ops", "list", "--list-count", "100", "-c", "8", "-P", pipeline)))
            lex.append(cpu_micros(run(address(redis), redis.pid, options, "--ops", "custom", "-c", "8", "-P", pipeline,
                                      "--command", "ZRANGEBYLEX z [__key__ + LIMIT 0 100")))
        ratio = statistics.median(a / b for a, b in zip(ours, lex))
        ours, lex = statistics.median(ours), statistics.median(lex)
        if pipeline == "1":
            report("LIST of 100 among %d keys against SCAN MATCH of all" % options.keys,
                   "kvd %.1f us of CPU; Redis %.0f us = x %.0f" % (ours, scan, scan / ours), ">= 1,000 x less", FIGURES,
                   dict(figure="Redis' SCAN MATCH of all over LIST of 100", measured="%.0f" % (scan / ours), goal=">= 1,000"))
        report("LIST of 100 (keys and values) against ZRANGEBYLEX of 100 (keys), pipeline " + pipeline,
               "%.1f us, %.2f of %.1f us" % (ours, ratio, lex), "<= 0.5", REQUESTS,
               dict(request="LIST of 100, pipeline " + pipeline, micros="%.1f" % ours, of_Redis="%.2f" % ratio, goal_of_Redis="<= 0.5"))
    kvd.stop(), redis.stop()


def resident_per_key(actors, keys, kvd=KVD):
    server = Server(actors, kvd=kvd)
    # It answers before the last of its threads has set up its memory.
    time.sleep(1)
    empty = server.rss()
    run(address(server), server.pid, argparse.Namespace(seconds=0.1, keys=keys), "--load", cpu=None)
    replication.wait_equal([server], within=300)
    for a in range(actors):
        server.connect(a).call("LIST", "key:0000", "LIMIT", "1")
    # What is kept ready for more goes back in the first two seconds of idleness, what a growing server freed in five, most
    # of it in four.
    time.sleep(4)
    figure = (server.rss() - empty) / keys
    server.stop()
    return figure


def memory(options):
    for keys in (1_000_000, 10_000_000):
        figure = "%.1f" % resident_per_key(1, keys)
        report("bytes per key, %d M keys x 64 B, one actor, ordered index included" % (keys // 1_000_000), figure,
               "<= 128", FIGURES, dict(figure="bytes per key, %d M keys" % (keys // 1_000_000), measured=figure, goal="<= 128"))
    # Now and then the kernel's khugepaged makes huge pages out of such with holes, 2 MB more each: medians.
    one, two = ([resident_per_key(actors, 1_000_000) for _ in range(3)] for actors in (1, 2))
    report("bytes per key of a second actor, 1 M keys", "%.1f [%.1f %.1f]" % (
        statistics.median(two) - statistics.median(one), min(two) - max(one), max(two) - min(one)), "<= 26", FIGURES,
        dict(figure="bytes per key of a second actor", measured="%.1f" % (statistics.median(two) - statistics.median(one)),
        goal="<= 26"))


def on_cores(ends, options, *arguments):
    """Operations a second of all `ends` [url] together: the load of each runs on the core of the loop that it talks to."""
    files = [tempfile.NamedTemporaryFile(suffix=".json") for _ in ends]
    loads = [subprocess.Popen(
        [PERF_DRIVER, "--server", url, "--cpu", str(core), "-P", "16", "--quiet", "--json", file.name, "--warmup", "0.5",
         "--duration", str(options.seconds), "--keys", str(options.keys), *arguments], stdout=subprocess.DEVNULL)
        for core, (url, file) in enumerate(zip(ends, files))]
    for load in loads:
        if load.wait() != 0:
            raise SystemExit("perf-driver failed")
    return sum(median_of(find(json.load(open(file.name)), "operationsPerSecond")) for file in files)


def actors(options):
    """Two actors on two cores against one on one core. Every core carries a loop and a load of its own, so that what two
    cores have to give is the same for both; the null responder, of which two share nothing, shows how much that is."""
    one, two, redis = Server(1, cpu=0), Server(2), Peer("redis", SERVER_CPU)
    nulls = [Peer("null", cpu) for cpu in (0, 1)]
    for server in (one, two):
        fill(server.port + 1, 0, options.keys)
    replication.wait_equal([two])
    ends = ["127.0.0.1:%d" % (two.port + 1 + actor) for actor in range(2)]
    for name, arguments, goal in [("GET only", ["--ops", "get"], ">= 1.9"), ("95/5 mix", ["--ops", "get:95,set:5"], ">= 1.8"),
                                  ("one hot key, SET", ["--ops", "set", "--distribution", "hot"], "")]:
        gains, limits, against = [], [], []
        for _ in range(options.rounds):
            both = on_cores(ends, options, *arguments)
            gains.append(both / on_cores([address(one)], options, *arguments))
            limits.append(on_cores([address(n) for n in nulls], options, *arguments) / on_cores([address(nulls[0])], options, *arguments))
            # Redis has the two cores as it uses them best: one for itself, one for the load.
            other = run(address(redis), redis.pid, options, "-P", "16", *arguments)
            against.append(both / median_of(find(other, "operationsPerSecond")))
        rate = two.connect().info("max_message_rate")
        report("two actors on two cores against one on one, %s" % name,
               "x %s throughput; two null responders x %s; at most %d messages/s a pair" % (middle(gains), middle(limits), rate), goal,
               FIGURES, dict(figure="two actors over one, %s" % name, measured="%.2f" % statistics.median(gains), goal=goal))
        report("two null responders over one, %s" % name, "x " + middle(limits), "", FIGURES,
               dict(figure="two null responders over one, %s" % name, measured="%.2f" % statistics.median(limits)))
        if "hot" in arguments:
            report("one hot key written at both actors, against Redis on the two cores", "x %s throughput" % middle(against), ">= 1.8", FIGURES,
                   dict(figure="one hot key written at both actors, over Redis", measured="%.2f" % statistics.median(against),
                   goal=">= 1.8"))
    for server in [one, two, redis] + nulls:
        server.stop()


def deltas(options):
    """The reading load and the writing one share the second core with the second actor; the first actor, which is read
    from and applies what the second is told, has the first core to itself. The writes come in bursts, 200 to a send:
    what a sibling has to apply is the same, and the second core is left to the load that measures."""
    options = argparse.Namespace(**{**vars(options), "keys": 100_000})
    server = Server(2)
    fill(server.port + 1, 0, options.keys)
    throughput = statistics.median(
        median_of(find(run(address(server), server.pid, options), "operationsPerSecond")) for _ in range(3))
    rate = int(throughput / 2)
    tails = {"without": [], "with": []}
    written = []
    for _ in range(max(options.rounds, 7)):
        for name in tails:
            writer = None
            if name == "with":
                out = tempfile.NamedTemporaryFile(suffix=".json")
                writer = subprocess.Popen(
                    [PERF_DRIVER, "--server", "127.0.0.1:%d" % (server.port + 2), "--ops", "set", "--rate", "200000",
                     "--burst", "200", "-c", "1", "-P", "4000", "--keys", str(options.keys), "--cpu", str(LOAD_CPU),
                     "--duration", str(options.seconds + 1.5), "--quiet", "--json", out.name], stdout=subprocess.DEVNULL)
                time.sleep(1)
            result = run(address(server), server.pid, options, "--rate", str(rate))
            tails[name].append(find(result, "p999Micros"))
            if writer:
                writer.wait()
                written.append(median_of(find(json.load(open(out.name)), "operationsPerSecond")))
    with_deltas, without = (statistics.median(tails[name]) for name in ("with", "without"))
    report("p99.9 of GET at half of the closed loop's throughput (%d/s), sibling applying %d deltas/s" % (
        rate, statistics.median(written)),
           "%.0f us [%.0f %.0f] against %.0f us [%.0f %.0f] without = x %.2f" % (
               with_deltas, min(tails["with"]), max(tails["with"]), without, min(tails["without"]), max(tails["without"]),
               with_deltas / without), "<= 2", FIGURES, dict(figure="p99.9 of GET while a sibling applies 200 k deltas/s, over without",
           measured="%.2f" % (with_deltas / without), goal="<= 2"))
    server.stop()


def stall(options):
    # Pins its loop to the first core by itself. All else, its thread that makes memory ready included, has the other:
    # a probe that shares the loop's core would lengthen the turns it looks for.
    server = Server(1)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {LOAD_CPU})
    stop = multiprocessing.Event()
    queue = multiprocessing.Queue()
    keys = options.stall_keys

    def beginning(server):
        return server.put_aside() + server.pages_late()

    def turns(what, server, before):
        """What made the turns long that took longer by the wall: giving way to others, or the hypervisor."""
        processor, wall, above = server.longest_turns()
        time.sleep(0.2)
        count, waited, late, pages = (now - then for now, then in zip(beginning(server), before))
        report("longest turn, %d M keys: %s" % (keys // 1_000_000, what),
               "%s of the processor, %d above 1 ms; %s by the wall; gave way %d times, %.1f ms; %d of %d fresh pages late" % (
                   processor, above, wall, count, waited, late, pages), "<= 1 ms", TURNS,
               {"work": what, "by the processor, ms": turn(processor), "above 1 ms": "%d" % above,
                  "by the wall, ms": turn(wall), "pages late": "%d" % late})

    def control(*arguments):
        """What the machine itself takes, on the same core: as much memory as the server has, read at random."""
        line = subprocess.run([KVD_MICRO, "machine", *map(str, arguments)],
                              capture_output=True, text=True, check=True,
                              preexec_fn=lambda: os.sched_setaffinity(0, cores)).stdout.strip()
        what, figures = line.split(": ", 1)
        report("the machine itself: " + what, figures, "", MACHINE, dict(what=what, **stalls(figures)))

    def timed(name, action):
        stop.clear()
        server.connect().call("CONFIG", "RESETSTAT")
        before, stolen = beginning(server), stolen_millis(SERVER_CPU)
        probe = multiprocessing.Process(target=replication.sampling, args=(server.port + 1, stop, keys, queue))
        probe.start()
        time.sleep(0.3)
        action()
        turns(name, server, before)
        stop.set()
        times = queue.get()
        probe.join()
        report("GET meanwhile", "p99 %.2f ms, max %.2f ms (%d samples); stolen from the core %d ms" % (
            percentile(times, 99), times[-1], len(times), stolen_millis(SERVER_CPU) - stolen), "", TURNS,
            {"work": name, "p99 of GET meanwhile, ms": "%.2f" % percentile(times, 99),
               "core stolen, ms": "%d" % (stolen_millis(SERVER_CPU) - stolen)})

    timed("nothing else", lambda: time.sleep(3))
    # As fast as the server grows, before it and after: what such a program sees of it is not the server's.
    mebibytes = keys * 120 >> 20
    control("stalls", mebibytes, 7, 200)
    timed("growing to full size", lambda: grow(server, keys))
    control("stalls", mebibytes, 7, 200)
    client = server.connect()

    timed("LIST of everything", client.list_everything)
    timed("KVD DIGEST", lambda: client.call("KVD", "DIGEST"))
    joiners = []

    def join():
        joiners.append(Server(1, join=[server.address], cpu=LOAD_CPU))
        joiners[0].await_keys(keys)

    timed("join, the donor", join)
    turns("join, the joiner", joiners[0], (0, 0, 0, 0))
    for each in joiners + [server]:
        each.stop()
    control("gaps")
    control("stalls", mebibytes)
    os.sched_setaffinity(0, cores)


def start(options):
    times = []
    for _ in range(max(5, options.rounds)):
        begin = time.perf_counter()
        server = Server(1)
        server.connect().call("PING")
        times.append((time.perf_counter() - begin) * 1000)
        server.stop()
    report("start of kvd to its first reply, empty", "%.1f ms [%.1f %.1f]" % (statistics.median(times), min(times), max(times)),
           "<= 50 ms", FIGURES, dict(figure="start to the first reply", measured="%.1f" % statistics.median(times), goal="<= 50 ms"))


def idle(options):
    servers = replication.start([1, 1, 1, 1])
    fill(servers[0].port + 1, 0, options.keys)
    replication.wait_equal(servers)
    time.sleep(3)
    before = [s.cpu_seconds() for s in servers]
    time.sleep(20)
    shares = [(s.cpu_seconds() - b) / 20 * 100 for s, b in zip(servers, before)]
    report("idle CPU of each of four servers with %d keys" % options.keys, "%.2f %% of a core at most" % max(shares),
           "<= 0.5 %", FIGURES, dict(figure="idle processor time of each of four servers, % of a core", measured="%.2f" % max(shares),
           goal="<= 0.5"))
    for s in servers:
        s.stop()


def encrypted(options):
    tls.measure(options, report, REQUESTS)


def machine():
    model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    versions = []
    for command in (["redis-server", "--version"], ["memcached", "--version"], [KVD, "--version"]):
        try:
            line = subprocess.run(command, capture_output=True, text=True).stdout.strip().splitlines()[0]
            versions.append(line.split(" sha=")[0])
        except (OSError, IndexError):
            pass
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "versions": versions}


def results_stem():
    folder = os.path.join(HERE, "results")
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, TODAY)


def write_results(options):
    stem = results_stem()
    facts = machine()
    with open(stem + ".json", "w") as out:
        json.dump({"machine": facts, "rounds": options.rounds, "seconds": options.seconds, "rows": ROWS}, out, indent=1)
    with open(stem + ".md", "w") as out:
        out.write("# Benchmarks of %s\n\n%s, %d cores, Linux %s; %s.\n\n" % (
            TODAY, facts["cpu"], facts["cores"], facts["kernel"], "; ".join(facts["versions"])))
        out.write("Command: `make bench` (%d alternating rounds of %g s; server on core 0, load on core 1).\n\n" % (options.rounds, options.seconds))
        out.write("| figure | measured | goal | command |\n|---|---|---|---|\n")
        for row in ROWS:
            out.write("| %(figure)s | %(measured)s | %(goal)s | `%(command)s` |\n" % row)
        if os.path.exists(stem + ".svg"):
            out.write("\nLatency of GET by percentile, 50 connections, pipeline 1, every server as fast as it can:\n\n")
            out.write("![latency by percentile](%s.svg)\n" % os.path.basename(stem))
    print("wrote %s.md and .json" % stem)
    tables.write(os.path.join(HERE, ".."), os.path.basename(stem), facts, ROWS)
    print("README.md and docs/PERFORMANCE.md show these figures now")


MEASURED = {"cpu": cpu, "tail": tail, "connections": connections, "values": values, "commands": commands, "list": listing, "memory": memory, "actors": actors,
           "deltas": deltas, "stall": stall, "start": start, "tls": encrypted, "idle": idle}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", nargs="*", choices=[[], *MEASURED, "all"], default=[])
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds of each comparison")
    parser.add_argument("--seconds", type=float, default=1, help="measured seconds of each round")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--stall-keys", type=int, default=10_000_000)
    parser.add_argument("--write", action="store_true", help="write Perf/results/DATE.md and .json and the tables of README.md and docs/PERFORMANCE.md, if all figures were measured")
    options = parser.parse_args()
    names = list(MEASURED) if not options.figure or "all" in options.figure else options.figure
    need(KVD, PERF_DRIVER, "redis-server", *(["memcached"] if {"connections", "values"} & set(names) else []),
         *([KVD_MICRO] if "stall" in names else []))
    global COMMAND
    for name in names:
        COMMAND = "python3 Perf/bench.py " + name
        MEASURED[name](options)
    if options.write and names != list(MEASURED):
        print("nothing written: that takes all figures")
    elif options.write:
        write_results(options)


if __name__ == "__main__":
    main()
