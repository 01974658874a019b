"""Latency from the median to one in ten thousand, of kvd beside Redis and the null responder: closed loop, and at rates that
the slower of kvd and Redis can take."""
import argparse
import statistics

from driver import SERVER_CPU, address, compare
from lab import Peer, Server
from tables import LATENCY

PERCENTILES = [("p50", "p50Micros"), ("p99", "p99Micros"), ("p99.9", "p999Micros"), ("p99.99", "p9999Micros")]
SHARES = (30, 60, 90)
# Each round has to have some tens of requests beyond the last percentile.
SECONDS_MIN = 3


def show(report, load, rows):
    """A row of the table for each server; the ratios are to Redis in the same round."""
    for name, row in rows.items():
        values = {title: "%.0f" % row[key]["median"] for title, key in PERCENTILES}
        cells = {"load and server, µs": "%s, %s" % (load, name), **values}
        goal, shown = "", ", ".join("%s %s" % pair for pair in values.items())
        if name == "kvd":
            for title, key in (("p99", "p99MicrosByRound"), ("p99.9", "p999MicrosByRound")):
                ratios = [ours / theirs for ours, theirs in zip(row[key], rows["redis"][key])]
                cells[title + " of Redis"] = "%.2f" % statistics.median(ratios)
                shown += "; %s of Redis %.2f [%.2f %.2f]" % (title, statistics.median(ratios), min(ratios), max(ratios))
            goal = "p99 and p99.9 <= 1 of Redis"
        report("latency of GET, %s, %s, us" % (load, name), shown, goal, LATENCY, cells)


def measure(options, report):
    """Servers on one core, their load on the other, one after the other in each round."""
    kvd, redis, null = Server(1, cpu=SERVER_CPU), Peer("redis", SERVER_CPU), Peer("null", SERVER_CPU)
    targets = [("redis", address(redis), redis.pid), ("kvd", address(kvd), kvd.pid), ("null", address(null), null.pid)]
    options = argparse.Namespace(**{**vars(options), "seconds": max(options.seconds, SECONDS_MIN)})
    rows = compare(targets, options, "--ops", "get", "-c", "50", load=True)
    show(report, "closed loop, 50 connections", rows)
    capacity = min(rows[name]["operationsPerSecond"]["median"] for name in ("kvd", "redis"))
    for share in SHARES:
        rate = int(capacity * share / 100)
        rows = compare(targets, options, "--ops", "get", "-c", "50", "--rate", str(rate))
        show(report, "%d %% of capacity" % share, rows)
    for server in (kvd, redis, null):
        server.stop()
