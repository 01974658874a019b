#!/usr/bin/env python3
"""Compares two builds of kvd in one run, by turns: processor time per GET, SET and LIST, and bytes per key.

    python3 Perf/builds.py OLD_KVD NEW_KVD [cpu] [list] [memory]

Each figure is that of the new build over that of the old one: the median of neighbouring rounds [least greatest]. Both
servers run on core 0, the load on core 1. `instructions.py` is the finer scale, where valgrind can be had.
"""
import argparse
import contextlib
import statistics

from bench import resident_per_key
from driver import SERVER_CPU, address, compare, cpu_micros, microseconds, middle, ratios, run
from lab import Server, need


def report(figure, values, old, new, unit):
    print("%-28s %-26s %8.3f and %8.3f %s" % (figure, middle(values, 3), old, new, unit), flush=True)


@contextlib.contextmanager
def both(options):
    """A server of each build, and both as perf-driver's targets."""
    servers = [Server(1, cpu=SERVER_CPU, kvd=kvd) for kvd in options.builds]
    yield servers, [(name, address(s), s.pid) for name, s in zip(("old", "new"), servers)]
    for server in servers:
        server.stop()


def cpu(options):
    first = True
    with both(options) as (_, targets):
        for pipeline in (1, 16, 100):
            for op in ("get", "set"):
                rows = compare(targets, options, "--ops", op, "-P", str(pipeline), load=first)
                first = False
                report("%s, pipeline %d" % (op.upper(), pipeline), ratios(rows, "new", "old"),
                       microseconds(rows["old"]), microseconds(rows["new"]), "us")


def listing(options):
    arguments = ["--ops", "list", "--list-count", "100", "-c", "8", "-P", "1"]
    with both(options) as (servers, targets):
        compare(targets, options, "--duration", "0.2", "--rounds", "1", load=True)
        times = [[cpu_micros(run(address(s), s.pid, options, *arguments)) for s in servers]
                 for _ in range(options.rounds)]
    report("LIST of 100", [new / old for old, new in times], *(statistics.median(t) for t in zip(*times)), "us")


def memory(options):
    for keys in (1_000_000, 10_000_000):
        sizes = [[resident_per_key(1, keys, kvd) for kvd in options.builds]
                 for _ in range(3 if keys <= 1_000_000 else 1)]
        report("bytes per key, %d M keys" % (keys // 1_000_000), [new / old for old, new in sizes],
               *(statistics.median(s) for s in zip(*sizes)), "B")


FIGURES = {"cpu": cpu, "list": listing, "memory": memory}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs=2, metavar="KVD")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES) + "; all if none is named")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--keys", type=int, default=1_000_000)
    options = parser.parse_args()
    need(*options.builds)
    for name in options.figures or FIGURES:
        if name not in FIGURES:
            parser.error("no figure %s: there are %s" % (name, ", ".join(FIGURES)))
        FIGURES[name](options)


if __name__ == "__main__":
    main()
