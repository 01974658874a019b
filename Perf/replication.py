#!/usr/bin/env python3
"""Measures what replication promises, on real kvd processes on this machine. One subcommand per figure:

  visibility   time from a put on one actor until another answers it: local and remote, idle and under load
  bytes        bytes on the wire per unique put; a key overwritten 1,000 times within one interval
  join         1 M keys stream to a joining server: seconds, and the latency of GETs on both sides meanwhile
  catchup      a cut with 100 k of 1 M keys changed: seconds and bytes until equal
  peer         CPU per GET of a server with an idle peer against one alone, in alternating rounds (needs perf-driver)

What a second actor's keys cost in memory, and an idle cluster in CPU, bench.py measures.

Needs only Python 3.8 and a release build: swift build -c release --product kvd
"""
import argparse
import multiprocessing
import os
import random
import time

from driver import compare, microseconds, middle, ratios
from lab import KVD, Connection, Server, fill, need, percentile


def start(shape, delay=None):
    servers = [Server(shape[0], delay=delay)]
    for actors in shape[1:]:
        servers.append(Server(actors, join=[servers[0].address], delay=delay))
    deadline = time.time() + 30
    while any(s.connect().call("INFO", "replication").decode().count("state=up") < len(shape) - 1 for s in servers):
        if time.time() > deadline:
            raise SystemExit("the servers did not find each other")
        time.sleep(0.05)
    return servers


def wait_equal(servers, within=120):
    begin = time.time()
    connections = [s.connect(a) for s in servers for a in range(s.actors)]
    while len({c.call("KVD", "DIGEST") for c in connections}) > 1:
        if time.time() - begin > within:
            raise SystemExit("not equal after %d s" % within)
        time.sleep(0.02)
    return time.time() - begin


def probe(writer, reader, rounds, gap):
    times = []
    for i in range(rounds):
        key, value = "probe:%d:%d" % (os.getpid(), i), str(random.random())
        begin = time.perf_counter()
        writer.call("SET", key, value)
        while reader.call("GET", key) != value.encode():
            pass
        times.append((time.perf_counter() - begin) * 1000)
        time.sleep(gap * random.uniform(0.8, 1.2))
    return sorted(times)


def loading(port, stop, rate):
    """Puts at about `rate` a second until told to stop."""
    connection, i = Connection(port), 0
    while not stop.is_set():
        begin = time.time()
        connection.pipeline([("SET", "load:%012d" % ((i + j) % 200000), b"v" * 64) for j in range(rate // 50)])
        i += rate // 50
        time.sleep(max(0, 0.02 - (time.time() - begin)))


def visibility(options):
    for name, shape, delay in [("local", [2], None), ("remote, 250 ms one way", [1, 1], 0.25)]:
        servers = start(shape, delay)
        source = servers[0].connect()
        target = servers[-1].connect(1 if len(shape) == 1 else 0)
        rounds = options.rounds
        idle = probe(source, target, rounds, 0.4)
        stop = multiprocessing.Event()
        loads = [multiprocessing.Process(target=loading, args=(s.port + 1 + a, stop, options.rate))
                 for s in servers for a in range(s.actors)]
        for p in loads:
            p.start()
        time.sleep(1)
        busy = probe(source, target, rounds, 0.05)
        stop.set()
        for p in loads:
            p.join()
        for label, times in [("idle", idle), ("under load", busy)]:
            print("%-24s %-11s p50 %7.1f ms  p99 %7.1f ms  max %7.1f ms  (%d probes)"
                  % (name, label, percentile(times, 50), percentile(times, 99), times[-1], len(times)))
        print("%-24s max_message_rate %d" % (name, max(s.connect().info("max_message_rate") for s in servers)))
        for s in servers:
            s.stop()


def wire_bytes(options):
    servers = start([1, 1])
    source, target = servers[0].connect(), servers[1].connect()
    time.sleep(2.5)
    before = target.info("remote_bytes_received")
    count = 100000
    fill(servers[0].port + 1, 0, count)
    wait_equal(servers)
    time.sleep(0.5)
    received = target.info("remote_bytes_received") - before
    print("unique puts: %.1f bytes each on the wire, key + value = %d" % (received / count, 80))
    time.sleep(2)
    before = target.info("remote_bytes_received")
    source.pipeline([("SET", "hot", "x" * 1000) for _ in range(1000)])
    wait_equal(servers)
    time.sleep(0.5)
    received = target.info("remote_bytes_received") - before
    print("1,000 overwrites of one 1,000-byte value within one interval: %d bytes on the wire" % received)
    for s in servers:
        s.stop()


def sampling(port, stop, keys, out):
    connection, times = Connection(port), []
    while not stop.is_set():
        begin = time.perf_counter()
        connection.call("GET", "key:%012d" % random.randrange(keys))
        times.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.001)
    out.put(sorted(times))


def join(options):
    keys = options.keys
    donor = Server(1)
    fill(donor.port + 1, 0, keys)
    stop = multiprocessing.Event()
    queues = [multiprocessing.Queue(), multiprocessing.Queue()]
    samplers = [multiprocessing.Process(target=sampling, args=(donor.port + 1, stop, keys, queues[0]))]
    samplers[0].start()
    time.sleep(0.5)
    begin = time.time()
    joiner = Server(1, join=[donor.address])
    samplers.append(multiprocessing.Process(target=sampling, args=(joiner.port + 1, stop, keys, queues[1])))
    samplers[1].start()
    target = joiner.connect()
    while target.call("DBSIZE") < keys:
        time.sleep(0.02)
    filled = time.time() - begin
    wait_equal([donor, joiner])
    equal = time.time() - begin
    stop.set()
    results = [q.get() for q in queues]
    print("%d keys x 64 B to a joiner: all there after %.2f s, digests equal after %.2f s" % (keys, filled, equal))
    for name, times in zip(["donor", "joiner"], results):
        print("GET on the %-6s meanwhile: p50 %.2f ms  p99 %.2f ms  max %.2f ms  (%d samples)"
              % (name, percentile(times, 50), percentile(times, 99), times[-1], len(times)))
    print("longest turn: donor %.2f ms, joiner %.2f ms"
          % tuple(s.connect().info("max_turn_micros") / 1000 for s in (donor, joiner)))
    for s in (donor, joiner):
        s.stop()


def catchup(options):
    servers = start([1, 1], delay=0.0)
    fill(servers[0].port + 1, 0, options.keys)
    wait_equal(servers)
    time.sleep(2)
    for s in servers:
        s.proxy.cut(True)
    begin = time.time()
    changed = options.keys // 10
    fill(servers[0].port + 1, 0, changed // 2, value=b"w" * 64)
    fill(servers[1].port + 1, options.keys - changed // 2, changed // 2, value=b"w" * 64)
    time.sleep(max(0, options.cut_seconds - (time.time() - begin)))
    before = sum(s.connect().info("remote_bytes_received") for s in servers)
    for s in servers:
        s.proxy.cut(False)
    took = wait_equal(servers)
    time.sleep(0.5)
    received = sum(s.connect().info("remote_bytes_received") for s in servers) - before
    print("%d s cut, %d of %d keys changed: equal %.2f s after healing, %.1f bytes per changed entry of 80 (x %.2f)"
          % (options.cut_seconds, changed, options.keys, took, received / changed, received / changed / 80))
    for s in servers:
        s.stop()


def peer(options):
    alone, joined = Server(1, cpu=0), Server(1, cpu=0)
    other = Server(1, join=[joined.address], cpu=1)
    for server in (alone, joined):
        fill(server.port + 1, 0, options.keys)
    wait_equal([joined, other])
    time.sleep(2)
    targets = [(name, "127.0.0.1:%d" % (s.port + 1), s.pid) for name, s in (("alone", alone), ("joined", joined))]
    measuring = argparse.Namespace(rounds=options.bench_rounds, seconds=options.seconds, keys=options.keys)
    for pipeline in (1, 16):
        rows = compare(targets, measuring, "--ops", "get", "-P", str(pipeline))
        print("CPU per GET, pipeline %2d: alone %.3f us, with an idle peer %.3f us, ratio %s"
              % (pipeline, microseconds(rows["alone"]), microseconds(rows["joined"]), middle(ratios(rows, "joined", "alone"), 3)))
    for s in (alone, joined, other):
        s.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    figures = {"visibility": visibility, "bytes": wire_bytes, "join": join, "catchup": catchup, "peer": peer}
    parser.add_argument("figure", choices=list(figures) + ["all"])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=60, help="probes per visibility figure")
    parser.add_argument("--rate", type=int, default=20_000, help="puts a second and actor of the load")
    parser.add_argument("--cut-seconds", type=int, default=60)
    parser.add_argument("--bench-rounds", type=int, default=7, help="alternating rounds of the peer figure")
    parser.add_argument("--seconds", type=float, default=3, help="length of one round of the peer figure")
    options = parser.parse_args()
    need(KVD)
    for name in figures if options.figure == "all" else [options.figure]:
        figures[name](options)


if __name__ == "__main__":
    main()
